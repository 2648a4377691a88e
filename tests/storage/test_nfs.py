"""LightEx on NFS: two machines with a real client each, and a real server that this machine looks behind."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from lightex.core.root import Root
from tests.services import docker as services
from tests.services import nfs

pytestmark = pytest.mark.nfs

CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, Storage, sweep


@dataclass(frozen=True)
class HP:
    lr: float = 0.1


base = Experiment(name="demo", command=["python", "train.py", "{{ dirs.data }}", "{{ hp.lr }}"], hp=HP(),
                  resources=Resources(cpus=0.25), storage=Storage(dirs={"data": "nfs://10.98.0.254/export/data"}))
grid = sweep(base, {"hp.lr": [0.1, 0.2, 0.3]})
"""

TRAIN = """import os, socket, sys
from pathlib import Path
import lightex
data, lr = Path(sys.argv[1]), float(sys.argv[2])
with lightex.start_run() as run:
    for step in range(20):
        run.log({"loss": lr / (step + 1)}, step=step)
    Path(os.environ["LX_RUN_DIR"], "w.txt").write_text(socket.gethostname())
print(data, (data / "words.txt").read_text())
"""

# What guests do at the same moment: they meet in a folder of this machine, which no client keeps in a cache.
MEET = """import os, sys, time
def meet(name):
    open(f"{os.environ['SCRATCH']}/{name}.{os.environ['NODE']}", "w").close()
    deadline = time.monotonic() + 40
    while not all(os.path.exists(f"{os.environ['SCRATCH']}/{name}.{node}") for node in (1, 2)):
        assert time.monotonic() < deadline
"""

FINDS = """import sys
from pathlib import Path
from lightex.storage import store
for url in sys.argv[1:]:
    print(store.find(url, Path("/"), "x").here)
"""

LOGS = """import lightex
meet("logs")
for number in range(2):
    with lightex.start_run("logs", root="/mnt/nfs/logged") as run:
        for step in range(200):
            run.log({"x": step, "node": int(os.environ["NODE"])}, step=step)
"""

CLAIMS = """from lightex.core.root import Root
root, kept = Root("/mnt/nfs/claimed"), []
for number in range(20):
    sweep = root.sweep(f"s{number}")
    meet(f"claim{number}")
    if sweep.claim():
        kept.append(sweep)
        print(number)
meet("claimed")
assert all(root.sweep(f"s{number}").supervised for number in range(20))
meet("looked")
"""

MAKES = """from lightex.core.root import Root
meet("makes")
for _ in range(30):
    print(Root("/mnt/nfs/made").new_sweep({"experiments": []}).id)
"""


@pytest.fixture(scope="module")
def nodes():
    if reason := nfs.lacks():
        services.skip_or_fail("nfs", reason)
    folder = Path(tempfile.mkdtemp(prefix="lx-nfs-"))
    made = nfs.Nodes(folder)
    try:
        made.up(2)
        (made.export / "data").mkdir()
        (made.export / "data" / "words.txt").write_text("hello")
        yield made
    finally:
        made.down()
        shutil.rmtree(folder)


@pytest.fixture
def project(nodes, monkeypatch):
    """A project on the server, seen from behind it."""
    folder = nodes.export / "project"
    if not folder.exists():
        folder.mkdir()
        (folder / "lxconfig.py").write_text(CONFIG)
        (folder / "train.py").write_text(TRAIN)
    monkeypatch.chdir(folder)
    return folder


def python(code, *words):
    return f"python - {' '.join(words)} <<'EOF'\n{code}\nEOF\n"


def records_of(folder):
    """What a run has logged; a line that is not whole fails."""
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    return [record for record in records if "metrics" in record]


def test_an_nfs_folder_is_found_where_it_is_mounted(nodes):
    urls = [f"nfs://10.98.0.254/export{more}" for more in ("/data", "", "/data/deep/er")]
    urls += ["nfs://10.98.0.253/export/data", "nfs://10.98.0.254/other"]
    assert nodes.all_do(python(FINDS, *urls)) == ["/mnt/nfs/data\n/mnt/nfs\n/mnt/nfs/data/deep/er\nNone\nNone\n"] * 2
    deeper = "mkdir -p '/run/a b' /run/bound\n" + "mount -t nfs4 -o port=12049 10.98.0.254:/export/data '/run/a b'\n"
    assert nodes.do(1, deeper + python(FINDS, *urls[:2])) == "/run/a b\n/mnt/nfs\n"
    bound = "umount '/run/a b'; mount --bind /mnt/nfs/data /run/bound\n"
    assert nodes.do(1, bound + python(FINDS, *urls[:2])) == "/run/bound\n/mnt/nfs\n"
    nodes.do(1, "umount /run/bound")


def test_two_machines_run_sweeps_of_one_project_at_once(nodes, project, lx):
    for out in nodes.all_do("lx run grid -j 3", "/mnt/nfs/project"):
        assert "3 succeeded" in out
    runs = lx("ls", "--json").json
    assert [run["status"] for run in runs] == ["SUCCEEDED"] * 6
    assert len({run["sweep"] for run in runs}) == 2
    written = []
    for run in runs:
        folder = project / "runs" / "demo" / run["id"]
        assert [each["step"] for each in records_of(folder)] == list(range(20))
        told = json.loads((folder / "run.json").read_text())
        assert told["command"][2] == "/mnt/nfs/data"
        assert lx("logs", run["id"]).out == "/mnt/nfs/data hello\n"
        written.append((folder / "w.txt").read_text())
        assert written[-1] == told["host"]
    assert sorted(written) == ["node1"] * 3 + ["node2"] * 3


def test_records_that_two_machines_write_at_once_are_all_there(nodes):
    nodes.all_do(python(MEET + LOGS))
    runs = list(Root(nodes.export / "logged").runs())
    assert len(runs) == 4
    found = []
    for run in runs:
        records = records_of(run.path)
        assert [each["metrics"]["x"] for each in records] == list(range(200))
        (node,) = {each["metrics"]["node"] for each in records}
        found.append(node)
    assert sorted(found) == [1, 1, 2, 2]


def test_a_sweep_is_claimed_by_one_machine_only(nodes):
    root = Root(nodes.export / "claimed")
    for number in range(20):
        root.sweep(f"s{number}").path.mkdir(parents=True)
    granted = " ".join(nodes.all_do(python(MEET + CLAIMS))).split()
    assert sorted(map(int, granted)) == list(range(20))


def test_sweeps_that_are_made_at_once_have_ids_of_their_own(nodes):
    made = " ".join(nodes.all_do(python(MEET + MAKES))).split()
    assert len(set(made)) == 60
    assert {sweep.id for sweep in Root(nodes.export / "made").sweeps()} == set(made)
