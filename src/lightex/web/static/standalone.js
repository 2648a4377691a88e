/** The page of an exported file: a table and charts, from the data that stands in it. */
import { Group, LineChart, groupMean, stylesOf } from "./chart.js";
import { element } from "./format.js";

const { runs, columns, curves, axis, log, smoothing } = JSON.parse(document.getElementById("data").textContent), group = new Group();
const styles = stylesOf(runs.map((run) => run.id)), page = document.getElementById("page");
const swatch = (id) => {
  const node = element("span", "swatch");
  node.style.background = styles.get(id).color;
  return node;
};
/** A state as a chip: the colour only says again what the icon and the word say. */
const chip = ([tone, icon, word]) => element("span", `chip ${tone}`, [element("span", "", icon, { "aria-hidden": "true" }), ` ${word}`]);
const head = element("tr", "", ["run", "experiment", "state", ...columns].map((name) => element("th", "", name)));
const lines = runs.map((run) => {
  const row = element("tr", "", [element("th", "", [swatch(run.id), run.label]), element("td", "", run.experiment), element("td", "", [chip(run.state)]),
    ...run.cells.map((cell) => element("td", /^-?\d/.test(cell) ? "num" : "", cell))]);
  row.onpointerenter = () => group.tell("hover", run.id);
  row.onpointerleave = () => group.tell("hover", null);
  return row;
});
page.append(element("div", "scroll", [element("table", "table", [element("thead", "", [head]), element("tbody", "", lines)])]));
const cards = page.appendChild(element("div", "cards")), alone = Object.keys(curves).length === 1;
cards.style.marginTop = "12px";
if (alone) cards.style.gridTemplateColumns = "1fr";
for (const [name, found] of Object.entries(curves)) {
  const host = element("div"), card = element("article", "card", [element("header", "", [element("h3", "", name)]), host]);
  cards.append(card);
  if (alone) host.style.height = "420px";
  const series = found.map((one) => ({ ...one, ...styles.get(one.id) }));
  const crowd = series.length > 30 ? [{ id: "mean", label: `mean of ${series.length}`, color: "#0a5bc4", ...groupMean(series) }] : series;
  new LineChart(host, { title: name, group, series: crowd, xKind: { time: "relative", wall: "wall" }[axis] ?? "number", yLog: log, smoothing });
}
