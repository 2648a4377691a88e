/** The monitor: what every job is doing. Rows change in their place; what there is to do is in their menus. */
import { act, deeds } from "./acting.js";
import { menu } from "./menu.js";
import { at, ask, paint, toast, told, watch } from "./page.js";

const part = () => document.getElementById("live-part");

/** Takes over what is new of a part without touching what is the same: neither scroll nor focus is lost. */
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.dataset?.key !== fresh.dataset?.key) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return undefined;
  }
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "style") old.removeAttribute(name);
  const known = new Map([...old.children].filter((node) => node.dataset.key).map((node) => [node.dataset.key, node]));
  let here = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const same = next.dataset?.key && known.get(next.dataset.key);
    if (same && same !== here) old.insertBefore(same, here);
    const match = same ?? here;
    if (!match) old.append(next);
    else if (!same && match.dataset?.key && known.get(match.dataset.key)) old.insertBefore(next, match);
    else {
      here = match.nextSibling;
      morph(match, next);
    }
  }
  while (here) {
    const gone = here;
    here = here.nextSibling;
    gone.remove();
  }
  return undefined;
}

let busy = false, again = false;
const refresh = told(async () => {
  if (busy) return void (again = true);
  busy = true;
  try {
    const answer = await fetch(at("live", { part: "live" }));
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live-part");
    if (!document.querySelector(".menu.open")) morph(part(), document.adoptNode(fresh));
    paint(part());
  } finally {
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }
  return undefined;
});
watch(refresh, refresh);

let log = null;
const grow = () => log?.following && log.grow();
watch(grow, grow);

/** Shows the output of a run below the tables, or of none; the address says whose, so that a link shows the same. */
const drawer = document.getElementById("drawer"), shownLog = () => new URLSearchParams(location.search).get("log");
const showDrawer = told(async () => {
  const id = shownLog();
  drawer.hidden = !id;
  log?.destroy();
  log = null;
  if (!id) return;
  const { showLog } = await import("./logging.js"), title = document.getElementById("drawer-title");
  if (id !== shownLog() || log) return; // another one was asked for meanwhile
  Object.assign(title, { textContent: id.split("-").slice(2).join("-"), href: at(`run/${id}`, { tab: "logs" }) });
  drawer.dataset.id = id;
  paint(drawer);
  log = showLog(document.getElementById("drawer-log"), id, "output.log", true);
  log.text.focus();
});
function openLog(id) {
  const query = new URLSearchParams(location.search);
  if (id) query.set("log", id);
  else query.delete("log");
  history.pushState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  showDrawer();
}
addEventListener("popstate", showDrawer);
function closeLog() {
  const row = part().querySelector(`tr[data-id="${CSS.escape(shownLog())}"]`);
  openLog(null);
  row?.querySelector(".act").focus();
}
document.getElementById("drawer-close").onclick = closeLog;
drawer.addEventListener("keydown", ({ key }) => key === "Escape" && closeLog());

document.getElementById("main").addEventListener("click", told(async ({ target }) => {
  const button = target.closest("button");
  if (button?.classList.contains("why")) {
    const { facts } = await ask(`api/run/${button.dataset.run}/why`);
    toast(facts.join(" · "));
  } else if (button?.classList.contains("act")) menu(button, items(button.dataset, button.closest("tr").querySelector("th a").textContent));
}));

/** What there is to do about a run or a sweep in its state. */
function items({ runs, sweep, state }, name) {
  if (sweep) {
    const stop = ["Stop all of it", () => act("stop", { sweep }, `End all runs of sweep ${sweep}?`)], resume = () => act("resume", { sweep });
    return { paused: [stop, ["Go on", resume]], work: [stop, ["Pause", () => act("pause", { sweep })]], left: [stop, ["Resume", resume]], failed: [["Run again what has not succeeded", resume]] }[state];
  }
  return [
    ...deeds(runs, name, state),
    ["Its output", () => openLog(runs)],
    ["Output of all that run", () => (location.href = at("logs", [...document.querySelectorAll("[aria-label=Running] tr[data-id]")].slice(0, 12).map((row) => ["run", row.dataset.id])))],
  ];
}

paint(part());
if (shownLog()) showDrawer();
