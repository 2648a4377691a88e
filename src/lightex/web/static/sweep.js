/** The page of a sweep: the best value over time, kept up to date. */
import { LineChart } from "./chart.js";
import { renew, told, watch } from "./page.js";

const data = () => document.getElementById("sweep").dataset, host = document.getElementById("best");

/** The best value holds until a better one comes. */
const stairs = (points) => points.flatMap(([x, y], i) => (i ? [[x, points[i - 1][1]], [x, y]] : [[x, y]]));

let chart = null;
function draw() {
  const points = stairs(JSON.parse(data().progress)), label = `best ${data().metric}`, color = getComputedStyle(document.body).getPropertyValue("--accent").trim();
  chart ??= new LineChart(host, { title: label, xKind: "wall" });
  chart.set({ series: [{ id: "best", label, color, x: points.map((point) => point[0]), y: points.map((point) => point[1]) }] });
}
if (host) draw();

let due = null;
watch(() => (due ??= setTimeout(told(async () => {
  due = null;
  if (await renew().then(() => !host && data().metric)) location.reload();
  if (host) draw();
}), 1000)));
