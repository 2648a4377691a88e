/** The rows of a table that is grouped. */
import { element } from "./format.js";

const MOST = 250; // runs of a group that are shown

/**
 * Opens a group, or closes it: the rows of its runs come below it.
 * @param {HTMLElement} button of the group @param {(values: object) => Promise<HTMLElement>} fetchTable of the view, changed
 * @param {() => void} ready wires what has come
 */
export async function expand(button, fetchTable, ready) {
  const row = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  button.textContent = button.textContent.replace(/^[▸▾]/, open ? "▸" : "▾");
  if (open) {
    while (row.nextElementSibling && !row.nextElementSibling.matches(".group")) row.nextElementSibling.remove();
  } else {
    const table = await fetchTable({ group: null, page: null, size: String(MOST), within: row.dataset.filter }), { total } = table.dataset;
    const more = total > MOST ? [element("tr", "", [element("td", "muted", `${MOST} of ${total} are shown: add ${row.dataset.filter} to the filter for all`, { colspan: "99" })])] : [];
    row.after(...table.querySelectorAll("tbody tr"), ...more);
  }
  ready();
}
