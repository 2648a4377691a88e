"""The code that made a run."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile

import pytest

from lightex.storage import snapshot


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    (folder / "a.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("runs/\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://me:hunter2@example.org/x.git"], check=True)
    return folder


def kept(taken, name):
    with tarfile.open(taken.file) as tar:
        return tar.extractfile(name).read()


def about(taken):
    return json.loads(kept(taken, "code.json"))


def test_commit_diff_and_untracked_files(repository, tmp_path):
    (repository / "a.py").write_text("x = 2\n")
    (repository / "new.py").write_text("y = 1\n")
    (repository / ".env").write_text("KEY=1\n")
    (repository / "tokenizer.py").write_text("z = 1\n")
    (repository / "other-runs" / ".sweeps").mkdir(parents=True)
    (repository / "other-runs" / "x.py").write_text("a run's file")
    (repository / "big.bin").write_bytes(b"0" * (snapshot.FILE_LIMIT + 1))
    taken = snapshot.take(repository, tmp_path / "code")
    assert len(taken.commit) == 40
    found = about(taken)
    assert found["untracked"] == ["new.py", "tokenizer.py"]
    assert found["not_kept"] == [".env", "big.bin"]
    assert found["remote"] == "https://example.org/x.git"
    assert b"+x = 2" in kept(taken, "changes.diff")
    assert kept(taken, "files/new.py") == b"y = 1\n"


def test_the_same_code_has_the_same_digest(repository, tmp_path):
    first = snapshot.take(repository, tmp_path / "one")
    assert snapshot.take(repository, tmp_path / "two").digest == first.digest
    (repository / "a.py").write_text("x = 3\n")
    assert snapshot.take(repository, tmp_path / "two").digest != first.digest


def test_without_git_the_files_of_the_folder_are_kept(tmp_path):
    project = tmp_path / "plain"
    for name in ("train.py", "lib/model.py", "runs/x/output.log", "__pycache__/x.pyc", ".hidden/x", "venv/pyvenv.cfg"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("1")
    (project / "elsewhere" / ".sweeps").mkdir(parents=True)
    (project / "elsewhere" / "x.py").write_text("a run's file")
    taken = snapshot.take(project, tmp_path / "code")
    assert taken.commit is None
    assert about(taken)["untracked"] == ["lib/model.py", "train.py"]


def test_runs_share_its_file(repository, tmp_path):
    taken = snapshot.take(repository, tmp_path / "code")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        taken.link_into(tmp_path / name)
        taken.link_into(tmp_path / name)
    assert (tmp_path / "one" / taken.file.name).stat().st_nlink == 3


def test_odd_names_and_a_project_that_is_the_folder_of_runs_itself(repository, tmp_path):
    (repository / os.fsdecode(b"\xff.txt")).write_text("odd")
    (repository / ".sweeps").mkdir()
    (repository / ".sweeps" / "x").write_text("x")
    run = repository / "demo" / "261126-000000-abcd-000"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text("")
    (repository / "new.py").write_text("y = 1\n")
    taken = snapshot.take(repository, tmp_path / "code")
    assert sorted(about(taken)["untracked"]) == ["new.py", "\ufffd.txt"]
    assert kept(taken, "files/new.py") == b"y = 1\n"


def test_a_repository_whose_name_ends_with_a_blank(repository, tmp_path):
    odd = repository.rename(f"{repository} ")
    (odd / "new.py").write_text("y = 1\n")
    assert about(snapshot.take(odd, tmp_path / "code"))["untracked"] == ["new.py"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can leave files that another user may not read")
def test_what_may_not_be_read_is_named_and_not_kept(tmp_path):
    """As containers leave it, which ran as root."""
    project = tmp_path / "project"
    (project / "closed").mkdir(parents=True)
    for name in ("a.py", "root.txt", "closed/x"):
        (project / name).write_text("x = 1\n")
    (project / "root.txt").chmod(0o600)
    (project / "closed").chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(0o777)
    code = "import os, sys, pathlib; from lightex.storage import snapshot; os.setuid(65534); "
    code += "snapshot.take(*map(pathlib.Path, sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, str(project), str(tmp_path / "code")], check=True)
    (file,) = (tmp_path / "code").glob("code.*.tar.gz")
    found = about(snapshot.Snapshot("", None, file))
    assert (found["untracked"], found["not_kept"]) == (["a.py"], ["root.txt"])
