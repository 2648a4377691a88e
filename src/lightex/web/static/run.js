/** The page of one run. */
import { Heatmap } from "./plots.js";
import { element } from "./format.js";
import { showLog } from "./logging.js";
import { ask, base, get, keys, renew, split, told, watch } from "./page.js";
import { Panel, address } from "./panel.js";

const { id, label, status, metrics } = document.getElementById("run").dataset;
const ended = !["QUEUED", "SUBMITTED", "RUNNING"].includes(status);
const $ = (name) => document.getElementById(name);
const path = (file, what = "file") => `${base}run/${id}/${what}/${file.split("/").map(encodeURIComponent).join("/")}`;

let panel = null;
if ($("charts")) {
  panel = new Panel($("charts"), address);
  panel.show([{ id, label, live: !ended }], JSON.parse(metrics));
}

document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

const note = told(async () => (await import("./notes.js")).note(new Map([[id, label]]), () => location.reload()));
$("note").onclick = note;
if ($("acts")) {
  $("acts").onclick = told(async () => {
    const [{ menu }, { deeds }, { copy }] = await Promise.all(["menu", "acting", "copying"].map((name) => import(`./${name}.js`)));
    menu($("acts"), [...deeds(id, label, status), ["Copy the command that runs it again", () => copy($("acts").dataset.copy)]]);
  });
}
keys({ ".": note });

/** A picture; one of few pixels (a confusion matrix, a digit) is shown large, each of them as it is. */
function image(src, alt) {
  const node = element("img", "", "", { src, alt, loading: "lazy" });
  node.onload = () => node.classList.toggle("tiny", Math.max(node.naturalWidth, node.naturalHeight) < 100);
  return node;
}

// ---- output

let log = null;
function open(name) {
  const host = element("div", "log-host", "", { id: "log" });
  log?.destroy();
  $("log").replaceWith(host);
  log = showLog(host, id, name, !ended);
}
if ($("log")) open($("log").dataset.name);
if ($("log-name")) $("log-name").onchange = () => open($("log-name").value);

// ---- media

const SHOW = {
  image: ({ path: file, step }) => [image(path(file), `step ${step ?? "-"}`)],
  audio: ({ path: file }) => [element("audio", "", "", { src: path(file), controls: "", preload: "none" })],
  figure: ({ path: file }) => [image(path(file), "figure")],
  plotly: ({ path: file }) => [element("iframe", "", "", { src: path(file, "figure"), title: "figure", loading: "lazy" })],
  text: ({ text }) => [element("pre", "code", text)],
  async table({ path: file }) {
    const { columns, rows } = await (await get(path(file))).json(), most = 200;
    const line = (cells, tag) => element("tr", "", cells.map((cell) => element(tag, typeof cell === "number" ? "num" : "", cell === null ? "" : typeof cell === "object" ? JSON.stringify(cell) : String(cell))));
    const note = rows.length > most ? [element("p", "muted", `the first ${most} of ${rows.length} rows`)] : [];
    return [element("div", "scroll", [element("table", "table", [element("thead", "", [line(columns, "th")]), element("tbody", "", rows.slice(0, most).map((row) => line(row, "td")))])]), ...note];
  },
};
for (const card of document.querySelectorAll(".media .card[data-steps]")) {
  const steps = JSON.parse(card.dataset.steps), range = card.querySelector("input"), shown = card.querySelector(".shown");
  const show = told(async () => {
    const one = steps[range ? Number(range.value) : 0];
    shown.replaceChildren(...(await (SHOW[card.dataset.kind] ?? SHOW.text)(one)));
    card.querySelector("output").textContent = one.step === null ? "" : `step ${one.step}`;
  });
  if (range) range.oninput = show;
  show();
}
for (const card of document.querySelectorAll(".media .card[data-kind=histogram]")) {
  told(async () => {
    const { steps } = await ask(`api/run/${id}/histograms`, { name: card.dataset.name });
    new Heatmap(card.querySelector(".shown"), { title: card.dataset.name, steps: steps.map((one, i) => ({ ...one, step: one.step ?? i })) });
  })();
}

// ---- files

if ($("preview")) {
  split(document.querySelector(".files"), "lx-files");
  document.querySelector(".files").addEventListener("click", told(async (event) => {
    const link = event.target.closest("a.preview");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const { kind } = link.dataset, head = element("h2", "", link.title);
    if (kind === "image") $("preview").replaceChildren(head, image(link.href, link.title));
    else if (kind === "audio" || kind === "video") $("preview").replaceChildren(head, element(kind, "", "", { src: link.href, controls: "" }));
    else {
      const most = 200000, text = await (await get(link.href, { headers: { range: `bytes=0-${most - 1}` } })).text();
      $("preview").replaceChildren(head, element("pre", "code", text), ...(text.length >= most ? [element("p", "muted", "cut here: save it to see the rest")] : []));
    }
  }));
}

if (!ended) {
  watch(told(async () => {
    panel?.refresh();
    const { runs } = await ask("api/runs", { q: `run = "${id}"`, archived: "1" });
    const now = runs[0]?.status;
    if (now !== status || (panel && runs[0] && Object.keys(runs[0].metrics).length !== JSON.parse(metrics).length)) location.reload();
    else await renew();
  }), () => log?.following && log.grow());
}
