/** Runs side by side. */
import { bars, Parallel, Scatter, scatterMatrix } from "./plots.js";
import { colorOf } from "./color.js";
import { element } from "./format.js";
import { ask, told } from "./page.js";
import { Panel, address } from "./panel.js";

const LANES = 7; // axes of the parallel coordinates, and
const CELLS = 5; // rows of the matrix, that are shown at first
const LANE = 112; // px: narrower, names and values would run into each other
const host = document.getElementById("compared");

if (host) start(host.dataset);

function start(data) {
  const [ids, labels, states, metrics] = ["runs", "labels", "states", "metrics"].map((name) => JSON.parse(data[name]));
  const panel = new Panel(document.getElementById("charts"), address, light);
  panel.show(ids.map((id, i) => ({ id, label: labels[i], live: states[i] === "RUNNING" })), metrics);
  for (const name of ["by", "mode"]) {
    const input = document.getElementById(name);
    if (input) input.onchange = () => {
      address.set(name === "by" ? { by: input.value, mode: "" } : { mode: input.value });
      location.reload();
    };
  }
  const again = document.getElementById("copy");
  again.onclick = told(async () => (await import("./copying.js")).copy(again.dataset.copy));
  const table = document.querySelector(".table");
  table.addEventListener("pointerover", ({ target }) => panel.light(target.closest("tr[data-id]")?.dataset.id ?? null));
  table.addEventListener("pointerleave", () => panel.light(null));
  told(plots)(ids, data.by, data.mode, panel);
}

function light(id) {
  document.querySelectorAll("tr[data-id]").forEach((row) => row.classList.toggle("hovered", row.dataset.id === id));
}

/** linear, log or category: what suits the values of an axis. */
function kindOf(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.every((value) => typeof value === "number")) return "category";
  const [lo, hi] = [Math.min(...known), Math.max(...known)];
  return lo > 0 && hi / lo >= 100 ? "log" : "linear";
}

async function plots(ids, by, mode, panel) {
  const place = document.getElementById("plots"), { params, metrics, runs } = await ask("api/points", ids.map((id) => ["run", id]));
  if (!by || !params.length) {
    place.replaceChildren(element("p", "muted", by ? "These runs have the same parameters." : "These runs have no metric."));
    return;
  }
  const plain = (value) => (value === null || value === undefined || typeof value === "number" || typeof value === "string" ? value ?? null : String(typeof value === "object" ? JSON.stringify(value) : value));
  const rows = runs.map((run) => ({ id: run.id, label: run.label, color: colorOf(run.id), values: Object.fromEntries([...params.map((name) => [name, plain(run.params[name])]), ...metrics.map((name) => [name, run.metrics[name] ?? null])]) }));
  const kinds = Object.fromEntries([...params, ...metrics].map((name) => [name, kindOf(rows.map((row) => row.values[name]))]));
  const numeric = params.filter((name) => kinds[name] !== "category"), card = (title, ...inside) => element("article", "card", [element("header", "", [element("h3", "", title), ...inside])]);
  const group = panel.group, shared = { group, onHover: light };

  let inside = rows; // of what is brushed
  const count = element("span", "muted", "", { role: "status" }), wide = card(`Parameters and ${by}: drag along an axis to filter`, count);
  wide.classList.add("wide");
  const parallel = wide.appendChild(element("div", "lanes")).appendChild(element("div"));
  const scatter = card("Scatter"), x = element("select", "input", params.map((name) => element("option", "", name)), { "aria-label": "Across" });
  const scattered = scatter.appendChild(element("div"));
  scatter.firstChild.append(x);
  const best = card(`Best by ${by}`), list = best.appendChild(element("div", "scroll inside"));
  const share = card(`What ${by} hangs on`), shares = share.appendChild(element("div", "scroll inside"));
  const matrix = card("Scatter matrix"), cells = matrix.appendChild(element("div", "lanes")).appendChild(element("div"));
  matrix.classList.add("wide");
  place.replaceChildren(element("div", "cards plots", [wide, scatter, best, share, ...(numeric.length ? [matrix] : [])]));

  const lanes = [...params.slice(0, LANES - 1), by];
  parallel.style.minWidth = `${lanes.length * LANE}px`;
  new Parallel(parallel, { ...shared, title: `Parameters and ${by}`, axes: lanes.map((key) => ({ key, label: key, kind: kinds[key] })), rows: rows.map(({ color: _, ...row }) => row), colorBy: by,
    onBrush(brushes) {
      inside = rows.filter((row) => Object.entries(brushes).every(([key, range]) => (kinds[key] === "category" ? range.map(String).includes(String(row.values[key])) : row.values[key] >= range[0] && row.values[key] <= range[1])));
      const kept = new Set(inside.map((row) => row.id));
      for (const row of rows) panel.hide(row.id, !kept.has(row.id));
      document.querySelectorAll("tr[data-id]").forEach((row) => (row.hidden = !kept.has(row.dataset.id)));
      count.textContent = kept.size < rows.length ? `${kept.size} of ${rows.length} runs` : "";
      draw();
    } });
  let plot = null, cellPlots = [];
  const across = () => {
    const words = kinds[x.value] === "category" ? [...new Set(rows.map((row) => row.values[x.value]).filter((value) => value !== null).map(String))].sort() : null;
    const points = inside.filter((row) => row.values[x.value] !== null).map((row) => ({ ...row, x: words ? words.indexOf(String(row.values[x.value])) : row.values[x.value], y: row.values[by] }));
    plot?.destroy();
    scattered.replaceChildren();
    plot = new Scatter(scattered.appendChild(element("div")), { ...shared, title: `${by} over ${x.value}`, x: { label: x.value, words, log: kinds[x.value] === "log" }, y: { label: by }, points });
  };
  const draw = () => {
    across();
    bars(list, inside.map((row) => ({ id: row.id, label: row.label, value: row.values[by], color: row.color })), { title: `Best by ${by}`, ascending: mode === "min", onHover: (id) => panel.light(id) });
    cellPlots.forEach((one) => one.destroy());
    cells.replaceChildren();
    if (numeric.length) cellPlots = scatterMatrix(cells, { ...shared, title: "Scatter matrix", keys, rows: inside, logs: numeric.filter((name) => kinds[name] === "log") });
  };
  const keys = [...numeric.slice(0, CELLS - 1), by];
  cells.style.minWidth = `${keys.length * LANE}px`;
  x.onchange = across;
  draw();
  const known = await ask("api/importance", [["by", by], ...ids.map((id) => ["run", id])]);
  if (known.why) shares.replaceChildren(element("p", "muted", known.why));
  else bars(shares, known.shares.map(({ name, value }) => ({ id: name, label: name, value })), { title: "Importance of parameters" });
}
