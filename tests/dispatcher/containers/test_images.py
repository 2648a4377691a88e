"""Images: built only when something that goes into them has changed; pulled; and what is said where they cannot be."""

import subprocess
import threading
from uuid import uuid4

import pytest

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Build
from lightex.dispatcher.engines.containers.context import Context
from lightex.dispatcher.engines.containers.daemon import connect
from lightex.dispatcher.engines.containers.images import ImageError, Images, check, look
from tests.services import docker as services
from tests.services import free_port
from tests.services.docker import BASE


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a Dockerfile, in a folder whose name no image could have."""
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "It's ü Project"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nARG WORD=none\nCOPY needs.txt /needs.txt\nRUN echo said $WORD\n")
    (folder / "needs.txt").write_text(uuid4().hex)  # no image of a former run of these tests is this one
    (folder / "train.py").write_text("print()")
    return folder


@pytest.mark.docker
@pytest.mark.usefixtures("docker")
class TestName:
    def name(self, project, **build):
        return Context.of(Build(**build), project).name

    def test_the_same_files_give_the_same_name(self, project):
        assert self.name(project) == self.name(project)
        assert self.name(project).startswith("lightex/it-s-project:")

    @pytest.mark.parametrize("path", ["Dockerfile", "needs.txt", "train.py", "new.txt"])
    def test_each_file_counts(self, project, path):
        before = self.name(project)
        with (project / path).open("a") as file:
            file.write("\n# more")
        assert self.name(project) != before

    def test_what_runs_leave_behind_does_not_count(self, project):
        before = self.name(project)
        for path in ("runs/.sweeps/a/sweep.json", "runs/demo/r/output.log", "__pycache__/x.pyc", ".git/index"):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text("x")
        (project / "runs2").mkdir()
        assert self.name(project) != before  # a folder that is none of runs counts
        (project / "runs2").rmdir()
        assert self.name(project) == before

    def test_dockerignore_is_kept_to(self, project):
        (project / ".dockerignore").write_text("# only this\n*\n!needs.txt\n")
        before = self.name(project)
        (project / "train.py").write_text("other")
        assert self.name(project) == before
        (project / "needs.txt").write_text("other")
        assert self.name(project) != before

    def test_arguments_and_target_count(self, project):
        assert len({self.name(project), self.name(project, args={"A": "1"}), self.name(project, target="x")}) == 3

    def test_a_file_that_can_be_run_is_another_one(self, project):
        before = self.name(project)
        (project / "train.py").chmod(0o755)
        assert self.name(project) != before

    def test_the_image_that_it_starts_from_counts(self, project, docker):
        (project / "Dockerfile").write_text("ARG BASE=lightex-test/none-yet:1\nFROM ${BASE} AS first\nFROM first\n")
        names = {self.name(project), self.name(project, args={"BASE": BASE})}
        subprocess.run(["docker", "tag", BASE, "lightex-test/none-yet:1"], check=True)
        try:
            names.add(self.name(project))
        finally:
            subprocess.run(["docker", "rmi", "lightex-test/none-yet:1"], check=True, capture_output=True)
        assert len(names) == 3

    def test_no_dockerfile_says_what_to_do(self, project):
        (project / "Dockerfile").unlink()
        with pytest.raises(ConfigError) as error:
            self.name(project)
        assert "there is no Dockerfile in" in error.value.message
        assert "lx init --docker" in error.value.details[0]


@pytest.mark.docker
@pytest.mark.usefixtures("docker")
class TestImages:
    def test_it_is_built_once_with_progress_and_a_log(self, project):
        told = []
        first = Images().ensure(Build(args={"WORD": "hallo"}), project, told.append)
        assert any(line.startswith("building: Step 4/4") for line in told)
        assert "said hallo" in first.log.read_text()
        told.clear()
        again = Images().ensure(Build(args={"WORD": "hallo"}), project, told.append)
        assert again == first
        assert told == []

    def test_many_threads_build_it_once(self, project):
        images, told, found = Images(), [], []
        build = Build(args={"WORD": "threads"})
        work = [threading.Thread(target=lambda: found.append(images.ensure(build, project, told.append)))
                for _ in range(5)]  # fmt: skip
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert len({image.id for image in found}) == 1
        assert sum(line.startswith("building lightex/") for line in told) == 1

    def test_a_build_that_fails_says_where_and_keeps_its_log(self, project):
        (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo before && false\n")
        images = Images()
        for _ in range(2):
            with pytest.raises(ImageError) as error:
                images.ensure(Build(), project, lambda _: None)
            assert "could not be built" in error.value.message
            assert "returned a non-zero code: 1" in error.value.message
            assert "... before" in error.value.details
            assert ".failed.log" in error.value.details[-1]
        assert look(Build(), project)[1] is None

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("FRM x\n", "unknown instruction: FRM"),
            (f"FROM {BASE}\nCOPY missing.txt /\n", "missing.txt"),
            ("FROM lightex-test/nosuch:1\n", "lightex-test/nosuch"),
            (f"FROM {BASE}\nRUN --mount=type=cache,target=/x true\n", "BuildKit"),
        ],
    )
    def test_a_dockerfile_that_cannot_be_says_why(self, project, text, words):
        (project / "Dockerfile").write_text(text)
        with pytest.raises(ImageError) as error:
            Images().ensure(Build(), project, lambda _: None)
        assert words in str(error.value)

    def test_it_is_pulled_from_a_registry_and_pushed_to_one(self, project, docker, tmp_path):
        if reason := services.lacks("docker-registry"):
            services.skip_or_fail("docker", reason)
        port = free_port()
        place = f"localhost:{port}/demo"  # a registry of this machine may be without TLS
        with services.registry(tmp_path, f"127.0.0.1:{port}"):
            told = []
            built = Images().ensure(Build(args={"WORD": "push"}, repository=place), project, told.append)
            assert built.name.startswith(f"{place}:")
            assert f"pushing {built.name}" in told
            told.clear()
            Images().ensure(Build(args={"WORD": "push"}, repository=place), project, told.append)
            assert told == []
            subprocess.run(["docker", "rmi", built.name], check=True, capture_output=True)
            pulled = Images().ensure(built.name, project, told.append)
            assert pulled.id == built.id
            assert told[0] == f"pulling {built.name}"
            connect().remove_image(built.name)


@pytest.mark.parametrize("name", ["Build", "a b", "a:b:c", "", "x/Y", "-a"])
def test_a_name_that_is_none_says_so(name, tmp_path):
    with pytest.raises(ConfigError) as error:
        check(name, tmp_path)
    assert f"'{name}' cannot be the name of an image" in error.value.message


@pytest.mark.parametrize("name", ["a", "a/b__c:1.2-x", "localhost:5000/a/b", "Reg.example/x:T", f"a@sha256:{'0' * 64}"])
def test_a_name_that_is_one_is_taken(name, tmp_path):
    check(name, tmp_path)
