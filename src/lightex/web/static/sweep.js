/** The page of a sweep: the best value over time, kept up to date. */
import { LineChart } from "./chart.js";
import { watch } from "./page.js";

const { progress, metric } = document.getElementById("sweep").dataset, host = document.getElementById("best");
if (host) {
  const points = JSON.parse(progress), color = getComputedStyle(document.body).getPropertyValue("--accent").trim();
  new LineChart(host, { title: `best ${metric}`, xKind: "wall", series: [{ id: "best", label: `best ${metric}`, color, x: points.map((point) => point[0]), y: points.map((point) => point[1]) }] });
}
let due = null;
watch(() => (due ??= setTimeout(() => location.reload(), 2000)));
