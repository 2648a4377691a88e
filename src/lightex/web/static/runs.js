/** The first page: the table follows the address, the charts follow the table. */
import { complete } from "./complete.js";
import { element } from "./format.js";
import { ask, at, keys, menu, paint, send, split, toast, told, watch } from "./page.js";
import { Panel, address } from "./panel.js";

const $ = (id) => document.getElementById(id);
const picked = new Map(); // id -> label, over all pages of the table
let cursor = -1;

const panel = new Panel($("charts"), address, light);
split($("split"), "lx-split");
complete($("q"), $("names"));

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
  const mine = (asked += 1), table = await fetchTable(query());
  if (mine !== asked) return;
  $("table").replaceWith(document.adoptNode(table));
  $("q").value = address.get("q");
  $("group").value = address.get("group");
  $("q").setAttribute("aria-invalid", String(Boolean(table.querySelector(".filter-error"))));
  $("news").hidden = true;
  cursor = -1;
  ready();
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
  panel.show(rows().map((row) => ({ id: row.dataset.id, label: labelOf(row), live: row.dataset.status === "RUNNING" })),
    JSON.parse($("table").dataset.metrics));
  count();
}

function setEye(row, on) {
  row.querySelector(".eye").setAttribute("aria-pressed", String(on));
  row.classList.toggle("off", !on);
  panel.hidden[on ? "delete" : "add"](row.dataset.id);
}

function count() {
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

// ---- the table

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
  } else if (button?.classList.contains("expand")) told(expand)(button);
});
section.addEventListener("change", ({ target }) => {
  if (target.id === "all") rows().forEach((row) => pick(row, target.checked));
  else if (target.classList.contains("pick")) pick(target.closest("tr"), target.checked);
  else if (target.id === "size") go({ size: target.value === "50" ? null : target.value });
});
section.addEventListener("pointerover", ({ target }) => panel.light(target.closest("tr[data-id]")?.dataset.id ?? null));
section.addEventListener("pointerleave", () => panel.light(null));

/** Opens a group: the rows of its runs come below it. */
async function expand(button) {
  const row = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  button.textContent = button.textContent.replace(/^[▸▾]/, open ? "▸" : "▾");
  if (open) {
    while (row.nextElementSibling?.dataset.id) row.nextElementSibling.remove();
  } else {
    const q = address.get("q"), both = q && !/\b(order by|limit)\b/i.test(q) ? `(${q}) and ${row.dataset.filter}` : row.dataset.filter;
    const heads = [...document.querySelectorAll("#table thead th button[data-sort]")].slice(5).map((one) => one.dataset.sort);
    const table = await fetchTable(query({ group: null, q: both, col: heads, page: null }));
    row.after(...table.querySelectorAll("tbody tr"));
  }
  const metrics = JSON.parse($("table").dataset.metrics);
  ready();
  panel.show(panel.runs, metrics);
}

// ---- above the table

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
$("export").onclick = () => {
  const ids = [...picked.keys()].map((id) => ["run", id]);
  menu($("export"), [
    ["These runs as CSV, all columns", () => (location.href = at("export.csv", query({ col: null })))],
    ["These runs as CSV, columns as shown", () => (location.href = at("export.csv", query({ col: shownColumns() })))],
    [`${ids.length ? "Selected runs" : "This page"} with charts as one HTML file`, () => (location.href = at("export.html", ids.length ? ids : query()))],
  ]);
};
$("views").onclick = () => {
  const kept = JSON.parse(localStorage.getItem("lx-views") ?? "{}"), keep = (all) => localStorage.setItem("lx-views", JSON.stringify(all));
  menu($("views"), [
    ...Object.entries(kept).map(([name, search]) => [name, () => {
      history.pushState(null, "", location.pathname + search);
      told(load)();
    }]),
    ["All runs", () => go(Object.fromEntries([...query().keys()].map((name) => [name, null])))],
    ["Runs that were put away too", () => go({ archived: "1" })],
    ["Keep this view…", () => {
      const name = prompt("What is this view called?", address.get("q"));
      if (name) keep({ ...kept, [name]: location.search });
    }],
    ...(Object.keys(kept).length ? [["Forget a view…", () => {
      const name = prompt(`Which? ${Object.keys(kept).join(", ")}`);
      if (name in kept) {
        delete kept[name];
        keep(kept);
      }
    }]] : []),
  ]);
};

const shownColumns = () => [...document.querySelectorAll("#table thead th button[data-sort]")].slice(5).map((one) => one.dataset.sort);

$("columns").onclick = told(async () => {
  const shown = shownColumns(), known = (await ask("api/names")).map(({ text }) => text);
  const all = [...shown, ...known.filter((name) => !shown.includes(name) && !["id", "experiment", "status", "created", "duration"].includes(name))];
  $("chooser-list").replaceChildren(...all.map((name) => {
    const box = element("input", "", "", { type: "checkbox", value: name });
    box.checked = shown.includes(name);
    const line = element("li", "", [element("label", "field", [box, name])], { draggable: "true" });
    line.onkeydown = (event) => { // alt and arrows reorder, as dragging does
      const other = { ArrowUp: line.previousElementSibling, ArrowDown: line.nextElementSibling }[event.altKey ? event.key : ""];
      if (other) other[event.key === "ArrowUp" ? "before" : "after"](line), box.focus();
    };
    line.ondragstart = () => (dragged = line);
    line.ondragover = (event) => (event.preventDefault(), dragged !== line && line[event.offsetY < line.offsetHeight / 2 ? "before" : "after"](dragged));
    return line;
  }));
  $("chooser-find").value = "";
  $("chooser").showModal();
});
let dragged = null;
$("chooser-find").oninput = () => {
  let wanted;
  try {
    wanted = new RegExp($("chooser-find").value, "i");
  } catch {
    return;
  }
  for (const line of $("chooser-list").children) line.hidden = !wanted.test(line.textContent);
};
$("chooser-ok").onclick = () => {
  $("chooser").close();
  go({ col: [...$("chooser-list").querySelectorAll("input:checked")].map((box) => box.value) });
};
$("chooser-reset").onclick = () => {
  $("chooser").close();
  go({ col: null });
};

function note() {
  if (!picked.size) return toast("select some runs first: x, or the boxes on the left");
  $("noter-title").textContent = `Note on ${picked.size === 1 ? [...picked.values()][0] : `${picked.size} runs`}`;
  $("noter-note").value = "";
  $("noter-tags").value = "";
  $("noter-away").indeterminate = true;
  $("noter").showModal();
  return undefined;
}
$("note").onclick = note;
$("noter").onclose = told(async () => {
  const { returnValue } = $("noter");
  $("noter").returnValue = "";
  if (returnValue !== "ok") return;
  const lines = $("noter-tags").value.split("\n").map((line) => line.trim()).filter(Boolean), wrong = lines.find((line) => !/^[^=]+=/.test(line));
  if (wrong) throw new Error(`not a tag: ${wrong}. Write NAME=VALUE`);
  const tags = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")).trim(), line.slice(line.indexOf("=") + 1).trim() || null]));
  const value = { runs: [...picked.keys()], tags };
  if ($("noter-note").value) value.note = $("noter-note").value;
  if (!$("noter-away").indeterminate) value.archived = $("noter-away").checked;
  const { changed } = await send("api/notes", value);
  toast(`noted on ${changed.length} run${changed.length === 1 ? "" : "s"}`, "good");
  await load();
});

addEventListener("popstate", told(load));
keys({
  "/": () => $("q").focus(), j: () => move(1), k: () => move(-1), c: compare, ".": note,
  x: () => rows()[cursor] && pick(rows()[cursor]),
  Enter: () => rows()[cursor]?.querySelector("th a").click(),
});

// ---- live: what is shown changes in its place; what is new waits to be asked for

watch(told(async () => {
  if (document.querySelector("#table .group")) return;
  const table = await fetchTable(query()), fresh = new Map([...table.querySelectorAll("tbody tr[data-id]")].map((row) => [row.dataset.id, row]));
  const columns = (one) => one.querySelectorAll("thead th").length, now = rows();
  if (columns(table) === columns($("table"))) {
    for (const row of now) {
      const next = fresh.get(row.dataset.id);
      if (!next) continue;
      row.dataset.status = next.dataset.status;
      [...row.children].slice(3).forEach((cell, i) => cell.outerHTML !== next.children[i + 3].outerHTML && cell.replaceWith(next.children[i + 3].cloneNode(true)));
    }
  }
  const before = new Set(now.map((row) => row.dataset.id)), added = [...fresh.keys()].filter((id) => !before.has(id)).length;
  $("news").hidden = !added && fresh.size === before.size;
  if (!now.length && fresh.size) await load();
  $("news").firstElementChild.textContent = added ? `${added} new run${added === 1 ? "" : "s"}: show` : "Some runs are gone: show";
  if (now.some((row) => row.dataset.status === "RUNNING")) panel.refresh();
}));
$("news").firstElementChild.onclick = told(load);
ready();
