/** Line charts of many curves on a canvas. */
import { download, element, middle, number } from "./format.js";
import { makeScale, padded, ticks, xText } from "./scale.js";
import { extent, firstFrom, nearest, smooth, thinned } from "./series.js";
import { Surface } from "./surface.js";

export { colorOf, stylesOf } from "./color.js";
export { groupMean, smooth } from "./series.js";

/** What the charts of a page tell each other: `cursor` (an x or null), `hover` (an id or null), `range` ([lo, hi] or null). */
export class Group {
  #listeners = new Set();

  /** @param {(kind: string, value: any, source: any) => void} listener @returns {() => void} ends it */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(kind, value, source = null) {
    for (const listener of this.#listeners) listener(kind, value, source);
  }
}

/**
 * @typedef {object} Series
 * @property {string} id whose curve it is, a run's id as a rule
 * @property {string} label @property {string} color @property {number[]} [dash]
 * @property {ArrayLike<number>} x @property {ArrayLike<number|string|null>} y values that are not finite become marks
 * @property {{low: ArrayLike<number>, high: ArrayLike<number>}} [band] at the same x's
 * @property {{x: ArrayLike<number>, y: ArrayLike<number>}} [raw] drawn faintly behind
 * @property {{x: number, kind: "nan"|"+inf"|"-inf"}[]} [odd] points that are not numbers, besides those in y
 *
 * @typedef {object} Options
 * @property {string} title the metric's name, for screen readers and files
 * @property {"number"|"relative"|"wall"} xKind relative and wall (since 1970) are in seconds
 * @property {boolean} xLog @property {boolean} yLog
 * @property {number} smoothing 0 .. 0.99 @property {boolean} clip y shows the 1st to the 99th percentile
 * @property {number} near how many curves the tooltip lists
 * @property {Group} [group] @property {boolean} shareZoom whether a zoom goes to the group
 * @property {(min: number|null, max: number|null) => void} onZoom null, null: all of it
 * @property {(id: string|null) => void} onHover @property {(id: string) => void} onSelect a click on a curve
 */
const DEFAULTS = { title: "", xKind: "number", xLog: false, yLog: false, smoothing: 0, clip: false, near: 8, group: null,
  shareZoom: false, onZoom() {}, onHover() {}, onSelect() {} };
const MARGIN = { top: 10, right: 12, bottom: 24 };
const KINDS = { nan: "NaN", "+inf": "+∞", "-inf": "−∞" };

/** JSON has no NaN: it comes as null or in words. */
const floats = (list) => Float64Array.from(list, (v) => (v === null ? NaN : Number(v)));

/** A series as it is drawn: x ascending, y smoothed, and what is no number put aside. */
function prepare(given, smoothing) {
  let x = floats(given.x), y = floats(given.y), { low, high } = given.band ?? {};
  if (x.some((v, i) => v < x[i - 1])) {
    const order = [...x.keys()].sort((a, b) => x[a] - x[b]), sorted = (list) => list && order.map((i) => list[i]);
    [x, y, low, high] = [floats(sorted(x)), floats(sorted(y)), sorted(low), sorted(high)];
  }
  const odd = [...(given.odd ?? [])];
  y.forEach((v, i) => {
    if (!Number.isFinite(v)) odd.push({ x: x[i], kind: Number.isNaN(v) ? "nan" : v > 0 ? "+inf" : "-inf" });
  });
  const raw = smoothing ? { x, y } : given.raw && { x: floats(given.raw.x), y: floats(given.raw.y) };
  return { ...given, x, y: smoothing ? smooth(y, smoothing) : y, exact: y, odd, raw, dash: given.dash ?? [],
    band: low && { low: floats(low), high: floats(high) } };
}

export class LineChart {
  /** @param {HTMLElement} host an empty element @param {Partial<Options>} options */
  constructor(host, options = {}) {
    Object.assign(this, { host, given: [], series: [], hidden: new Set(), range: null, cursor: null, lit: null, drag: null });
    this.options = { ...DEFAULTS, ...options };
    this.surface = new Surface(host, (...to) => this.#paint(...to), (...to) => this.#over(...to));
    host.classList.add("lines");
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    this.note = host.appendChild(element("div", "chart-note"));
    this.tip = host.appendChild(element("div", "chart-tip", "", { "aria-hidden": "true" }));
    this.tip.hidden = true;
    // beside the host, since what is inside of an image is not read
    this.live = element("div", "visually-hidden", "", { "aria-live": "polite" });
    host.after(this.live);
    this.leave = this.options.group?.listen((...news) => this.#heard(...news));
    for (const [name, act] of Object.entries({ pointermove: this.#move, pointerleave: this.#left, pointerdown: this.#down,
      pointerup: this.#up, pointercancel: this.#left, dblclick: () => this.reset(), keydown: this.#key,
      blur: this.#left })) host.addEventListener(name, act.bind(this));
  }

  /** @param {Series[]} series in the order of drawing; the zoom stays */
  setData(series) {
    this.given = series;
    this.series = series.map((s) => prepare(s, this.options.smoothing));
    this.host.setAttribute("aria-label", this.summary());
    this.surface.redraw();
  }

  /** Changes options: `set({ smoothing: 0.9, yLog: true })`. @param {Partial<Options>} options */
  set(options) {
    Object.assign(this.options, options);
    this.setData(this.given);
  }

  /** Lights a curve and dims the others; null lights none. */
  highlight(id) {
    if (this.lit === id) return;
    this.lit = id;
    this.surface.redrawOver();
  }

  /** Shows or hides the curves of an id. */
  show(id, on = true) {
    this.hidden[on ? "delete" : "add"](id);
    this.host.setAttribute("aria-label", this.summary());
    this.surface.redraw();
  }

  get visible() {
    return this.series.filter((s) => !this.hidden.has(s.id));
  }

  /** Shows x from lo to hi and asks for finer data of it; null, null shows all. */
  zoom(lo, hi, told = false) {
    this.range = lo === null ? null : [lo, hi];
    this.surface.redraw();
    this.options.onZoom(lo, hi);
    if (!told && this.options.shareZoom) this.options.group?.tell("range", this.range, this);
  }

  reset() {
    this.zoom(null, null);
  }

  /** What a screen reader says of the chart. */
  summary() {
    const shown = this.visible, [lo, hi] = extent(shown.map((s) => s.exact));
    const last = extent(shown.map((s) => s.exact.subarray(-1))), odd = shown.reduce((n, s) => n + s.odd.length, 0);
    const values = lo > hi ? "no values" : `min ${number(lo)}, max ${number(hi)}, last ${number(last[0])}`
      + (last[0] < last[1] ? ` to ${number(last[1])}` : "");
    const name = this.options.title || "chart", count = `${shown.length} ${shown.length === 1 ? "curve" : "curves"}`;
    return `${name}: ${count}, ${values}${odd ? `, ${odd} not finite` : ""}`;
  }

  /** The points in view of the visible curves: id, label, x, value, smoothed. @returns {string} */
  toCSV() {
    const quote = (text) => (/[",\n\r]/.test(text) ? `"${String(text).replace(/"/g, '""')}"` : text);
    const [lo, hi] = this.range ?? [-Infinity, Infinity], lines = ["id,label,x,value,smoothed"];
    for (const s of this.visible) {
      s.x.forEach((x, i) => {
        if (x >= lo && x <= hi) lines.push([s.id, s.label, x, s.exact[i], s.y[i]].map(quote).join(","));
      });
    }
    return `${lines.join("\n")}\n`;
  }

  /** @returns {Promise<Blob>} */
  toPNG() {
    return this.surface.png();
  }

  /** @param {"csv"|"png"} kind */
  async download(kind) {
    const name = `${this.options.title.replace(/[^\w.-]+/g, "_") || "chart"}.${kind}`;
    download(name, kind === "csv" ? this.toCSV() : await this.toPNG(), "text/csv");
  }

  destroy() {
    this.leave?.();
    this.live.remove();
    this.surface.destroy();
  }

  // ---- drawing

  /** Scales and ticks from what is visible. */
  #fit(ctx, width, height) {
    const { xLog, yLog, clip, xKind } = this.options, shown = this.visible;
    const xs = shown.flatMap((s) => [s.x, s.odd.map((o) => o.x)]).map((a) => (xLog ? a.filter((v) => v > 0) : a));
    const [x0, x1] = this.range ?? padded(...extent(xs), xLog, 0);
    const parts = shown.flatMap((s) => {
      const part = (x, y) => y.subarray(firstFrom(x, x0), firstFrom(x, x1 + (x1 - x0) * 1e-9));
      return [part(s.x, s.y), ...(s.raw ? [part(s.raw.x, s.raw.y)] : []),
        ...(s.band && !clip ? [part(s.x, s.band.low), part(s.x, s.band.high)] : [])];
    });
    const left = yLog ? parts.map((a) => a.filter((v) => v > 0)) : parts;
    const y = padded(...extent(left, clip ? 0.01 : 0), yLog);
    const out = yLog ? shown.reduce((n, s) => n + s.exact.filter((v) => v <= 0).length, 0) : 0;
    const bottom = height - MARGIN.bottom;
    this.Y = makeScale(...y, bottom, MARGIN.top, yLog);
    this.yTicks = ticks(this.Y, Math.max(2, height / 44));
    const from = 14 + Math.max(...this.yTicks.map((t) => ctx.measureText(t.text).width), 16);
    this.X = makeScale(x0, x1, from, width - MARGIN.right, xLog);
    this.xTicks = ticks(this.X, Math.max(2, (width - from) / (xKind === "wall" ? 96 : 72)), xKind);
    this.box = [from, MARGIN.top, width - MARGIN.right - from, bottom - MARGIN.top];
    this.#tellNote(shown, out);
  }

  #tellNote(shown, out) {
    const counts = Object.entries(KINDS).map(([kind, word]) => {
      const n = shown.reduce((sum, s) => sum + s.odd.filter((o) => o.kind === kind).length, 0);
      return n ? `${n} ${word}` : "";
    });
    this.note.textContent = [...counts, out ? `${out} values ≤ 0 have no place on a log axis` : "",
      this.options.clip ? "outliers clipped" : "", this.range ? "zoomed; double click for all" : "",
      shown.length ? "" : "nothing to show"].filter(Boolean).join(" · ");
  }

  #axes(ctx) {
    const [left, top, width, height] = this.box, color = (name) => this.surface.color(name);
    ctx.lineWidth = 1;
    ctx.strokeStyle = color("--line");
    ctx.fillStyle = color("--muted");
    ctx.beginPath();
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    for (const { value, text } of this.yTicks) {
      const y = Math.round(this.Y.px(value)) + 0.5;
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
      ctx.fillText(text, left - 6, y);
    }
    ctx.textBaseline = "top";
    for (const { value, text } of this.xTicks) {
      const x = Math.round(this.X.px(value)) + 0.5, half = ctx.measureText(text).width / 2;
      ctx.moveTo(x, top + height);
      ctx.lineTo(x, top + height + 4);
      ctx.textAlign = x + half > left + width + MARGIN.right ? "right" : "center";
      ctx.fillText(text, x, top + height + 7);
    }
    ctx.stroke();
    ctx.strokeStyle = color("--line-strong");
    ctx.strokeRect(left, top + height + 0.5, width, 0);
  }

  * #paint(ctx, width, height) {
    ctx.font = `11px ${this.surface.color("--sans")}`;
    this.#fit(ctx, width, height);
    this.#axes(ctx);
    for (const s of this.visible) {
      this.#curve(ctx, s);
      yield;
    }
  }

  /** One series: its band, its raw curve, itself and the marks of what is no number. */
  #curve(ctx, s, thick = 1.5) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(this.box[0] - 4, this.box[1] - 4, this.box[2] + 8, this.box[3] + 8);
    ctx.clip();
    ctx.strokeStyle = ctx.fillStyle = s.color;
    ctx.lineJoin = "round";
    if (s.band) {
      ctx.globalAlpha = 0.16;
      ctx.beginPath();
      this.#trace(ctx, s.x, s.band.high);
      this.#trace(ctx, s.x, s.band.low, true);
      ctx.fill();
    }
    for (const [x, y, alpha, wide] of [...(s.raw ? [[s.raw.x, s.raw.y, 0.25, 1]] : []), [s.x, s.y, 1, thick]]) {
      ctx.globalAlpha = alpha;
      ctx.lineWidth = wide;
      ctx.setLineDash(alpha === 1 ? s.dash : []);
      ctx.beginPath();
      this.#trace(ctx, x, y);
      ctx.stroke();
    }
    ctx.restore();
    ctx.fillStyle = s.color;
    for (const { x, kind } of s.odd) this.#mark(ctx, this.X.px(x), kind);
  }

  /** The path of a curve; it breaks where there is no number, and a point alone is a dot. */
  #trace(ctx, x, y, back = false) {
    const { X, Y } = this, from = Math.max(0, firstFrom(x, X.lo) - 1), to = Math.min(x.length, firstFrom(x, X.hi) + 2);
    const places = thinned(x, y, from, to, Math.ceil(this.box[2]));
    if (back) places.reverse();
    let run = back ? 1 : 0;
    places.forEach((i, k) => {
      const px = X.px(x[i]), py = Y.px(y[i]);
      if (!Number.isFinite(px) || !Number.isFinite(py)) run = 0;
      else if (run) ctx.lineTo(px, py);
      else if (Number.isFinite(Y.px(y[places[k + 1]]))) ctx.moveTo(px, py);
      else {
        ctx.moveTo(px + 1.5, py);
        ctx.arc(px, py, 1.5, 0, 7);
        return;
      }
      if (Number.isFinite(py)) run += 1;
    });
  }

  /** NaN is a cross on the axis, +infinity an arrow at the top, -infinity one at the bottom. */
  #mark(ctx, x, kind) {
    const [left, top, width, height] = this.box, up = kind === "+inf" ? 1 : -1, y = up > 0 ? top : top + height;
    if (!(x >= left - 1 && x <= left + width + 1)) return;
    ctx.beginPath();
    if (kind === "nan") {
      for (const d of [-3, 3]) {
        ctx.moveTo(x - 3, y - d);
        ctx.lineTo(x + 3, y + d);
      }
      ctx.strokeStyle = ctx.fillStyle;
      ctx.lineWidth = 1.5;
      ctx.stroke();
      return;
    }
    ctx.moveTo(x, y - 4 * up);
    ctx.lineTo(x - 4, y + 3 * up);
    ctx.lineTo(x + 4, y + 3 * up);
    ctx.fill();
  }

  /** The layer of the pointer: the lit curve over dimmed others, the cursor and its points, the range being dragged. */
  #over(ctx) {
    if (!this.box) return;
    const [left, top, width, height] = this.box, lit = this.visible.filter((s) => s.id === this.lit);
    if (lit.length && this.visible.length > lit.length) {
      ctx.globalAlpha = 0.75;
      ctx.fillStyle = this.surface.color("--bg");
      ctx.fillRect(left, top - 4, width + 4, height + 4);
      ctx.globalAlpha = 1;
    }
    for (const s of lit) this.#curve(ctx, s, 2.5);
    if (this.drag) {
      ctx.globalAlpha = 0.16;
      ctx.fillStyle = this.surface.color("--accent");
      ctx.fillRect(this.drag[0], top, this.drag[1] - this.drag[0], height);
      ctx.globalAlpha = 1;
    }
    const x = this.cursor === null ? NaN : this.X.px(this.cursor), near = x >= left - 1 && x <= left + width + 1 ? this.#near() : [];
    this.#tellTip(near, x);
    if (!near.length) return;
    ctx.fillStyle = this.surface.color("--line-strong");
    ctx.fillRect(Math.round(x), top, 1, height);
    ctx.lineWidth = 2;
    ctx.strokeStyle = this.surface.color("--bg");
    for (const { s, px, py } of near) {
      ctx.fillStyle = s.color;
      ctx.beginPath();
      ctx.arc(px, py, s.id === this.lit ? 4 : 3, 0, 7);
      ctx.stroke();
      ctx.fill();
    }
  }

  // ---- the cursor

  /** The points at the cursor, nearest to the pointer first; without a pointer (keys, another chart) the lit one first. */
  #near() {
    return this.visible.flatMap((s) => {
      const i = nearest(s.x, this.cursor);
      if (i < 0) return [];
      const px = this.X.px(s.x[i]), py = this.Y.px(s.y[i]);
      const off = this.pointer === undefined ? (s.id === this.lit ? -1 : py) : Math.abs(py - this.pointer);
      return Number.isFinite(py) && s.x[i] >= this.X.lo && s.x[i] <= this.X.hi ? [{ s, i, px, py, off }] : [];
    }).sort((a, b) => a.off - b.off).slice(0, this.options.near);
  }

  #tellTip(near, x) {
    this.tip.hidden = !near.length || this.drag !== null;
    if (this.tip.hidden) return;
    const rows = near.map(({ s, i }, k) => {
      const row = element("div", k ? "" : "near"), dot = element("span", "swatch"), value = s.exact[i];
      dot.style.background = s.color;
      const smoothed = s.y[i] === value ? "" : ` (smoothed ${number(s.y[i])})`;
      row.append(dot, element("span", "label", middle(s.label, 36)), element("span", "num", number(value, k ? 6 : 17) + smoothed));
      return row;
    });
    this.tip.replaceChildren(element("div", "muted", xText(near[0].s.x[near[0].i], this.options.xKind)), ...rows);
    const wide = this.tip.offsetWidth, at = x + 14 + wide > this.surface.width ? x - 14 - wide : x + 14;
    this.tip.style.transform = `translate(${Math.round(Math.max(at, -8))}px, ${MARGIN.top}px)`;
  }

  #setCursor(x, pointer) {
    [this.cursor, this.pointer] = [x, pointer];
    this.options.group?.tell("cursor", x, this);
    this.surface.redrawOver();
  }

  #hover(id) {
    if (this.lit === id) return;
    this.highlight(id);
    this.options.onHover(id);
    this.options.group?.tell("hover", id, this);
  }

  #heard(kind, value, source) {
    if (source === this) return;
    if (kind === "hover") this.highlight(value);
    if (kind === "range") this.zoom(value?.[0] ?? null, value?.[1] ?? null, true);
    if (kind === "cursor" && (source?.options?.xKind ?? this.options.xKind) === this.options.xKind) {
      [this.cursor, this.pointer] = [value, undefined];
      this.surface.redrawOver();
    }
  }

  #at(event) {
    const box = this.host.getBoundingClientRect(), [left, , width] = this.box ?? [0, 0, 0];
    return [Math.min(left + width, Math.max(left, event.clientX - box.left)), event.clientY - box.top];
  }

  #move(event) {
    if (!this.box) return;
    const [x, y] = this.#at(event);
    if (this.drag) this.drag[1] = x;
    this.#setCursor(this.X.inv(x), y);
    const [best] = this.#near();
    if (!this.drag) this.#hover(best && best.off < 20 ? best.s.id : null);
  }

  #left() {
    this.drag = null;
    this.#setCursor(null);
    this.#hover(null);
  }

  #down(event) {
    if (event.button !== 0 || !this.box) return;
    const [x] = this.#at(event);
    this.drag = [x, x];
    this.host.setPointerCapture(event.pointerId);
  }

  #up() {
    if (!this.drag) return;
    const [lo, hi] = this.drag.sort((a, b) => a - b);
    this.drag = null;
    if (hi - lo > 4) this.zoom(this.X.inv(lo), this.X.inv(hi));
    else if (this.lit !== null) this.options.onSelect(this.lit);
    this.surface.redrawOver();
  }

  /** Left and right go from point to point, up and down from curve to curve, + - 0 zoom about the cursor. */
  #key(event) {
    const shown = this.visible;
    if (!this.box || !shown.length || event.ctrlKey || event.metaKey || event.altKey) return;
    let row = Math.max(0, shown.findIndex((s) => s.id === this.lit));
    const { key } = event, turn = { ArrowUp: -1, ArrowDown: 1 }[key] ?? 0, step = { ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0;
    const middleX = this.X.inv(this.box[0] + this.box[2] / 2), about = this.cursor ?? middleX;
    if (turn || step) {
      row = (row + turn + shown.length) % shown.length;
      const s = shown[row], at = Math.min(s.x.length - 1, Math.max(0, nearest(s.x, about) + (this.cursor === null ? 0 : step)));
      this.#hover(s.id);
      this.#setCursor(s.x[at]);
      this.live.textContent = `${s.label}, ${xText(s.x[at], this.options.xKind)}: ${number(s.exact[at], 6)}`;
    } else if (key === "+" || key === "=" || key === "-") {
      const by = key === "-" ? 2 : 0.5, f = (v) => this.X.inv(this.X.px(about) + (this.X.px(v) - this.X.px(about)) * by);
      this.zoom(f(this.X.lo), f(this.X.hi));
    } else if (key === "0") this.reset();
    else if (key === "Escape") this.#left();
    else return;
    event.preventDefault();
  }
}
