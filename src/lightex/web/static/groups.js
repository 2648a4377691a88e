/** The rows of a table that is grouped. */

/**
 * Opens a group, or closes it: the rows of its runs come below it.
 * @param {HTMLElement} button of the group @param {string} q the filter of the page
 * @param {(q: string) => Promise<HTMLElement>} fetchTable of a filter @param {() => void} ready wires what has come
 */
export async function expand(button, q, fetchTable, ready) {
  const row = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  button.textContent = button.textContent.replace(/^[▸▾]/, open ? "▸" : "▾");
  if (open) {
    while (row.nextElementSibling?.dataset.id) row.nextElementSibling.remove();
  } else {
    const both = q && !/\b(order by|limit)\b/i.test(q) ? `(${q}) and ${row.dataset.filter}` : row.dataset.filter;
    row.after(...(await fetchTable(both)).querySelectorAll("tbody tr"));
  }
  ready();
}
