"""The pages in a browser: what one does by pointer and by keyboard, live runs, hostile names, phones, screen readers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lightex.core.rundir import RunDir
from tests.web import roots
from tests.web.conftest import Served, serving, until

pytestmark = pytest.mark.browser

BEST, FAILED = "260528-202640-aaaa-004", "260528-202640-aaaa-003"
TABS = ("overview", "charts", "media", "artifacts", "logs", "code", "events")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Roots: plain, hostile, empty, crowd (of 40 runs), big (a log of 30 MB, curves of 20,000 points)."""
    folder = tmp_path_factory.mktemp("browsed")
    (folder / "outside").mkdir()
    (folder / "empty").mkdir()
    roots.plain(folder / "plain")
    roots.hostile(folder / "hostile", folder / "outside")
    for number in range(40):
        roots.run_dir(folder / "crowd", number, hp={"lr": number + 1}, metrics=roots.curve(0.01, number, 20))
    spike = [0.0] * 20_000
    spike[12_345:12_348] = [1.0, -1.0, 0.5]
    big = roots.run_dir(folder / "big", 0, metrics={"spike": spike, "a.b": [1.0], "a.c": [2.0]})
    lines = [b"2026-11-26 12:41:47 \x1b[32mINFO\x1b[0m step=%07d ok\n" % number for number in range(600_000)]
    lines[500_000] = b"Traceback (most recent call last):\n"
    (big.path / "output.log").write_bytes(b"".join(lines))
    return folder


@pytest.fixture(scope="module")
def sites(folder: Path) -> Iterator[Any]:
    """The UI of a root, started when it is first asked for."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        started: dict[str, Served] = {}

        def site(name: str) -> Served:
            if name not in started:
                started[name] = stack.enter_context(serving(folder / name, folder / "cache" / name))
            return started[name]

        yield site


@pytest.fixture
def visit(sites, watched):
    """Opens a page of a root's UI as one who has come in by the token."""

    def opened(name: str, path: str = "", **options: Any) -> Any:
        served = sites(name)
        page = watched(served.base, **options)
        page.context.add_cookies([{"name": f"lx-{served.base.rpartition(':')[2]}", "value": "tok", "url": served.base}])
        page.base = served.base
        page.goto(f"{served.base}/{path}")
        return page

    return opened


def ids(page):
    """The runs in the table, from above."""
    return page.evaluate("[...document.querySelectorAll('#table tbody tr[data-id]')].map((row) => row.dataset.id)")


def painted(page, number=1):
    """Waits until so many charts have a picture."""
    until(page, f"[...document.querySelectorAll('.card .chart')].filter((c) => /: [1-9]\\d* curve/.test(c.getAttribute('aria-label'))).length >= {number}")  # fmt: skip


def labels(page):
    """What each chart tells screen readers."""
    return page.evaluate("[...document.querySelectorAll('.card .chart')].map((one) => one.getAttribute('aria-label'))")


def rows_are(page, count):
    until(page, f"document.querySelectorAll('#table tbody tr[data-id]').length === {count}")


# ---------------------------------------------------------------- the first page


def test_a_filter_is_completed_and_its_mistakes_are_shown_under_their_character(visit):
    page = visit("plain")
    page.keyboard.press("/")
    page.keyboard.type("hp.l")
    page.wait_for_selector("#names li")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#q", "aria-activedescendant") == "name-0"
    page.keyboard.press("Tab")
    assert page.input_value("#q") == "hp.lr "
    page.keyboard.type("> 0.05 order by val.acc desc")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    rows_are(page, 4)
    assert "q=hp.lr+%3E+0.05" in page.url
    page.fill("#q", "hp.lr >> 1")
    page.keyboard.press("Enter")
    error = page.wait_for_selector(".filter-error")
    assert page.get_attribute("#q", "aria-invalid") == "true"
    caret = page.evaluate("""() => { const range = document.createRange(), text = document.querySelector(".filter-error").firstChild;
      range.setStart(text, text.data.indexOf("^")); range.setEnd(text, text.data.indexOf("^") + 1); return range.getBoundingClientRect().left; }""")
    box = page.evaluate("document.querySelector('#q').getBoundingClientRect().left")
    width = page.evaluate("""() => { const c = document.createElement("canvas").getContext("2d"), s = getComputedStyle(document.querySelector("#q"));
      c.font = s.font; return c.measureText("hp.lr >").width + parseFloat(s.paddingLeft) + 1; }""")
    assert caret == pytest.approx(box + width, abs=3)
    assert "expected a value" in error.inner_text()
    page.complaints[:] = [each for each in page.complaints if "400" not in each]


def test_sorting_paging_and_their_addresses_can_be_gone_back_through(visit):
    page = visit("plain", "?size=25")
    newest = ids(page)
    page.click("th button[data-sort='metrics.val.acc']")
    until(page, "document.querySelector('th[aria-sort=descending]')")
    assert ids(page)[0] == BEST
    page.click("th button[data-sort='metrics.val.acc']")
    until(page, "document.querySelector('th[aria-sort=ascending]')")
    page.go_back()
    until(page, "document.querySelector('th[aria-sort=descending]')")
    page.go_back()
    until(page, "!document.querySelector('th[aria-sort]')")
    assert ids(page) == newest
    page.go_forward()
    until(page, "document.querySelector('th[aria-sort=descending]')")
    crowd = visit("crowd", "?size=25")
    assert crowd.inner_text(".pager .muted") == "1 to 25 of 40"
    crowd.click("[aria-label='Next page']")
    rows_are(crowd, 15)
    assert "page=2" in crowd.url
    crowd.select_option("#size", "100")
    rows_are(crowd, 40)


def test_columns_are_chosen_and_put_in_order(visit):
    page = visit("plain")
    page.click("text=Columns")
    page.wait_for_selector("#chooser[open]")
    page.fill("#chooser-find", "^hp.depth|^user$")
    assert page.locator("#chooser-list li:visible").count() == 2
    page.check("#chooser-list input[value='user']")
    page.uncheck("#chooser-list input[value='hp.depth']")
    page.fill("#chooser-find", "")
    page.focus("#chooser-list input[value='hp.seed']")
    page.keyboard.press("Alt+ArrowUp")
    assert page.evaluate("document.activeElement.value") == "hp.seed"
    page.drag_and_drop(
        "#chooser-list li:has(input[value='hp.model'])",
        "#chooser-list li:first-child",
        target_position={"x": 5, "y": 2},
    )
    page.click("#chooser-ok")
    until(page, "location.search.includes('col=user')")
    until(page, "document.querySelector('th button[data-sort=user]')")
    heads = page.evaluate(
        "[...document.querySelectorAll('thead button[data-sort]')].map((one) => one.dataset.sort).slice(5)"
    )
    assert heads[:3] == ["hp.model", "hp.seed", "hp.lr"]
    assert "hp.depth" not in heads
    assert heads[-1] == "user"
    page.click("text=Columns")
    page.click("#chooser-reset")
    until(page, "!location.search.includes('col=')")
    page.click("text=Columns")
    page.click("#chooser-no")
    assert not page.locator("#chooser").is_visible()


def test_of_groups_that_are_open_each_has_its_mean_and_band(visit):
    page = visit("crowd", "?group=status&mean=1")
    page.click("tr.group .expand")
    painted(page)
    until(page, "document.querySelector('.card .chart').getAttribute('aria-label').includes(': 1 curve')")
    page.click("button[title^='Mean and band']")
    until(page, "document.querySelector('.card .chart').getAttribute('aria-label').includes(': 40 curves')")


def test_groups_open_and_close_and_their_runs_have_curves(visit):
    page = visit("plain")
    page.fill("#group", "hp.lr")
    page.keyboard.press("Enter")
    page.wait_for_selector("tr.group")
    assert page.locator("tr.group").count() == 4
    assert "±" in page.inner_text("tr.group >> nth=0")
    assert "Open a group to see the curves" in page.inner_text("#charts")
    page.click(".expand >> nth=0")
    rows_are(page, 4)
    assert page.get_attribute(".expand >> nth=0", "aria-expanded") == "true"
    painted(page)
    page.click(".expand >> nth=1")
    rows_are(page, 8)
    page.click(".expand >> nth=0")
    rows_are(page, 4)


def test_runs_are_compared_by_keyboard_alone(visit):
    page = visit("plain")
    for key in ("j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    assert page.inner_text("#count") == "2 selected"
    picked = page.evaluate("[...document.querySelectorAll('tr.selected')].map((row) => row.dataset.id)")
    assert picked == [ids(page)[0], ids(page)[2]]
    page.keyboard.press("c")
    page.wait_for_url("**/compare?*")
    assert page.evaluate("JSON.parse(document.querySelector('#compared').dataset.runs).length") == 2


def test_keys_move_open_and_help(visit):
    page = visit("plain")
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")
    page.keyboard.press("Escape")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("c")
    assert "two runs or more" in page.wait_for_selector(".toast").inner_text()
    page.click(".toast")
    assert page.locator(".toast").count() == 0
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.focus("text=Filter")
    page.keyboard.press("Enter")  # presses the button that has the focus, opens no run
    page.wait_for_timeout(100)
    assert "/run/" not in page.url
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/run/*")


def test_eyes_hide_curves_and_the_address_knows_which(visit):
    page = visit("plain", "?q=sweep+%3D+bbbb")
    painted(page, 2)
    assert "3 curves" in labels(page)[0]
    page.click("tr:nth-child(2) .eye")
    until(page, "document.querySelector('.card .chart').getAttribute('aria-label').includes('2 curves')")
    assert "hide=bbbb-001" in page.url
    page.reload()
    until(page, "document.querySelector('.card .chart')?.getAttribute('aria-label')?.includes('2 curves')")
    assert page.get_attribute("tr:nth-child(2) .eye", "aria-pressed") == "false"


def test_a_run_under_the_pointer_is_lit_in_the_charts_and_the_other_way_round(visit):
    page = visit("plain", "?q=sweep+%3D+bbbb")
    painted(page, 2)
    shot = "document.querySelectorAll('.card canvas')[1].toDataURL()"
    page.mouse.move(5, 5)
    before = page.evaluate(shot)
    page.hover("#table tbody tr:nth-child(1) td:nth-child(4)")
    until(page, f"{shot} !== {json.dumps(before)}")
    box = page.locator(".card .chart").first.bounding_box()
    for down in range(40, int(box["height"]) - 30, 6):
        page.mouse.move(box["x"] + box["width"] - 40, box["y"] + down)
        page.wait_for_timeout(5)
        if page.locator("tr.hovered").count():
            break
    assert page.locator("tr.hovered").count() == 1


def test_notes_tags_and_putting_away(visit, folder):
    page = visit("plain", "?q=experiment+%3D+letters")
    run = RunDir(folder / "plain" / "letters" / "260528-202640-bbbb-002")
    for key in ("j", "x", "."):
        page.keyboard.press(key)
    page.wait_for_selector("#noter[open]")
    assert page.input_value("#noter-tags") == "team=vision"
    page.fill("#noter-note", "look at " + roots.EVIL)
    page.fill("#noter-tags", "stage=final\nq==x")
    page.click("text=Save")
    until(page, "document.querySelector('.toast')?.textContent === 'noted on 1 run'")
    assert run.notes == {
        "note": "look at " + roots.EVIL,
        "tags": {"stage": "final", "q": "=x", "team": None},
        "archived": False,
    }
    until(page, "document.querySelector('tr[data-id] .muted[title]')?.textContent === '✎'")
    page.keyboard.press(".")
    page.wait_for_selector("#noter[open]")
    assert page.input_value("#noter-note") == "look at " + roots.EVIL
    page.fill("#noter-note", "")
    page.check("#noter-away")
    page.click("text=Save")
    rows_are(page, 2)
    assert run.notes["note"] == ""
    page.keyboard.press(".")
    page.wait_for_selector("#noter[open]")
    page.fill("#noter-tags", "no tag")
    page.click("text=Save")
    until(page, "document.querySelector('#noter-error:not([hidden])')?.textContent.includes('not a tag: no tag')")
    assert page.input_value("#noter-tags") == "no tag"  # nothing that was written is lost
    page.click("#noter >> text=Cancel")
    page.click("#views")
    page.click("text=Runs that were put away too")
    rows_are(page, 3)
    page.keyboard.press(".")
    page.wait_for_selector("#noter[open]")
    page.uncheck("#noter-away")
    page.fill("#noter-tags", "team=vision")
    page.click("text=Save")
    until(page, "!document.querySelector('th .chip')")
    assert run.notes["tags"] == {"stage": None, "q": None, "team": "vision"}


def test_a_run_is_noted_on_its_own_page(visit, folder):
    page = visit("plain", f"run/{BEST}")
    page.keyboard.press(".")
    page.wait_for_selector("#noter[open]")
    page.fill("#noter-note", "the one for the paper " + roots.EVIL)
    with page.expect_navigation():
        page.click("#noter button.primary")
    assert "the one for the paper " + roots.EVIL in page.inner_text(".note")
    (path,) = (folder / "plain").glob(f"*/{BEST}")
    assert RunDir(path).notes["note"] == "the one for the paper " + roots.EVIL
    RunDir(path).note("")


def test_views_are_kept_and_forgotten_without_a_dialog_of_the_browser(visit):
    page = visit("plain", "?q=status+%3D+failed")
    page.click("#views")
    page.click("text=Keep this view…")
    page.fill("#asker-text", "the failed " + roots.EVIL)
    page.keyboard.press("Enter")
    page.click("#views")
    page.click("text=All runs")
    rows_are(page, 15)
    page.click("#views")
    page.click("text=the failed")
    rows_are(page, 2)
    page.click("#views")
    page.wait_for_selector(".menu.open")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.click("text=Forget the failed")
    page.click("#views")
    page.wait_for_selector(".menu.open")
    assert page.locator(".menu.open button").count() == 3
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "views"


def test_an_address_shows_a_colleague_the_same(visit):
    page = visit("plain")
    page.fill("#q", "sweep = aaaa")
    page.click("text=Filter")
    rows_are(page, 12)
    page.click("th button[data-sort='metrics.val.loss']")
    until(page, "document.querySelector('th[aria-sort]')")
    page.click("text=log y")
    page.select_option(".panel-bar select", "time")
    page.fill(".panel-bar input[type=search]", "^val")
    page.evaluate(
        "(() => { const s = document.querySelector('.panel-bar input[type=range]'); s.value = 0.5; s.dispatchEvent(new Event('input')); })()"
    )
    page.click("tr:nth-child(1) .eye")
    painted(page, 2)
    other = visit("plain", page.url.partition("/?")[2] and "?" + page.url.partition("/?")[2])
    painted(other, 2)
    page.wait_for_timeout(300)
    for each in ("[...document.querySelectorAll('#table tbody tr')].map((row) => row.textContent.replace(/\\s+/g, ' ')).join()",
                 "document.querySelector('.panel-bar [aria-pressed=true]').textContent", "document.querySelector('.panel-bar select').value",
                 "document.querySelector('.panel-bar input[type=range]').value", "document.querySelector('#q').value"):  # fmt: skip
        assert other.evaluate(each) == page.evaluate(each)
    assert labels(other) == labels(page)


def test_columns_are_resized_and_stay_in_sight(visit):
    page = visit("plain")
    page.set_viewport_size({"width": 900, "height": 600})
    width = "document.querySelector('#table thead th:nth-child(3)').offsetWidth"
    before = page.evaluate(width)
    edge = page.locator("#table th:has([data-sort=experiment]) .edge").bounding_box()
    page.mouse.move(edge["x"] + 4, edge["y"] + 8)
    page.mouse.down()
    until(page, "performance.getEntriesByType('resource').some((one) => one.name.endsWith('widths.js'))")
    page.mouse.move(edge["x"] + 54, edge["y"] + 8)
    until(page, f"{width} === {before + 50}")  # while it is dragged
    page.mouse.move(edge["x"] + 104, edge["y"] + 8)
    page.mouse.up()
    until(page, f"location.search.includes('width={before + 100}+experiment') && {width} === {before + 100}")
    page.focus("thead [data-sort=experiment]")
    page.keyboard.press("Shift+ArrowLeft")
    until(page, f"{width} === {before + 84} && document.activeElement.dataset.sort === 'experiment'")
    page.dblclick("#table th:has([data-sort=experiment]) .edge")
    until(page, f"{width} === {before} && !location.search.includes('width')")
    page.focus("thead [data-sort=experiment]")
    page.keyboard.press("Shift+ArrowRight")
    until(page, f"{width} === {before + 16}")
    page.click("#columns")
    page.click("[aria-label='hp.seed stays in sight']")
    page.click("#chooser-ok")
    until(page, "location.search.includes('freeze=hp.seed')")
    place = "document.querySelector('#table tbody tr').children[7].getBoundingClientRect().left"
    until(page, "getComputedStyle(document.querySelector('#table tbody tr').children[7]).position === 'sticky'")
    page.evaluate("document.querySelector('#split > section').scrollLeft = 5000")
    name = page.evaluate("document.querySelector('#table tbody .name').getBoundingClientRect().right")
    assert abs(page.evaluate(place) - name) <= 1
    page.reload()
    until(page, f"{width} === {before + 16}")
    page.click("#columns")
    page.click("#chooser-reset")
    until(page, f"{width} === {before} && !location.search")


def test_a_metric_is_the_axis_and_charts_are_pinned_before_all_others(visit):
    page = visit("plain")
    painted(page, 2)
    page.select_option(".panel-bar select", "val.acc")
    until(page, "location.search.includes('x=val.acc')")
    page.click("[aria-label='More of train/loss']")
    page.click("text=Pin before all others")
    until(page, "document.querySelector('#charts details summary').textContent === 'pinned 1'")
    page.reload()
    painted(page, 2)
    assert page.input_value(".panel-bar select") == "val.acc"
    assert page.text_content("#charts .card h3 >> nth=0") == "train/loss"
    page.focus("#charts .chart >> nth=0")
    page.keyboard.press("ArrowRight")
    said = until(page, "document.querySelector('#charts [aria-live]').textContent")
    x, y = (float(part) for part in said.rpartition(", ")[2].split(": "))
    assert x == pytest.approx(1 - y, abs=0.02)  # as the runs were made
    page.click("[aria-label='More of train/loss']")
    page.click("text=Unpin")
    until(
        page, "!location.search.includes('pin') && document.querySelector('#charts .card h3').textContent === 'val.acc'"
    )


def test_the_bar_of_the_charts_follows_the_address(visit):
    page = visit("plain", "?q=aaaa")
    painted(page, 2)
    page.evaluate("localStorage.setItem('lx-views', JSON.stringify({mine: '?q=aaaa&m=acc&x=time&logy=1&smooth=0.5'}))")
    page.click("#views")
    page.click("text=mine")
    until(page, "document.querySelector('.panel-bar select').value === 'time'")
    assert page.input_value("[aria-label='Metrics by a regular expression']") == "acc"
    assert page.text_content(".panel-bar output") == "0.50"
    assert page.get_attribute(".panel-bar button:text-is('log y')", "aria-pressed") == "true"
    assert page.locator("#charts .card").count() == 1
    page.go_back()
    until(page, "document.querySelectorAll('#charts .card').length === 3")
    assert page.input_value(".panel-bar select") == "step"


def test_exports_hand_over_files(visit, tmp_path):
    page = visit("hostile")
    page.click("#export")
    with page.expect_download() as waited:
        page.click("text=columns as shown")
    assert waited.value.suggested_filename == "runs.csv"
    page.click("#export")
    with page.expect_download() as waited:
        page.click("text=with charts as one HTML file")
    waited.value.save_as(tmp_path / "runs.html")
    alone = page.context.browser.new_page()
    asked, wrong = [], []
    alone.on("request", lambda request: asked.append(request.url))
    alone.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
    alone.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    alone.on("pageerror", lambda error: wrong.append(str(error)))
    alone.goto(f"file://{tmp_path}/runs.html")
    alone.wait_for_selector(".card canvas")
    until(alone, "document.querySelector('.chart').getAttribute('aria-label').includes('curves')")
    assert alone.locator("tbody tr").count() == 2
    assert alone.locator("tbody .chip.good").all_text_contents() == ["✓ succeeded"] * 2
    assert roots.EVIL in alone.inner_text("#page")
    alone.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert wrong == []


@pytest.mark.parametrize("path", [f"run/{BEST}", "sweep/aaaa", f"compare?run={BEST}&run={FAILED}"])
def test_other_pages_hand_over_files_too(visit, path):
    page = visit("plain", path)
    for word, name in (("CSV", ".csv"), ("HTML", ".html")):
        with page.expect_download() as waited:
            page.click(f".joined a:text-is('{word}')")
        assert waited.value.suggested_filename.endswith(name)
        assert waited.value.path().stat().st_size > 100


# ---------------------------------------------------------------- live


def test_live_rows_change_in_place_and_new_runs_announce_themselves(sites, visit, folder):
    run = roots.living(folder / "alive")
    page = visit("alive")
    rows_are(page, 1)
    assert "running" in page.inner_text("#table tbody tr")
    page.evaluate("window.row = document.querySelector('#table tbody tr')")
    painted(page)
    roots.grow(run, 3, 0.125)
    until(page, "document.querySelector('#table tbody tr').textContent.includes('0.125')")
    until(page, "document.querySelector('.card .chart').getAttribute('aria-label').includes('last 0.125')")
    roots.run_dir(folder / "alive", 7, experiment="live", sweep="cccc", metrics={"loss": [0.3]})
    until(page, "document.querySelector('#news').textContent === '1 new run: show'")
    assert len(ids(page)) == 1
    roots.grow(run, 4, 0.1, end="SUCCEEDED")
    until(page, "document.querySelector('#table tbody tr').textContent.includes('succeeded')")
    assert page.evaluate("document.querySelector('#table tbody tr') === window.row")
    page.click("#news button")
    rows_are(page, 2)
    assert not page.locator("#news").is_visible()


def test_a_page_that_nobody_sees_listens_to_nothing_and_catches_up(visit, folder):
    roots.run_dir(folder / "unseen", 0)
    page = visit("unseen")
    streams = []
    page.on("request", lambda request: streams.append(request.url) if "api/live" in request.url else None)
    seen = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true })"
    page.add_init_script(seen % "true")  # opened in the background
    page.reload()
    rows_are(page, 1)
    streams.clear()
    roots.run_dir(folder / "unseen", 1)
    page.wait_for_timeout(1500)
    assert page.locator("#news").is_hidden()
    assert streams == []
    page.evaluate(f"{seen % 'false'}; document.dispatchEvent(new Event('visibilitychange'))")
    until(page, "!document.querySelector('#news').hidden")
    assert len(streams) == 1


def test_a_live_run_tells_what_comes_and_its_end(visit, folder):
    run = roots.run_dir(folder / "alive", 20, experiment="live", sweep="dddd", state="RUNNING", metrics={"loss": [1.0]})
    page = visit("alive", f"run/{run.id}")
    roots.grow(run, 1, 0.0625)
    until(page, "document.querySelector('#metrics').textContent.includes('0.0625')")
    log = visit("alive", f"run/{run.id}?tab=logs")
    roots.grow(run, 2)
    until(log, "document.querySelector('.log-text')?.textContent.includes('step 2')")
    roots.grow(run, 3, end="SUCCEEDED")
    for one in (page, log):
        until(one, "document.querySelector('.chip')?.textContent.includes('succeeded')")


def test_a_server_that_has_ended_is_told_of(watched, folder, tmp_path):
    with serving(folder / "plain", tmp_path / "cache") as served:
        page = watched(served.base)
        page.goto(served.address)
        page.wait_for_selector(".card canvas")
    until(page, "document.querySelector('#live').textContent.startsWith('not connected')")
    page.click("th button[data-sort='status']")
    until(page, "document.querySelector('.toast.bad')")
    page.complaints.clear()


# ---------------------------------------------------------------- charts


def test_charts_smooth_scale_and_are_filtered(visit):
    page = visit("plain", "?q=sweep+%3D+bbbb")
    painted(page, 2)
    first = page.evaluate("document.querySelector('.card canvas').toDataURL()")
    same = f"document.querySelector('.card canvas').toDataURL() !== {json.dumps(first)}"
    for act, back in [
        (lambda: page.click("text=log x"), lambda: page.click("text=log x")),
        (lambda: page.click("text=log y"), lambda: page.click("text=log y")),
        (lambda: page.click("text=clip"), lambda: page.click("text=clip")),
        (
            lambda: page.select_option(".panel-bar select", "wall"),
            lambda: page.select_option(".panel-bar select", "step"),
        ),
        (
            lambda: page.focus(".panel-bar input[type=range]") or page.keyboard.press("End"),
            lambda: page.keyboard.press("Home"),
        ),
        (lambda: page.click(".panel-bar >> text=mean"), lambda: page.click(".panel-bar >> text=mean")),
    ]:
        act()
        until(page, same)
        back()
        until(page, "!(" + same + ")")
    page.fill(".panel-bar input[type=search]", "loss$")
    until(page, "document.querySelectorAll('.card').length === 2")
    page.fill(".panel-bar input[type=search]", "[")
    assert page.get_attribute(".panel-bar input[type=search]", "aria-invalid") == "true"
    page.fill(".panel-bar input[type=search]", "nothing")
    page.wait_for_selector("text=No metric's name matches.")


def test_a_crowd_becomes_mean_and_band_unless_asked_otherwise(visit):
    page = visit("crowd")
    painted(page, 2)
    assert all("1 curve," in each for each in labels(page)[:2])
    crowd = visit("crowd", "?mean=0")
    painted(crowd, 2)
    assert "40 curves," in labels(crowd)[0]


def test_zooming_fetches_finer_data(visit):
    page = visit("big", "run/260528-202640-aaaa-000?tab=charts&m=spike")
    painted(page)
    box = page.locator(".card .chart").bounding_box()
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/api/series" in request.url else None)
    y = box["y"] + 100
    page.mouse.move(box["x"] + box["width"] * 0.6, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.65, y, steps=4)
    page.mouse.up()
    until(page, "document.querySelector('.chart-note').textContent.includes('double click')")
    page.wait_for_timeout(300)
    assert re.search(r"from=1[12]\d{3}.*&to=1[23]\d{3}", asked[-1])
    assert "min -1, max 1" in labels(page)[0]
    page.mouse.dblclick(box["x"] + 200, y)
    until(page, "!document.querySelector('.chart-note').textContent.includes('double click')")


def test_metrics_are_sections_and_a_chart_is_saved(visit):
    page = visit("big", "run/260528-202640-aaaa-000?tab=charts")
    assert page.locator("details.section summary").all_inner_texts() == ["metrics 1", "a 2"]
    painted(page, 2)
    page.click("[aria-label='More of a.b']")
    with page.expect_download() as waited:
        page.click("text=Save as CSV")
    assert (
        Path(waited.value.path())
        .read_text()
        .startswith("id,label,x,value,smoothed\n260528-202640-aaaa-000,aaaa-000,0,1,1")
    )
    page.click("[aria-label='More of a.b']")
    page.click("text=Larger or smaller")
    until(page, "document.querySelector('.card.large .chart').clientHeight > 400")


# ---------------------------------------------------------------- compare, sweep


def at_rest(page, locator):
    """Its box, once it has been where it is for a quarter of a second: what comes above it moves it."""
    box = None
    while box != (box := locator.bounding_box()):
        page.wait_for_timeout(250)
    return box


def test_runs_side_by_side_are_filtered_by_brushing(visit):
    page = visit("plain", "compare?q=sweep+%3D+aaaa")
    page.wait_for_selector("#plots .bars")
    until(page, "document.querySelectorAll('#plots canvas').length > 4")
    chart = page.locator("#plots .chart").first
    chart.scroll_into_view_if_needed()
    until(page, "document.querySelector('#plots .chart').getAttribute('aria-label')")
    box = at_rest(page, chart)
    page.mouse.move(box["x"] + 40, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + box["height"] * 0.45, steps=5)
    page.mouse.up()
    until(page, "document.querySelectorAll('.table tr[data-id][hidden]').length > 0")
    shown = page.evaluate(
        "[...document.querySelectorAll('tr[data-id]:not([hidden])')].map((row) => row.children[2].textContent.trim())"
    )
    assert set(shown) == {"0.1"}
    assert re.fullmatch(rf"{len(shown)} of \d+ runs", page.text_content("#plots [role=status]"))
    assert page.locator("#plots .card:has(h3:text('Best by')) tr").count() == len(shown)
    until(page, "document.querySelector('#plots').textContent.match(/hp\\.\\w+/)")
    with page.expect_event("load"):  # the address changes before the page comes anew, and its scripts with it
        page.select_option("#mode", "min")
    assert "mode=min" in page.url
    assert page.inner_text("tbody tr:first-child th") != "aaaa-004"
    page.click("#copy")
    until(page, "document.querySelector('.toast, #asker[open]')")


def test_few_runs_say_how_to_choose_some(visit):
    page = visit("plain", "compare")
    assert "Choose two runs or more" in page.inner_text("h1")


def test_a_sweep_shows_its_best_and_leads_to_its_runs(visit):
    page = visit("plain", "sweep/aaaa")
    until(page, "document.querySelector('#best').getAttribute('aria-label')?.startsWith('best val.acc: 1 curve')")
    assert page.locator("#sweep-runs tbody tr").count() == 12
    page.click("text=failed >> nth=0")
    rows_are(page, 2)


# ---------------------------------------------------------------- a run


def test_a_large_log_is_searched_and_its_first_error_found(visit):
    page = visit("big", "run/260528-202640-aaaa-000?tab=logs")
    page.wait_for_selector(".log-text >> text=step=0000000")
    page.click("text=First error")
    until(page, "document.querySelector('.log-text').textContent.includes('Traceback')")
    page.fill("[aria-label='Search the log']", "STEP=0599998")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.log-text').textContent.includes('step=0599998')")
    page.fill("[aria-label='Search the log']", "nowhere at all")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.where').textContent === 'nothing found for nowhere at all'")


def test_files_are_looked_into(visit, folder):
    run = min((folder / "hostile" / "media <b>&x").iterdir())
    page = visit("hostile", f"run/{run.name}?tab=artifacts")
    page.click("a.preview[title='artifacts/evil.html']")
    until(page, "document.querySelector('#preview pre')?.textContent.includes('<script>parent.alert(1)')")
    page.click("a.preview[title='artifacts/evil.svg']")
    until(page, "document.querySelector('#preview img')?.naturalWidth === 90")
    page.focus("a.preview[title$='.wav']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#preview audio[controls]")
    page.goto(f"{page.base}/run/{run.name}/file/artifacts/evil.svg")
    page.wait_for_timeout(200)
    page.complaints[:] = [each for each in page.complaints if "Blocked script execution" not in each]
    page.goto(f"{page.base}/run/{run.name}/file/artifacts/evil.html")
    assert "<script>" in page.inner_text("pre")


def test_media_are_shown_step_by_step(visit, folder):
    run = min((folder / "hostile" / "media <b>&x").iterdir())
    page = visit("hostile", f"run/{run.name}?tab=media")
    image = "figure[data-kind=image]"
    until(page, f"document.querySelector('{image} img')?.naturalWidth === 48")
    last = page.get_attribute(f"{image} img", "src")
    page.focus(f"{image} input")
    page.keyboard.press("Home")
    until(page, f"document.querySelector('{image} img').getAttribute('src') !== {json.dumps(last)}")
    assert page.inner_text(f"{image} output") == "step 0"
    until(page, "document.querySelectorAll('figure[data-kind=table] tbody tr').length === 2")
    until(page, "document.querySelector('figure[data-kind=histogram] .chart')?.getAttribute('aria-label')")
    assert page.locator("figure[data-kind=audio] audio").count() == 1
    assert roots.EVIL in page.inner_text("figure[data-kind=text] pre")


def test_a_plotly_figure_has_a_page_of_its_own(visit, folder):
    pytest.importorskip("plotly")
    run = roots.run_dir(folder / "plain", 30, experiment="figures", sweep="ffff", metrics={"m": [1.0]})
    (run.path / "artifacts" / "media").mkdir(parents=True)
    figure = {
        "data": [{"type": "scatter", "x": [1, 2], "y": [1, 2], "name": roots.EVIL}],
        "layout": {"title": {"text": "</script><script>alert(1)</script>"}},
    }
    (run.path / "artifacts" / "media" / "f.json").write_text(json.dumps(figure))
    with (run.path / "records.jsonl").open("a") as file:
        file.write(
            json.dumps({"media": {"kind": "figure", "format": "plotly", "name": "f", "path": "artifacts/media/f.json"}})
            + "\n"
        )
    page = visit("plain", f"run/{run.id}?tab=media")
    frame = page.wait_for_selector("iframe").content_frame()
    frame.wait_for_selector(".plot-container", timeout=20_000)
    shutil.rmtree(run.path)


def test_the_code_of_two_runs_is_compared(visit):
    page = visit("plain", f"run/{FAILED}?tab=code")
    page.fill("input[name=with]", "aaaa-004")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=From aaaa-004 to aaaa-003")
    assert "hp.lr" in page.inner_text("main table")


def test_where_no_clipboard_is_the_command_is_shown(visit):
    page = visit("plain", f"run/{FAILED}")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("#acts")
    page.click("text=Copy the command that runs it again")
    page.wait_for_selector("#asker[open]")
    assert page.input_value("#asker-text") == "lx clone aaaa-003"
    assert page.evaluate("getSelection().toString() || document.querySelector('#asker-text').selectionEnd") in (
        17,
        "lx clone aaaa-003",
    )
    page.keyboard.press("Escape")
    assert not page.locator("#asker").is_visible()


# ---------------------------------------------------------------- all pages

ALL = [
    ("plain", ""), ("plain", "?group=hp.lr"), ("plain", "?q=hp.lr+%3E%3E+1"), ("plain", "?q=hp.lr+%3E+99"), ("plain", "compare?q=sweep+%3D+aaaa"), ("plain", "compare"),
    ("plain", "sweep/aaaa"), ("plain", f"run/{FAILED}"), ("empty", ""), ("hostile", ""), ("hostile", "?group=tags.team" + quote(roots.EVIL)), ("hostile", "compare?q=status+%3D+succeeded"),
    *(("hostile", f"run/HOSTILE?tab={tab}") for tab in TABS), ("plain", "run/gone"),
]  # fmt: skip

AUDIT = r"""() => {
  const wrong = [], seen = (node) => node.checkVisibility({ checkVisibilityCSS: true }) && !node.closest("dialog:not([open])"), told = (node) => `${node.tagName}#${node.id}.${node.className}`;
  const name = (node) => (node.getAttribute("aria-label") || (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim()
    || [...(node.labels ?? [])].map((label) => label.textContent).join(" ").trim() || (node.matches("input, select, textarea") ? "" : node.textContent.trim()) || node.title).trim();
  for (const node of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, iframe, [tabindex='0'], [role=button], img, progress, dialog"))
    if ((node.tagName === "DIALOG" || seen(node)) && !name(node) && !node.hasAttribute("alt")) wrong.push(`no name: ${told(node)}`);
  for (const tag of ["main", "header", "h1"]) if (document.querySelectorAll(`body > ${tag}, main ${tag === "h1" ? "h1" : "no"}`).length !== 1) wrong.push(`not one ${tag}`);
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) wrong.push(`id twice: ${id}`);
  for (const node of document.querySelectorAll("[aria-controls], [aria-labelledby]")) for (const ref of ["aria-controls", "aria-labelledby"])
    for (const id of (node.getAttribute(ref) ?? "").split(" ").filter(Boolean)) if (!document.getElementById(id)) wrong.push(`${ref} to nothing: ${id}`);
  for (const nav of document.querySelectorAll("nav, section[aria-label], [role=region], [role=separator]")) if (!nav.getAttribute("aria-label")) wrong.push(`landmark without a name: ${told(nav)}`);
  if (!document.documentElement.lang) wrong.push("no language");
  let level = 0;
  for (const head of document.querySelectorAll("main :is(h1, h2, h3)")) if (seen(head) && !head.closest("details, .cards, .empty, .media")) {
    const now = Number(head.tagName[1]);
    if (now > level + 1) wrong.push(`heading of level ${now} after ${level}: ${head.textContent}`);
    level = now;
  }
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => { probe.clearRect(0, 0, 1, 1); probe.fillStyle = color; probe.fillRect(0, 0, 1, 1); const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
  const ground = (node) => { const up = []; for (let one = node; one; one = one.parentElement) up.push(rgb(getComputedStyle(one).backgroundColor)); return up.reverse().reduce((below, color) => over(color, below), rgb(getComputedStyle(document.body).backgroundColor)); };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = new Map();
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !seen(node) || node.closest("script, [aria-hidden=true], .visually-hidden, .skip, :disabled, [class*=ansi], .grip")) continue;
    const back = ground(node), [a, b] = [light(over(rgb(getComputedStyle(node).color), back)), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.set(told(node), ratio.toFixed(2));
  }
  for (const [node, ratio] of low) wrong.push(`contrast ${ratio}: ${node}`);
  return wrong;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_readable_named_and_quiet_and_fits_a_phone(visit, folder, scheme):
    hostile = min((folder / "hostile" / "media <b>&x").iterdir()).name
    found = {}
    pages: dict[str, Any] = {}
    for site, place in ALL:
        path = place.replace("HOSTILE", hostile)
        if site not in pages:
            pages[site] = visit(site, path, color_scheme=scheme, reduced_motion="reduce")
        page = pages[site]
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(f"{page.base}/{path}")
        page.wait_for_timeout(150)
        if wrong := page.evaluate(AUDIT):
            found[site, path] = wrong
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(50)
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > 390:
            found[site, path, "width"] = wide
    pages["plain"].complaints[:] = [
        each for each in pages["plain"].complaints if "404" not in each and "400" not in each
    ]
    assert found == {}


def test_screen_readers_are_told_the_parts_of_the_page(visit):
    page = visit("plain")
    painted(page, 2)
    snapshot = page.locator("body").aria_snapshot()
    for part in ("- banner", "- main", '- navigation "Pages"', '- search', '- region "Table of runs"', '- region "Charts"', '- combobox "Filter"', '- separator "Width of the table"', '- columnheader "run"', '- rowheader "bbbb-002', '- checkbox "Select bbbb-002"', '- button "Show the curves of bbbb-002"', 'img "val.acc: 14 curves, min'):  # fmt: skip
        assert part in snapshot, (part, snapshot[:3000])


def test_everything_is_reached_by_tab(visit):
    page = visit("plain", "?q=sweep+%3D+bbbb")
    painted(page, 2)
    reached = set()
    page.evaluate("document.body.focus()")
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(() => { const n = document.activeElement; return n.id || n.className || n.tagName; })()")
        )
        ring = page.evaluate(
            "(() => { const n = document.activeElement, s = getComputedStyle(n); return n === document.body || s.outlineStyle !== 'none' || n.className === 'skip' || n.closest('.chart') !== null; })()"
        )
        assert ring, reached
    for name in (
        "skip",
        "theme",
        "help",
        "q",
        "views",
        "columns",
        "group",
        "export",
        "splitter",
        "all",
        "pick",
        "eye",
        "chart lines",
        "size",
    ):
        assert any(name == each or name in str(each).split() for each in reached), (name, reached)


def test_the_splitter_moves_by_keys_and_stays(visit):
    page = visit("plain")
    page.focus(".splitter")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute(".splitter", "aria-valuenow") == "52"
    page.reload()
    assert page.get_attribute(".splitter", "aria-valuenow") == "52"


def test_the_first_page_is_useful_without_its_script(visit):
    page = visit("plain", java_script_enabled=False)
    assert page.locator("#table tbody tr").count() == 15
    page.fill("#q", "status = failed")
    page.click("text=Filter")
    assert page.locator("#table tbody tr").count() == 2
    page.click("#table tbody a >> nth=0")
    assert "ValueError" in page.inner_text("main")


def test_the_first_pages_scripts_are_small(visit):
    page = visit("plain")
    painted(page, 2)
    names = page.evaluate(
        "performance.getEntriesByType('resource').map((e) => e.name).filter((name) => name.includes('/static/') && name.endsWith('.js'))"
    )
    static = Path(__file__).parents[2] / "src/lightex/web/static"
    assert sum((static / name.rpartition("/")[2]).stat().st_size for name in names) <= 60_000
    assert not any("plotly" in name for name in names)
