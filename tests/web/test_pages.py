"""Pages and JSON on real run directories: what they tell, what they escape, what they refuse; without a browser."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import os
import re
import string
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.qviz.pages import charts
from lightex.qviz.pages.charts import curve
from lightex.qviz.pages.run import diff_lines, find, side_by_side
from lightex.qviz.pages.words import absolute, ago, middle
from lightex.web.app import make_app
from lightex.web.live import Live
from tests.web import roots
from tests.web.asgi import Client

TABS = ("overview", "charts", "media", "artifacts", "logs", "code", "events")
FIRST, FAILED = "260528-202640-aaaa-000", "260528-202640-aaaa-003"


class Site(Client):
    """The UI over a root."""

    def __init__(self, folder: Path, live: Live) -> None:
        super().__init__(make_app(live, None), host="localhost")
        self.folder, self.live = folder, live

    def run_of(self, experiment: str) -> Path:
        """The first run of an experiment."""
        return min((self.folder / experiment).iterdir())


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LX_CACHE", str(folder / "cache"))
        outside = folder / "outside"
        outside.mkdir()
        (folder / "empty").mkdir()
        roots.plain(folder / "plain")
        roots.hostile(folder / "hostile", outside)
        roots.plain(folder / "broken")
        roots.broken(folder / "broken")
        found = {}
        for name in ("plain", "hostile", "broken", "empty"):
            live = Live(Root(folder / name))
            live.open()
            found[name] = Site(folder / name, live)
        yield found
        for site in found.values():
            site.live.close()


@pytest.fixture
def plain(sites):
    return sites["plain"]


@pytest.fixture
def hostile(sites):
    return sites["hostile"]


class Tags(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


# ---------------------------------------------------------------- what pages tell


def rows(text):
    return [attributes["data-id"] for attributes in Tags(text).all("tr") if "data-id" in attributes]


def test_the_first_page_has_all_runs_the_newest_first(plain):
    page = plain.get("/")
    found = rows(page.text)
    assert len(found) == 15
    assert found == sorted(found, reverse=True)
    assert "1 to 15 of 15" in page.text


@pytest.mark.parametrize(
    ("query", "count", "first"),
    [
        ({"q": "status = failed"}, 2, "260528-202640-aaaa-007"),
        ({"q": "hp.lr > 0.05 order by val.loss limit 2"}, 2, "260528-202640-aaaa-000"),
        ({"sort": "-metrics.val.acc"}, 15, "260528-202640-aaaa-004"),
        ({"sort": "hp.lr", "size": "5"}, 5, None),
        ({"size": "5", "page": "3"}, 5, "260528-202640-aaaa-004"),
        ({"page": "999"}, 15, None),
        ({"page": "-1", "size": "x"}, 15, None),
        ({"q": "tags.team = vision and user = ada"}, 15, None),
        ({"q": "nothing = 1"}, 0, None),
        ({"group": "hp.lr"}, 0, None),
    ],
)
def test_the_address_chooses_the_rows(plain, query, count, first):
    found = rows(plain.get(f"/?{urlencode(query)}").text)
    assert len(found) == count
    assert first is None or found[0] == first
    assert rows(plain.get(f"/?{urlencode({**query, 'part': 'table'})}").text) == found


def test_a_part_of_the_page_is_the_table_alone(plain):
    text = plain.get("/?part=table").text
    assert text.lstrip().startswith('<div id="table"')
    assert "<html" not in text


def test_groups_tell_how_many_mean_and_spread(plain):
    text = " ".join("".join(Tags(plain.get("/?group=hp.lr").text).text).split())
    assert "hp.lr = 0.1 4 runs" in text
    assert "hp.lr = 0.02 3 runs" in text
    assert re.search(r"hp\.lr = 0\.02 3 runs.*0\.9\d+ ± 0\.00\d+", text)
    filters = [attributes["data-filter"] for attributes in Tags(plain.get("/?group=hp.lr").text).all("tr") if "data-filter" in attributes]  # fmt: skip
    assert [len(plain.json(f"/api/runs?{urlencode({'q': each})}")["runs"]) for each in filters] == [4, 4, 4, 3]


def test_groups_are_of_what_the_filter_selects_and_ordered_as_the_table_is(plain):
    def groups(**query):
        page = " ".join(plain.get(f"/?{urlencode({'group': 'hp.lr', **query})}").text.split())
        found = re.findall(r'data-filter="([^"]*)".*?>(\d+) runs?<', page)
        return {html.unescape(where): int(count) for where, count in found}

    best = "hp.lr < 0.05 order by val.acc desc limit 3"
    assert sum(groups(q=best).values()) == 3
    for where, count in groups(q=best).items():
        part = plain.get(f"/?{urlencode({'q': best, 'within': where, 'part': 'table'})}").text
        assert f'data-total="{count}"' in part
        assert len(rows(part)) == count
    assert list(groups(sort="metrics.val.acc")) == list(groups(sort="-metrics.val.acc"))[::-1]
    assert list(groups(sort="hp.lr")) == [f"`hp.lr` = {lr}" for lr in (0.001, 0.01, 0.02, 0.1)]


@pytest.mark.parametrize(
    ("text", "position", "hint"),
    [("hp.lr >", 7, "expected a value"), ("hp.lr >> 2", 7, "expected a value, got '>'"), ("(hp.lr = 1", 10, None), ("hp.lrr > 1", 0, None), ("'open", 0, None)],
)  # fmt: skip
def test_a_filter_that_is_not_understood_tells_where(plain, text, position, hint):
    answer = plain.get(f"/api/runs?{urlencode({'q': text})}")
    assert answer.status_code == 400
    told = answer.json()
    assert told["position"] == position
    assert told["error"]
    assert hint is None or told["hint"].startswith(hint)
    page = plain.get(f"/?{urlencode({'q': text})}")
    shown = re.search(r'<pre class="filter-error error" role="alert">(.*?)</pre>', page.text, re.DOTALL)
    assert shown is not None
    assert shown[1].startswith(" " * position + "^ ")
    assert len(html.unescape(shown[1]).split("\n")) == 1 + len(told["details"]) - 2  # less the text and the caret
    assert f'value="{text}"'.replace("'", "&#39;").replace(">", "&gt;") in page.text


def test_an_empty_root_names_what_fills_it(sites):
    page = sites["empty"].get("/")
    assert page.status_code == 200
    for command in ("lx init", "lx run NAME", "lx import", "lx --root DIR ui"):
        assert command in page.text


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("name", ["plain", "hostile", "broken"])
def test_each_tab_of_each_run_is_a_page(sites, name, tab):
    site = sites[name]
    for run in site.json("/api/runs?archived=1")["runs"]:
        page = site.get(f"/run/{run['id']}?tab={tab}")
        assert page.status_code == 200, page.text
        heads = [attributes for tag, attributes in Tags(page.text).tags if tag == "h1"]
        assert len(heads) == 1


def test_a_run_that_failed_tells_why_and_what_to_do(plain):
    text = plain.get(f"/run/{FAILED}").text
    for words in (
        "exit code 1: ValueError: loss is NaN",
        "Traceback (most recent call last):",
        "lx retry aaaa-003",
        "lx why aaaa-003",
    ):
        assert words in text
    assert "lx run grid hp.lr=0.1 hp.seed=3 hp.model=wide" in text


def test_what_is_to_be_copied_into_a_shell_is_safe_and_exact(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    hp = {"a": "$(touch /tmp/x)", "b": 0.000123456789, "c": [1, "x y"], "d": None, "e": True, "f": "it's"}
    roots.run_dir(tmp_path / "runs", 0, hp=hp, state="FAILED")
    live = Live(Root(tmp_path / "runs"))
    live.open()
    text = "".join(Tags(Site(tmp_path / "runs", live).get("/run/aaaa-000").text).text)
    live.close()
    assert (
        "lx run grid 'hp.a=$(touch /tmp/x)' hp.b=0.000123456789 'hp.c=[1,\"x y\"]' hp.d=null hp.e=true 'hp.f=it'\"'\"'s'"
        in text
    )


def test_a_sweep_tells_how_far_it_is_what_is_best_and_what_failed(plain):
    page = plain.get("/sweep/aaaa")
    text = " ".join(" ".join(Tags(page.text).text).split())
    assert "11 of 12" in text
    assert "nothing is at work on it: lx resume aaaa" in text
    assert "aaaa-004 0.95" in text
    assert re.search(r"2 exit code 1: ValueError: loss is NaN", text)
    assert rows(page.text)[0] == "260528-202640-aaaa-004"
    assert len(rows(page.text)) == 12
    progress = next(
        json.loads(each["data-progress"] or "") for each in Tags(page.text).all("div") if "data-progress" in each
    )
    assert [value for _, value, _ in progress] == sorted({value for _, value, _ in progress})


def test_compare_puts_what_differs_first_and_marks_the_best(plain):
    page = plain.get("/compare?q=sweep+%3D+aaaa")
    assert page.status_code == 200
    assert rows(page.text)[0] == "260528-202640-aaaa-004"
    assert page.text.count(" best") >= 3
    ids = rows(page.text)[:2]
    two = plain.get(f"/compare?run={ids[1]}&run={ids[0]}&run=gone&by=val.loss&mode=min")
    assert set(rows(two.text)) == set(ids)
    assert "Choose two runs" in plain.get(f"/compare?run={ids[0]}").text
    assert plain.get("/compare?q=sweep+%3D+aaaa&mode=odd").status_code == 400
    assert plain.get("/compare?q=sweep+%3D+aaaa&by=odd").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/run/nope",
        "/run/aaaa",
        "/sweep/zzzz",
        "/nowhere",
        f"/run/{FIRST}?tab=odd",
        "/api/nowhere",
        "/run/nope/file/x",
        "/sweep/%00",
    ],
)
def test_what_is_not_there_is_404_with_a_way_back(plain, path):
    answer = plain.get(path)
    assert answer.status_code == 404
    if path.startswith("/api"):
        assert answer.json()["error"]
    elif "/file/" not in path:
        assert "To the runs" in answer.text


# ---------------------------------------------------------------- JSON


def test_names_have_all_that_a_filter_may_speak_of(plain):
    found = {each["text"]: each for each in plain.json("/api/names")}
    assert found["hp.lr"]["kind"] == "params"
    assert {"status", "id", "val.acc"} <= found.keys() | {text.removeprefix("metrics.") for text in found}


def test_a_curve_has_its_points_and_a_long_one_its_extremes(plain, tmp_path, monkeypatch):
    one = plain.json(f"/api/series?metric=val.acc&run={FIRST}")["series"]
    assert [each["id"] for each in one] == [FIRST]
    assert one[0]["x"] == list(range(40))
    assert one[0]["y"] == roots.curve(0.1, 0)["val.acc"]
    assert one[0]["n"] == 40
    part = plain.json(f"/api/series?metric=val.acc&run={FIRST}&from=10&to=12")["series"][0]
    assert (part["x"], part["n"]) == ([9, 10, 11, 12, 13], 5)  # with one more on each side
    assert plain.json(f"/api/series?metric=val.acc&run={FIRST}&x=time")["series"][0]["x"][:2] == [0, 1]
    assert plain.json(f"/api/series?metric=val.acc&run={FIRST}&x=wall")["series"][0]["x"][0] == roots.CREATED + 1
    assert plain.json(f"/api/series?metric=gone&run={FIRST}&run=gone")["series"] == []
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    values = [0.0] * 10_000
    values[4321], values[8765] = 1.0, -1.0
    long = roots.run_dir(tmp_path / "runs", 0, metrics={"m": values})
    live = Live(Root(tmp_path / "runs"))
    live.open()
    curve = Site(tmp_path, live).json(f"/api/series?metric=m&run={long.id}&points=100")["series"][0]
    live.close()
    assert len(curve["x"]) <= 100
    assert (curve["n"], curve["x"][0], curve["x"][-1]) == (10_000, 0, 9999)
    assert {(4321, 1.0), (8765, -1.0)} <= set(zip(curve["x"], curve["y"], strict=True))


def test_points_that_are_not_finite_are_told_apart(hostile):
    run = hostile.run_of("media <b>&x").name
    found = hostile.json(f"/api/series?metric=loss&run={run}")["series"][0]
    assert found["odd"] == [{"x": step, "kind": "nan"} for step in range(0, 30, 7)]
    assert hostile.json(f"/api/series?metric=inf&run={run}")["series"][0]["odd"] == [{"x": 3.0, "kind": "+inf"}]


def test_points_and_importance_for_the_plots(plain):
    ids = [("run", run["id"]) for run in plain.json("/api/runs?q=sweep+%3D+aaaa")["runs"]]
    found = plain.json(f"/api/points?{urlencode(ids)}")
    assert found["params"] == ["hp.lr", "hp.seed", "hp.model"]
    assert len(found["runs"]) == 12
    share = plain.json(f"/api/importance?{urlencode([('by', 'val.acc'), *ids])}")
    assert share.get("why") or sum(each["value"] for each in share["shares"]) == pytest.approx(1, abs=0.01)
    assert plain.json(f"/api/importance?{urlencode([('by', 'gone'), *ids])}")["why"]


def test_histograms_come_by_step(hostile):
    run = hostile.run_of("media <b>&x").name
    found = hostile.json(f"/api/run/{run}/histograms?{urlencode({'name': 'weights' + roots.EVIL})}")["steps"]
    assert [each["step"] for each in found] == [0, 10, 20]
    assert all(len(each["edges"]) == len(each["counts"]) + 1 for each in found)
    assert hostile.json(f"/api/run/{run}/histograms?name=gone")["steps"] == []


def test_a_log_comes_by_ranges_of_bytes(plain):
    whole = (plain.folder / "digits" / FIRST / "output.log").read_bytes()
    answer = plain.get(f"/api/run/{FIRST}/log")
    assert (answer.content, answer.headers["x-size"]) == (whole, str(len(whole)))
    assert plain.get(f"/api/run/{FIRST}/log?from=6&to=9").content == whole[6:9]
    assert plain.get(f"/api/run/{FIRST}/log?from=99999999").content == b""
    assert plain.get(f"/api/run/{FIRST}/log?from=9&to=2").content == b""
    for bad in ("from=-1", "from=x", "to=1e400", "from=nan", "from=1.5"):
        answer = plain.get(f"/api/run/{FIRST}/log?{bad}")
        assert answer.status_code == 400
        assert "whole number" in answer.json()["error"] or "must be a number" in answer.json()["error"]
    search = f"/api/run/{FIRST}/log/search?"
    assert plain.json(search + "text=EPOCH+7")["at"] == whole.index(b"epoch 7")
    assert plain.json(search + "text=epoch&from=1")["at"] == whole.index(b"epoch 1")
    assert plain.json(search + f"text=epoch&from={len(whole)}&back=1")["at"] == whole.rindex(b"epoch")
    assert plain.json(search + "text=gone")["at"] is None
    assert plain.json(search + "text=")["at"] is None
    assert plain.json(search + "text=epoch+9&text=epoch+3")["at"] == whole.index(b"epoch 3")


@given(st.binary(max_size=60), st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=3), st.integers(0, 70), st.booleans(), st.integers(1, 9))  # fmt: skip
def test_search_finds_what_a_plain_search_finds_whatever_the_pieces(tmp_path_factory, data, texts, start, back, piece):
    path = tmp_path_factory.getbasetemp() / "searched"
    path.write_bytes(data)
    low = data.lower()
    places = [at for at in range(len(data)) for text in texts if low.startswith(text.lower(), at)]
    wanted = max((at for at in places if at < start), default=None) if back else min((at for at in places if at >= start), default=None)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightex.qviz.pages.run._SEARCH", piece)
        assert find(path, texts, start, back) == wanted


# ---------------------------------------------------------------- what is hostile


def test_no_name_or_value_becomes_markup(hostile):
    runs = [run["id"] for run in hostile.json("/api/runs")["runs"]]
    tag = quote("tags.team" + roots.EVIL)
    pages = ["/", "/?part=table", f"/?group={tag}", f"/?q={quote(roots.EVIL)}", f"/?q={quote(roots.QUOTED)}&group={quote(roots.EVIL)}&sort={quote(roots.EVIL)}&col={quote(roots.EVIL)}", f"/compare?run={runs[0]}&run={runs[1]}", f"/run/{quote(roots.EVIL)}", f"/sweep/{quote(roots.EVIL)}", f"/{quote(roots.EVIL)}", *(f"/run/{runs[0]}?tab={tab}" for tab in TABS), f"/run/{runs[0]}?tab={quote(roots.EVIL)}", f"/run/{runs[0]}?tab=code&with={runs[1]}", f"/run/{runs[0]}?tab=code&with={quote(roots.EVIL)}"]  # fmt: skip
    for path in pages:
        page = hostile.get(path)
        assert page.status_code in (200, 400, 404), path
        found = Tags(page.text)
        assert found.all("img") == [], path
        assert "i" not in [tag for tag, _ in found.tags], path
        scripts = [each.get("src") or "" for each in found.all("script")]
        assert all("static/" in each for each in scripts), path
        for tag, attributes in found.tags:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (
                path,
                tag,
                attributes,
            )
            assert not any(str(attributes.get(name)).startswith("javascript:") for name in ("href", "src")), path


def test_values_are_whole_where_they_are_shown(hostile):
    text = "".join(Tags(hostile.get(f"/run/{hostile.run_of('media <b>&x').name}").text).text)
    for value in (
        "<script>alert(1)</script>",
        roots.QUOTED,
        "a note " + roots.EVIL + roots.QUOTED,
        "media <b>&x",
        roots.EVIL,
    ):
        assert value in text


ESCAPES = [
    "../run.json", "..%2frun.json", "%2e%2e/run.json", "%2e%2e%2frun.json", "artifacts/..%2f..%2f..%2fplain", "..%5crun.json",
    "artifacts/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "artifacts//etc/passwd",
    "artifacts/passwd", "artifacts/out/secret.txt", "artifacts/through.txt", "artifacts/out", "artifacts", "", ".", "artifacts/%00", "%00",
    "artifacts/a.txt%00.png", "leak.log", "artifacts/" + "x" * 300, "artifacts/a.txt/..", "%ff%fe", "artifacts/%F0%9F",
    "artifacts/.%2e/.%2e/.%2e/x", "/".join(["a"] * 3000),
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES, ids=range(len(ESCAPES)))
def test_no_path_leads_out_of_a_run(hostile, path):
    run = hostile.run_of("media <b>&x")
    (run.parent / "run.json").write_text("outside")
    for what in ("file", "figure"):
        answer = hostile.get(f"/run/{run.name}/{what}/{path}")
        assert answer.status_code in (404, 307), path
        for secret in ("root:", "the secret", "outside"):
            assert secret not in answer.text
    name = path.rpartition("artifacts/")[2]
    for log in (path, f"{path}.log", name, "../output.log", "leak.log", "artifacts/../output.log", "..%2foutput.log"):
        answer = hostile.get(f"/api/run/{run.name}/log?name={log}")
        assert answer.status_code == 404 or (not log and answer.status_code == 200), log
        assert "root:" not in answer.text
        assert hostile.get(f"/api/run/{run.name}/log/search?text=root&name={log}").status_code in (
            404,
            200 if not log else 404,
        )


def test_a_link_within_a_run_is_followed_and_lists_leave_out_the_others(hostile):
    run = hostile.run_of("media <b>&x")
    assert hostile.get(f"/run/{run.name}/file/artifacts/within.txt").text == "inside"
    listed = "".join(Tags(hostile.get(f"/run/{run.name}?tab=artifacts").text).text)
    assert "within.txt" in listed
    for name in ("passwd", "through.txt", "secret"):
        assert name not in listed
    assert "leak.log" not in hostile.get(f"/run/{run.name}?tab=logs").text


KINDS = {"a.txt": "text/plain; charset=utf-8", "evil.html": "text/plain; charset=utf-8", "evil.js": "text/plain; charset=utf-8", "evil.svg": "image/svg+xml", "model.bin": "application/octet-stream"}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_acts_on_nothing(hostile, name):
    run = hostile.run_of("media <b>&x")
    path = next(each for each in (run / "artifacts").rglob(name)).relative_to(run)
    answer = hostile.get(f"/run/{run.name}/file/{quote(str(path))}")
    assert answer.headers["content-type"] == KINDS[name]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get("content-disposition", "").startswith("attachment" if name == "model.bin" else "")
    assert answer.content == (run / path).read_bytes()
    saved = hostile.get(f"/run/{run.name}/file/{quote(str(path))}?download=1")
    assert saved.headers["content-disposition"].startswith("attachment")


def test_odd_names_of_files_are_linked_as_they_are(hostile):
    run = hostile.run_of("media <b>&x")
    page = hostile.get(f"/run/{run.name}?tab=artifacts")
    links = [
        attributes["href"] for attributes in Tags(page.text).all("a") if "/file/" in (attributes.get("href") or "")
    ]
    assert len(links) > 20
    for link in links:
        assert hostile.get("/run/" + link.removeprefix("../run/")).status_code == 200, link


def test_a_part_of_a_file_is_given(hostile):
    run = hostile.run_of("media <b>&x").name
    answer = hostile.get(f"/run/{run}/file/artifacts/model.bin", headers={"range": "bytes=10-12"})
    assert (answer.status_code, answer.content) == (206, bytes([10, 11, 12]))


# ---------------------------------------------------------------- notes


def noted(site, value, **more):
    content = json.dumps(value).encode() if not isinstance(value, bytes) else value
    return site.request("POST", "/api/notes", content=content, **more)


def test_notes_are_kept_in_the_run_and_shown_at_once(plain):
    folder = plain.folder / "letters" / "260528-202640-bbbb-000"
    answer = noted(
        plain, {"runs": [folder.name, "gone"], "note": "good <b>", "tags": {"a": "1", "team": None}, "archived": True}
    )
    assert answer.json() == {"changed": [folder.name]}
    assert RunDir(folder).notes == {"note": "good <b>", "tags": {"a": "1", "team": None}, "archived": True}
    assert plain.json("/api/runs")["total"] == 14
    assert plain.json("/api/runs?archived=1")["total"] == 15
    (run,) = plain.json("/api/runs?q=archived+%3D+true")["runs"]
    assert (run["note"], run["tags"]) == ("good <b>", {"a": "1"})
    noted(plain, {"runs": ["bbbb-000"], "archived": False, "note": "", "tags": {"a": None, "team": "vision"}})
    assert RunDir(folder).notes["note"] == ""
    assert plain.json("/api/runs")["total"] == 15


BAD = [
    b"", b"{", b"[]", b"null", b"5", b"\xff", b'{"runs": ["aaaa-000"], "note": "\\ud800"}', {}, {"runs": []}, {"runs": "aaaa-000"}, {"runs": [1]}, {"runs": [None]},
    {"runs": ["aaaa-000"], "note": 5}, {"runs": ["aaaa-000"], "note": "x" * 20_001}, {"runs": ["aaaa-000"], "tags": []},
    {"runs": ["aaaa-000"], "tags": {"": "x"}}, {"runs": ["aaaa-000"], "tags": {" ": "x"}}, {"runs": ["aaaa-000"], "tags": {"a": 1}},
    {"runs": ["aaaa-000"], "tags": {"a": "x" * 2001}}, {"runs": ["aaaa-000"], "tags": {"n" * 200: "x"}}, {"runs": ["aaaa-000"], "archived": "yes"},
    {"runs": ["aaaa-000"], "archived": 1}, {"runs": ["aaaa-000"], "note": "ok", "tags": {"a": {}}}, {"runs": ["x"] * 501, "note": "x"},
    b'{"runs": ["aaaa-000"], "note": "' + b"x" * (1 << 20) + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_bad_notes_write_nothing(plain, value):
    before = {path: path.stat().st_mtime_ns for path in plain.folder.rglob("*")}
    answer = noted(plain, value)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert {path: path.stat().st_mtime_ns for path in plain.folder.rglob("*")} == before


def test_notes_are_posted_only(plain):
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert plain.request(method, "/api/notes").status_code == 405


# ---------------------------------------------------------------- export


def test_csv_has_all_rows_of_the_view(plain):
    answer = plain.get("/export.csv?q=sweep+%3D+aaaa")
    assert answer.headers["content-disposition"] == 'attachment; filename="runs.csv"'
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(found) == 12
    assert found[-1]["hp.lr"] == "0.1"
    some = list(csv.reader(io.StringIO(plain.get("/export.csv?col=hp.lr&q=status+%3D+failed").text)))
    assert some[0] == ["id", "experiment", "status", "hp.lr"]
    rates = [row["hp.lr"] for row in csv.DictReader(io.StringIO(plain.get("/export.csv?col=hp.lr&sort=-hp.lr").text))]
    assert rates == sorted(rates, key=float, reverse=True)
    assert plain.get("/export.csv?q=%28").status_code == 400
    assert plain.get("/export.csv?col=nope").status_code == 404


def test_csv_of_chosen_runs_and_all_points_of_some(plain):
    ids = plain.json("/api/runs?size=2&q=status+%3D+succeeded+order+by+id")["runs"]
    first, second = (run["id"] for run in ids)
    some = list(csv.DictReader(io.StringIO(plain.get(f"/export.csv?run={second}&run={first}").text)))
    assert [row["id"] for row in some] == [second, first]
    answer = plain.get(f"/history.csv?run={first}&run={second}")
    assert answer.headers["content-disposition"] == 'attachment; filename="history.csv"'
    points = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["run"] for row in points} == {first, second}
    metric = points[0]["metric"]
    logged = plain.json(f"/api/series?metric={metric}&run={first}")["series"][0]
    found = [row for row in points if (row["run"], row["metric"]) == (first, metric)]
    assert [float(row["step"]) for row in found] == logged["x"]
    assert [float(row["value"]) for row in found] == logged["y"]
    only = list(csv.DictReader(io.StringIO(plain.get(f"/history.csv?run={first}&metric={metric}").text)))
    assert only == found
    for wrong in ("run=nobody", f"run={first}&metric=nothing", ""):
        assert plain.get(f"/history.csv?{wrong}").status_code == 404, wrong
    assert len(plain.get("/export.csv?run=nobody").text.splitlines()) == 1  # not all
    assert first not in plain.get("/export.html?run=nobody").text


def test_an_exported_page_asks_for_nothing_and_holds_no_markup_of_others(hostile):
    answer = hostile.get("/export.html")
    assert "attachment" in answer.headers["content-disposition"]
    text = answer.text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "http:" not in text.replace("http://www.w3.org", "")
    found = Tags(text)
    assert [tag for tag, attributes in found.tags if "src" in attributes or "href" in attributes] == []
    assert len(found.all("script")) == 2
    assert "<img" not in text


# ---------------------------------------------------------------- anything at all


def test_broken_run_directories_hide_no_others(sites):
    found = sites["broken"].json("/api/runs")
    assert found["total"] >= 16
    assert sites["broken"].get("/").status_code == 200
    assert sites["broken"].get("/compare?q=experiment+%3D+broken+or+sweep+%3D+aaaa").status_code == 200
    assert sites["broken"].get("/sweep/zzzz").status_code == 200


PARTS = [
    "q",
    "sort",
    "page",
    "size",
    "group",
    "col",
    "archived",
    "run",
    "metric",
    "x",
    "points",
    "from",
    "to",
    "by",
    "mode",
    "name",
    "text",
    "back",
    "part",
]
ROUTES = [
    "/api/names",
    "/api/runs",
    "/api/series",
    "/api/points",
    "/api/importance",
    f"/api/run/{FIRST}/log",
    f"/api/run/{FIRST}/log/search",
    f"/api/run/{FIRST}/histograms",
    "/api/run/gone/log",
]
WORDS = st.one_of(
    st.sampled_from(["", "val.acc", "hp.lr", "status", "-status", "hp.lr > 1", "step", "wall", "1", "-1", "0", "1e400", "nan", "inf", "-inf", "9" * 400, "1_0", "²", FIRST, "aaaa-000", "order by", "`", '"', "limit -1", "status in ()", "not " * 50, "(" * 500, "a" * 5000, "hp.lr = 9223372036854775808", "metrics.val.acc.best"]),
    st.text(max_size=12),
    st.text(string.printable, max_size=30),
    st.floats().map(str),
    st.integers().map(str),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ROUTES), st.lists(st.tuples(st.sampled_from(PARTS), WORDS), max_size=5))
@example("/api/series", [("run", FIRST), ("metric", "val.acc"), ("from", "inf"), ("to", "-inf")])
@example("/api/series", [("run", FIRST), ("metric", "val.acc"), ("points", "10"), ("from", "1e308")])
@example("/api/runs", [("page", "999999999"), ("size", "0")])
@example("/api/runs", [("q", "limit 99999999999999999999")])
@example("/api/runs", [("q", "hp.lr = 99999999999999999999")])
@example("/api/runs", [("group", "hp.lr"), ("q", "limit 0")])
def test_whatever_is_asked_the_answer_is_json_and_no_500(sites, route, query):
    for name in ("plain", "broken"):
        answer = sites[name].get(f"{route}?{urlencode(query, errors='surrogatepass')}")
        assert answer.status_code in (200, 400, 404), (route, query)
        if answer.status_code != 200:
            assert answer.json()["error"]
        elif not route.endswith("/log"):
            json.loads(answer.text, parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))


@settings(max_examples=150)
@given(
    st.sampled_from(["/", "/compare", f"/run/{FIRST}", "/sweep/aaaa", "/export.csv", "/history.csv"]),
    st.lists(st.tuples(st.sampled_from([*PARTS, "tab", "with"]), WORDS), max_size=4),
)
def test_whatever_the_address_holds_there_is_a_page(sites, route, query):
    answer = sites["plain"].get(f"{route}?{urlencode(query, errors='surrogatepass')}")
    assert answer.status_code in (200, 400, 404), (route, query)


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["runs", "note", "tags", "archived", "x"]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_whatever_is_posted_the_answer_is_json_and_no_500(sites, value):
    answer = noted(sites["plain"], value)
    assert answer.status_code in (200, 400)
    assert answer.json().keys() & {"error", "changed"}


@settings(max_examples=100)
@given(st.text(max_size=20))
def test_whatever_run_is_named_there_is_an_answer(sites, name):
    safe = quote(name, safe="", errors="surrogatepass")
    for path in (
        f"/run/{safe}",
        f"/sweep/{safe}",
        f"/run/{safe}/file/x",
        f"/api/run/{safe}/log",
        f"/run/{FIRST}/file/{safe}",
    ):
        assert sites["plain"].get(path).status_code in (200, 404, 307), path


# ---------------------------------------------------------------- words


def test_times_are_told_as_the_browser_tells_them(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    for gap, words in {3: "just now", 59: "59 s ago", 119: "1 min ago", 7199: "1 h ago", 86400 * 2.9: "2 d ago", -3600: "in 1 h", 86400 * 40: absolute(1_800_000_000 - 86400 * 40)[:10]}.items():  # fmt: skip
        assert ago(1_800_000_000 - gap) == words
    for odd in (None, "x", [], 1e300, float("nan")):
        assert isinstance(ago(odd), str)
        assert isinstance(absolute(odd), str)
    assert middle("abcdefghij", 5) == "ab…ij"
    assert os.fspath(Path(middle("short"))) == "short"


def test_a_comparison_says_which_runs_are_gone_and_takes_what_one_has_as_none(sites, plain, tmp_path):
    page = plain.get(f"/compare?run={FIRST}&run=aaaa-001&run=aaaa-999&run=%3Cb%3E")
    assert page.status_code == 200
    assert "Not there, or removed: aaaa-999, &lt;b&gt;" in re.sub(r"<[^>]*>", "", page.text)
    assert "Compare 2 runs" in page.text
    assert "Not there" not in plain.get(f"/compare?run={FIRST}&run=aaaa-001").text


def test_a_diff_in_two_columns_sets_what_was_changed_beside_what_it_was():
    lines = diff_lines("@@ -1 +1 @@\n same\n-old\n-older\n+new\n end\n+more")
    assert side_by_side(lines) == [
        ("hunk", "@@ -1 +1 @@", "@@ -1 +1 @@"), ("", "same", "same"), ("changed", "old", "new"), ("changed", "older", None),
        ("", "end", "end"), ("changed", None, "more"),
    ]  # fmt: skip


def test_a_run_to_compare_with_that_is_not_there_is_told_beside_the_form(plain):
    page = plain.get(f"/run/{FIRST}?tab=code&with=+nowhere+")
    assert page.status_code == 200
    assert "no run &#39; nowhere &#39; to compare with" in page.text
    assert 'value=" nowhere "' in page.text
    assert "From aaaa-001 to" in plain.get(f"/run/{FIRST}?tab=code&with=+aaaa-001").text


def test_a_curve_is_ascending_also_where_x_is_not_known_between():
    found = curve([5.0, math.nan, 3.0, math.nan, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], 500)
    assert (list(found["x"]), list(found["y"])) == ([1.0, 3.0, 5.0], [5.0, 3.0, 1.0])
    assert list(curve([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5, 500, 2.5, 3.5)["x"]) == [2.0, 3.0, 4.0]


def test_a_live_run_is_drawn_by_several_at_once_while_it_logs(tmp_path):
    run = roots.run_dir(tmp_path, 0, hp={"lr": 0.1}, metrics={"a": [1.0] * 20_000, "n": [2.0] * 20_000})
    end = threading.Event()

    def log():
        for step in range(20_000, 22_000):
            metrics = {"a": 1.0} | ({"n": 2.0} if step % 2 else {})
            with run.records_file().open("a") as file:
                file.write(json.dumps({"time": 1.0, "step": step, "metrics": metrics}) + "\n")
            if end.wait(0.001):
                return

    def draw(axis):
        return [len(curve(*charts._CACHE.points(str(run.path), "a", axis), 500)["x"]) for _ in range(10)]

    writer = threading.Thread(target=log)
    writer.start()
    try:
        with ThreadPoolExecutor(3) as threads:
            assert all(min(lengths) > 100 for lengths in threads.map(draw, ["step", "time", "n"]))
    finally:
        end.set()
        writer.join()
