/** The menu of files that a table of runs can become. */
import { menu } from "./menu.js";
import { at } from "./page.js";

/** @param {HTMLElement} button @param {string[]} picked ids @param {URLSearchParams} query of the view @param {string[]} columns shown */
export function exporting(button, picked, query, columns) {
  const view = (cols) => [...query].filter(([name]) => name !== "col").concat(cols.map((name) => ["col", name]));
  menu(button, [
    ["These runs as CSV, all columns", () => (location.href = at("export.csv", view([])))],
    ["These runs as CSV, columns as shown", () => (location.href = at("export.csv", view(columns)))],
    [`${picked.length ? "Selected runs" : "This page"} with charts as one HTML file`, () => (location.href = at("export.html", [...query, ...picked.map((id) => ["run", id])]))],
  ]);
}
