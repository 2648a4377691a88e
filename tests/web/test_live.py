"""The live page in a browser, on live sweeps: runs are stopped, retried and cloned from it."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest

from lightex.core.root import Root
from lightex.core.summary import read_all
from tests.helpers import LX, wait_for
from tests.services import ray as ray_service
from tests.services.docker import BASE, skip_or_fail
from tests.web.conftest import until

pytestmark = pytest.mark.browser

TRAIN = """import os, sys, time
import lightex
with lightex.start_run() as run:
    for step in range(10_000):
        run.log({"loss": 1 / (step + 1)}, step=step)
        run.progress(step, 10_000)
        print("step", step, flush=True)
        if os.path.exists("fail"): raise ValueError("it was to fail")
        if os.path.exists("go"): break
        time.sleep(0.05)
"""


def seen(root):
    return {run.short_id[-3:]: run for run in read_all(root, root.runs())}


@pytest.fixture
def live(project, tmp_path, serve, watched, monkeypatch):
    """Starts a sweep and opens the live page when its first run is at work."""
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "own"))
    (project / "train.py").write_text(TRAIN)
    keepers = []

    def start(*arguments):
        root = Root(project / "runs")
        with (project / "said").open("w") as said:
            keepers.append(subprocess.Popen([*LX, "run", *arguments], stdout=said, stderr=said, start_new_session=True))
        wait_for(lambda: "RUNNING" in {run.status for run in seen(root).values()}, seconds=60)
        served = serve(root.path)
        page = watched(served.base)
        page.context.add_cookies([{"name": f"lx-{served.base.rpartition(':')[2]}", "value": "tok", "url": served.base}])
        page.goto(f"{served.base}/live")
        return root, page

    yield start
    (project / "go").touch()
    for keeper in keepers:
        assert keeper.wait(60) in (0, 1), (project / "said").read_text()


def choose(page, label, word):
    """Chooses a word in the menu of a row."""
    page.click(f"[aria-label='{label}']")
    page.click(f".menu button:text-is('{word}')")


def told(page):
    return until(page, "document.querySelector('.toast')?.textContent")


def part(page, name):
    return f"(document.querySelector('[aria-label={name}]')?.textContent ?? '')"


def test_what_runs_moves_and_is_stopped(live):
    root, page = live("grid", "-j", "1")
    until(page, f"{part(page, 'Running')}.includes('demo')")
    first = page.text_content("[aria-label=Running] progress + span")
    until(page, f"document.querySelector('[aria-label=Running] progress + span').textContent !== {first!r}")
    until(page, "/\\d+ %/.test(document.querySelector('[aria-label=Running] tbody').textContent)")  # its CPU
    assert page.locator("[aria-label=Waiting] tbody tr").count() == 2
    name = seen(root)["000"].short_id
    choose(page, f"Actions on {name}", "Stop")
    page.click("#sure-ok")
    assert told(page) == "1 run asked to end, each within its grace"
    until(
        page,
        f"{part(page, 'Ended')}.includes({name!r}) || document.querySelector('[aria-label=\"Ended lately\"]')?.textContent.includes({name!r})",
    )
    assert seen(root)["000"].status == "CANCELLED"
    until(page, "document.querySelectorAll('[aria-label=Waiting] tbody tr').length === 1")  # the next one has begun


def test_one_that_waits_goes_first_and_the_page_says_why_it_waited(live):
    root, page = live("grid", "-j", "1")
    last = seen(root)["002"].short_id
    page.click(f"tr[data-id$='{last}'] .why")
    assert "slot" in told(page)
    choose(page, f"Actions on {last}", "Before all others")
    wait_for(lambda: seen(root)["002"].wants.get("priority") == 100)
    choose(page, f"Actions on {seen(root)['000'].short_id}", "Kill")
    page.click("#sure-ok")
    wait_for(lambda: seen(root)["002"].status == "RUNNING")


def test_a_failed_one_is_retried_and_a_clone_with_a_wrong_parameter_is_refused_in_the_configs_words(live, project):
    root, page = live("base")
    (project / "fail").touch()
    name = seen(root)["000"].short_id
    until(
        page, "(document.querySelector('[aria-label=\"Ended lately\"]')?.textContent ?? '').includes('it was to fail')"
    )
    (project / "fail").unlink()
    choose(page, f"Actions on {name}", "Retry")
    until(page, f"{part(page, 'Running')}.includes({name!r})", 40)
    choose(page, f"Actions on {name}", "Run it again, changed…")
    page.fill("[aria-label='hp.lr']", "fast")
    page.click("#cloner button.primary")
    assert "hp.lr must be a float, got 'fast'" in until(
        page, "document.querySelector('#cloner-error:not([hidden])')?.textContent"
    )
    assert page.complaints == ["Failed to load resource: the server responded with a status of 400 (Bad Request)"]
    page.complaints.clear()
    assert len(seen(root)) == 1
    page.fill("[aria-label='hp.lr']", "0.5")
    page.click("#cloner button.primary")
    until(page, "!document.querySelector('#cloner').open", 40)
    wait_for(lambda: sorted(run.params["hp.lr"] for run in read_all(root, root.runs())) == [0.01, 0.5])
    (project / "go").touch()
    wait_for(lambda: {run.status for run in read_all(root, root.runs())} == {"SUCCEEDED"}, seconds=60)


def test_a_whole_sweep_is_stopped(live):
    root, page = live("grid", "-j", "1")
    choose(page, f"Actions on sweep {seen(root)['000'].sweep}", "Stop all of it")
    page.click("#sure-ok")
    assert "asked to end" in told(page)
    wait_for(lambda: {run.status for run in seen(root).values()} == {"CANCELLED"})


def test_the_output_of_one_is_followed_below_the_tables_and_the_address_says_whose(live):
    root, page = live("base")
    run = seen(root)["000"]
    choose(page, f"Actions on {run.short_id}", "Its output")
    text = "document.querySelector('#drawer .log-text')?.textContent.length"
    before = until(page, text)
    until(page, f"{text} > {before}")
    assert page.url.endswith(f"?log={run.id}")
    assert page.text_content("#drawer-title") == run.short_id
    first = page.text_content("[aria-label=Running] progress + span")
    until(page, f"document.querySelector('[aria-label=Running] progress + span').textContent !== {first!r}")
    page.reload()
    until(page, text)
    page.keyboard.press("Escape")
    assert page.locator("#drawer").is_hidden()
    assert page.evaluate("document.activeElement.ariaLabel") == f"Actions on {run.short_id}"
    page.go_back()
    until(page, text)


def test_the_output_of_several_grows_side_by_side(live):
    _, page = live("grid", "-j", "2")
    until(page, "document.querySelectorAll('[aria-label=Running] tbody tr').length === 2", 40)
    page.click("[aria-label=Running] .act")
    page.click(".menu button:text-is('Output of all that run')")
    until(page, "document.querySelectorAll('.log-text').length === 2")
    count = "[...document.querySelectorAll('.log-text')].map((one) => one.textContent.length)"
    before = until(page, f"{count}.every(Boolean) && {count}")
    until(page, f"{count}.every((size, i) => size > {list(before)}[i])")


@pytest.mark.docker
def test_a_container_is_watched_and_stopped_alike(live, docker):
    root, page = live("base", "-e", "docker", f"container.image={BASE}", "container.mount_lightex=true")
    name = seen(root)["000"].short_id
    until(page, f"/MiB/.test({part(page, 'Running')})", 40)  # what its processes hold
    choose(page, f"Actions on {name}", "Stop")
    page.click("#sure-ok")
    wait_for(lambda: seen(root)["000"].status == "CANCELLED", seconds=60)


@pytest.mark.slurm
def test_a_job_of_slurm_is_stopped_alike(live, slurm):
    root, page = live("base", "-e", "slurm")
    choose(page, f"Actions on {seen(root)['000'].short_id}", "Stop")
    page.click("#sure-ok")
    wait_for(lambda: seen(root)["000"].status == "CANCELLED", seconds=60)
    assert seen(root)["000"].node  # where it ran


@pytest.mark.ray
def test_a_job_of_ray_is_stopped_alike(live, tmp_path, monkeypatch):
    if importlib.util.find_spec("ray") is None:
        skip_or_fail("ray", "not installed: pip install 'lightex[ray]'")
    monkeypatch.setenv("HOME", str(tmp_path))
    root, page = live("base", "-e", "ray")
    try:
        choose(page, f"Actions on {seen(root)['000'].short_id}", "Stop")
        page.click("#sure-ok")
        wait_for(lambda: seen(root)["000"].status == "CANCELLED", seconds=60)
    finally:
        ray_service.end_brokers(tmp_path / "own")
