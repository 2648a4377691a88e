/** The small plots: parallel coordinates, scatter and its matrix, bars, histograms over steps. */
import { ramp } from "./color.js";
import { element, middle, number } from "./format.js";
import { Plot } from "./plot.js";
import { makeScale, padded, ticks } from "./scale.js";
import { extent } from "./series.js";

const ROWS = 200; // of a plot's table for screen readers

/** A plot told to screen readers as a table, which a subclass gives as `table() -> [head, ...rows]`. */
class Told extends Plot {
  constructor(host, options) {
    super(host, options);
    this.set();
  }

  set(options) {
    super.set(options);
    const [head, ...rows] = this.table(), more = rows.length > ROWS ? `, the first ${ROWS} of ${rows.length} rows` : "";
    const line = (tag) => (cells) => element("tr", "", cells.map((v) => element(tag, "", typeof v === "number" ? number(v) : String(v ?? "—"))));
    this.live.replaceChildren(element("table", "", [element("caption", "", this.options.title + more), line("th")(head), ...rows.slice(0, ROWS).map(line("td"))]));
    this.live.removeAttribute("aria-live");
  }

  /** The colour of a share: the nearer to 1, the more it stands out from the theme's ground. */
  shade(share) {
    if (!Number.isFinite(share)) return this.color("--line-strong");
    return ramp(this.style.colorScheme === "dark" ? 0.3 + 0.7 * share : 0.82 * (1 - share));
  }
}

/**
 * Parallel coordinates: a line for a run, an axis for a parameter or metric; dragging along an axis filters. Options (README):
 * {axes: {key, label, kind: "linear"|"log"|"category"}[], rows: {id, label, values}[], colorBy?: key, onBrush?(brushes)}.
 */
export class Parallel extends Told {
  constructor(host, options) {
    super(host, { onBrush() {}, brushes: {}, axis: 0, ...options });
    host.classList.add("parallel");
  }

  summary() {
    const filters = Object.keys(this.options.brushes);
    return `${this.options.rows.length} runs, ${this.options.axes.length} axes${filters.length ? `, filtered by ${filters.join(", ")}` : ""}`;
  }

  table() {
    const { axes, rows } = this.options;
    return [["run", ...axes.map((a) => a.label)], ...rows.map((r) => [r.label, ...axes.map((a) => r.values[a.key])])];
  }

  tell({ values }) {
    return this.options.axes.map(({ key, label, kind }) => [label, kind === "category" ? middle(values[key] ?? "—") : number(values[key], 6)]);
  }

  #layout() {
    const { axes, rows } = this.options, gap = (this.width - 80) / Math.max(1, axes.length - 1);
    this.box = [0, 4, this.width, this.height - 8];
    this.lanes = axes.map(({ key, label, kind }, i) => {
      const values = rows.map((r) => r.values[key] ?? NaN), log = kind === "log";
      const words = kind === "category" ? [...new Set(values.filter((v) => !Number.isNaN(v)).map(String))].sort() : null;
      const range = words ? [-0.5, words.length - 0.5] : padded(extent([values.map(Number)], log), log, 0);
      const scale = makeScale(range, this.height - 12, 36, log);
      const y = ({ values: { [key]: v = null } }) => scale.px(v === null ? NaN : words ? words.indexOf(String(v)) : Number(v));
      return { key, label, words, scale, x: 40 + gap * i, y };
    });
    this.by = this.lanes.find((lane) => lane.key === this.options.colorBy);
  }

  #tint(row) {
    const { lo, hi, px } = this.by?.scale ?? {};
    return this.by ? this.shade((this.by.y(row) - px(lo)) / (px(hi) - px(lo))) : this.color("--accent");
  }

  #kept(row) {
    return Object.entries(this.options.brushes).every(([key, brush]) => {
      const value = row.values[key], { words } = this.lanes.find((lane) => lane.key === key) ?? {};
      return words ? brush.includes(String(value)) : value !== null && value >= brush[0] && value <= brush[1];
    });
  }

  #line(ctx, row) {
    let pen = false; // a run without the value leaves a gap
    ctx.beginPath();
    for (const lane of this.lanes) {
      const y = lane.y(row);
      ctx[pen ? "lineTo" : "moveTo"](lane.x, y);
      pen = Number.isFinite(y);
    }
    ctx.stroke();
  }

  * paint(ctx) {
    this.#layout();
    const rows = this.options.rows.map((row) => [row, this.#kept(row)]).sort((a, b) => a[1] - b[1]);
    for (const [i, [row, kept]] of rows.entries()) {
      ctx.globalAlpha = kept ? 0.8 : 0.15;
      ctx.lineWidth = 1.25;
      ctx.strokeStyle = kept ? this.#tint(row) : this.color("--muted");
      this.#line(ctx, row);
      if (i % 50 === 49) yield;
    }
    ctx.globalAlpha = 1;
    this.#axes(ctx);
  }

  #axes(ctx) {
    const font = this.color("--sans"), last = this.lanes.length - 1;
    ctx.lineWidth = 3;
    ctx.strokeStyle = this.color("--bg");
    const write = (text, x, y, tone) => {
      ctx.fillStyle = this.color(tone);
      ctx.strokeText(text, x, y);
      ctx.fillText(text, x, y);
    };
    for (const [i, { key, label, words, scale, x }] of this.lanes.entries()) {
      const { px, lo, hi } = scale;
      const brush = this.options.brushes[key], own = key === this.options.colorBy, side = i === last ? -1 : 1;
      ctx.fillStyle = this.color("--line-strong");
      if (own) {
        ctx.fillStyle = ctx.createLinearGradient(0, px(lo), 0, px(hi));
        for (let t = 0; t <= 1; t += 0.125) ctx.fillStyle.addColorStop(t, this.shade(t));
      }
      ctx.fillRect(x - (own ? 2 : 0), px(hi), own ? 5 : 1, px(lo) - px(hi));
      if (brush) {
        const ends = (words ? [words.indexOf(brush[0]) - 0.5, words.indexOf(brush.at(-1)) + 0.5] : brush).map(px);
        ctx.globalAlpha = 0.3;
        ctx.fillStyle = this.color("--accent");
        ctx.fillRect(x - 7, ends[1], 15, ends[0] - ends[1]);
        ctx.globalAlpha = 1;
      }
      ctx.font = `600 12px ${font}`;
      ctx.textAlign = i === 0 ? "left" : i === last ? "right" : "center";
      write(middle(label, Math.max(5, Math.min(22, Math.floor((this.lanes[1]?.x - this.lanes[0].x) / 8.5)))), i === 0 ? 12 : i === last ? x + 28 : x, 20, i === this.options.axis && document.activeElement === this.host ? "--accent" : "--text");
      ctx.font = `11px ${font}`;
      ctx.textAlign = i === last ? "right" : "left";
      const marks = words ? words.map((text, value) => ({ value, text: middle(text, 16) })) : ticks(scale, 6);
      const every = Math.ceil((marks.length * 14) / (this.height - 48));
      for (const { value, text } of marks.filter((_, k) => k % every === 0)) write(text, x + 7 * side, px(value) + 4, "--muted");
    }
  }

  over(ctx) {
    const row = this.options.rows.find((r) => r.id === this.lit);
    if (!row) return;
    this.veil(ctx);
    ctx.lineWidth = 3;
    ctx.strokeStyle = this.#tint(row);
    this.#line(ctx, row);
    this.#axes(ctx);
  }

  find(x, y) {
    const i = this.lanes.findIndex((lane) => lane.x > x), [a, b] = [this.lanes[i - 1], this.lanes[i]];
    if (!a || this.drag) return undefined;
    const off = (row) => Math.abs(a.y(row) + ((b.y(row) - a.y(row)) * (x - a.x)) / (b.x - a.x) - y);
    return this.options.rows.filter((row) => this.#kept(row)).reduce((best, row) => (off(row) < (best ? off(best) : 12) ? row : best), undefined);
  }

  down(event, x, y) {
    const lane = this.lanes.find((l) => Math.abs(l.x - x) < 12);
    if (!lane || event.button) return;
    this.drag = { lane, y };
    delete this.options.brushes[lane.key];
    this.host.setPointerCapture(event.pointerId);
  }

  moved(event, x, y) {
    super.moved(event, x, y);
    if (this.drag && Math.abs(y - this.drag.y) > 3) this.#cut(this.drag.lane, [this.drag.y, y].sort((a, b) => b - a));
  }

  /** Filters by what lies between two heights, the lower first. */
  #cut({ key, words, scale }, heights) {
    const [lo, hi] = heights.map((y) => Math.min(scale.hi, Math.max(scale.lo, scale.inv(y))));
    this.options.brushes[key] = words ? words.filter((_, k) => k + 0.5 > lo && k - 0.5 < hi) : [lo, hi];
    this.redraw();
  }

  #brushed() {
    this.set();
    this.options.onBrush({ ...this.options.brushes });
  }

  up() {
    if (this.drag) this.#brushed();
    else super.up();
    this.drag = null;
  }

  /** Left and right choose an axis, up cuts off its lowest tenth, down its highest, Escape takes all filters away. */
  key(event) {
    const { axes, axis, brushes } = this.options, turn = { ArrowLeft: axes.length - 1, ArrowRight: 1 }[event.key];
    const cut = { ArrowUp: [1, 0], ArrowDown: [0, 1] }[event.key], lane = this.lanes[axis];
    if (!lane || (!turn && !cut && event.key !== "Escape")) return;
    event.preventDefault();
    if (turn) {
      this.set({ axis: (axis + turn) % axes.length });
      return;
    }
    const { lo, hi, px } = lane.scale, old = brushes[lane.key], step = lane.words ? px(0) - px(1) : (px(lo) - px(hi)) / 10;
    const ends = (!old ? [lo, hi] : lane.words ? [lane.words.indexOf(old[0]) - 0.5, lane.words.indexOf(old.at(-1)) + 0.5] : old).map(px);
    if (cut) this.#cut(lane, [ends[0] - step * cut[0] - 1e-6, ends[1] + step * cut[1] + 1e-6]);
    else this.options.brushes = {};
    this.#brushed();
  }
}

/**
 * Points over two axes: {x, y: {label, log?}, points: {id, label, x, y, color}[], plain?: no axes, for a matrix}.
 */
export class Scatter extends Told {
  summary() {
    const { points, x, y } = this.options;
    return `${points.length} points, ${y.label} over ${x.label}`;
  }

  table() {
    const { points, x, y } = this.options;
    return [["run", x.label, y.label], ...points.map((p) => [p.label, x.words?.[p.x] ?? p.x, p.y])];
  }

  tell(p) {
    const { x, y } = this.options;
    return [[x.label, x.words?.[p.x] ?? number(p.x, 6)], [y.label, number(p.y, 6)]];
  }

  * paint(ctx) {
    const { points, plain } = this.options;
    const [x, y] = ["x", "y"].map((key) => {
      const axis = this.options[key], range = padded(extent([points.map((p) => p[key])], axis.log), axis.log, 0.06);
      return { ...axis, range };
    });
    if (plain) {
      this.box = [0, 0, this.width, this.height];
      [this.X, this.Y] = [makeScale(x.range, 0, this.width, x.log), makeScale(y.range, this.height, 0, y.log)];
    } else this.axes(ctx, x, y);
    ctx.globalAlpha = 0.8;
    for (const [i, p] of points.entries()) {
      this.#dot(ctx, p, plain ? 2 : 3.5);
      if (i % 500 === 499) yield;
    }
  }

  #dot(ctx, p, radius) {
    ctx.fillStyle = p.color;
    ctx.beginPath();
    if (Number.isFinite(this.X.px(p.x) + this.Y.px(p.y))) ctx.arc(this.X.px(p.x), this.Y.px(p.y), radius, 0, 7);
    ctx.fill();
  }

  over(ctx) {
    const p = this.options.points.find((one) => one.id === this.lit);
    if (!p) return;
    this.#dot(ctx, p, this.options.plain ? 4 : 6);
    ctx.strokeStyle = this.color("--text");
    ctx.stroke();
  }

  find(x, y) {
    const off = (p) => Math.hypot(this.X.px(p.x) - x, this.Y.px(p.y) - y);
    return this.options.points.reduce((best, p) => (off(p) < (best ? off(best) : 14) ? p : best), undefined);
  }
}

/**
 * Every pair of `keys` as a small scatter; rows: {id, label, values, color}[], logs: the keys of log axes, the rest
 * as for Scatter. @returns {Scatter[]}
 */
export function scatterMatrix(host, { title, keys, rows, logs = [], ...rest }) {
  host.classList.add("matrix");
  host.style.gridTemplateColumns = `repeat(${keys.length}, minmax(0, 1fr))`;
  const rangeOf = (key) => {
    const log = logs.includes(key), [lo, hi] = extent([rows.map((r) => r.values[key] ?? NaN)], log);
    return lo > hi ? "no values" : `${number(lo)} to ${number(hi)}${log ? ", log" : ""}`;
  };
  return keys.flatMap((down) => keys.flatMap((across) => {
    const cell = host.appendChild(element("div", "card", down === across ? [element("h3", "", middle(down, 24), { title: down }), element("p", "muted", rangeOf(down))] : ""));
    if (down === across) return [];
    const [x, y] = [across, down].map((label) => ({ label, log: logs.includes(label) }));
    return [new Scatter(cell.appendChild(element("div")), { ...rest, title: `${title}, ${down} over ${across}`, plain: true, x, y,
      points: rows.map((r) => ({ ...r, x: r.values[across], y: r.values[down] })) })];
  }));
}

/**
 * Bars, the longest first: the best runs by a metric, or how important parameters are. A table, and read as one.
 * @param {{id: string, label: string, value: number, color?: string}[]} items
 * @param {{title: string, ascending?: boolean, onHover?: (id: string|null) => void}} options
 */
export function bars(host, items, { title, ascending = false, onHover = () => {} }) {
  const shown = items.filter((i) => Number.isFinite(i.value)).sort((a, b) => (ascending ? 1 : -1) * (a.value - b.value)).slice(0, 20);
  const longest = Math.max(...shown.map((i) => Math.abs(i.value)));
  host.replaceChildren(element("table", "table bars", [element("caption", "visually-hidden", title), ...shown.map((item) => {
    const bar = element("span", "bar"), name = element("span", "", middle(item.label), { title: item.label });
    bar.style.width = `${(100 * Math.abs(item.value)) / (longest || 1)}%`;
    bar.style.background = item.color ?? "";
    const row = element("tr", "", [element("th", "", [name], { scope: "row" }), element("td", "grow", [bar]),
      element("td", "num", number(item.value), { title: item.value })]);
    row.onpointerenter = () => onHover(item.id);
    row.onpointerleave = () => onHover(null);
    return row;
  })]));
}

/** Histograms over steps, the stronger the colour the more. Option: steps: {step, edges, counts}[], one edge more than counts. */
export class Heatmap extends Told {
  summary() {
    const { steps } = this.options;
    return `${steps.length} histograms, values ${extent(steps.map((s) => s.edges)).map((v) => number(v)).join(" to ")}`;
  }

  table() {
    return [["step", "from", "to", "most in"], ...this.options.steps.map(({ step, edges, counts }) => {
      const top = counts.indexOf(Math.max(...counts));
      return [step, edges[0], edges.at(-1), `${number(edges[top])} to ${number(edges[top + 1])}`];
    })];
  }

  tell({ edges, counts, k }) {
    return [["values", `${number(edges[k])} to ${number(edges[k + 1])}`], ["count", number(counts[k])]];
  }

  * paint(ctx) {
    const { steps } = this.options, [from, to] = padded([steps[0]?.step, steps.at(-1)?.step], false, 0), half = (to - from) / (steps.length || 1) / 2;
    this.axes(ctx, { range: [from - half, to + half] }, { range: padded(extent(steps.map((s) => s.edges)), false, 0) });
    const ends = steps.map((s, i) => (i ? (s.step + steps[i - 1].step) / 2 : from - half)).concat(to + half);
    this.columns = ends.map((v) => Math.round(this.X.px(v)));
    for (const [i, { edges, counts }] of steps.entries()) {
      const most = Math.max(...counts), [left, right] = [this.columns[i], this.columns[i + 1]];
      counts.forEach((n, k) => {
        const [low, high] = [edges[k], edges[k + 1]].map((v) => Math.round(this.Y.px(v)));
        ctx.fillStyle = this.shade(Math.sqrt(n / most)); // the square root shows the tails
        if (n) ctx.fillRect(left, high, Math.max(1, right - left), Math.max(1, low - high));
      });
      if (i % 20 === 19) yield;
    }
  }

  over() {}

  find(x, y) {
    const one = this.options.steps[this.columns.findIndex((c) => c > x) - 1], k = one ? one.edges.findLastIndex((e) => e <= this.Y.inv(y)) : -1;
    return k >= 0 && k < one.counts.length ? { ...one, k, id: null, label: `step ${number(one.step)}` } : undefined;
  }
}
