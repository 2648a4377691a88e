/** Numbers, times, sizes, names and states as people read them; what was cut or rounded goes into a `title`. */

/** How a state is told: an icon and a word; the colour only says it again. The names are those of a run's events. */
const STATES = {
  queued: ["◷", "muted"], waiting: ["◷", "muted"], submitted: ["◔", "accent"], running: ["▶", "accent"],
  succeeded: ["✓", "good"], failed: ["✕", "bad"], lost: ["?", "warn"], cancelled: ["■", "muted"], pruned: ["✂", "muted"],
};

/**
 * At most `digits` significant digits; whole numbers below a million are left whole.
 * @param {number|string|null|undefined} value also "NaN", "Infinity", "-Infinity", as JSON has to spell them
 */
export function number(value, digits = 4) {
  if (value === null || value === undefined || value === "") return "–";
  const v = Number(value), size = Math.abs(v);
  if (Number.isNaN(v)) return "NaN";
  if (size === Infinity) return v > 0 ? "∞" : "−∞";
  if (v === 0 || (Number.isInteger(v) && size < 1e6)) return String(v).replace("-", "−");
  const text = size >= 1e6 || size < 1e-4
    ? v.toExponential(digits - 1).replace(/\.?0+e\+?/, "e").replace("e+", "e")
    : String(Number(v.toPrecision(digits)));
  return text.replace(/-/g, "−");
}

/** `0.4 s`, `42 s`, `01:15` (minutes and seconds), `1h 02m`, `3d 04h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(Number(seconds))) return "–";
  const sign = seconds < 0 ? "−" : "", s = Math.abs(seconds), two = (n) => String(Math.floor(n)).padStart(2, "0");
  if (s < 9.95) return `${sign}${s.toFixed(1)} s`;
  if (s < 60) return `${sign}${Math.floor(s)} s`;
  if (s < 3600) return `${sign}${two(s / 60)}:${two(s % 60)}`;
  if (s < 86400) return `${sign}${Math.floor(s / 3600)}h ${two((s % 3600) / 60)}m`;
  return `${sign}${Math.floor(s / 86400)}d ${two((s % 86400) / 3600)}h`;
}

/** @param {number} time seconds since 1970; `2026-11-26 12:41:47`, local */
export function absolute(time) {
  const d = new Date(time * 1000), two = (n) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} `
    + `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** `just now`, `3 min ago`, `in 2 h`, and the date when it is more than thirty days. */
export function ago(time, now = Date.now() / 1000) {
  const gap = Math.abs(now - time);
  if (gap < 10) return "just now";
  if (gap > 30 * 86400) return absolute(time).slice(0, 10);
  const [unit, span] = [["s", 1], ["min", 60], ["h", 3600], ["d", 86400]].findLast(([, s]) => gap >= s);
  const words = `${Math.floor(gap / span)} ${unit}`;
  return time > now ? `in ${words}` : `${words} ago`;
}

/** Bytes in powers of 1000, as disks and `ls -H` count. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  return `${number(bytes / 1000 ** power, 3)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** A long name cut in the middle, since both its ends tell runs apart. */
export function middle(text, most = 32) {
  const letters = [...text];
  if (letters.length <= most) return text;
  const tail = Math.floor((most - 1) / 2);
  return `${letters.slice(0, most - 1 - tail).join("")}…${letters.slice(-tail).join("")}`;
}

/** @returns {{icon: string, word: string, tone: "good"|"bad"|"warn"|"accent"|"muted"}} */
export function state(name) {
  const word = String(name).toLowerCase(), [icon, tone] = STATES[word] ?? ["•", "muted"];
  return { icon, word, tone };
}

/** `<tag class>` with text and attributes: the one way in which data comes onto the page. */
export function element(tag, className = "", text = "", attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== "") node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** A state as a chip: `<span class="chip good"><span aria-hidden>✓</span> done</span>`. */
export function chip(name) {
  const { icon, word, tone } = state(name), node = element("span", `chip ${tone}`);
  node.append(element("span", "", icon, { "aria-hidden": "true" }), ` ${word}`);
  return node;
}

/** A number to four digits with the whole of it on hover. */
export function numberNode(value) {
  return element("span", "num", number(value), { title: String(value) });
}

/** A time as "3 min ago" with the date on hover. @param {number} time seconds since 1970 */
export function timeNode(time) {
  return element("time", "", ago(time), { title: absolute(time), datetime: new Date(time * 1000).toISOString() });
}

/** A name cut in the middle, whole on hover. */
export function nameNode(text, most = 32) {
  return element("span", "name", middle(text, most), { title: text });
}

/** Hands the reader a file. @param {string|Blob} content */
export function download(name, content, type = "text/plain") {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = element("a", "", "", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
