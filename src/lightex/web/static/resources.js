/** What a run uses, over its time. */
import { Group, LineChart } from "./chart.js";
import { element } from "./format.js";
import { ask, told, watch } from "./page.js";

const host = document.getElementById("resources"), group = new Group(), charts = new Map();
const CARDS = [
  ["cores", [["cpu", "cpu"]], 1], ["memory, MiB", [["memory", "memory"]], 1 / 2 ** 20],
  ["disk, MiB/s", [["read", "read"], ["written", "written"]], 1 / 2 ** 20], ["network, MiB/s", [["received", "received"], ["sent", "sent"]], 1 / 2 ** 20],
];
const GAP = 90; // seconds without a sample in which it did not run: between two attempts
const COLORS = ["#1f77b4", "#d55e00", "#009e73", "#cc79a7"];

const show = told(async () => {
  const { samples } = await ask(`api/run/${host.dataset.id}/usage`), start = samples[0]?.time ?? 0;
  document.getElementById("no-resources").hidden = samples.length > 0;
  const gpus = [...new Set(samples.flatMap((one) => Object.keys(one.gpus ?? {})))];
  const cards = [...CARDS.map(([title, parts, scale]) => [title, parts.map(([label, key]) => [label, (one) => one[key] * scale])]),
    ["GPU, share of time that it computes", gpus.map((gpu) => [`GPU ${gpu}`, (one) => one.gpus?.[gpu]?.use])], ["GPU memory, MiB", gpus.map((gpu) => [`GPU ${gpu}`, (one) => one.gpus?.[gpu]?.memory / 2 ** 20])]];
  for (const [title, parts] of cards) {
    const series = parts.map(([label, read], i) => {
      const points = samples.map((one) => [one.time - start, read(one)]).filter(([, value]) => Number.isFinite(value));
      return { id: label, label, color: COLORS[i % COLORS.length], x: points.map(([x]) => x), y: points.map(([, y]) => y), gap: GAP };
    }).filter((one) => one.x.length);
    if (!series.length) continue;
    if (!charts.has(title)) {
      const inside = element("div");
      host.append(element("article", "card", [element("header", "", [element("h3", "", title)]), inside]));
      charts.set(title, new LineChart(inside, { title, group, xKind: "relative", series }));
    } else charts.get(title).set({ series });
  }
});
show();
if (host.dataset.live) watch(() => {}, show);
