/** The dialog that chooses and orders the columns of the table. */
import { element } from "./format.js";
import { ask } from "./page.js";

const ALWAYS = ["id", "experiment", "status", "created", "duration"];
const $ = (id) => document.getElementById(id);
let dragged = null;

/** @param {string[]} shown now @param {(names: string[]|null) => void} done null: as they were from the start */
export async function columns(shown, done) {
  const known = (await ask("api/names")).map(({ text }) => text);
  const all = [...shown, ...known.filter((name) => !shown.includes(name) && !ALWAYS.includes(name))];
  $("chooser-list").replaceChildren(...all.map((name) => line(name, shown.includes(name))));
  $("chooser-find").value = "";
  $("chooser-find").oninput = filter;
  const close = (names) => {
    $("chooser").close();
    if (names !== undefined) done(names);
  };
  $("chooser-ok").onclick = () => close([...$("chooser-list").querySelectorAll("input:checked")].map((box) => box.value));
  $("chooser-reset").onclick = () => close(null);
  $("chooser-no").onclick = () => close();
  $("chooser").showModal();
}

/** One name; dragging moves it, as alt and the arrows do. */
function line(name, on) {
  const box = element("input", "", "", { type: "checkbox", value: name }), node = element("li", "", [element("span", "grip", "⠿", { "aria-hidden": "true" }), element("label", "field", [box, element("span", "", name)])], { draggable: "true" });
  box.checked = on;
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

function filter() {
  let wanted;
  try {
    wanted = new RegExp($("chooser-find").value, "i");
  } catch {
    return;
  }
  for (const one of $("chooser-list").children) one.hidden = !wanted.test(one.querySelector("input").value);
}
