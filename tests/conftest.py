"""A project in a folder whose name needs quoting, and the command line run in this process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from lightex.cli import main
from lightex.core.rundir import RunDir
from tests.services import docker as services
from tests.services import running
from tests.services import s3 as s3_service
from tests.services import slurm as slurm_service

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster, Kubelet

pytest.register_assert_rewrite("lightex.testing")

settings.register_profile("lightex", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("lightex")

_SHARED = "LIGHTEX_TEST_SERVICES"

CONFIG = """from dataclasses import dataclass
from typing import Literal
from lightex import Experiment, Resources, replace, sweep


@dataclass(frozen=True)
class Conv:
    depth: int = 4


@dataclass(frozen=True)
class MLP:
    width: int = 32


@dataclass(frozen=True)
class HP:
    lr: float = 1e-2
    epochs: int = 3
    note: str = "a b"
    act: Literal["relu", "gelu"] = "relu"
    model: Conv | MLP = Conv()


base = Experiment(name="demo", command=["python", "train.py", "{{ hp.lr }}", "{{ hp.epochs }}"], hp=HP(),
                  resources=Resources(cpus=0.5, memory="256MiB"))
long = replace(base, {"hp.epochs": 30})
grid = sweep(base, {"hp.lr": [0.1, 0.01, 0.001]})
tiny = MLP(width=2)
"""

TRAIN = """import sys
import lightex
lr, epochs = float(sys.argv[1]), int(sys.argv[2])
with lightex.start_run() as run:
    for step in range(epochs):
        run.log({"loss": lr / (step + 1)}, step=step)
    print("done", lr)
"""


@dataclass
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("LX_") or name == "CUDA_VISIBLE_DEVICES"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    # Tests that run at once would wait for each other's leases.
    monkeypatch.setenv("LX_LEASES", str(tmp_path_factory.mktemp("leases") / "book.json"))
    before = list(sys.path)
    yield
    sys.path[:] = before
    for name in ("lxconfig", "train", "models"):
        sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / 'it\'s a "project"'
    folder.mkdir()
    (folder / "lxconfig.py").write_text(CONFIG)
    (folder / "train.py").write_text(TRAIN)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return folder


@pytest.fixture
def lx(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `lx ARGUMENTS` in this process."""

    def call(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        captured = capfd.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """A run that is queued."""
    identity = {"id": "r", "experiment": "demo", "command": ["true"], "sweep": None}
    return RunDir.create(tmp_path / "runs" / "demo" / "260101-000000-r", identity, {"hp": {"lr": 0.1}},
                         {"time": 1.0, "state": "QUEUED", "attempt": 1})  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, for filling up."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder in which the processes that run tests find the services that they share."""
    if not hasattr(config, "workerinput"):
        os.environ[_SHARED] = tempfile.mkdtemp(prefix="lx-")  # short: a socket's path has 107 characters at most


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what was started there."""
    if not hasattr(config, "workerinput") and (folder := os.environ.pop(_SHARED, None)):
        s3_service.end_shared(Path(folder))
        services.end_shared(Path(folder))


@pytest.fixture(scope="session")
def _daemon() -> str:
    reason = services.lacks("docker", "dockerd") or ("" if services.PYTHON.exists() else "there is no Debian Python")
    if reason:
        services.skip_or_fail("docker", reason)
    return services.shared_daemon(Path(os.environ[_SHARED]))


@pytest.fixture
def docker(_daemon: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a docker daemon that has the base image; DOCKER_HOST names it."""
    monkeypatch.setenv("DOCKER_HOST", _daemon)
    return _daemon


@pytest.fixture(scope="session")
def _swarm() -> Iterator[services.Swarm]:
    reason = services.lacks("docker", "dockerd", "docker-registry", "ip", "nsenter", "unshare")
    if reason:
        services.skip_or_fail("swarm", reason)
    with running(services.Swarm, "swarm") as swarm:
        yield swarm


@pytest.fixture
def swarm(_swarm: services.Swarm, monkeypatch: pytest.MonkeyPatch) -> services.Swarm:
    """A swarm of two nodes; DOCKER_HOST names its manager."""
    monkeypatch.setenv("DOCKER_HOST", _swarm.manager.socket)
    return _swarm


@pytest.fixture
def _make_cluster(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Kubelet | None], Cluster]]:
    missing = [name for name in ("kubernetes", "kubernetes_validate") if importlib.util.find_spec(name) is None]
    if missing:
        services.skip_or_fail("kubernetes", f"not installed: {', '.join(missing)}")
    from tests.services.kubernetes import Cluster

    made: list[Cluster] = []

    def make(kubelet: Kubelet | None) -> Cluster:
        made.append(Cluster(tmp_path_factory.mktemp("cluster"), kubelet))
        path = str(made[-1].kubeconfig)
        monkeypatch.setenv("KUBECONFIG", path)
        # the client reads the variable when it is imported, which other tests may have done
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def cluster(_make_cluster: Callable[[Kubelet | None], Cluster]) -> Cluster:
    """A Kubernetes cluster whose pods do what the test says; KUBECONFIG names it."""
    return _make_cluster(None)


@pytest.fixture
def docker_cluster(_make_cluster: Callable[[Kubelet | None], Cluster], docker: str) -> Cluster:
    """A Kubernetes cluster whose pods are containers of a docker daemon; KUBECONFIG names it."""
    from tests.services.kubernetes import DockerKubelet

    return _make_cluster(DockerKubelet(docker))


@pytest.fixture(scope="session")
def _s3() -> str:
    if reason := s3_service.lacks():
        services.skip_or_fail("s3", reason)
    return s3_service.shared(Path(os.environ[_SHARED]))


@pytest.fixture
def s3(_s3: str, monkeypatch: pytest.MonkeyPatch) -> s3_service.S3:
    """A fresh bucket of a real S3 service, with the credentials for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {"ACCESS_KEY_ID": s3_service.ACCESS, "SECRET_ACCESS_KEY": s3_service.SECRET, "EC2_METADATA_DISABLED": "true",
             "CONFIG_FILE": "/nowhere", "SHARED_CREDENTIALS_FILE": "/nowhere"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return s3_service.fresh(_s3)


@pytest.fixture(scope="session")
def _slurm() -> Iterator[slurm_service.Slurm]:
    if reason := slurm_service.lacks(*slurm_service.PROGRAMS):
        services.skip_or_fail("slurm", reason)
    with running(slurm_service.Slurm, "slurm") as cluster:
        yield cluster


@pytest.fixture
def slurm(_slurm: slurm_service.Slurm, monkeypatch: pytest.MonkeyPatch) -> slurm_service.Slurm:
    """A cluster without accounting whose nodes have two CPUs and two GPUs each; SLURM_CONF names it."""
    monkeypatch.setenv("SLURM_CONF", str(_slurm.conf))
    return _slurm


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were downloaded by this process, which stages before it hands over to a keeper."""
    from lightex.storage.bucket import Bucket

    keys: list[str] = []
    get = Bucket.get

    def noting(self: Bucket, key: str, *more: Any) -> Any:
        keys.append(key)
        return get(self, key, *more)

    monkeypatch.setattr(Bucket, "get", noting)
    return keys
