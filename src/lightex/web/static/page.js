/** What every page has: asking the server, toasts, the theme, keys, times that stay true, the stream of changes. */
import { colorOf } from "./color.js";
import { absolute, ago, element } from "./format.js";

export const base = document.body.dataset.base;
const $ = (id) => document.getElementById(id);

/** A path of the server, below whatever prefix a proxy has put before it. */
export const at = (path, query) => base + path + (query ? `?${new URLSearchParams(query)}` : "");

/** JSON of the server; its words where it refuses. @param {string} path @param {[string, any][]|object} [query] */
export async function ask(path, query, options) {
  return (await get(at(path, query), options)).json();
}

/** What the server answers at an address; throws its words where it refuses. @returns {Promise<Response>} */
export async function get(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("the server does not answer: has lx ui ended?");
  }
  if (answer.ok) return answer;
  const { error, details = [] } = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  throw Object.assign(new Error(error), { details });
}

export const send = (path, value) => ask(path, undefined, { method: "POST", body: JSON.stringify(value), headers: { "content-type": "application/json" } });

/** Tells something for some seconds, while the pointer is on it for longer; a click takes it away. @param {"good"|"bad"|""} tone */
export function toast(text, tone = "") {
  const node = element("div", `toast ${tone}`, text, tone === "bad" ? { role: "alert" } : {});
  let timer;
  const stay = () => clearTimeout(timer), go = () => (timer = setTimeout(() => node.remove(), tone === "bad" ? 10000 : 5000));
  Object.assign(node, { onclick: () => node.remove(), onpointerenter: stay, onpointerleave: go });
  $("toasts").append(node);
  go();
}

/** Fetches the page anew and exchanges those of its parts marked `data-live` that have changed. */
export async function renew() {
  const answer = await fetch(location.href), next = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (answer.status === 404) {
    watchers.length = 0; // once
    throw new Error("it is gone: its folder was removed");
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = next.getElementById(part.id);
    if (now && now.textContent !== part.textContent) part.replaceWith(document.adoptNode(now));
  }
  paint();
}

/** Wraps what a click starts: what goes wrong is told. */
export const told = (act) => async (...given) => {
  try {
    return await act(...given);
  } catch (error) {
    toast([error.message, ...(error.details ?? [])].join(" · "), "bad");
    return undefined;
  }
};

/** Paints what stands for runs in the runs' own colours. */
export function paint(within = document) {
  for (const swatch of within.querySelectorAll("[data-id] .swatch")) swatch.style.background = colorOf(swatch.closest("[data-id]").dataset.id);
}

const watchers = [];
let stream = null, last = null, missed = false; // what happened while there was no stream

/** One stream for the page; none while nobody sees it: browsers open six to one server, over all their tabs. */
function listen() {
  stream?.close();
  if (document.hidden) return void (missed = true);
  const note = $("live"), opened = stream = new EventSource(at("api/live"));
  stream.onmessage = ({ data }) => {
    note.textContent = "";
    if (missed || (last !== null && data !== last)) watchers.forEach((acts) => new Set(acts).forEach((act) => act?.()));
    [last, missed] = [data, false];
  };
  stream.addEventListener("beat", () => watchers.forEach(([, beat]) => beat?.()));
  stream.onerror = () => (note.textContent = opened === stream ? "not connected: shown as it was" : "");
}

/**
 * Calls when runs have changed.
 * @param {() => void} changed @param {() => void} [beat] then, and more than once a second while something runs: what it uses and prints has changed
 */
export function watch(changed, beat = null) {
  if (watchers.push([changed, beat]) > 1) return;
  listen();
  document.addEventListener("visibilitychange", listen);
}

/** Two panes: drag, or arrow keys. */
export function split(host, key) {
  const bar = host.querySelector(".splitter");
  const set = (share) => {
    const whole = Math.min(85, Math.max(15, share));
    host.style.setProperty("--left", `${whole}%`);
    bar.setAttribute("aria-valuenow", Math.round(whole));
    localStorage.setItem(key, whole);
  };
  set(Number(localStorage.getItem(key)) || Number(bar.getAttribute("aria-valuenow")));
  bar.onpointerdown = (event) => bar.setPointerCapture(event.pointerId);
  bar.onpointermove = (event) => bar.hasPointerCapture(event.pointerId) && set((100 * (event.clientX - host.getBoundingClientRect().left)) / host.offsetWidth);
  bar.onkeydown = (event) => {
    const step = { ArrowLeft: -3, ArrowRight: 3 }[event.key];
    if (step) set(Number(bar.getAttribute("aria-valuenow")) + step);
  };
}

/** Keys that act when nobody is writing. @param {Record<string, (event: KeyboardEvent) => void>} acts */
export function keys(acts) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select, dialog, .chart, .log, .menu")) return;
    if (event.key === "Enter" && event.target.closest("a, button, summary")) return; // it has a meaning there
    if (acts[event.key]) {
      event.preventDefault();
      acts[event.key](event);
    }
  });
}

function theme() {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("lx-theme", root.dataset.theme);
}

$("theme").onclick = theme;
const help = () => $("keys").showModal();
$("help").onclick = help;
keys({ t: theme, "?": help });
paint();
setInterval(() => document.querySelectorAll("time[data-time]").forEach((node) => {
  node.textContent = ago(Number(node.dataset.time));
  node.title = absolute(Number(node.dataset.time));
}), 30000);
