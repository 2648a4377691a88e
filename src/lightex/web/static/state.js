/** States as people read them. */
import { element } from "./format.js";

/** A state is told by an icon and a word; the colour only says it again. The names are those of a run's events. */
const STATES = {
  queued: ["◷", "muted"], submitted: ["◔", "accent"], running: ["▶", "accent"], succeeded: ["✓", "good"],
  failed: ["✕", "bad"], lost: ["?", "warn"], cancelled: ["■", "muted"],
};

/** @returns {{icon: string, word: string, tone: "good"|"bad"|"warn"|"accent"|"muted"}} */
export function state(name) {
  const word = String(name).toLowerCase(), [icon, tone] = STATES[word] ?? ["•", "muted"];
  return { icon, word, tone };
}

/** A state as a chip. */
export function chip(name) {
  const { icon, word, tone } = state(name);
  return element("span", `chip ${tone}`, [element("span", "", icon, { "aria-hidden": "true" }), ` ${word}`]);
}
