"""The browser side's building blocks, in a browser: what is painted, told, clicked and fetched."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest

from tests.web.conftest import STATIC, until

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
CARD = '<section class="card"><div id="a"></div></section><section class="card"><div id="b"></div></section>'
IMPORTS = """
import { LineChart, Group, groupMean, smooth, colorOf, stylesOf } from "/static/chart.js";
import { Parallel, Scatter, scatterMatrix, bars, Heatmap } from "/static/plots.js";
import * as format from "/static/format.js";
import * as saving from "/static/saving.js";
import { appendAnsi, folded } from "/static/ansi.js";
import { makeScale, ticks } from "/static/scale.js";
import { LogView } from "/static/log.js";
Object.assign(window, { LineChart, Group, groupMean, smooth, colorOf, stylesOf, Parallel, Scatter, scatterMatrix, bars,
  Heatmap, format, saving, appendAnsi, folded, makeScale, ticks, LogView });
window.$ = (id) => document.getElementById(id);
window.line = (id, y, more = {}) => ({ id, label: id, color: "rgb(200, 0, 0)", x: y.map((_, i) => i), y, ...more });
window.zooms = []; window.hovers = [];
window.draw = (host, options, series) => {
  const chart = new LineChart(host, { onZoom: (...range) => zooms.push(range), onHover: (id) => hovers.push(id), ...options });
  host.addEventListener("painted", () => { chart.paints = (chart.paints ?? 0) + 1; });
  chart.set({ series });
  return chart;
};
/** The pixels of a chart's canvas: 0 the curves, 1 the pointer's. */
window.pixels = (host, layer = 0) => {
  const from = host.querySelectorAll("canvas")[layer], copy = Object.assign(document.createElement("canvas"), { width: from.width, height: from.height });
  const ctx = copy.getContext("2d", { willReadFrequently: true });
  ctx.drawImage(from, 0, 0);
  return ctx.getImageData(0, 0, copy.width, copy.height);
};
/** How many pixels of a colour a row of the picture has. */
window.inRow = (host, y, [r, g, b]) => {
  const { data, width } = pixels(host), from = Math.floor(y) * width * 4;
  let n = 0;
  for (let i = from; i < from + width * 4; i += 4) n += data[i + 3] > 60 && Math.hypot(data[i] - r, data[i + 1] - g, data[i + 2] - b) < 60;
  return n;
};
window.rows = (host, colour) => Array.from({ length: host.clientHeight }, (_, y) => y).filter((y) => inRow(host, y, colour));
"""
RED = "[200, 0, 0]"


@pytest.fixture
def chart(open_page):
    """A page of which `script` has drawn `window.chart` into #a."""

    def opened(script, body=CARD, **emulated):
        page = open_page(f"{IMPORTS}{script}\nwindow.ready = true;", body, **emulated)
        until(page, "!window.chart || chart.paints > 0")
        return page

    return opened


def drawn(page):
    """Waits for the next picture of the chart, as after a zoom."""
    page.evaluate("chart.before = chart.paints; chart.redraw()")
    until(page, "chart.paints > chart.before")
    page.wait_for_timeout(50)


def test_numbers_times_sizes_and_names_are_short_and_right(open_page):
    page = open_page(f"{IMPORTS}window.ready = true;")
    for call, said in {
        "number(0.123456)": "0.1235", "number(1234.5678)": "1235", "number(123456)": "123456", "number(1234567)": "1.235e6",
        "number(-0.00001234)": "-1.234e-5", "number(2e7)": "2e7", "number('NaN')": "NaN", "number('-Infinity')": "-∞",
        "number(null)": "—", "number(0)": "0", "number(0.1, 17)": "0.1", "number(6.02e23)": "6.02e23",
        "duration(0.4)": "0.4 s", "duration(42)": "42 s", "duration(75)": "01:15", "duration(3720)": "1h 02m",
        "duration(277200)": "3d 05h", "duration(null)": "—", "ago(1000, 1180)": "3 min ago", "ago(1000, 1001)": "just now",
        "ago(9000, 1000)": "in 2 h", "size(123456789)": "118 MiB", "size(0)": "0 B", "middle('abcdefghij', 7)": "abc…hij",
        "middle('short')": "short",
    }.items():  # fmt: skip
        assert page.evaluate(f"format.{call}") == said, call


def test_of_a_hundred_curves_the_lowest_and_highest_point_are_seen(chart):
    page = chart("""
    const series = Array.from({ length: 100 }, (_, k) => line(`run ${k}`, Array.from({ length: 500 }, (_, i) => Math.sin(i * 7 + k) + Math.cos(k)),
      { color: "rgb(120, 120, 120)" }));
    series[50].y[250] = 9;
    series[51].y[100] = -9;
    series[50].color = series[51].color = "rgb(200, 0, 0)";
    window.chart = draw($("a"), { title: "loss" }, series);
    $("a").addEventListener("painted", () => { window.drawn = true; }, { once: true });
    """)
    until(page, "window.drawn")
    for peak in ("9", "-9"):
        assert page.evaluate(f"[-1, 0, 1].some((d) => inRow($('a'), chart.Y.px({peak}) + d, {RED}) > 0)")
    assert page.get_attribute("#a", "aria-label") == "loss: 100 curves, min -9, max 9, last " + page.evaluate(
        "[Math.min, Math.max].map((f) => format.number(f(...chart.series.map((s) => s.y.at(-1))))).join(' to ')"
    )


def test_no_peak_of_a_long_curve_is_lost(chart):
    page = chart("""
    const y = Array.from({ length: 50_000 }, (_, i) => Math.sin(i / 999));
    y[33_333] = 20;
    window.chart = draw($("a"), {}, [line("long", y)]);
    """)
    assert page.evaluate(f"inRow($('a'), chart.Y.px(19), {RED})") > 0


def test_a_single_point_is_a_dot(chart):
    page = chart('window.chart = draw($("a"), {}, [line("one", [3])]);')
    assert len(page.evaluate(f"rows($('a'), {RED})")) >= 4


def smoothed(values, weight):
    """TensorBoard's way: `last` counts what came, its bias divided out."""
    last, count, out = 0.0, 0, []
    for value in values:
        if not math.isfinite(value):
            out.append(value)
            continue
        last, count = last * weight + (1 - weight) * value, count + 1
        out.append(last / (1 - weight**count))
    return out


@pytest.mark.parametrize("weight", [0, 0.6, 0.99])
def test_smoothing_is_tensorboards(open_page, weight):
    page = open_page(f"{IMPORTS}window.ready = true;")
    values = [math.sin(i * 1.7) * 3 + i / 9 for i in range(200)]
    out = page.evaluate(f"[...smooth([...{json.dumps(values[:50])}, NaN, ...{json.dumps(values[50:])}], {weight})]")
    assert out.pop(50) != 0  # NaN goes through and counts for nothing
    assert out == pytest.approx(smoothed(values, weight), rel=1e-12)


def test_a_smoothed_curve_lies_over_its_raw_one(chart):
    page = chart('window.chart = draw($("a"), { smoothing: 0.95 }, [line("r", [0, 0, 0, 10, 0, 0, 0])]);')
    assert page.evaluate("chart.Y.hi") > 10
    above = "pixels($('a')).data.slice(0, 4 * $('a').clientWidth * Math.floor(chart.Y.px(8)))"
    assert page.evaluate(f"{above}.filter((v, i) => i % 4 === 3 && v > 20 && v < 110).length") > 20


def test_the_mean_of_runs_has_a_band(open_page):
    page = open_page(f"{IMPORTS}window.ready = true;")
    mean = page.evaluate("""(() => {
      const m = groupMean([{ x: [0, 2, 4], y: [0, 2, 4] }, { x: [0, 1, 4], y: [2, 2, 2] }, { x: [4], y: [9] }]);
      return Object.fromEntries(Object.entries({ x: m.x, y: m.y, low: m.band.low, high: m.band.high })
        .map(([k, v]) => [k, [...v]]));
    })()""")
    assert mean == {
        "x": [0, 1, 2, 4], "y": pytest.approx([1, 1.5, 2, 5]),
        "low": pytest.approx([0, 1, 2, 5 - math.sqrt(26 / 3)]), "high": pytest.approx([2, 2, 2, 5 + math.sqrt(26 / 3)]),
    }  # fmt: skip


def test_a_log_axis_has_decades_and_tells_what_it_leaves_out(chart):
    page = chart("""
    window.chart = draw($("a"), { yLog: true }, [line("r", [1e-4, 1e-2, 0, -1, 1, 100])]);
    window.marks = ticks(chart.Y ?? makeScale([1e-4, 100], 0, 1, true), 5).map((t) => t.text);
    """)
    assert set(page.evaluate("window.marks")) >= {"0.01", "1", "100"}
    assert "2 values ≤ 0 left out" in page.inner_text(".chart-note")
    middle = page.evaluate("[1e-4, 1e-2, 1].map((v) => chart.Y.px(v))")
    assert middle[0] - middle[1] == pytest.approx(middle[1] - middle[2])


def test_a_line_ends_at_a_gap_and_goes_on_after_it(chart):
    page = chart("""window.chart = draw($("a"), {}, [line("r", [1, 1, 1, 1], { x: [0, 1, 9, 10], gap: 2 })]);
    window.red = (x) => {
      const { data, width } = pixels($("a")), at = (Math.round(chart.Y.px(1)) * width + Math.round(chart.X.px(x))) * 4;
      return data[at] > 150 && data[at + 1] < 100;
    };""")
    assert page.evaluate("[0.5, 5, 9.5].map(red)") == [True, False, True]


def test_what_is_not_finite_is_marked_and_counted(chart):
    page = chart("""
    window.chart = draw($("a"), {}, [line("r", [1, null, 2, "Infinity", 3, "-Infinity", NaN], { odd: [{ x: 9, kind: "nan" }] })]);
    """)
    assert page.inner_text(".chart-note") == "3 NaN · 1 +∞ · 1 -∞"
    assert page.evaluate(f"inRow($('a'), chart.Y.px(chart.Y.lo) + 2, {RED})") > 2
    assert page.evaluate(f"inRow($('a'), chart.Y.px(chart.Y.hi) + 2, {RED})") > 2
    assert page.evaluate("chart.X.hi") == 9


@pytest.mark.parametrize(
    ("kind", "hi", "text"),
    [("relative", 7200, "1h 00m"), ("relative", 50, "10 s"), ("number", 100, "20"), ("wall", 7200, ":00")],
)
def test_ticks_are_ones_that_people_expect(open_page, kind, hi, text):
    page = open_page(f"{IMPORTS}window.ready = true;")
    texts = page.evaluate(f"ticks(makeScale([0, {hi}], 0, 400), 5, '{kind}').map((t) => t.text)")
    assert 3 <= len(texts) <= 7
    assert any(text in one for one in texts)


def test_clipping_shows_what_most_points_do(chart):
    page = chart("""
    window.chart = draw($("a"), {}, [line("r", Array.from({ length: 300 }, (_, i) => (i === 7 ? 1e6 : i % 10)))]);
    """)
    assert page.evaluate("chart.Y.hi") > 1e6
    page.evaluate("chart.set({ clip: true })")
    drawn(page)
    assert page.evaluate("chart.Y.hi") < 12
    assert "outliers clipped" in page.inner_text(".chart-note")


TWO = 'Array.from({ length: 101 }, (_, i) => i / 10)), line("up", Array.from({ length: 101 }, (_, i) => 20 - i / 10))'
SHARED = f"""
const group = new Group();
window.told = [];
group.listen((kind, value) => told.push([kind, value]));
const two = [line("down", {TWO}];
window.chart = draw($("a"), {{ group, title: "loss" }}, two);
window.other = draw($("b"), {{ group }}, two);
"""


def place(page, x, y, host="#a"):
    """Where a point of the chart is on the screen."""
    box = page.locator(host).bounding_box()
    return page.evaluate(f"[{box['x']} + chart.X.px({x}), {box['y']} + chart.Y.px({y})]")


def test_the_cursor_tells_the_nearest_curves_and_is_shared(chart):
    page = chart(SHARED)
    page.mouse.move(*place(page, 30.2, 3.1))
    until(page, "!document.querySelector('#b .chart-tip').hidden")
    assert page.inner_text("#a .chart-tip").split() == ["30", "down", "3", "up", "17"]
    assert page.inner_text("#b .chart-tip").split() == ["30", "down", "3"]
    assert page.evaluate("[hovers[0], other.lit]") == ["down", "down"]
    assert round(page.evaluate("other.cursor"), 1) == pytest.approx(30.2, abs=0.3)
    page.mouse.move(5, 5)
    until(page, "document.querySelector('#b .chart-tip').hidden")
    assert page.evaluate("[hovers.at(-1), other.lit, other.cursor]") == [None, None, None]
    assert page.evaluate("told.at(-1)") == ["hover", None]


def test_a_lit_curve_dims_the_others(chart):
    page = chart(SHARED)
    count = "pixels($('a'), 1).data.filter((v, i) => i % 4 === 3 && v).length"
    page.wait_for_timeout(100)
    assert page.evaluate(count) == 0
    page.evaluate("chart.highlight('up')")
    until(page, f"{count} > 1000")


def test_dragging_zooms_asks_for_finer_data_and_double_click_shows_all(chart):
    page = chart(SHARED)
    page.mouse.move(*place(page, 20, 10))
    page.mouse.down()
    page.mouse.move(*place(page, 60, 12), steps=3)
    page.mouse.up()
    lo, hi = page.evaluate("zooms[0]")
    assert (lo, hi) == (pytest.approx(20, abs=0.5), pytest.approx(60, abs=0.5))
    assert page.evaluate("[zooms.length, other.range]") == [1, None]
    page.evaluate("chart.set({ series: [line('down', [0, 1, 2], { x: [20, 40, 60] })] })")
    drawn(page)
    assert page.evaluate("chart.X.lo") == lo
    page.mouse.dblclick(*place(page, 40, 1))
    assert page.evaluate("[chart.range, zooms.at(-1)]") == [None, [None, None]]


def test_a_chart_is_used_by_keys_alone(chart):
    page = chart(SHARED)
    page.focus("#a")
    page.keyboard.press("ArrowRight")
    said = page.locator("#a + [aria-live]")
    assert said.inner_text() == "down, 50: 5"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert said.inner_text() == "up, 51: 14.9"
    assert page.evaluate("other.lit") == "up"
    page.keyboard.press("+")
    lo, hi = page.evaluate("chart.range")
    assert hi - lo == pytest.approx(50)
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert page.evaluate("chart.range") is None
    page.keyboard.press("Escape")
    assert page.evaluate("[chart.cursor, chart.lit]") == [None, None]


def test_a_change_of_theme_redraws(chart):
    page = chart(SHARED)
    for change in ("document.documentElement.dataset.theme = 'dark'", None):
        page.evaluate("chart.before = chart.paints")
        page.evaluate(change) if change else page.emulate_media(color_scheme="dark")
        until(page, "chart.paints > chart.before")


def test_a_chart_out_of_view_waits(chart):
    page = chart(
        'window.far = draw($("b"), {}, [line("r", [1, 2])]); window.chart = draw($("a"), {}, [line("r", [1, 2])]);',
        '<div id="a"></div><p id="gap"></p><div id="b"></div><p id="end"></p>',
    )
    page.evaluate("$('gap').style.height = '3000px'; far.redraw()")
    page.wait_for_timeout(200)
    page.evaluate("far.paints = 0; far.set({ series: [line('r', [3, 4])] })")
    page.wait_for_timeout(200)
    assert page.evaluate("far.paints") == 0
    page.evaluate("$('end').scrollIntoView()")
    until(page, "far.paints > 0")


def test_a_chart_becomes_a_table_and_a_picture(chart):
    page = chart("""window.chart = draw($("a"), { title: "loss, train" }, [line('a "b", c', [1, 0.25, null])]);""")
    read = list(csv.reader(io.StringIO(page.evaluate("saving.csvOf(chart)"))))
    assert read[:3] == [["id", "label", "x", "value", "smoothed"], ['a "b", c', 'a "b", c', "0", "1", "1"], ['a "b", c', 'a "b", c', "1", "0.25", "0.25"]]  # fmt: skip
    assert page.evaluate("saving.pngOf(chart).then((b) => [b.type, b.size > 1000])") == ["image/png", True]
    with page.expect_download() as got:
        page.evaluate("saving.save(chart, 'csv')")
    assert got.value.suggested_filename == "loss_train.csv"


def test_a_run_keeps_its_colour_and_all_stand_out_in_both_themes(open_page):
    page = open_page(f"{IMPORTS}window.ready = true;")
    assert page.evaluate("colorOf('calm-fox-12') === colorOf('calm-fox-12')")
    colors = page.evaluate("""(() => {
      const ctx = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      return [...new Set(Array.from({ length: 900 }, (_, i) => colorOf(`run-${i}`)))].map((c) => {
        ctx.fillStyle = c; ctx.fillRect(0, 0, 1, 1); return [...ctx.getImageData(0, 0, 1, 1).data.slice(0, 3)]; });
    })()""")
    assert len(colors) == 30

    def light(rgb):
        parts = [(v / 255 / 12.92) if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for color in colors:
        assert 1.05 / (light(color) + 0.05) >= 3, color
        assert (light(color) + 0.05) / (light([0x16, 0x1A, 0x21]) + 0.05) >= 3, color
    told = page.evaluate(
        "[...stylesOf(Array.from({ length: 40 }, (_, i) => `run-${i}`)).values()].map((s) => s.color + s.dash)"
    )
    assert len(set(told)) > 30


def test_hostile_names_are_text(chart):
    page = chart(
        f"""
    const bad = {json.dumps(HOSTILE)}, rows = [1, 2, 3].map((v) => ({{ id: bad + v, label: bad, values: {{ [bad]: v, b: bad }} }}));
    window.chart = draw($("a"), {{ title: bad }}, [line(bad, [1, 2, 3])]);
    new Parallel($("b"), {{ title: bad, axes: [{{ key: bad, label: bad, kind: "linear" }}, {{ key: "b", label: bad, kind: "category" }}], rows }});
    bars($("c"), [{{ id: bad, label: bad, value: 1 }}], {{ title: bad }});
    $("c").append(format.element("p", "", bad));
    new LogView($("d"), {{ fetchRange: async () => ({{ bytes: new TextEncoder().encode(bad), size: bad.length }}) }});
    """,
        CARD + '<div id="c"></div><div id="d"></div>',
    )
    page.mouse.move(*place(page, 1, 2))
    until(page, "!document.querySelector('.chart-tip').hidden")
    until(page, "document.querySelector('.log-text').textContent.includes('<img')")
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert "<img" in page.inner_text("#a .chart-tip")
    assert page.evaluate("document.querySelector('#b + div table').textContent").count(HOSTILE) >= 7


ROWS = """const rows = Array.from({ length: 40 }, (_, i) => ({ id: `r${i}`, label: `run ${i}`, value: i,
  values: { lr: 10 ** (-4 + i / 10), opt: ["adam", "sgd", "lion"][i % 3], loss: i === 39 ? null : 40 - i } }));
window.brushes = [];
"""
PARALLEL = f"""{ROWS}
window.plot = new Parallel($("a"), {{ title: "runs", colorBy: "loss", rows, onBrush: (b) => brushes.push(b), onHover: (id) => hovers.push(id),
  axes: [{{ key: "lr", label: "lr", kind: "log" }}, {{ key: "opt", label: "optimizer", kind: "category" }}, {{ key: "loss", label: "loss", kind: "linear" }}] }});
"""


def along(page, axis, a, b):
    """Drags along an axis between two heights, given as shares of it."""
    box = page.locator("#a").bounding_box()
    x = box["x"] + page.evaluate(f"plot.lanes[{axis}].x")
    top, bottom = box["y"] + 36, box["y"] + box["height"] - 12
    page.mouse.move(x, bottom + (top - bottom) * a)
    page.mouse.down()
    page.mouse.move(x + 2, bottom + (top - bottom) * b, steps=3)
    page.mouse.up()


def test_dragging_along_an_axis_filters(chart):
    page = chart(PARALLEL)
    until(page, "plot.lanes")
    along(page, 0, 0.25, 0.75)
    lo, hi = page.evaluate("brushes[0].lr")
    assert math.log10(lo) == pytest.approx(-4 + 3.9 / 4, abs=0.1)
    assert math.log10(hi) == pytest.approx(-4 + 3.9 * 0.75, abs=0.1)
    along(page, 1, 0.1, 0.5)
    assert page.evaluate("brushes.at(-1).opt") == ["adam", "lion"]
    assert page.get_attribute("#a", "aria-label") == "runs: 40 runs, 3 axes, filtered by lr, opt"
    along(page, 0, 0.5, 0.5)
    assert page.evaluate("Object.keys(brushes.at(-1))") == ["opt"]


def test_axes_are_filtered_by_keys(chart):
    page = chart(PARALLEL)
    until(page, "plot.lanes")
    page.focus("#a")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("brushes.at(-1)") == {"opt": ["lion", "sgd"]}
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("brushes.at(-1).loss") == [pytest.approx(2), pytest.approx(36.2)]
    page.keyboard.press("Escape")
    assert page.evaluate("brushes.at(-1)") == {}


def test_hovering_a_line_lights_the_run(chart):
    page = chart(PARALLEL)
    until(page, "plot.lanes")
    box = page.locator("#a").bounding_box()
    x, y = page.evaluate(
        "(() => { const [a, b] = plot.lanes, r = plot.options.rows[20]; return [(a.x + b.x) / 2, (a.y(r) + b.y(r)) / 2]; })()"
    )
    page.mouse.move(box["x"] + x, box["y"] + y)
    assert page.evaluate("hovers.at(-1)") is not None
    assert "optimizer" in page.inner_text("#a .chart-tip")


def test_scatter_matrix_heatmap_and_bars_tell_what_they_show(chart):
    page = chart(
        f"""{ROWS}
    const group = new Group();
    window.one = new Scatter($("a"), {{ title: "s", x: {{ label: "lr", log: true }}, y: {{ label: "loss" }}, group, onHover: (id) => hovers.push(id),
      points: rows.map((r) => ({{ ...r, color: "red", x: r.values.lr, y: r.values.loss ?? NaN }})) }});
    window.all = scatterMatrix($("b"), {{ title: "m", keys: ["lr", "loss"], logs: ["lr"], rows, group }});
    new Heatmap($("c"), {{ title: "w", steps: [0, 10, 20].map((step) => ({{ step, edges: [0, 1, 2], counts: [step, 5] }})) }});
    bars($("d"), rows.slice(0, 3).map((r) => ({{ ...r, color: "red" }})), {{ title: "best", ascending: true }});
    """,
        CARD + '<div id="c"></div><div id="d"></div>',
    )
    until(page, "one.box && all.every((p) => p.box)")
    box = page.locator("#a").bounding_box()
    page.mouse.move(*page.evaluate(f"[{box['x']} + one.X.px(0.01), {box['y']} + one.Y.px(20)]"))
    assert page.evaluate("[hovers.at(-1), all[0].lit]") == ["r20", "r20"]
    assert page.get_attribute("#c", "aria-label") == "w: 3 histograms, values 0 to 2"
    assert page.inner_text("#d").split() == ["best", "run", "0", "0", "run", "1", "1", "run", "2", "2"]
    assert page.evaluate("[...document.querySelectorAll('#d .bar')].map((b) => b.style.width)") == ["0%", "50%", "100%"]


def test_nothing_to_show_and_odd_data_are_no_error(chart):
    page = chart(
        """
    window.all = [[], [line("none", [])], [line("nan", [NaN, null])], [line("flat", [5, 5, 5])], [line("zero", [0])],
      [line("huge", [1e300, -1e300])], [line("back", [1, 2, 3], { x: [3, 1, 2] })], [line("time", [1, 2], { x: [1.7e9, 1.7e9 + 1e8] })]]
      .flatMap((series) => ["number", "relative", "wall"].flatMap((xKind) => [false, true].map((log) => {
        const chart = new LineChart($("b").appendChild(document.createElement("div")), { xKind, yLog: log, xLog: log, smoothing: log ? 0.5 : 0, clip: log });
        chart.set({ series });
        return chart;
      })));
    const host = () => $("c").appendChild(document.createElement("div"));
    all.push(new Parallel(host(), { axes: [], rows: [] }), new Heatmap(host(), { steps: [] }),
      new Parallel(host(), { axes: [{ key: "a", label: "a", kind: "log" }, { key: "b", label: "b", kind: "category" }], rows: [{ id: "1", label: "1", values: { a: -1 } }] }),
      new Scatter(host(), { x: { label: "x", log: true }, y: { label: "y" }, points: [] }),
      new Heatmap(host(), { steps: [{ step: 7, edges: [0, 0, 1], counts: [0, 0] }] }));
    bars(host(), [{ id: "1", label: "1", value: NaN }, { id: "2", label: "2", value: 0 }], { title: "none" });
    for (const one of all) one.host.scrollIntoView();
    """,
        '<div id="b"></div><div id="c"></div>',
    )
    for part in [*range(0, 48, 3), *range(48, 53)]:
        page.evaluate(f"all[{part}].host.scrollIntoView()")
        until(page, f"all[{part}].box")
        page.focus(f"#b > [tabindex] >> nth={part}") if part < 48 else page.evaluate(f"all[{part}].host.focus()")
        for key in ("ArrowRight", "ArrowDown", "+", "0", "Escape"):
            page.keyboard.press(key)
        box = page.evaluate(
            f"(() => {{ const r = all[{part}].host.getBoundingClientRect(); return [r.left + 300, r.top + 90]; }})()"
        )
        page.mouse.move(*box)
    assert page.evaluate("all[36].series[0].x.join()") == "1,2,3"
    page.evaluate("all.forEach((one) => one.destroy())")
    assert page.evaluate("$('b').textContent") == ""


def test_ansi_colours_become_styles_and_other_sequences_vanish(open_page):
    page = open_page(f"{IMPORTS}window.ready = true;")
    shown = page.evaluate(r"""(() => {
      const box = document.createElement("div");
      appendAnsi(box, "a\x1b[1;31mred\x1b[0m\x1b[38;5;208mo\x1b[39m\x1b[48;2;1;2;3mt\x1b[m\x1b]0;title\x07\x1b[2K\x1b[?25lz\x1b[4mu\x1b[24m\x1b[96mc");
      return [...box.childNodes].map((n) => [n.textContent, n.className ?? "", n.style?.color ?? "", n.style?.background ?? ""]);
    })()""")
    assert shown == [
        ["a", "", "", ""], ["red", "ansi-bold", "var(--bad)", ""], ["o", "", "rgb(255, 135, 0)", ""], ["t", "", "", "rgb(1, 2, 3)"],
        ["z", "", "", ""], ["u", "ansi-underline", "", ""], ["c", "", "var(--cyan)", ""],
    ]  # fmt: skip
    assert page.evaluate(r'folded("10%\r50%\r\x1b[32m100%\r")') == "\x1b[32m100%"
    assert page.evaluate(r'folded("\x1b[31mx\ry")') == "\x1b[31my"
    assert page.evaluate(r'folded("dos\r")') == "dos"


LOG = """
const ask = async (url) => { const got = await fetch(url); return [new Uint8Array(await got.arrayBuffer()), Number(got.headers.get("X-Size"))]; };
$("a").style.height = "500px";
window.asked = [];
window.log = new LogView($("a"), {
  fetchRange: async (from, to) => { asked.push([from, to]); const [bytes, size] = await ask(`/log?from=${from}&to=${to}`); return { bytes, size }; },
  search: async (text, from, how) => Number(await (await fetch(`/find?${new URLSearchParams({ text, from, ...how })}`)).text()),
});
setInterval(() => log.following && log.grow(), 50);
window.text = $("a").querySelector(".log-text");
window.lit = () => { // the line of the match one is at, if it is in view
  const [range] = CSS.highlights.get("log-now") ?? [], box = text.getBoundingClientRect(), at = range?.getBoundingClientRect();
  if (!at || at.top < box.top || at.bottom > box.bottom) return "";
  const { data } = range.startContainer, from = data.lastIndexOf("\\n", range.startOffset - 1) + 1;
  return data.slice(from, data.indexOf("\\n", range.startOffset));
};
window.marked = (name) => [...(CSS.highlights.get(name) ?? [])].map(String);
await log.ready;
"""


@pytest.fixture
def log_page(open_page, server):
    """A page that shows `text` as its log."""

    def opened(text):
        server.log = text
        page = open_page(f"{IMPORTS}{LOG}window.ready = true;", '<div id="a"></div>')
        page.wait_for_timeout(50)
        return page

    return opened


def test_a_log_of_100_mb_is_scrolled_and_searched_by_ranges(log_page):
    some = b"".join(
        b"2026-11-26 12:41:47 \x1b[32mINFO\x1b[0m step=%06d loss=0.1234 \xc3\xa4\xf0\x9f\x98\x80\n" % i
        for i in range(16_000)
    )
    log = bytearray(some * (100_000_000 // len(some) + 1))
    log[5_000_000:5_000_026] = b"\nTraceback (most recent):\n"
    log[70_000_000:70_000_014] = b"\nneedle in it\n"
    page = log_page(bytes(log))
    page.mouse.move(300, 300)
    for _ in range(40):
        page.mouse.wheel(0, 9000)
        page.wait_for_timeout(15)
    until(page, "log.pages[0].from > 0 && !log.loading")
    assert "�" not in page.evaluate("text.textContent")
    page.keyboard.press("Tab")
    page.evaluate("text.focus()")
    page.keyboard.press("e")
    until(page, "lit() === 'Traceback (most recent):'")
    page.fill("input[type=search]", "needle")
    page.keyboard.press("Enter")
    until(page, "lit() === 'needle in it'")
    assert page.evaluate("[marked('log-now'), marked('log-match')]") == [["needle"], ["needle"]]
    assert page.inner_text(".where").startswith("69 %") or page.inner_text(".where").startswith("70 %")
    page.click("text=End")
    until(page, "document.querySelector('.where').textContent.startsWith('end of 96')")
    page.click("text=Start")
    until(page, "text.textContent.includes('step=000000') && text.scrollTop === 0")
    assert page.evaluate("asked.every(([a, b]) => b - a <= 131072)")
    assert page.evaluate("text.querySelectorAll('*').length") < 60_000


def test_scrolling_up_brings_what_was_before_and_moves_nothing(log_page):
    page = log_page(b"".join(b"line %06d\n" % i for i in range(200_000)))
    page.evaluate("log.find(false, 'line 100000')")
    until(page, "marked('log-now').length")
    page.evaluate("window.first = log.pages[0].from; text.scrollTop = 500")
    before = page.evaluate("(window.block = log.pages[0].box.children[1]).getBoundingClientRect().top")
    until(page, "log.pages[0].from < first && !log.loading")
    assert page.evaluate("block.getBoundingClientRect().top") == pytest.approx(before, abs=2)
    lines = page.evaluate("text.textContent").split()[1::2]
    assert [int(n) for n in lines] == list(range(int(lines[0]), int(lines[0]) + len(lines)))


def test_progress_bars_are_folded_and_the_last_line_may_be_unfinished(log_page, server):
    page = log_page(b"start\r\nepoch 1:  10%\repoch 1: 100%\nepoch 2:  10%\repoch 2:  20%")
    assert page.evaluate("text.textContent").split("\n") == ["start", "epoch 1: 100%", "epoch 2:  20%", ""]
    server.log += b"\repoch 2:  30%"
    page.click("text=Follow")
    until(page, "text.textContent.includes('30%')")
    server.log += b"\rdone\nnext"
    until(page, "text.textContent.endsWith('done\\nnext\\n')")
    assert page.evaluate("text.textContent").split("\n") == ["start", "epoch 1: 100%", "done", "next", ""]
    assert page.get_attribute("text=Follow", "aria-pressed") == "true"


def test_a_followed_log_stays_at_its_end(log_page, server):
    page = log_page(b"line\n" * 1000)
    page.click("text=Follow")
    server.log += b"more\n" * 1000 + b"last\n"
    until(page, "text.textContent.includes('last') && text.scrollHeight - text.scrollTop - text.clientHeight < 2")
    page.mouse.move(300, 300)
    page.mouse.wheel(0, -300)
    until(page, "!log.following")


def test_letters_and_long_lines_cut_by_a_page_are_whole(log_page):
    page = log_page(("ä" * 200_000 + "\nnext\n" + "😀" * 100_000 + "\nend").encode())
    page.evaluate("log.toEnd()")
    until(page, "text.textContent.endsWith('end\\n') && log.pages[0].from === 0 && !log.loading")
    assert "�" not in page.evaluate("text.textContent")
    assert re.search("ä{4000} … and [0-9]+ letters\n", page.evaluate("text.textContent"))


def test_search_goes_both_ways_and_around(log_page):
    page = log_page(b"".join(b"a %d\nhit %d\n" % (i, i) for i in range(300)))
    for keys, line in [("Enter", "hit 0"), ("Enter", "hit 1"), ("Shift+Enter", "hit 0"), ("Shift+Enter", "hit 299")]:
        page.focus("input[type=search]")
        page.fill("input[type=search]", "hit")
        page.keyboard.press(keys)
        until(page, f"lit() === '{line}'")
    page.fill("input[type=search]", "absent")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.where').textContent === 'nothing found for absent'")


def test_an_unreadable_log_says_so(open_page):
    page = open_page(
        f"""{IMPORTS}
    new LogView($("a"), {{ fetchRange: async () => {{ throw new Error("it is gone"); }} }});
    window.ready = true;""",
        '<div id="a"></div>',
    )
    until(page, "document.querySelector('.where').textContent === 'The log cannot be read: it is gone'")


def test_the_scripts_are_small_and_take_no_markup_from_data():
    sources = {path.name: path.read_text() for path in Path(STATIC).glob("*.js")}
    for name, source in sources.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", source), (
            name
        )
    assert len((STATIC / "style.css").read_bytes()) <= 14 * 1024
