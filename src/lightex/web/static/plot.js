/** What plots share: canvases that follow box, density and theme, axes, a tooltip, the item under the pointer. */
import { element, middle } from "./format.js";
import { makeScale, ticks } from "./scale.js";

const SLICE = 20; // ms of painting per frame: a hundred curves in each of twenty charts would hold the page for seconds
const plots = new Set(), due = new Set(), back = element("canvas"), scratch = element("canvas").getContext("2d");
let job = null, turns = 0, booked = 0;

function work() {
  const end = performance.now() + SLICE;
  booked = 0;
  while (performance.now() < end) {
    if (!job) {
      const [plot] = due;
      if (!plot) return;
      due.delete(plot);
      job = plot.begin();
    }
    if (job.next().done) job = null;
    else if (++turns % 4 === 0) scratch.drawImage(back, 0, 0, 1, 1); // what is off the page is rasterised when it is read, all at once
  }
  book();
}

function book() {
  booked ||= requestAnimationFrame(work);
}

const repaint = () => plots.forEach((plot) => plot.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });

/** What the charts of a page tell each other: `cursor` (an x or null), `hover` (an id or null). */
export class Group {
  #listeners = new Set();

  /** @param {(kind: string, value: any, source: any) => void} listener @returns {() => void} ends it */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(kind, value, source = null) {
    this.#listeners.forEach((listener) => listener(kind, value, source));
  }
}

/** A subclass has `paint` (a generator, which yields where it may be put off), `over`, `find(x, y)` and `summary()`. */
export class Plot {
  constructor(host, options) {
    this.options = { title: "", group: new Group(), onHover() {}, ...options };
    Object.assign(this, { host, lit: null, seen: false });
    host.classList.add("chart");
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    [this.base, this.top] = [element("canvas"), element("canvas")];
    [this.note, this.tip] = [element("div", "chart-note"), element("div", "chart-tip")];
    this.live = element("div", "visually-hidden", "", { "aria-live": "polite" });
    this.tip.hidden = true;
    host.append(this.base, this.top, this.note, this.tip);
    host.after(this.live); // beside the host: what is inside of an image is not read
    this.watchers = [new ResizeObserver(() => this.redraw()), new IntersectionObserver((entries) => {
      this.seen = entries.at(-1).isIntersecting;
      if (this.unpainted) this.redraw();
    }, { rootMargin: "200px" })];
    this.watchers.forEach((watcher) => watcher.observe(host));
    const listen = { pointermove: this.moved, pointerleave: this.left, pointerdown: this.down, pointerup: this.up, keydown: this.key, blur: this.left };
    for (const [name, act] of Object.entries(listen)) {
      host.addEventListener(name, (event) => this.box && act.call(this, event, ...this.at(event)));
    }
    this.leave = this.options.group.listen((kind, value, source) => source !== this && this.heard(kind, value, source));
    plots.add(this);
  }

  /** Changes any of the options, data among them. */
  set(options = {}) {
    Object.assign(this.options, options);
    this.label();
    this.redraw();
  }

  label() {
    this.host.setAttribute("aria-label", `${this.options.title || "chart"}: ${this.summary()}`);
  }

  /** Lights an item and dims the others; null lights none. */
  highlight(id) {
    if (this.lit === id) return;
    this.lit = id;
    this.redrawOver();
  }

  destroy() {
    this.watchers.forEach((watcher) => watcher.disconnect());
    this.leave();
    this.live.remove();
    [plots, due].forEach((set) => set.delete(this));
    this.seen = false;
    this.host.replaceChildren();
  }

  /** Asks for a new picture; any number of calls before the next frame make one. */
  redraw() {
    this.unpainted = true;
    if (!this.seen) return;
    due.add(this);
    book();
  }

  /** Asks for the layer of the pointer only. */
  redrawOver() {
    this.booked ||= requestAnimationFrame(() => {
      this.booked = 0;
      if (this.seen && this.box) this.over(this.fit(this.top));
    });
  }

  /** A CSS variable of the theme, such as "--line". */
  color(name) {
    return this.style.getPropertyValue(name).trim();
  }

  fit(canvas) {
    const ratio = devicePixelRatio, [width, height] = [this.width * ratio, this.height * ratio].map(Math.round);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const ctx = canvas.getContext("2d");
    ctx.reset();
    ctx.scale(ratio, ratio);
    ctx.font = `11px ${this.color("--sans")}`;
    return ctx;
  }

  /** Paints behind the scenes and shows what is finished, so that live charts do not flicker. */
  * begin() {
    this.style = getComputedStyle(this.host);
    [this.width, this.height] = [this.host.clientWidth, this.host.clientHeight];
    if (!this.width || !this.height) return;
    this.unpainted = false;
    yield* this.paint(this.fit(back));
    this.fit(this.base).drawImage(back, 0, 0, this.width, this.height);
    this.redrawOver();
    this.host.dispatchEvent(new Event("painted"));
  }

  /** Axes, their scales X and Y, and the box between them. @param {{range: [number, number], log?, kind?, label?}} x, y */
  axes(ctx, x, y) {
    const top = y.label || this.note.textContent ? 24 : 10, right = this.width - 12, bottom = this.height - (x.label ? 40 : 24);
    this.Y = makeScale(y.range, bottom, top, y.log);
    const marks = ticks(this.Y, Math.max(2, this.height / 44)), left = 14 + Math.max(16, ...marks.map((t) => ctx.measureText(t.text).width));
    this.X = makeScale(x.range, left, right, x.log);
    this.box = [left, top, right - left, bottom - top];
    ctx.fillStyle = this.color("--line");
    for (const { value } of marks) ctx.fillRect(left, Math.round(this.Y.px(value)), right - left, 1);
    ctx.fillStyle = this.color("--line-strong");
    ctx.fillRect(left, bottom, right - left, 1);
    ctx.fillStyle = this.color("--muted");
    ctx.textAlign = "right";
    for (const { value, text } of marks) ctx.fillText(text, left - 6, this.Y.px(value) + 4);
    if (x.label) ctx.fillText(middle(x.label, 48), right, bottom + 32);
    ctx.textAlign = "left";
    if (y.label) ctx.fillText(middle(y.label, 48), 8, 14);
    ctx.textAlign = "center";
    const below = x.words ? x.words.map((word, value) => ({ value, text: middle(word, 14) })) : ticks(this.X, Math.max(2, (right - left) / (x.kind === "wall" ? 96 : 72)), x.kind);
    const every = x.words ? Math.ceil((below.length * 80) / (right - left)) : 1;
    for (const { value, text } of below.filter((_, i) => i % every === 0)) {
      const at = this.X.px(value), half = ctx.measureText(text).width / 2;
      ctx.fillRect(Math.round(at), bottom, 1, 4);
      ctx.fillText(text, Math.min(at, this.width - half - 2), bottom + 16);
    }
  }

  /** Dims what is painted, so that what comes next stands out. */
  veil(ctx) {
    ctx.globalAlpha = 0.75;
    ctx.fillStyle = this.color("--bg");
    ctx.fillRect(this.box[0] + 1, this.box[1] - 4, this.box[2] + 4, this.box[3] + 4);
    ctx.globalAlpha = 1;
  }

  /** The tooltip beside a place, one that is not the pointer's `own` within the plot. @param {[string, string, string?][]} rows none hide it */
  tipAt(x, y, title, rows, own = true) {
    this.tip.hidden = !rows.length;
    if (!rows.length) return;
    this.tip.replaceChildren(element("div", "muted", title), ...rows.map(([label, value, color]) => {
      const dot = element("span", color ? "swatch" : "");
      dot.style.background = color ?? "";
      return element("div", "", [dot, element("span", "label", middle(label, 28)), element("span", "num", value)]);
    }));
    const { left, right } = this.host.getBoundingClientRect(), wide = this.tip.offsetWidth, at = left + x + 14;
    const place = at + wide > (own ? innerWidth : right) ? Math.max(own ? 0 : left, at - 28 - wide) : at;
    this.tip.style.transform = `translate(${Math.round(place - left)}px, ${Math.round(y)}px)`;
    this.tip.style.zIndex = own ? 5 : 4;
  }

  at(event) {
    const box = this.host.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  moved(event, x, y) {
    const item = this.find(x, y);
    this.tipAt(x, y + 14, item?.label, item ? this.tell(item) : []);
    this.hover(item?.id ?? null);
  }

  left() {
    this.tip.hidden = true;
    this.hover(null);
  }

  hover(id) {
    if (this.lit === id) return;
    this.highlight(id);
    this.options.onHover(id);
    this.options.group.tell("hover", id, this);
  }

  heard(kind, value) {
    if (kind === "hover") this.highlight(value);
  }

  down() {}

  up() {}

  key() {}
}
