"""The working tree as one archive."""

import os
import subprocess
import tarfile

import pytest

from lightex.core.errors import ConfigError, StorageError
from lightex.storage import worktree

LIMIT = 1 << 20


def git(folder, *words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", "-C", folder, *words],
                   check=True, capture_output=True)  # fmt: skip


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def repository(folder, files):
    folder.mkdir(parents=True)
    write(folder, files)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def names(packed):
    with tarfile.open(packed.file) as tar:
        return tar.getnames()


def test_the_tree_as_it_is_on_disk(tmp_path):
    repo = repository(tmp_path / "repo", {".gitignore": "*.ckpt\nruns/\n", "a.py": "1", "sub/b.py": "1", "old.py": "1",
                                          "token.py": "tracked", "ü x.py": "1"})  # fmt: skip
    write(repo, {"a.py": "2", "new.py": "1", "model.ckpt": "x", "runs/x": "x", "mine/.sweeps/x": "", "mine/e/run.json": "",
                 ".env": "KEY=1", "id_rsa": "x"})  # fmt: skip
    (repo / "old.py").unlink()
    packed = worktree.pack(repo / "sub", tmp_path / "into", LIMIT)
    assert packed.base == repo
    assert names(packed) == [".gitignore", "a.py", "new.py", "sub/b.py", "token.py", "ü x.py"]
    assert packed.left_out == (".env", "id_rsa")
    with tarfile.open(packed.file) as tar:
        assert tar.extractfile("a.py").read() == b"2"
    assert packed.file == tmp_path / "into" / f"tree.{packed.digest}.tar.gz"
    assert list((tmp_path / "into").iterdir()) == [packed.file]


def test_repositories_within_it_are_packed_with_it(tmp_path):
    inner = repository(tmp_path / "lib", {"lib.py": "1", ".gitignore": "*.o\n"})
    repo = repository(tmp_path / "repo", {"a.py": "1"})
    git(repo, "submodule", "add", "-q", str(inner), "vendored")
    git(repo, "commit", "-qam", "second")
    write(repo, {"vendored/new.py": "1", "vendored/x.o": "1"})
    repository(repo / "cloned", {"c.py": "1"})
    packed = worktree.pack(repo, tmp_path / "into", LIMIT)
    assert names(packed) == [".gitmodules", "a.py", "cloned/c.py", "vendored/.gitignore", "vendored/lib.py",
                             "vendored/new.py"]  # fmt: skip


def test_without_git_all_files_that_are_not_hidden(tmp_path):
    project = tmp_path / "plain"
    write(project, {"train.py": "1", "lib/m.py": "1", "__pycache__/x.pyc": "1", ".hidden/x": "1", "venv/pyvenv.cfg": "1",
                    "out/.sweeps/x": "", "out/e/run.json": "", "secrets.json": "x"})  # fmt: skip
    packed = worktree.pack(project, tmp_path / "into", LIMIT)
    assert (packed.base, names(packed), packed.left_out) == (project, ["lib/m.py", "train.py"], ("secrets.json",))


def test_equal_trees_are_byte_identical(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, {"b.py": "1", "a.py": "1", "run.sh": "1"})
        (tmp_path / name / "run.sh").chmod(0o755 if name == "one" else 0o700)
        (tmp_path / name / "l").symlink_to("a.py")
    os.link(tmp_path / "two" / "a.py", tmp_path / "two" / "c.py")
    write(tmp_path / "one", {"c.py": "1"})
    os.utime(tmp_path / "one" / "a.py", (1, 1))
    first, second = (worktree.pack(tmp_path / name, tmp_path / "into", LIMIT) for name in ("one", "two"))
    assert first.digest == second.digest
    (tmp_path / "two" / "a.py").chmod(0o755)
    assert worktree.pack(tmp_path / "two", tmp_path / "into", LIMIT).digest != first.digest


def test_links_that_lead_out_are_left_out(tmp_path):
    project = tmp_path / "p"
    write(project, {"a": "1", "sub/b": "1"})
    for name, target in (("in", "sub/../a"), ("sub/up", "../a"), ("folder", "sub"), ("broken", "none"),
                         ("abs", str(project / "a")), ("out", "../x"), ("sub/out", "../../x")):  # fmt: skip
        (project / name).symlink_to(target)
    packed = worktree.pack(project, tmp_path / "into", LIMIT)
    assert names(packed) == ["a", "broken", "folder", "in", "sub/b", "sub/up"]
    assert packed.left_out == ("abs", "out", "sub/out")


def test_too_large_a_tree_is_refused_with_its_largest_files(tmp_path):
    write(tmp_path / "p", {f"f{size}": "x" * size * 1000 for size in (1, 5, 2, 4, 3)})
    with pytest.raises(ConfigError) as caught:
        worktree.pack(tmp_path / "p", tmp_path / "into", 10_000)
    text = str(caught.value)
    assert "14.6 KiB" in text
    assert "9.77 KiB" in text
    assert "f5 (4.88 KiB), f4 (3.91 KiB), f3 (2.93 KiB)" in text
    assert ".gitignore" in text
    assert "storage.code_limit" in text
    assert not (tmp_path / "into").exists()


def test_what_cannot_be_packed_is_said(tmp_path):
    write(tmp_path / "p", {"a": "1"})
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        worktree.pack(tmp_path / "p", tmp_path / "file" / "into", LIMIT)


@pytest.mark.s3
def test_it_is_sent_once_and_laid_out_as_it_was(s3, tmp_path):
    project = tmp_path / "p"
    write(project, {"a.py": "1", "sub/run.sh": "1"})
    (project / "sub/run.sh").chmod(0o755)
    (project / "link").symlink_to("sub/run.sh")
    packed = worktree.pack(project, tmp_path / "into", LIMIT)
    there = s3.at("remote")
    assert worktree.send(there, packed)
    assert not worktree.send(there, packed)
    assert s3.keys() == [f"remote/code/{packed.digest}.tar.gz"]
    umask = os.umask(0)
    try:
        write(tmp_path / "out", {"a.py": "older", "kept": "1"})
        worktree.unpack(there, packed.digest, tmp_path / "out")
    finally:
        os.umask(umask)
    out = tmp_path / "out"
    assert {str(path.relative_to(out)) for path in out.rglob("*")} == {"a.py", "kept", "link", "sub", "sub/run.sh"}
    assert (out / "a.py").read_text() == "1"
    assert os.readlink(out / "link") == "sub/run.sh"
    assert [(out / name).stat().st_mode & 0o777 for name in ("sub", "sub/run.sh")] == [0o777, 0o777]


@pytest.mark.s3
def test_what_is_not_what_was_packed_is_refused(s3, tmp_path):
    there = s3.at()
    s3.put(f"code/{'0' * 64}.tar.gz", b"x")
    with pytest.raises(StorageError, match="is not what was packed"):
        worktree.unpack(there, "0" * 64, tmp_path / "out")
    with pytest.raises(StorageError, match="no such object"):
        worktree.unpack(there, "1" * 64, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "x").write_text("evil")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "x", "../x2")
    digest = worktree.digest_of(tmp_path / "evil.tar.gz")
    there.put(tmp_path / "evil.tar.gz", f"code/{digest}.tar.gz")
    with pytest.raises(StorageError, match="cannot be unpacked"):
        worktree.unpack(there, digest, tmp_path / "out")
    assert not (tmp_path / "x2").exists()
    (tmp_path / "evil.tar.gz").write_bytes(b"no archive")
    digest = worktree.digest_of(tmp_path / "evil.tar.gz")
    there.put(tmp_path / "evil.tar.gz", f"code/{digest}.tar.gz")
    with pytest.raises(StorageError, match="cannot be unpacked"):
        worktree.unpack(there, digest, tmp_path / "out")


def test_a_thousand_files_are_packed(tmp_path):
    repo = repository(tmp_path / "repo", {f"d{number % 50}/f{number}.py": "x" * 500 for number in range(1000)})
    packed = worktree.pack(repo, tmp_path / "into", LIMIT)
    assert len(names(packed)) == 1000
