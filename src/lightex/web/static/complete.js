/** Names offered while one writes a filter. */
import { element } from "./format.js";
import { ask } from "./page.js";

const MOST = 10;
const WORDS = ["and", "or", "not", "in", "is null", "contains", "order by", "desc", "limit"];

/** @param {HTMLInputElement} input a combobox @param {HTMLElement} list its listbox */
export function complete(input, list) {
  let known = null, chosen = -1, found = [];
  const word = () => /[^\s()<>=!~,'"`]*$/.exec(input.value.slice(0, input.selectionStart))[0];
  const close = () => {
    list.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = () => [...list.children].forEach((node, i) => {
    node.setAttribute("aria-selected", String(i === chosen));
    if (i === chosen) input.setAttribute("aria-activedescendant", node.id);
  });
  const take = (text) => {
    const end = input.selectionStart, start = end - word().length, quoted = /[\s()<>=!~,'"]/.test(text) && !WORDS.includes(text) ? `\`${text}\`` : text;
    input.setRangeText(`${quoted} `, start, end, "end");
    close();
    input.focus();
  };
  const offer = async () => {
    known ??= ask("api/names").catch(() => (known = null, []));
    const all = await known, typed = word().toLowerCase();
    if (!typed || document.activeElement !== input) return close();
    const every = [...all, ...WORDS.map((text) => ({ text, kind: "" }))];
    found = every.filter(({ text }) => text.toLowerCase().includes(typed) && text !== word())
      .sort((a, b) => Number(b.text.toLowerCase().startsWith(typed)) - Number(a.text.toLowerCase().startsWith(typed))).slice(0, MOST);
    if (!found.length) return close();
    chosen = -1;
    list.replaceChildren(...found.map(({ text, kind }, i) => {
      const node = element("li", "", [text, element("span", "muted", kind)], { role: "option", id: `name-${i}`, "aria-selected": "false" });
      node.onpointerdown = (event) => (event.preventDefault(), take(text));
      return node;
    }));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    return undefined;
  };
  input.addEventListener("input", offer);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) chosen = (chosen + step + found.length) % found.length;
    else if (event.key === "Escape") close();
    else if (event.key === "Tab" || (event.key === "Enter" && chosen >= 0)) take(found[Math.max(0, chosen)].text);
    else return;
    mark();
    event.preventDefault();
  });
}
