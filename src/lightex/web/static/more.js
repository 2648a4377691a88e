/** What there is to do with a chart of a panel. */
import { menu } from "./menu.js";
import { told } from "./page.js";
import { save } from "./saving.js";

/** @param {HTMLElement} button @param {object} card of the panel @param {Panel} panel */
export function more(button, card, panel) {
  const file = (kind) => told(async () => card.chart && save(card.chart, kind)), pins = panel.pins, { name } = card;
  menu(button, [
    [pins.includes(name) ? "Unpin" : "Pin before all others", () => panel.pin(pins.includes(name) ? pins.filter((one) => one !== name) : [...pins, name])],
    ["Larger or smaller", () => card.node.classList.toggle("large")], ["All of it", () => card.chart?.reset()],
    ["Save as PNG", file("png")], ["Save as CSV", file("csv")],
  ]);
}
