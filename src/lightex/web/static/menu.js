/** A menu, and a question: what is fetched when somebody clicks for it. */
import { element } from "./format.js";

const $ = (id) => document.getElementById(id);

/** A menu below a button. @param {[string, () => void][]} items */
export function menu(button, items) {
  document.querySelector(".menu.open")?.remove();
  if (!items.length) items = [["Nothing to do here", () => {}]];
  const list = element("ul", "menu open", items.map(([word, act]) => {
    const one = element("button", "", word, { role: "menuitem", type: "button" });
    one.onclick = () => (close(), act());
    return element("li", "", [one], { role: "none" });
  }), { role: "menu" });
  const rest = (event) => list.contains(event.target) || close();
  function close() {
    list.remove();
    removeEventListener("pointerdown", rest, true);
    button.focus();
  }
  const { left, bottom } = button.getBoundingClientRect();
  document.body.append(list);
  list.style.left = `${Math.min(left + scrollX, innerWidth - list.offsetWidth - 8)}px`;
  list.style.top = `${bottom + scrollY + 4}px`;
  list.onkeydown = (event) => {
    const all = [...list.querySelectorAll("button")], step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") close();
    else if (step) all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
    else return;
    event.preventDefault();
  };
  setTimeout(() => addEventListener("pointerdown", rest, true));
  list.querySelector("button")?.focus();
}

/** Asks for a line of text, or (`shown`) shows one to be copied. @returns {Promise<string>} empty where nothing was given */
export function askFor(title, value = "", shown = false) {
  const dialog = $("asker"), input = $("asker-text");
  [$("asker-title").textContent, input.value, input.readOnly, $("asker-no").hidden] = [title, value, shown, shown];
  $("asker-ok").textContent = shown ? "Close" : "Keep";
  $("asker-no").onclick = () => dialog.close();
  dialog.returnValue = "";
  dialog.showModal();
  input.select();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue && input.value.trim()), { once: true }));
}
