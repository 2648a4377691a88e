/** Line charts of many curves. */
import { number } from "./format.js";
import { Plot } from "./plot.js";
import { padded, xText } from "./scale.js";
import { extent, firstFrom, nearest, smooth, thinned } from "./series.js";

export { colorOf, stylesOf } from "./color.js";
export { Group } from "./plot.js";
export { groupMean, smooth } from "./series.js";

/**
 * @typedef {{id: string, label: string, color: string, dash?: number[], x: ArrayLike<number>, y: ArrayLike<number|string|null>,
 *   band?: {low: ArrayLike<number>, high: ArrayLike<number>},
 *   gap?: number, odd?: {x: number, kind: "nan"|"+inf"|"-inf"}[]}} Series what is not finite in y is marked, as `odd` is
 */
const DEFAULTS = { xKind: "number", xLog: false, yLog: false, smoothing: 0, clip: false, onZoom() {}, series: [] };
const ODD = { nan: ["×", "NaN"], "+inf": ["▲", "+∞"], "-inf": ["▼", "-∞"] };

/** JSON has no NaN: it comes as null or in words. */
const floats = (list) => Float64Array.from(list, (v) => (v === null ? NaN : Number(v)));

/** A series as it is drawn: x ascending, y smoothed, what is not finite put aside. */
function prepare(given, smoothing) {
  const order = [...given.x.keys()], before = floats(given.x), { low, high } = given.band ?? {};
  if (before.some((v, i) => v < before[i - 1])) order.sort((a, b) => before[a] - before[b]);
  const [x, exact, below, above] = [given.x, given.y, low, high].map((list) => list && floats(order.map((i) => list[i])));
  const odd = [...(given.odd ?? [])];
  exact.forEach((v, i) => Number.isFinite(v) || odd.push({ x: x[i], kind: v > 0 ? "+inf" : v < 0 ? "-inf" : "nan" }));
  const raw = smoothing ? { x, y: exact } : null;
  return { ...given, x, exact, y: smoothing ? smooth(exact, smoothing) : exact, odd, raw, low: below, high: above };
}

export class LineChart extends Plot {
  /** @param {HTMLElement} host an empty element @param {Partial<typeof DEFAULTS>} options see the README */
  constructor(host, options = {}) {
    super(host, { ...DEFAULTS, ...options });
    Object.assign(this, { series: [], range: null, cursor: null, drag: null });
    host.classList.add("lines");
    host.addEventListener("dblclick", () => this.reset());
    this.set();
  }

  set(options = {}) {
    this.stale = true;
    super.set(options);
  }

  /** Shows x from lo to hi, and asks for finer data of it; null, null shows all. */
  zoom(lo, hi) {
    this.range = lo === null ? null : [lo, hi];
    this.redraw();
    this.options.onZoom(lo, hi);
  }

  reset() {
    this.zoom(null, null);
  }

  summary() {
    const shown = this.series, [lo, hi] = extent(shown.map((s) => s.exact)), last = extent(shown.map((s) => s.exact.subarray(-1)));
    return `${shown.length} ${shown.length === 1 ? "curve" : "curves"}, ${lo > hi ? "no values" : `min ${number(lo)}, max ${number(hi)}, last `
      + [...new Set(last)].map((v) => number(v)).join(" to ")}`;
  }

  /** Makes the curves of what was given: here, since smoothing those of twenty charts at once would hold the page. */
  * #renew() {
    this.stale = false;
    const series = [];
    for (const given of this.options.series) {
      series.push(prepare(given, this.options.smoothing));
      yield;
    }
    this.series = series;
    this.label();
  }

  * paint(ctx) {
    if (this.stale) yield* this.#renew();
    const { xLog, yLog, clip, xKind } = this.options, shown = this.series;
    const x = this.range ?? padded(extent(shown.flatMap((s) => [s.x, s.odd.map((o) => o.x)]), xLog), xLog, 0);
    const curves = shown.flatMap((s) => [[s.x, s.y], ...(s.raw ? [[s.raw.x, s.raw.y]] : []), ...(s.low && !clip ? [[s.x, s.low], [s.x, s.high]] : [])]);
    const inView = curves.map(([xs, ys]) => ys.subarray(Math.max(0, firstFrom(xs, x[0]) - 1), firstFrom(xs, x[1] + Math.abs(x[1]) * 1e-12) + 1));
    this.#remark(shown);
    this.axes(ctx, { range: x, log: xLog, kind: xKind }, { range: padded(extent(inView, yLog, clip ? 0.01 : 0), yLog), log: yLog });
    for (const s of shown) {
      this.#curve(ctx, s);
      yield;
    }
  }

  /** What the picture leaves out or shows otherwise than as a curve. */
  #remark(shown) {
    const { xLog, yLog, clip } = this.options, count = (f) => shown.reduce((n, s) => n + f(s), 0);
    const odd = Object.entries(ODD).map(([kind, [, word]]) => [count((s) => s.odd.filter((o) => o.kind === kind).length), word]);
    const out = count((s) => s.x.filter((x, i) => (xLog && x <= 0) || (yLog && s.exact[i] <= 0)).length);
    this.note.textContent = [...odd, [out, "values ≤ 0 left out"]].filter(([n]) => n).map((part) => part.join(" "))
      .concat(clip ? "outliers clipped" : [], this.range ? "double click shows all" : [], shown.length ? [] : "no curves").join(" · ");
  }

  #curve(ctx, s, thick = 1.5) {
    const [left, top, width, height] = this.box;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left - 4, top - 5, width + 8, height + 10);
    ctx.clip();
    ctx.strokeStyle = ctx.fillStyle = s.color;
    ctx.lineJoin = ctx.lineCap = "round";
    if (s.low) {
      ctx.globalAlpha = 0.16;
      ctx.beginPath();
      this.#trace(ctx, s.x, s.high);
      this.#trace(ctx, s.x, s.low, true);
      ctx.fill();
    }
    for (const [line, alpha, wide] of [[s.raw, 0.25, 1], [s, 1, thick]]) {
      if (!line) continue;
      ctx.globalAlpha = alpha;
      ctx.lineWidth = line.x.length === 1 ? 6 : wide; // a point alone is a dot
      if (line === s) ctx.setLineDash(s.dash ?? []);
      ctx.beginPath();
      this.#trace(ctx, line.x, line.y, false, s.gap);
      ctx.stroke();
    }
    ctx.textAlign = "center";
    for (const { x, kind } of s.odd) ctx.fillText(ODD[kind][0], this.X.px(x), kind === "+inf" ? top + 4 : top + height + 4);
    ctx.restore();
  }

  /** The path of a curve, which breaks where there is no number. */
  #trace(ctx, x, y, back = false, gap = Infinity) {
    const { X, Y } = this, places = thinned(x, y, Math.max(0, firstFrom(x, X.lo) - 1), Math.min(x.length, firstFrom(x, X.hi) + 2), this.box[2]);
    let pen = back, last = 0;
    for (const i of back ? places.reverse() : places) {
      const px = X.px(x[i]), py = Y.px(y[i]), known = Number.isFinite(px + py);
      if (known && (!pen || x[i] - last > gap)) ctx.moveTo(px - 0.01, py);
      if (known) ctx.lineTo(px, py);
      [pen, last] = [known, x[i]];
    }
  }

  /** The layer of the pointer: the lit curve over dimmed others, the range being dragged, the cursor and its points. */
  over(ctx) {
    const [left, top, width, height] = this.box, lit = this.series.filter((s) => s.id === this.lit);
    if (lit.length && this.series.length > lit.length) this.veil(ctx);
    for (const s of lit) this.#curve(ctx, s, 2.5);
    if (this.drag) {
      ctx.globalAlpha = 0.16;
      ctx.fillStyle = this.color("--accent");
      ctx.fillRect(this.drag[0], top, this.drag[1] - this.drag[0], height);
      ctx.globalAlpha = 1;
    }
    const at = this.cursor === null ? NaN : this.X.px(this.cursor), near = at >= left - 1 && at <= left + width + 1 ? this.#near() : [];
    const own = this.pointer !== undefined, exact = ({ s, i }) => number(s.exact[i], 17) + (s.y[i] === s.exact[i] ? "" : ` (${number(s.y[i])})`);
    const rows = near.map((one, k) => [one.s.label, own && !k ? exact(one) : number(one.s.exact[one.i], 5), one.s.color]);
    this.tipAt(at, top, near.length ? xText(near[0].s.x[near[0].i], this.options.xKind) : "", this.drag ? [] : rows.filter((_, k) => own || near[k].s.id === this.lit || near.length === 1), own);
    if (!near.length) return;
    ctx.fillStyle = this.color("--line-strong");
    ctx.fillRect(Math.round(at), top, 1, height);
    ctx.lineWidth = 2;
    ctx.strokeStyle = this.color("--bg");
    for (const { s, px, py } of near) {
      ctx.fillStyle = s.color;
      ctx.beginPath();
      ctx.arc(px, py, s.id === this.lit ? 4 : 3, 0, 7);
      ctx.stroke();
      ctx.fill();
    }
  }

  /** The points at the cursor, nearest to the pointer first; without one (keys, another chart) the lit curve's first. */
  #near() {
    return this.series.flatMap((s) => {
      const i = nearest(s.x, this.cursor), px = this.X.px(s.x[i]), py = this.Y.px(s.y[i]);
      const off = this.pointer === undefined ? (s.id === this.lit ? -1 : py) : Math.abs(py - this.pointer);
      return Number.isFinite(py) && s.x[i] >= this.X.lo && s.x[i] <= this.X.hi ? [{ s, i, px, py, off }] : [];
    }).sort((a, b) => a.off - b.off).slice(0, 8);
  }

  #setCursor(x, pointer) {
    Object.assign(this, { cursor: x, pointer });
    this.options.group.tell("cursor", x, this);
    this.redrawOver();
  }

  heard(kind, value, source) {
    if (kind === "cursor" && (source?.options.xKind ?? this.options.xKind) === this.options.xKind) {
      Object.assign(this, { cursor: value, pointer: undefined });
      this.redrawOver();
    } else super.heard(kind, value);
  }

  at(event) {
    const [x, y] = super.at(event);
    return [Math.min(this.box[0] + this.box[2], Math.max(this.box[0], x)), y];
  }

  moved(event, x, y) {
    if (this.drag) this.drag[1] = x;
    this.#setCursor(this.X.inv(x), y);
    const [best] = this.#near();
    if (!this.drag) this.hover(best?.off < 20 ? best.s.id : null);
  }

  left() {
    this.drag = null;
    this.#setCursor(null);
    super.left();
  }

  down(event, x) {
    if (event.button) return;
    this.drag = [x, x];
    this.host.setPointerCapture(event.pointerId);
  }

  up() {
    const [from, to] = this.drag?.sort((a, b) => a - b) ?? [0, 0];
    this.drag = null;
    if (to - from > 4) this.zoom(this.X.inv(from), this.X.inv(to));
    this.redrawOver();
  }

  /** Left and right go from point to point, up and down from curve to curve, + - 0 zoom about the cursor. */
  key(event) {
    const { key } = event, shown = this.series, { X } = this, about = X.px(this.cursor ?? X.inv(this.box[0] + this.box[2] / 2));
    const turn = { ArrowUp: -1, ArrowDown: 1 }[key] ?? 0, step = { ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0, by = { "+": 0.5, "=": 0.5, "-": 2 }[key];
    if (event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
    if (turn || step) {
      const row = Math.max(0, shown.findIndex((s) => s.id === this.lit)), s = shown[(row + turn + shown.length) % shown.length];
      const at = Math.min(s.x.length - 1, Math.max(0, nearest(s.x, X.inv(about)) + (this.cursor === null ? 0 : step)));
      this.hover(s.id);
      this.#setCursor(s.x[at]);
      this.live.textContent = `${s.label}, ${xText(s.x[at], this.options.xKind)}: ${number(s.exact[at], 6)}`;
    } else if (by) this.zoom(...[X.lo, X.hi].map((v) => X.inv(about + (X.px(v) - about) * by)));
    else if (key === "0") this.reset();
    else if (key === "Escape") this.left();
    else return;
    event.preventDefault();
  }
}
