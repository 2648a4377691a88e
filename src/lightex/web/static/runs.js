/** The first page: the table follows the address, the charts follow the table. */
import { at, keys, paint, split, toast, told, watch } from "./page.js";
import { Panel, address } from "./panel.js";

const $ = (id) => document.getElementById(id);
const picked = new Map(JSON.parse(sessionStorage.getItem("lx-picked") ?? "[]")); // id -> label, over all pages of the table
let cursor = -1, laidOut = false;

const panel = new Panel($("charts"), address, light);
split($("split"), "lx-split");

const rows = () => [...document.querySelectorAll("#table tbody tr[data-id]")];
const labelOf = (row) => row.querySelector("th a").textContent;

/** What the address says, changed; null takes a part away. @param {Record<string, string|string[]|null>} values */
function query(values = {}) {
  const all = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    all.delete(name);
    [value ?? []].flat().filter((one) => one !== "").forEach((one) => all.append(name, one));
  }
  return all;
}

/** Goes to another view: the address first, then the table. */
const go = told(async (values) => {
  const all = query({ page: null, ...values });
  history.pushState(null, "", `${location.pathname}${all.size ? `?${all}` : ""}`);
  await load();
});

/** The part of a page that changes, as the server makes it. */
async function fetchTable(all) {
  const answer = await fetch(`${location.pathname}?${new URLSearchParams([...all, ["part", "table"]])}`);
  if (answer.status !== 200 && answer.status !== 400) throw new Error(`the server answered ${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("table");
}

let asked = 0;
async function load() {
  const mine = (asked += 1), table = await fetchTable(query()), { sort } = document.activeElement.dataset;
  if (mine !== asked) return;
  $("table").replaceWith(document.adoptNode(table));
  $("q").value = address.get("q");
  $("group").value = address.get("group");
  $("q").setAttribute("aria-invalid", String(Boolean(table.querySelector(".filter-error"))));
  $("news").hidden = true;
  cursor = -1;
  ready();
  if (sort) document.querySelector(`thead [data-sort="${CSS.escape(sort)}"]`)?.focus();
}

/** Wires what has just come, and shows its curves. */
function ready() {
  paint($("table"));
  const hidden = new Set(address.get("hide").split(",").filter(Boolean));
  for (const row of rows()) {
    row.querySelector(".pick").checked = picked.has(row.dataset.id);
    row.classList.toggle("selected", picked.has(row.dataset.id));
    setEye(row, !hidden.has(labelOf(row)));
  }
  let group = "";
  const shown = [];
  for (const row of document.querySelectorAll("#table tbody tr")) {
    if (row.dataset.id) shown.push({ id: row.dataset.id, label: labelOf(row), live: row.dataset.status === "RUNNING", group });
    else group = row.querySelector(".expand")?.textContent.replace(/^[▸▾] /, "") ?? group;
  }
  panel.show(shown, shown.length ? JSON.parse($("table").dataset.metrics) : [], "Open a group to see the curves of its runs.");
  if (laidOut || /width=|freeze=/.test(location.search)) widths();
  count();
}

function setEye(row, on) {
  row.querySelector(".eye").setAttribute("aria-pressed", String(on));
  row.classList.toggle("off", !on);
  panel.hidden[on ? "delete" : "add"](row.dataset.id);
}

function count() {
  sessionStorage.setItem("lx-picked", JSON.stringify([...picked]));
  $("picked").hidden = !picked.size;
  $("count").textContent = `${picked.size} selected`;
  $("compare").disabled = picked.size < 2;
}

function pick(row, on = !picked.has(row.dataset.id)) {
  if (on) picked.set(row.dataset.id, labelOf(row));
  else picked.delete(row.dataset.id);
  row.querySelector(".pick").checked = on;
  row.classList.toggle("selected", on);
  count();
}

function light(id) {
  for (const row of rows()) row.classList.toggle("hovered", row.dataset.id === id);
}

function move(step) {
  const all = rows();
  all[cursor]?.classList.remove("cursor");
  cursor = Math.min(all.length - 1, Math.max(0, cursor + step));
  all[cursor]?.classList.add("cursor");
  all[cursor]?.scrollIntoView({ block: "nearest" });
  panel.light(all[cursor]?.dataset.id ?? null);
}

function compare() {
  if (picked.size < 2) toast("select two runs or more: x, or the boxes on the left");
  else location.href = at("compare", [...picked.keys()].map((id) => ["run", id]));
}

const section = $("split").firstElementChild;
section.addEventListener("click", (event) => {
  const { target } = event, button = target.closest("button"), row = target.closest("tr[data-id]");
  if (button?.dataset.sort) {
    const name = button.dataset.sort, now = address.get("sort"), number = button.closest("th").classList.contains("num");
    const order = number ? [`-${name}`, name, null] : [name, `-${name}`, null];
    go({ sort: order[(order.indexOf(now) + 1) % 3] });
  } else if (button?.dataset.page) go({ page: button.dataset.page });
  else if (button?.classList.contains("eye")) {
    const on = button.getAttribute("aria-pressed") !== "true", hidden = new Set(address.get("hide").split(",").filter(Boolean));
    hidden[on ? "delete" : "add"](labelOf(row));
    address.set({ hide: [...hidden].join(",") });
    setEye(row, on);
    panel.hide(row.dataset.id, !on);
  } else if (button?.classList.contains("expand")) told(async () => (await import("./groups.js")).expand(button, (values) => fetchTable(query({ ...values, col: shownColumns() })), ready))();
});
section.addEventListener("change", ({ target }) => {
  if (target.id === "all") rows().forEach((row) => pick(row, target.checked));
  else if (target.classList.contains("pick")) pick(target.closest("tr"), target.checked);
  else if (target.id === "size") go({ size: target.value === "50" ? null : target.value });
});
async function widths(event) {
  laidOut = true;
  (await import("./widths.js")).layOut(event, (width) => {
    address.set({ width });
    told(load)();
  });
}
for (const [kind, where] of [["pointerdown", ".edge"], ["dblclick", ".edge"], ["keydown", "thead button"]]) section.addEventListener(kind, (event) => event.target.matches(where) && widths(event));
section.addEventListener("pointerover", ({ target }) => panel.light(target.closest("tr[data-id]")?.dataset.id ?? null));
section.addEventListener("pointerleave", () => panel.light(null));

$("bar").onsubmit = (event) => {
  event.preventDefault();
  go({ q: $("q").value.trim() });
};
$("group").onchange = () => go({ group: $("group").value.trim() });
$("compare").onclick = compare;
$("unpick").onclick = () => {
  picked.clear();
  ready();
};
// If wanted:
const offer = told(async () => {
  const before = $("q").value, { complete } = await import("./complete.js");
  $("q").removeEventListener("focus", offer);
  complete($("q"), $("names"));
  if ($("q").value !== before) $("q").dispatchEvent(new Event("input"));
});
$("q").addEventListener("focus", offer);
if (document.activeElement === $("q")) offer();
$("export").onclick = told(async () => (await import("./exporting.js")).exporting($("export"), [...picked.keys()], query(), shownColumns()));
$("views").onclick = told(async () => (await import("./views.js")).views($("views"), go, told(load)));
$("columns").onclick = told(async () => (await import("./columns.js")).columns(shownColumns(), query().getAll("freeze"), go));

const shownColumns = () => [...document.querySelectorAll("#table thead th button[data-sort]")].slice(5).map((one) => one.dataset.sort);

const note = told(async () => {
  if (picked.size) await (await import("./notes.js")).note(picked, load);
  else toast("select some runs first: x, or the boxes on the left");
});
$("note").onclick = note;
$("acts").onclick = told(async () => (await import("./acting.js")).together($("acts"), [...picked.keys()]));

addEventListener("popstate", told(load));
keys({
  "/": () => $("q").focus(), j: () => move(1), k: () => move(-1), c: compare, ".": note,
  x: () => rows()[cursor] && pick(rows()[cursor]),
  Enter: () => rows()[cursor]?.querySelector("th a").click(),
});

watch(told(async () => {
  if (document.querySelector("#table .group")) return;
  const { follow } = await import("./following.js"), none = !rows().length;
  const news = await follow(rows, $("table"), (asShown) => fetchTable(query(asShown ? { col: shownColumns() } : {})));
  $("news").hidden = !news;
  $("news").firstElementChild.textContent = news;
  if (none && news) await load();
  if (document.querySelector("#table tr[data-status=RUNNING]")) panel.refresh();
}));
$("news").firstElementChild.onclick = told(load);
ready();
