/** Charts of many metrics, in sections by prefix; each is fetched when it comes into view. */
import { Group, LineChart, groupMean, stylesOf } from "./chart.js";
import { element, middle } from "./format.js";
import { ask, told } from "./page.js";

const AT_ONCE = 4; // requests on their way
const SHOWN = 60; // charts of a section at first
const OPEN = 24; // charts of sections that are open from the start
const KINDS = { step: "number", time: "relative", wall: "wall" };
const CROWD = 30; // curves beyond which the mean is shown

/** The part of a metric's name that tells its section. */
const prefix = (name) => (/^([^./]+)[./]/.exec(name) ?? [])[1] ?? "";

const grouped = (all, key) => all.reduce((groups, one) => groups.set(key(one), [...(groups.get(key(one)) ?? []), one]), new Map());

export class Panel {
  /**
   * @param {HTMLElement} host
   * @param {{get: (name: string) => string, set: (values: object) => void}} state what of the address the panel reads and writes
   * @param {(id: string|null) => void} [onHover]
   */
  constructor(host, state, onHover = () => {}) {
    Object.assign(this, { host, state, onHover, runs: [], metrics: [], version: 0, hidden: new Set(), cards: new Map(), waiting: [], busy: 0 });
    this.group = new Group();
    this.seen = new IntersectionObserver((found) => found.forEach((one) => this.#seen(one)), { rootMargin: "200px" });
    this.#bar();
    this.body = element("div");
    host.replaceChildren(this.bar, this.body);
  }

  #bar() {
    const field = (label, node) => element("label", "field", [label, node]);
    this.toggles = {};
    const button = (word, name, title) => {
      const node = this.toggles[name] = element("button", "btn", word, { type: "button", title });
      node.onclick = () => {
        const on = node.getAttribute("aria-pressed") !== "true";
        this.#set({ [name]: on ? "1" : name === "mean" && this.crowd ? "0" : "" });
        this.#sync();
      };
      return node;
    };
    this.find = element("input", "input", "", { type: "search", placeholder: "metrics: regex", "aria-label": "Metrics by a regular expression", size: "14" });
    this.find.oninput = () => {
      this.state.set({ m: this.find.value });
      this.build();
    };
    const axis = this.axis = element("select", "input");
    axis.onchange = () => {
      this.cards.forEach((card) => card.range[0] !== null && card.chart.reset()); // it was of another axis
      this.#set({ x: axis.value === "step" ? "" : axis.value }, true);
    };
    const smooth = this.smooth = element("input", "", "", { type: "range", min: "0", max: "0.99", step: "0.01", "aria-label": "Smoothing" });
    this.amount = element("output");
    smooth.oninput = () => {
      this.#set({ smooth: smooth.value === "0" ? "" : smooth.value });
      this.#sync();
    };
    this.bar = element("div", "row tools panel-bar", [this.find, field("x", axis), element("div", "field", ["smooth", smooth, this.amount]), element("div", "joined", [button("log x", "logx", "Logarithmic x"),
      button("log y", "logy", "Logarithmic y"), button("clip", "clip", "Without outliers"),
      button("mean", "mean", `Mean and band, as of more than ${CROWD} curves`)])]);
  }

  /** The bar tells what the address says. */
  #sync() {
    this.find.value = this.state.get("m");
    this.smooth.value = this.state.get("smooth") || "0";
    this.amount.textContent = Number(this.smooth.value).toFixed(2);
    for (const [name, node] of Object.entries(this.toggles)) node.setAttribute("aria-pressed", String(name === "mean" ? this.#meant() : this.state.get(name) === "1"));
    this.#axes();
  }

  /** What x may be: the steps, a time, or any metric. */
  #axes() {
    const now = this.state.get("x") || "step", metrics = new Set([...this.metrics, ...(KINDS[now] ? [] : [now])]);
    this.axis.replaceChildren(...[["step", "step"], ["time", "time"], ["wall", "clock"], ...[...metrics].map((name) => [name, middle(name, 24)])]
      .map(([value, word]) => element("option", "", word, { value })));
    this.axis.value = now;
  }

  get pins() {
    return this.state.get("pin").split("\n").filter(Boolean);
  }

  /** @param {string[]} names of the metrics whose charts come before all others */
  pin(names) {
    this.state.set({ pin: names.join("\n") });
    this.build();
  }

  /** Whether the mean is shown: as it was asked for, else where there is a crowd. */
  #meant() {
    return this.state.get("mean") === "" ? this.crowd : this.state.get("mean") === "1";
  }

  #set(values, again = false) {
    this.state.set(values);
    if (again) this.refresh();
    else this.cards.forEach((card) => this.#draw(card));
  }

  /** Shows other runs. @param {{id: string, label: string, live: boolean, group?: string}[]} runs @param {string[]} metrics @param {string} none what to say where there are none */
  show(runs, metrics, none = "") {
    Object.assign(this, { runs, metrics, none, crowd: runs.length > CROWD });
    this.#sync();
    this.styles = stylesOf(runs.map((run) => run.id));
    if (this.built === this.#wanted() && this.cards.size) this.refresh();
    else this.build();
  }

  /** What the cards are made of. */
  #wanted() {
    return [...this.metrics, this.state.get("m"), ...this.pins].join("\n");
  }

  build() {
    let wanted = this.metrics;
    try {
      wanted = wanted.filter((name) => new RegExp(this.find.value, "i").test(name));
      this.find.removeAttribute("aria-invalid");
    } catch {
      this.find.setAttribute("aria-invalid", "true");
      return;
    }
    this.seen.disconnect();
    this.cards.clear();
    this.built = this.#wanted();
    const pins = this.pins.filter((name) => wanted.includes(name)), sections = grouped([...pins, ...wanted.filter((name) => !pins.includes(name))], (name) => (pins.includes(name) ? "pinned" : prefix(name)));
    let open = 0;
    this.body.replaceChildren(...[...sections].map(([name, list]) => {
      const grid = element("div", "cards"), section = element("details", "section", [element("summary", "", [name || "metrics", " ", element("span", "muted", String(list.length))]), grid]);
      section.ontoggle = () => section.open && !grid.childElementCount && this.#fill(grid, list, 0);
      section.open = sections.size === 1 || open < OPEN;
      if (section.open) this.#fill(grid, list, 0); // the event comes after a paint
      open += list.length;
      return section;
    }));
    if (!wanted.length) this.body.append(element("p", "muted", this.metrics.length ? "No metric's name matches." : this.none));
  }

  #fill(grid, list, from) {
    for (const name of list.slice(from, from + SHOWN)) grid.append(this.#card(name));
    if (list.length <= from + SHOWN) return;
    const more = element("button", "btn", `${list.length - from - SHOWN} more`, { type: "button" });
    more.onclick = () => (more.remove(), this.#fill(grid, list, from + SHOWN));
    grid.append(more);
  }

  #card(name) {
    const tools = element("button", "btn plain", "⋯", { type: "button", "aria-label": `More of ${name}`, "aria-haspopup": "menu" }), host = element("div");
    const node = element("article", "card", [element("header", "", [element("h3", "", middle(name, 48), { title: name }), tools]), host]);
    const card = { name, node, host, chart: null, data: null, range: [null, null], asked: 0, version: -1 };
    host.className = "chart";
    tools.onclick = told(async () => (await import("./more.js")).more(tools, card, this));
    this.cards.set(node, card);
    this.seen.observe(node);
    return node;
  }

  #seen({ target, isIntersecting }) {
    const card = this.cards.get(target);
    if (!card) return;
    card.inView = isIntersecting;
    if (isIntersecting && card.version !== this.version) this.#queue(card);
  }

  /** Fetches anew what is in view, the rest when it comes into view. */
  refresh() {
    this.version += 1;
    this.cards.forEach((card) => card.inView && this.#queue(card));
  }

  #queue(card) {
    card.version = this.version;
    if (!this.waiting.includes(card)) this.waiting.push(card);
    this.#next();
  }

  #next() {
    while (this.busy < AT_ONCE && this.waiting.length) {
      const card = this.waiting.shift();
      this.busy += 1;
      told(() => this.#fetch(card))().finally(() => {
        this.busy -= 1;
        this.#next();
      });
    }
  }

  async #fetch(card) {
    const asked = (card.asked += 1), [lo, hi] = card.range, points = this.runs.length > 50 ? 300 : 500;
    const query = [["metric", card.name], ["x", this.state.get("x") || "step"], ["points", points], ...this.runs.map((run) => ["run", run.id])];
    if (lo !== null) query.push(["from", lo], ["to", hi]);
    const { series } = await ask("api/series", query);
    if (asked !== card.asked || !card.node.isConnected) return;
    card.data = series;
    this.#draw(card);
  }

  #draw(card) {
    if (!card.data) return;
    const { state } = this, x = state.get("x") || "step", labels = new Map(this.runs.map((run) => [run.id, run.label]));
    const curves = card.data.filter(({ id }) => labels.has(id) && !this.hidden.has(id)).map((one) => ({ ...one, label: labels.get(one.id), ...this.styles.get(one.id) }));
    const options = { series: this.#meant() && curves.length > 1 ? this.#means(curves) : curves, xKind: KINDS[x] ?? "number", xLog: state.get("logx") === "1", yLog: state.get("logy") === "1",
      smoothing: Number(state.get("smooth")) || 0, clip: state.get("clip") === "1" };
    if (card.chart) card.chart.set(options);
    else {
      card.chart = new LineChart(card.host, { title: card.name, group: this.group, onHover: this.onHover, ...options,
        onZoom: (lo, hi) => {
          card.range = [lo, hi];
          this.#queue(card);
        } });
    }
  }

  /** The mean and band of each group; of a group of one its curve. */
  #means(curves) {
    const of = new Map(this.runs.map((run) => [run.id, run.group ?? ""])), groups = grouped(curves, ({ id }) => of.get(id));
    const styles = stylesOf([...groups.keys()]), accent = getComputedStyle(document.body).getPropertyValue("--accent").trim();
    return [...groups].map(([name, list]) => (list.length === 1 ? list[0] : { id: name || "mean", label: `${name ? `${name}: ` : ""}mean of ${list.length}, ± standard deviation`,
      ...(groups.size > 1 ? styles.get(name) : { color: accent }), ...groupMean(list) }));
  }

  /** Hides or shows the curves of a run. */
  hide(id, off) {
    this.hidden[off ? "add" : "delete"](id);
    this.cards.forEach((card) => this.#draw(card));
  }

  /** Lights the curves of a run, or (null) none. */
  light(id) {
    this.group.tell("hover", id);
  }
}

/** The part of the address that a panel reads and writes. */
export const address = {
  get: (name) => new URLSearchParams(location.search).get(name) ?? "",
  set(values) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(values)) value === "" || value === null ? query.delete(name) : query.set(name, value);
    history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  },
};
