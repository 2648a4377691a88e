/** Terminal output as nodes: colours kept, progress bars folded, every other control dropped. */

/** An SGR sequence (captured), or another CSI, OSC, string or two-letter sequence, or a stray control character. */
const CONTROL = /\x1b\[([\d;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]/g;
const STYLES = { 1: ["bold"], 2: ["dim"], 3: ["italic"], 4: ["underline"], 7: ["invert"], 9: ["strike"],
  22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["invert"], 29: ["strike"] };
const LEVELS = [0, 95, 135, 175, 215, 255];

const BASIC = ["muted", "bad", "good", "warn", "accent", "magenta", "cyan", "text"];

/** A colour of the 256: the first 16 follow the theme, then comes a cube, then greys. */
function indexed(n) {
  if (n < 16) return `var(--${BASIC[n % 8]})`;
  if (n > 231) return `rgb(${Array(3).fill(8 + 10 * (n - 232))})`;
  return `rgb(${[36, 6, 1].map((d) => LEVELS[Math.floor((n - 16) / d) % 6])})`;
}

/** The state after an SGR sequence. @param {Record<string, any>} state @param {string} codes such as "1;38;5;208" */
function styled(state, codes) {
  const list = codes.split(/[;:]/).map(Number), next = { ...state };
  for (let i = 0; i < list.length; i += 1) {
    const code = list[i], kind = { 3: "color", 4: "ground", 9: "color", 10: "ground" }[Math.floor(code / 10)], unit = code % 10;
    if (code === 0) for (const key of Object.keys(next)) delete next[key];
    else if (STYLES[code]) for (const key of STYLES[code]) next[key] = code < 10;
    else if (kind && unit < 8) next[kind] = indexed(unit + (code >= 90 ? 8 : 0));
    else if (kind && unit === 9) delete next[kind];
    else if (kind && list[i + 1] === 5) next[kind] = indexed(list[i += 2]);
    else if (kind && list[i + 1] === 2) next[kind] = `rgb(${list.slice(i + 2, (i += 4) + 1)})`;
  }
  return next;
}

function piece(text, state) {
  const keys = Object.keys(state).filter((key) => state[key]);
  if (!keys.length) return document.createTextNode(text);
  const span = document.createElement("span");
  span.className = keys.filter((key) => key !== "color" && key !== "ground").map((key) => `ansi-${key}`).join(" ");
  if (state.color) span.style.color = state.color;
  if (state.ground) span.style.background = state.ground.replace(/^var.*/, "color-mix(in srgb, $& 35%, transparent)"); // legible in both themes
  span.textContent = text;
  return span;
}

/** What a carriage return leaves of a line: its last state, with the colours set before. */
export function folded(line) {
  const ended = line.replace(/\r+$/, ""), at = ended.lastIndexOf("\r");
  return at < 0 ? ended : (ended.slice(0, at).match(/\x1b\[[\d;:]*m/g) ?? []).join("") + ended.slice(at + 1);
}

/**
 * Appends text without carriage returns to `parent`. @param {Record<string, any>} state what earlier text left on
 * @returns {Record<string, any>} what this text leaves on
 */
export function appendAnsi(parent, text, state = {}) {
  let last = 0, now = state, plain = "";
  const flush = () => {
    if (plain) parent.append(piece(plain, now));
    plain = "";
  };
  for (const found of text.matchAll(CONTROL)) {
    plain += text.slice(last, found.index);
    last = found.index + found[0].length;
    if (found[1] === undefined) continue;
    flush();
    now = styled(now, found[1]);
  }
  plain += text.slice(last);
  flush();
  return now;
}
