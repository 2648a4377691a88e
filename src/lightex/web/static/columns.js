/** The dialog that chooses and orders the columns of the table, and those that stay in sight. */
import { element } from "./format.js";
import { ask } from "./page.js";

const ALWAYS = ["id", "experiment", "status", "created", "duration"];
const $ = (id) => document.getElementById(id);
let dragged = null;

/** @param {string[]} shown now @param {string[]} frozen those that stay in sight @param {(values: object) => void} go to other parts of the address */
export async function columns(shown, frozen, go) {
  const known = (await ask("api/names")).map(({ text }) => text);
  const all = [...shown, ...known.filter((name) => !shown.includes(name) && !ALWAYS.includes(name))];
  $("chooser-list").replaceChildren(...all.map((name) => line(name, shown.includes(name), frozen.includes(name))));
  $("chooser-find").value = "";
  $("chooser-find").oninput = filter;
  const close = (values) => {
    $("chooser").close();
    if (values) go(values);
  };
  const names = (which) => [...$("chooser-list").querySelectorAll(`li:has(input:checked)${which} input`)].map((box) => box.value);
  $("chooser-ok").onclick = () => close({ col: names(""), freeze: names(":has([aria-pressed=true])") });
  $("chooser-reset").onclick = () => close({ col: null, freeze: null, width: null });
  $("chooser-no").onclick = () => close();
  $("chooser").showModal();
}

/** One name; dragging moves it, as alt and the arrows do. */
function line(name, on, frozen) {
  const box = element("input", "", "", { type: "checkbox", value: name }), stay = element("button", "btn plain", "stays", { type: "button", title: "It stays in sight when the table is scrolled sideways", "aria-label": `${name} stays in sight`, "aria-pressed": String(frozen) });
  const node = element("li", "", [element("span", "grip", "⠿", { "aria-hidden": "true" }), element("label", "field", [box, element("span", "", name)]), stay], { draggable: "true" });
  box.checked = on;
  stay.onclick = () => {
    stay.ariaPressed = String(stay.ariaPressed !== "true");
    if (stay.ariaPressed === "true") box.checked = true;
  };
  node.onkeydown = (event) => {
    const other = { ArrowUp: node.previousElementSibling, ArrowDown: node.nextElementSibling }[event.altKey ? event.key : ""];
    if (!other) return;
    event.preventDefault();
    other[event.key === "ArrowUp" ? "before" : "after"](node);
    box.focus();
  };
  node.ondragstart = () => (dragged = node);
  node.ondragover = (event) => {
    event.preventDefault();
    if (dragged !== node) node[event.offsetY < node.offsetHeight / 2 ? "before" : "after"](dragged);
  };
  return node;
}

/** Shows the names that a regular expression finds, with or without their kind: ^val finds metrics.val.acc. */
function filter() {
  let wanted = null;
  try {
    wanted = new RegExp($("chooser-find").value, "i");
  } catch { /* it is marked; what is shown stays */ }
  $("chooser-find").setAttribute("aria-invalid", String(!wanted));
  for (const one of wanted ? $("chooser-list").children : []) {
    const name = one.querySelector("input").value;
    one.hidden = !wanted.test(name) && !wanted.test(name.slice(name.indexOf(".") + 1));
  }
}
