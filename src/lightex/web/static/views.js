/** The menu of views that the reader has kept, in this browser. */
import { askFor, menu } from "./menu.js";

const KEY = "lx-views";

/** @param {HTMLElement} button @param {(values: object) => void} go to other parts of the address @param {() => void} load what the address says */
export function views(button, go, load) {
  const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}"), keep = (all) => localStorage.setItem(KEY, JSON.stringify(all));
  const all = Object.fromEntries([...new URLSearchParams(location.search).keys()].map((name) => [name, null]));
  menu(button, [
    ...Object.entries(kept).map(([name, search]) => [name, () => {
      history.pushState(null, "", location.pathname + search);
      load();
    }]),
    ["All runs", () => go(all)],
    ["Runs that were put away too", () => go({ archived: "1" })],
    ["Keep this view…", async () => {
      const name = await askFor("Name of this view", new URLSearchParams(location.search).get("q") ?? "");
      if (name) keep({ ...kept, [name]: location.search });
    }],
    ...(Object.keys(kept).length ? [["Forget a view…", () => menu(button, Object.keys(kept).map((name) => [`Forget ${name}`, () => {
      delete kept[name];
      keep(kept);
    }]))]] : []),
  ]);
}
