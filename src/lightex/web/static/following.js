/** The table while runs go on: what is shown changes in its place; what is new waits to be asked for. */

const columns = (table) => [...table.querySelectorAll("thead button[data-sort]")].map((button) => button.dataset.sort).join("\n");

/**
 * @param {() => HTMLElement[]} rows that are shown @param {HTMLElement} table that is shown
 * @param {(asShown: boolean) => Promise<HTMLElement>} fetchTable as the address says, or with the columns that are shown
 * @returns {Promise<string>} in words what there would be besides; empty: nothing
 */
export async function follow(rows, table, fetchTable) {
  const now = rows();
  let next = await fetchTable(false);
  const wider = now.length && columns(next) !== columns(table); // it stays as it is until asked for
  if (wider) next = await fetchTable(true);
  const fresh = new Map([...next.querySelectorAll("tbody tr[data-id]")].map((row) => [row.dataset.id, row]));
  if (columns(next) === columns(table)) {
    for (const row of now) {
      const other = fresh.get(row.dataset.id);
      if (!other) continue;
      row.dataset.status = other.dataset.status;
      [...row.children].slice(3).forEach((cell, i) => !cell.isEqualNode(other.children[i + 3]) && cell.replaceWith(other.children[i + 3].cloneNode(true)));
    }
  }
  const before = new Set(now.map((row) => row.dataset.id)), added = [...fresh.keys()].filter((id) => !before.has(id)).length;
  return added ? `${added} new run${added === 1 ? "" : "s"}: show` : fresh.size < before.size ? "Some runs are gone: show" : wider ? "There are other columns now: show" : "";
}
