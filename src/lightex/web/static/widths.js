/** How wide the columns of the table are, and which stay in sight when it is scrolled sideways. */

const LEAST = 48, STEP = 16; // pixels
const sheet = new CSSStyleSheet();
document.adoptedStyleSheets.push(sheet);

/** The widths that the address gives: "120 hp.lr" and the like, a line each. @returns {Map<string, number>} pixels by the name of the column */
const given = () => new Map((new URLSearchParams(location.search).get("width") ?? "").split("\n").filter(Boolean).map((one) => [one.slice(one.indexOf(" ") + 1), parseInt(one, 10) || LEAST]));
const words = (widths) => [...widths].map(([name, pixels]) => `${pixels} ${name}`).join("\n");
const nameOf = (head) => head.querySelector("button")?.dataset.sort;

/**
 * Lays the columns out as the address says, and as somebody wishes it.
 * @param {Event} [wish] dragging the edge of a head, a double click there, shift and an arrow on its button
 * @param {(width: string) => void} [done] takes what the address is to say then
 */
export function layOut(wish, done) {
  lay(given());
  if (wish?.type === "pointerdown") drag(wish, done);
  const step = { ArrowLeft: -STEP, ArrowRight: STEP }[wish?.key], widths = given(), head = wish?.target.closest("th");
  if (wish?.type === "dblclick") widths.delete(nameOf(head)); // as wide as it needs
  else if (step && wish.shiftKey) widths.set(nameOf(head), Math.max(LEAST, head.offsetWidth + step));
  else return;
  done(words(widths));
}

function lay(widths) {
  // Rules of little weight: those for rows that are hovered or selected go before them.
  const heads = [...document.querySelectorAll("#table thead th")], cells = (head) => `:where(#table tr:not(.group)) > :nth-child(${head.cellIndex + 1})`;
  sheet.replaceSync(heads.filter((head) => widths.has(nameOf(head))).map((head) => {
    const pixels = `${widths.get(nameOf(head))}px`;
    return `${cells(head)} { min-width: ${pixels}; max-width: ${pixels}; overflow: hidden; text-overflow: ellipsis; }`;
  }).join("\n"));
  let left = 0, rules = ""; // what stays in sight, one column beside the other
  for (const head of heads.filter((one) => one.matches(".pinned, .frozen"))) {
    if (head.matches(".frozen")) {
      rules += `${cells(head)} { position: sticky; left: ${left}px; z-index: 2; background: var(--bg); }
        :where(#table) thead tr > :nth-child(${head.cellIndex + 1}) { left: ${left}px; z-index: 3; background: var(--sunken); }`;
    }
    left += head.offsetWidth;
  }
  sheet.replaceSync([...sheet.cssRules].map((rule) => rule.cssText).join("\n") + rules);
}

/** Makes a column as wide as the pointer says until it is let go. */
function drag(event, done) {
  const head = event.target.closest("th"), from = event.clientX - head.offsetWidth, widths = given(), end = new AbortController();
  let moved = false; // a click, or a double click, is no drag
  const stop = () => {
    end.abort();
    if (moved) done(words(widths));
  };
  addEventListener("pointermove", ({ clientX, buttons }) => {
    if (!buttons) return void stop(); // it was let go before this module was here
    moved = true;
    widths.set(nameOf(head), Math.max(LEAST, Math.round(clientX - from)));
    return void lay(widths);
  }, { signal: end.signal });
  addEventListener("pointerup", stop, { signal: end.signal });
  addEventListener("pointercancel", stop, { signal: end.signal });
}
