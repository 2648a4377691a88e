/** A canvas that follows its box, the screen's density and the theme, and is painted only while in view. */
import { element } from "./format.js";

/** Painting is done in slices, since a hundred curves of each of twenty charts would hold the page for seconds. */
const SLICE = 24; // ms
const waiting = new Set();
let running = null, booked = false;

function work() {
  booked = false;
  const end = performance.now() + SLICE;
  while (performance.now() < end) {
    if (!running) {
      const [next] = waiting;
      if (!next) return;
      waiting.delete(next);
      running = next.begin();
    }
    if (running.next().done) running = null;
  }
  book();
}

function book() {
  if (!booked) requestAnimationFrame(work);
  booked = true;
}

const surfaces = new Set();
function repaintAll() {
  for (const surface of surfaces) surface.redraw();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaintAll);
new MutationObserver(repaintAll).observe(document.documentElement, { attributeFilter: ["data-theme", "class"] });

export class Surface {
  /**
   * @param {HTMLElement} host becomes `.chart`, whose size is CSS's affair
   * @param {(ctx, width: number, height: number) => Generator} paint yields where it may be put off to the next frame
   * @param {(ctx, width: number, height: number) => void} over what changes with the pointer, on a canvas of its own
   */
  constructor(host, paint, over = () => {}) {
    Object.assign(this, { host, paint, over, seen: false, due: true });
    host.classList.add("chart");
    this.back = document.createElement("canvas");
    [this.base, this.top] = [0, 1].map(() => host.appendChild(element("canvas", "", "", { "aria-hidden": "true" })));
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(host);
    this.views = new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      if (this.seen && this.due) this.redraw();
    }, { rootMargin: "200px" });
    this.views.observe(host);
    surfaces.add(this);
  }

  /** Asks for a new picture; any number of calls before the next frame make one. */
  redraw() {
    this.due = true;
    if (!this.seen) return;
    waiting.add(this);
    book();
  }

  /** Asks for the layer of the pointer only. */
  redrawOver() {
    if (this.booked || !this.seen) return;
    this.booked = true;
    requestAnimationFrame(() => {
      this.booked = false;
      if (this.width) this.over(this.#fit(this.top), this.width, this.height);
    });
  }

  /** A CSS variable of the theme, such as "--line". */
  color(name) {
    return this.style.getPropertyValue(name).trim();
  }

  #fit(canvas) {
    const ratio = window.devicePixelRatio || 1, [w, h] = [this.width * ratio, this.height * ratio].map(Math.round);
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    return ctx;
  }

  /** Paints behind the scenes and shows what is finished, so that live charts do not flicker. */
  * begin() {
    this.style = getComputedStyle(this.host);
    [this.width, this.height] = [this.host.clientWidth, this.host.clientHeight];
    if (!this.width || !this.height) return;
    this.due = false;
    yield* this.paint(this.#fit(this.back), this.width, this.height);
    this.#fit(this.base).drawImage(this.back, 0, 0, this.width, this.height);
    this.redrawOver();
    this.host.dispatchEvent(new Event("painted"));
  }

  /** @returns {Promise<Blob>} the picture on the theme's ground */
  png() {
    const out = document.createElement("canvas");
    Object.assign(out, { width: this.base.width, height: this.base.height });
    const ctx = out.getContext("2d");
    ctx.fillStyle = this.color("--bg");
    ctx.fillRect(0, 0, out.width, out.height);
    ctx.drawImage(this.base, 0, 0);
    return new Promise((done) => { out.toBlob(done, "image/png"); });
  }

  destroy() {
    this.sizes.disconnect();
    this.views.disconnect();
    surfaces.delete(this);
    waiting.delete(this);
    this.seen = false;
    this.host.replaceChildren();
  }
}
