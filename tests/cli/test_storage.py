"""Named folders that are kept elsewhere, from the command line: staged before anything starts, brought back after."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lightex.storage import staging
from tests.helpers import LX, wait_for
from tests.services import free_port
from tests.services.docker import BASE

DEMO = """from dataclasses import dataclass
from lightex import Container, Experiment, Resources, Storage, Store, replace, sweep


@dataclass(frozen=True)
class HP:
    lr: float = 0.1


data = Store("s3://{bucket}/data", endpoint="{endpoint}")
out = Store("s3://{bucket}/out", endpoint="{endpoint}", write=True)
base = Experiment(name="demo", command=["python", "train.py", "{{{{ dirs.data }}}}"], hp=HP(),
                  resources=Resources(cpus=0.25, memory="256MiB"), storage=Storage(dirs={{"data": data}}))
grid = sweep(base, {{"hp.lr": [0.1, 0.2, 0.3]}})
writing = replace(base, {{"storage.dirs": {{"data": data, "out": out}},
                         "command": ["python", "write.py", "{{{{ dirs.data }}}}", "{{{{ dirs.out }}}}", "{{{{ hp.lr }}}}"]}})
"""

READS = "import sys\nfrom pathlib import Path\nprint(Path(sys.argv[1], 'words.txt').read_text())\n"

WRITES = """import sys
from pathlib import Path
data, out, lr = sys.argv[1:]
place = Path(out, "weights", lr)
place.mkdir(parents=True)
(place / "w.txt").write_text(Path(data, "words.txt").read_text() + lr)
"""

IN_A_CONTAINER = ["-e", "docker", f"container.image={BASE}"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def demo(project, s3):
    """A project whose data is in a bucket."""
    (project / "lxconfig.py").write_text(DEMO.format(bucket=s3.bucket, endpoint=s3.endpoint))
    (project / "train.py").write_text(READS)
    (project / "write.py").write_text(WRITES)
    s3.put("data/words.txt", b"hello")
    s3.put("data/deep/more.bin", b"x" * 5000)
    return project


@pytest.fixture
def staged(tmp_path, s3):
    """Where the data is staged, as the config of `demo` names it."""
    return s3.place("data").here


def runs(lx, *arguments):
    return lx("ls", "--json", *arguments).json


def command_of(project, run):
    return json.loads((project / "runs" / "demo" / run["id"] / "run.json").read_bytes())["command"]


def outputs(lx):
    return [lx("logs", run["id"]).out.strip() for run in runs(lx)]


def removes_the_bucket(s3):
    """A line of Python that takes the bucket away."""
    return (
        f"import boto3\nbucket = boto3.resource('s3', endpoint_url='{s3.endpoint}').Bucket('{s3.bucket}')\n"
        "bucket.objects.all().delete()\nbucket.delete()\n"
    )


@pytest.mark.s3
def test_data_in_a_bucket_is_staged_before_anything_is_recorded(demo, lx, fetched, staged, tmp_path, monkeypatch):
    recorded, fetch = [], staging.fetch

    def looking(*arguments):
        recorded.append((demo / "runs").exists())
        return fetch(*arguments)

    monkeypatch.setattr(staging, "fetch", looking)
    done = lx("run", "grid", "-j", "3")
    assert done.code == 0, done
    assert "3 succeeded" in done.out
    assert recorded == [False]  # once for all of the sweep
    assert sorted(fetched) == ["deep/more.bin", "words.txt"]
    assert staged.is_relative_to(tmp_path / "cache")
    assert (staged / "deep" / "more.bin").stat().st_size == 5000
    assert {tuple(command_of(demo, run)) for run in runs(lx)} == {("python", "train.py", str(staged))}
    assert outputs(lx) == ["hello"] * 3


@pytest.mark.s3
def test_what_is_there_is_not_brought_again_and_what_has_changed_is(demo, lx, s3, fetched):
    assert lx("run", "base").code == 0
    fetched.clear()
    assert lx("run", "base").code == 0
    assert fetched == []
    s3.put("data/words.txt", b"HELLO")  # of the same size
    s3.client.delete_object(Bucket=s3.bucket, Key="data/deep/more.bin")
    assert lx("run", "base").code == 0
    assert fetched == ["words.txt"]
    assert sorted(outputs(lx)) == ["HELLO", "hello", "hello"]


@pytest.mark.s3
def test_a_plan_downloads_nothing(demo, lx, fetched, staged):
    (planned,) = lx("plan", "base", "--json").json
    assert planned["command"] == ["python", "train.py", str(staged)]
    assert fetched == []
    assert not (demo / "runs").exists()


@pytest.mark.s3
def test_what_cannot_be_staged_is_told_in_words_and_leaves_no_run(demo, lx, s3, monkeypatch):
    config = (demo / "lxconfig.py").read_text()
    dead = f"http://127.0.0.1:{free_port()}"
    for text, secret, words in [
        (config.replace(s3.bucket, f"{s3.bucket}x"), None, f"there is no bucket '{s3.bucket}x' at {s3.endpoint}"),
        (config.replace("/data", "/dta"), None, "there is nothing there"),
        (config, "wrong", "the secret does not belong to the access key"),
        (config.replace(s3.endpoint, dead), None, f"{dead} does not answer"),
    ]:
        (demo / "lxconfig.py").write_text(text)
        with monkeypatch.context() as patch:
            if secret:
                patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
            done = lx("run", "base")
        assert done.code not in (0, 130)
        assert words in " ".join(done.err.split())
        assert "Traceback" not in done.err
        assert not (demo / "runs").exists()


@pytest.mark.s3
def test_without_credentials_it_says_how_to_give_them(demo, lx, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    done = lx("run", "base")
    assert done.code != 0
    assert "there are no credentials" in done.err
    assert "AWS_ACCESS_KEY_ID" in done.err
    assert not (demo / "runs").exists()


@pytest.mark.s3
def test_what_runs_have_written_is_in_the_bucket_afterwards(demo, lx, s3):
    done = lx("run", "writing", "hp.lr=0.1,0.2,0.3", "-j", "3")
    assert done.code == 0, done
    assert s3.keys("out/") == [f"out/weights/{lr}/w.txt" for lr in (0.1, 0.2, 0.3)]
    assert s3.read("out/weights/0.2/w.txt") == b"hello0.2"
    assert sorted(s3.keys("data/")) == ["data/deep/more.bin", "data/words.txt"]


@pytest.mark.s3
def test_what_is_written_to_a_folder_that_is_only_read_stays_here(demo, lx, s3, staged):
    (demo / "train.py").write_text("import sys\nfrom pathlib import Path\nPath(sys.argv[1], 'mine').write_text('x')\n")
    assert lx("run", "base").code == 0
    assert (staged / "mine").exists()
    assert s3.keys("data/mine") == []


@pytest.mark.s3
def test_what_a_failing_run_has_written_comes_back_too(demo, lx, s3):
    (demo / "write.py").write_text(WRITES + "sys.exit(3)\n")
    assert lx("run", "writing").code == 1
    assert s3.keys("out/") == ["out/weights/0.1/w.txt"]


@pytest.mark.s3
def test_resume_stages_again_what_is_gone_from_the_cache(demo, lx, fetched, staged, tmp_path):
    (demo / "train.py").write_text("raise SystemExit(1)\n")
    assert lx("run", "grid").code == 1
    (demo / "train.py").write_text(READS)
    fetched.clear()
    shutil.rmtree(staged)  # what was known of it stays beside it
    assert lx("resume", "--only", "0").code == 1  # the others are left as they are
    assert sorted(fetched) == ["deep/more.bin", "words.txt"]
    fetched.clear()
    shutil.rmtree(tmp_path / "cache")
    done = lx("resume")
    assert done.code == 0, done
    assert sorted(fetched) == ["deep/more.bin", "words.txt"]
    assert {run["status"] for run in runs(lx)} == {"SUCCEEDED"}
    assert lx("logs", runs(lx)[-1]["id"]).out.endswith("--- attempt 2 ---\nhello\n")


@pytest.mark.s3
def test_a_resume_that_cannot_stage_leaves_the_sweep_as_it_is(demo, lx, s3, tmp_path, monkeypatch):
    (demo / "train.py").write_text("raise SystemExit(1)\n")
    assert lx("run", "base").code == 1
    (demo / "train.py").write_text(READS)
    shutil.rmtree(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        done = lx("resume")
    assert done.code not in (0, 1, 130)
    assert "the secret does not belong" in done.err
    assert [run["status"] for run in runs(lx)] == ["FAILED"]
    done = lx("resume")
    assert done.code == 0, done
    assert outputs(lx)[0].endswith("--- attempt 2 ---\nhello")


@pytest.mark.s3
def test_a_search_is_staged_for_and_so_are_the_trials_it_goes_on_with(demo, lx, tmp_path, fetched):
    config = (demo / "lxconfig.py").read_text().replace("replace, sweep", "replace, search, sweep, uniform")
    tuned = (
        'tuned = search(replace(base, {"metric": "loss"}), {"hp.lr": uniform(0, 1)}, trials=TRIALS, sampler="random")'
    )
    (demo / "lxconfig.py").write_text(config + tuned.replace("TRIALS", "1"))
    (demo / "train.py").write_text(READS + "import lightex\nwith lightex.start_run() as run: run.log({'loss': 1.0})\n")
    done = lx("run", "tuned")
    assert done.code == 0, done
    assert sorted(fetched) == ["deep/more.bin", "words.txt"]
    (demo / "lxconfig.py").write_text(config + tuned.replace("TRIALS", "2"))
    shutil.rmtree(tmp_path / "cache")
    done = lx("resume")
    assert "1 trials to choose" in done.out
    assert done.code == 0, done
    assert outputs(lx) == ["hello", "hello"]


@pytest.mark.s3
def test_an_upload_that_fails_is_told_and_the_runs_have_succeeded_all_the_same(demo, lx, s3):
    (demo / "write.py").write_text(WRITES + removes_the_bucket(s3))
    done = lx("run", "writing")
    assert done.code not in (0, 130)
    assert f"there is no bucket '{s3.bucket}'" in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"]
    assert (s3.place("out", write=True).here / "weights" / "0.1" / "w.txt").exists()  # nothing is lost here


@pytest.mark.s3
def test_an_upload_that_fails_takes_no_word_from_the_summary(demo, lx, s3):
    (demo / "write.py").write_text(WRITES + removes_the_bucket(s3))
    assert "1 succeeded" in lx("run", "writing").out


@pytest.mark.s3
def test_an_upload_that_fails_for_a_while_is_made_up_for(demo, lx, s3):
    """The bucket is away when the first run ends, and there again for the second one, which sends all."""
    makes = f"boto3.client('s3', endpoint_url='{s3.endpoint}').create_bucket(Bucket='{s3.bucket}')\n"
    # Nothing tells when the first upload was refused: were it later than this, it would not be.
    makes = f"import time\n    time.sleep(1.5)\n    {makes}"
    away, back = removes_the_bucket(s3).replace("\n", "\n    "), f"import boto3\n    {makes}"
    (demo / "write.py").write_text(WRITES + f"if lr == '0.1':\n    {away}\nelse:\n    {back}")
    done = lx("run", "writing", "hp.lr=0.1,0.2", "-j", "1")
    assert s3.keys("out/") == ["out/weights/0.1/w.txt", "out/weights/0.2/w.txt"]
    assert done.code == 0, done


@pytest.mark.s3
def test_one_folder_that_is_named_twice_is_brought_back_if_one_of_them_says_so(demo, lx, s3):
    config = (demo / "lxconfig.py").read_text()
    for number, named in enumerate(('"out": out, "same": only_read', '"same": only_read, "out": out')):
        only_read = f"only_read = Store('s3://{s3.bucket}/out', endpoint='{s3.endpoint}')\nbase ="
        text = config.replace("base =", only_read, 1).replace('"data": data, "out": out', f'"data": data, {named}')
        (demo / "lxconfig.py").write_text(text)
        done = lx("run", "writing", f"hp.lr={number}")
        assert done.code == 0, done
        assert s3.keys("out/") == [f"out/weights/{each}.0/w.txt" for each in range(number + 1)]


@pytest.mark.s3
def test_buckets_of_one_name_at_two_services_are_both_staged(demo, lx, s3):
    other = s3.endpoint.replace("127.0.0.1", "localhost")
    config = (
        (demo / "lxconfig.py")
        .read_text()
        .replace(
            'dirs={"data": data}', f"dirs={{'data': data, 'more': Store('s3://{s3.bucket}/data', endpoint='{other}')}}"
        )
    )
    (demo / "lxconfig.py").write_text(
        config.replace('{{ dirs.data }}"], hp', '{{ dirs.data }}", "{{ dirs.more }}"], hp')
    )
    (demo / "train.py").write_text(READS + "print(Path(sys.argv[2], 'words.txt').read_text())\n")
    done = lx("run", "base")
    assert done.code == 0, (done, outputs(lx))
    assert outputs(lx) == ["hello\nhello"]


@pytest.mark.s3
def test_what_could_not_be_brought_back_goes_with_the_next_run(demo, lx, s3):
    (demo / "write.py").write_text(WRITES + removes_the_bucket(s3))
    assert lx("run", "writing").code != 0
    (demo / "write.py").write_text(WRITES)
    s3.client.create_bucket(Bucket=s3.bucket)
    s3.put("data/words.txt", b"again")
    done = lx("run", "writing", "hp.lr=0.2")
    assert done.code == 0, done
    assert s3.keys("out/") == ["out/weights/0.1/w.txt", "out/weights/0.2/w.txt"]


@pytest.mark.s3
def test_a_detached_sweep_brings_back_as_well(demo, lx, s3):
    assert lx("run", "writing", "--detach").code == 0
    wait_for(lambda: s3.keys("out/"))
    assert s3.read("out/weights/0.1/w.txt") == b"hello0.1"
    assert lx("attach").code == 0


@pytest.mark.s3
def test_two_sweeps_at_once_share_what_is_staged(demo, lx, s3, staged):
    both = [subprocess.Popen([*LX, "run", "writing", f"hp.lr={lr}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for lr in (0.1, 0.2)]  # fmt: skip
    for each in both:
        out, err = each.communicate(timeout=30)
        assert each.returncode == 0, (out, err)
    assert s3.keys("out/") == ["out/weights/0.1/w.txt", "out/weights/0.2/w.txt"]
    assert len({command_of(demo, run)[2] for run in runs(lx)}) == 1
    assert sorted(path.name for path in staged.iterdir()) == ["deep", "words.txt"]


@pytest.mark.s3
@pytest.mark.docker
@pytest.mark.usefixtures("docker")
def test_containers_find_the_same_folder_and_what_they_write_comes_back(demo, lx, s3, fetched, staged):
    assert lx("run", "base").code == 0
    assert sorted(fetched) == ["deep/more.bin", "words.txt"]
    done = lx("run", "grid", *IN_A_CONTAINER)
    assert done.code == 0, done
    assert len(fetched) == 2  # it is there already
    assert outputs(lx) == ["hello"] * 4
    assert {tuple(command_of(demo, run)) for run in runs(lx)} == {("python", "train.py", str(staged))}
    done = lx("run", "writing", *IN_A_CONTAINER)
    assert done.code == 0, done
    assert s3.read("out/weights/0.1/w.txt") == b"hello0.1"


@pytest.mark.s3
@pytest.mark.docker
@pytest.mark.usefixtures("docker")
def test_containers_are_staged_for_before_anything_is_recorded(demo, lx, s3, fetched, tmp_path):
    s3.client.delete_object(Bucket=s3.bucket, Key="data/words.txt")
    s3.client.delete_object(Bucket=s3.bucket, Key="data/deep/more.bin")
    done = lx("run", "base", *IN_A_CONTAINER)
    assert done.code not in (0, 130)
    assert "there is nothing there" in done.err
    assert not (demo / "runs").exists()
    s3.put("data/words.txt", b"hello")
    (demo / "train.py").write_text("raise SystemExit(1)\n")
    assert lx("run", "base", *IN_A_CONTAINER).code == 1
    (demo / "train.py").write_text(READS)
    shutil.rmtree(tmp_path / "cache")
    assert lx("resume").code == 0
    assert fetched == ["words.txt", "words.txt"]
    assert outputs(lx)[0].endswith("hello")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("pvc://claim/data", ["pvc://claim/data is not to be seen from this machine", "-e kubernetes", "path="]),
        ("nfs://filer/export/data", ["is not mounted on this machine", "mount -t nfs filer:/export/data /mnt/data"]),
        ("ftp://filer/data", ["storage.dirs.data: 'ftp://filer/data' is no store", "s3://BUCKET/PREFIX"]),
    ],
)
def test_what_processes_cannot_see_is_refused_before_anything_is_written(project, lx, given, words):
    done = lx("run", "grid", f"storage.dirs={{'data': '{given}'}}")
    assert done.code == 2
    for each in words:
        assert each in " ".join(done.err.split())
    assert not (project / "runs").exists()


def test_a_folder_of_a_server_whose_path_is_said_is_used_as_it_is(project, lx, tmp_path):
    (tmp_path / "seen").mkdir()
    (project / "train.py").write_text("import os, sys\nprint(sys.argv[1:], os.listdir(sys.argv[2]))\n")
    config = (project / "lxconfig.py").read_text().replace("import Experiment", "import Storage, Store, Experiment")
    for url in ("nfs://filer/export/data", "pvc://claim/data"):
        storage = f"storage=Storage(dirs={{'data': Store({url!r}, path={str(tmp_path / 'seen')!r})}}), hp=HP(),"
        text = config.replace("hp=HP(),", storage).replace("{{ hp.epochs }}", "{{ dirs.data }}")
        (project / "lxconfig.py").write_text(text)
        done = lx("run", "base")
        assert done.code == 0, done
    assert {command_of(project, run)[-1] for run in runs(lx)} == {str(tmp_path / "seen")}


def test_a_swarm_refuses_what_would_be_staged_on_this_machine_alone(project, lx, tmp_path):
    done = lx("run", "grid", "-e", "swarm", f"container.image={BASE}", "storage.dirs={'data': 's3://bucket/data'}")
    assert done.code == 2
    assert "s3://bucket/data would be staged on this machine" in " ".join(done.err.split())
    assert "nfs://SERVER/FOLDER" in done.err
    assert not (project / "runs").exists()
    assert not Path(tmp_path / "cache" / "stores").exists()
