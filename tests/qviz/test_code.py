"""In what the code of two runs differs, from what is kept of it."""

import io
import os
import shutil
import subprocess
import tarfile

import pytest

from lightex.core import jsonlib
from lightex.core.errors import LightexError
from lightex.qviz.code import Code, code_diff, read_code
from lightex.storage import snapshot
from tests.helpers import make_run

ODD = ["a b.py", "größe.py", 'q"uote.py', "tab\there.py", "b/x b/y.py", "ü ü/ö.py", "back\\slash.py"]


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit."""
    folder = tmp_path / "a project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name in ODD:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("one\ntwo\nthree\n")
    (folder / "blob.bin").write_bytes(bytes(range(256)))
    (folder / "train.py").write_text("lr = 1\n")
    commit(folder)
    return folder


def git(folder, *arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *arguments], check=True)


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")


@pytest.fixture
def kept(repository, tmp_path):
    """Keeps the code as it is now in a further run; returns that run."""
    made = []

    def keep():
        taken = snapshot.take(repository, tmp_path / "kept")
        run = make_run(tmp_path / "runs", f"s-{len(made)}")
        run.append_event({"time": 2000.0, "state": "SUBMITTED", "code": taken.digest})
        taken.link_into(run.path)
        made.append(run)
        return read_code(run)

    return keep


def lines(diff):
    return [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]


def test_code_that_is_the_same_differs_in_nothing(kept):
    assert code_diff(kept(), kept()) == ""
    assert code_diff(kept(), Code()) == ""


def test_committed_changed_and_untracked_files_are_told_alike(kept, repository):
    before = kept()
    (repository / "train.py").write_text("lr = 2\n")
    commit(repository)
    (repository / "a b.py").write_text("one\n2\nthree\n")
    (repository / "new file ü.py").write_text("new\n")
    after = kept()
    diff = code_diff(before, after)
    assert diff.startswith(f"commit {before.commit} -> {after.commit}\n")
    assert sorted(lines(diff)) == ["+2", "+lr = 2", "+new", "-lr = 1", "-two"]
    assert "+++ b/new file ü.py" in diff
    assert lines(code_diff(after, before)) != []
    assert (after.branch, after.folder) == ("main", str(repository))


def test_a_change_that_is_committed_later_is_no_difference_of_files(kept, repository):
    (repository / "train.py").write_text("lr = 2\n")
    (repository / "new.py").write_text("new\n")
    before = kept()
    commit(repository)
    after = kept()
    assert code_diff(before, after) == f"commit {before.commit} -> {after.commit}\n"


@pytest.mark.parametrize("name", ODD)
def test_names_that_git_quotes_are_found(kept, repository, name):
    (repository / name).write_text("one\n2\nthree\n")
    before = kept()
    (repository / name).write_text("one\nzwei\nthree\n")
    assert lines(code_diff(before, kept())) == ["-2", "+zwei"]


def test_removed_renamed_and_executable_files(kept, repository):
    before = kept()
    (repository / "train.py").rename(repository / "run ü.py")
    git(repository, "add", "-A")
    (repository / "run ü.py").chmod(0o755)
    (repository / "b/x b/y.py").unlink()
    diff = code_diff(before, kept())
    assert "rename from" in diff or "similarity" in diff or {"-lr = 1", "+lr = 1"} <= set(lines(diff))
    assert "-three" in lines(diff)


def test_binary_files_are_said_to_differ(kept, repository):
    before = kept()
    (repository / "blob.bin").write_bytes(bytes(range(255, -1, -1)))
    (repository / "other.bin").write_bytes(b"\0\1")
    diff = code_diff(before, kept())
    assert "Binary files a/blob.bin and b/blob.bin differ" in diff
    assert "b/other.bin differ" in diff


def test_settings_of_git_change_nothing(kept, repository):
    for name, value in (("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true"), ("apply.whitespace", "error"),
                        ("core.quotepath", "true"), ("color.ui", "always"), ("diff.external", "false")):  # fmt: skip
        git(repository, "config", name, value)
    before = kept()
    (repository / "train.py").write_text("lr = 2  \n")
    assert lines(code_diff(before, kept())) == ["-lr = 1", "+lr = 2  "]


def test_a_repository_around_the_temporary_folder_is_not_looked_at(kept, repository, monkeypatch):
    before = kept()
    (repository / "train.py").write_text("lr = 2\n")
    after = kept()
    monkeypatch.setenv("TMPDIR", str(repository))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert lines(code_diff(before, after)) == ["-lr = 1", "+lr = 2"]


def test_where_the_repository_is_gone_the_changes_themselves_are_compared(kept, repository):
    (repository / "train.py").write_text("lr = 2\n")
    before = kept()
    (repository / "train.py").write_text("lr = 3\n")
    (repository / "new.py").write_text("new\n")
    after = kept()
    shutil.rmtree(repository)
    diff = code_diff(before, after)
    assert "b/changes.diff" in diff
    assert {"-+lr = 2", "++lr = 3", "+new"} <= set(lines(diff))


def test_outside_a_repository_files_are_compared(tmp_path):
    kept = []
    for place, text in enumerate(["one\n", "two\n"]):
        folder = tmp_path / f"p{place}"
        folder.mkdir()
        (folder / "a b.py").write_text(text)
        taken = snapshot.take(folder, tmp_path / "kept")
        run = make_run(tmp_path / "runs", f"s-{place}")
        run.append_event({"time": 2000.0, "state": "SUBMITTED", "code": taken.digest})
        taken.link_into(run.path)
        kept.append(read_code(run))
    assert kept[0].commit is None
    assert lines(code_diff(*kept)) == ["-one", "+two"]


def test_without_git_it_is_said(kept, repository, monkeypatch):
    before = kept()
    (repository / "train.py").write_text("lr = 2\n")
    after = kept()
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(LightexError, match=r"^comparing code needs git\n  install git$"):
        code_diff(before, after)


# ---------------------------------------------------------------------- what others may have written


def archive(path, members):
    """An archive of members: names to bytes, or to (kind, name it links to)."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = content
                file.addfile(member)
            else:
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


def hostile(tmp_path, number, members):
    run = make_run(tmp_path / "runs", f"h-{number}")
    run.append_event({"time": 2000.0, "state": "SUBMITTED", "code": f"{number:012}"})
    archive(run.path / f"code.{number:012}.tar.gz", members)
    return read_code(run)


LINK = """diff --git a/door b/door
new file mode 120000
--- /dev/null
+++ b/door
@@ -0,0 +1 @@
+{target}
\\ No newline at end of file
"""

OUTSIDE = """diff --git a/{name} b/{name}
new file mode 100644
--- /dev/null
+++ b/{name}
@@ -0,0 +1 @@
+evil
"""


@pytest.mark.parametrize(
    "members",
    [
        [("files/../../../{out}/evil", b"x")],
        [("files//{out}/evil", b"x")],
        [("/{out}/evil", b"x"), ("files/", b"x"), ("files/..", b"x"), ("files/.", b"x")],
        [("files/door", (tarfile.SYMTYPE, "{out}")), ("files/door/evil", b"x")],
        [("files/evil", (tarfile.SYMTYPE, "{out}/evil")), ("files/hard", (tarfile.LNKTYPE, "/etc/hostname"))],
        [("changes.diff", LINK.encode()), ("files/door/evil", b"x")],
        [("changes.diff", LINK.replace("{target}", "{out}/evil").encode()), ("files/door", b"x")],
        [("changes.diff", OUTSIDE.replace("{name}", "../../../../../../../..{out}/evil").encode())],
        [("changes.diff", OUTSIDE.replace("{name}", "{out}/evil").encode())],
        [("changes.diff", LINK.encode() + OUTSIDE.replace("{name}", "door/evil").encode())],
        [("code.json", b'{"commit": "--output={out}/evil", "folder": "{project}"}'), ("files/a", b"x")],
        [("code.json", b'{"commit": ["a"], "folder": 3, "not_kept": 5, "branch": {}}'), ("files/a", b"x")],
        [("code.json", b"[1]"), ("files/a", b"x"), ("files/a/b", b"x"), ("files/a", b"y")],
        [("files/.git/config", b"[core]\n\tfsmonitor = touch {out}/evil\n"), ("files/.GIT/hooks/x", b"x")],
        [("fifo", (tarfile.FIFOTYPE, "")), ("files/dev", (tarfile.CHRTYPE, "")), ("files/dir", (tarfile.DIRTYPE, ""))],
    ],
)
def test_nothing_is_written_outside_and_no_option_reaches_git(tmp_path, repository, members):
    out = tmp_path / "out"
    out.mkdir()

    def filled(text):
        if isinstance(text, tuple):
            return text[0], filled(text[1])
        if isinstance(text, bytes):
            return filled(text.decode()).encode()
        for name, value in (("{out}", str(out)), ("{target}", str(out)), ("{project}", str(repository))):
            text = text.replace(name, value)
        return text

    code = hostile(tmp_path, 1, [(filled(name), filled(content)) for name, content in members])
    plain = hostile(tmp_path, 2, [("code.json", jsonlib.dumps({"commit": "a" * 40, "folder": str(repository)}))])
    code_diff(code, plain)
    code_diff(plain, code)
    assert list(out.iterdir()) == []
    assert not any(".." in name or name.startswith("/") for name in code.files)
    assert all(not isinstance(content, bytes) or b"root" not in content for content in code.files.values())


@pytest.mark.parametrize("how", ["empty", "text", "cut", "garbled", "garbage json"])
def test_an_archive_that_is_broken_is_an_error_that_names_it(tmp_path, how):
    run = make_run(tmp_path / "runs", "s-0")
    run.append_event({"time": 2000.0, "state": "SUBMITTED", "code": "abc"})
    path = run.path / "code.abc.tar.gz"
    archive(
        path, [("code.json", b"{" if how == "garbage json" else b"{}"), ("files/a", os.urandom(100_000).hex().encode())]
    )
    data = path.read_bytes()
    half = len(data) // 2
    broken = {
        "empty": b"",
        "text": b"text",
        "cut": data[:half],
        "garbled": data[:half] + b"\xff" * 100 + data[half + 100 :],
    }
    path.write_bytes(broken.get(how, data))
    with pytest.raises(OSError, match=r"code\.abc\.tar\.gz"):
        read_code(run)


def test_a_run_without_code_has_none(tmp_path):
    run = make_run(tmp_path / "runs", "s-0")
    assert read_code(run) == Code()
    run.append_event({"time": 2000.0, "state": "SUBMITTED", "code": "gone"})
    assert read_code(run) == Code()
