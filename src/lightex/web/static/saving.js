/** A chart as a file. */
import { element } from "./format.js";

/** The points in view of the visible curves. @param {LineChart} chart @returns {string} id, label, x, value, smoothed */
export function csvOf(chart) {
  const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text), [lo, hi] = chart.range ?? [-Infinity, Infinity];
  const lines = chart.series.flatMap((s) => [...s.x].flatMap((x, i) =>
    (x >= lo && x <= hi ? [[s.id, s.label, x, s.exact[i], s.y[i]].map(quote).join(",")] : [])));
  return `${["id,label,x,value,smoothed", ...lines].join("\n")}\n`;
}

/** @param {Plot} plot @returns {Promise<Blob>} the picture on the theme's ground */
export function pngOf(plot) {
  const canvas = element("canvas"), ctx = plot.fit(canvas);
  ctx.fillStyle = plot.color("--bg");
  ctx.fillRect(0, 0, plot.width, plot.height);
  ctx.drawImage(plot.base, 0, 0, plot.width, plot.height);
  return new Promise((done) => { canvas.toBlob(done); });
}

/** Hands the reader a file. @param {LineChart} chart @param {"csv"|"png"} kind */
export async function save(chart, kind) {
  const href = URL.createObjectURL(new Blob([kind === "csv" ? csvOf(chart) : await pngOf(chart)]));
  element("a", "", "", { href, download: `${chart.options.title.replace(/[^\w.-]+/g, "_") || "chart"}.${kind}` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
