"""A job as a command line: each word arrives as it is, and no secret stands in it."""

import csv
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Container, Resources, Storage
from lightex.dispatcher.engines.containers import call, options, service
from lightex.dispatcher.engines.containers.call import Mount, mount_flag
from lightex.dispatcher.job import Job

PLACES = st.text(st.characters(blacklist_characters="\0\r\n", blacklist_categories=("Cs",)), min_size=1)


@pytest.fixture
def job(tmp_path):
    def make(**fields):
        run = RunDir(tmp_path / "runs" / "demo" / "261123-101010-abcd-003")
        run.path.mkdir(parents=True, exist_ok=True)
        known = {"resources": Resources(), "container": Container("image:1"), "project": tmp_path}
        return Job(
            run=run, command=("python", "train.py", "a b"), env={"LX_ATTEMPT": "1"}, cwd=tmp_path, **known | fields
        )

    return make


@given(PLACES, PLACES)
def test_any_path_survives_the_mount_flag(source, target):
    (row,) = csv.reader([mount_flag(Mount(source, target))], strict=True)
    assert row == ["type=bind", f"source={source}", f"target={target}"]


def test_a_run_inside_the_project_needs_no_mount_of_its_own(job, tmp_path):
    made = call.make_call(job(), "image:1", 0)
    assert made.mounts == (Mount(str(tmp_path), str(tmp_path)),)


def test_what_lies_outside_is_mounted_where_it_is(job, tmp_path):
    data, before = Path("/data/sets"), Path("/runs/demo/one")
    made = call.make_call(job(storage=Storage(dirs={"data": str(data)}), after=(before,)), "image:1", 0)
    assert made.mounts[1:] == (Mount("/data/sets", "/data/sets"), Mount("/runs/demo/one", "/runs/demo/one", True))


def test_lightex_is_mounted_where_that_is_allowed(job):
    made = call.make_call(job(container=Container("image:1", mount_lightex=True)), "image:1", 0, path="/own")
    assert made.env["PYTHONPATH"] == "/lx/lib:/own"
    assert made.mounts[-1].target == "/lx/lib/lightex"
    assert made.mounts[-1].read_only


def test_each_attempt_and_each_run_has_a_name_of_its_own(job, tmp_path):
    names = {job().name, job(attempt=2).name}
    other = RunDir(tmp_path / "elsewhere" / "261123-101010-abcd-003")
    names.add(Job(run=other, command=("x",), env={}, cwd=tmp_path, resources=Resources()).name)
    assert len(names) == 3


@pytest.mark.parametrize("line", [call.shell_line, lambda made: service.shell_line(made, ("disk=fast",), 10.0)])
def test_what_is_inherited_stands_in_the_line_without_its_value(job, monkeypatch, line):
    monkeypatch.setenv("WANDB_API_KEY", "hush")
    monkeypatch.setenv("WANDB_PROJECT", "demo")
    words = shlex.split(line(call.make_call(job(inherit=("WANDB_*",)), "image:1", 0)))
    assert "hush" not in " ".join(words)
    assert [word for word in words if word.startswith("WANDB")] == ["WANDB_API_KEY", "WANDB_PROJECT"]
    assert words[-3:] == ["python", "train.py", "a b"]


def test_what_the_job_sets_is_not_inherited(job, monkeypatch):
    monkeypatch.setenv("LX_ATTEMPT", "9")
    made = call.make_call(job(inherit=("LX_*",)), "image:1", 0)
    assert "LX_ATTEMPT" not in made.inherit
    assert call.creation(made)["environment"]["LX_ATTEMPT"] == "1"


def test_options_stand_in_the_line_and_in_the_api():
    given = {"cap-add": ["A", "B"], "privileged": True, "read-only": False, "ipc": "host", "pids-limit": 9,
             "device": ["/dev/a:/dev/b:r"], "ulimit": ["nofile=7"], "sysctl": ["a=1"], "tmpfs": ["/t:size=1m"]}  # fmt: skip
    options.check(given)
    assert options.flags(given)[:5] == ["--cap-add", "A", "--cap-add", "B", "--privileged"]
    assert options.of_host(given) == {
        "CapAdd": ["A", "B"],
        "Privileged": True,
        "ReadonlyRootfs": False,
        "IpcMode": "host",
        "PidsLimit": 9,
        "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
        "Ulimits": [{"Name": "nofile", "Soft": 7, "Hard": 7}],
        "Sysctls": {"a": "1"},
        "Tmpfs": {"/t": "size=1m"},
    }


def test_a_folder_of_a_file_server_that_is_not_mounted_here_is_mounted_for_the_container(job):
    made = call.make_call(job(storage=Storage(dirs={"data": "nfs://files.example.com:2050/export/sets"})), "image:1", 0)
    mount = made.mounts[-1]
    assert mount == Mount("files.example.com:2050:/export/sets", "/lx/dirs/data", kind="nfs")
    assert mount.as_api() == {
        "Type": "volume",
        "Target": "/lx/dirs/data",
        "ReadOnly": False,
        "VolumeOptions": {
            "DriverConfig": {
                "Name": "local",
                "Options": {
                    "type": "nfs",
                    "o": "addr=files.example.com,nfsvers=4,port=2050",
                    "device": ":/export/sets",
                },
            }
        },
    }
    (row,) = csv.reader([mount_flag(mount)], strict=True)
    assert row == ["type=volume", "target=/lx/dirs/data", "volume-driver=local", "volume-opt=type=nfs",
                   "volume-opt=o=addr=files.example.com,nfsvers=4,port=2050", "volume-opt=device=:/export/sets"]  # fmt: skip
    folders = call.folders(Storage(dirs={"data": "nfs://files.example.com/export", "here": "sets"}), Path("/p"))
    assert folders == {"data": "/lx/dirs/data", "here": "/p/sets"}
