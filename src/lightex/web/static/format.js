/** Numbers, times, sizes and names as people read them; what was cut or rounded goes into a `title`. */

const two = (n) => String(Math.floor(n)).padStart(2, "0");

/** At most `digits` significant digits, whole numbers below a million whole. @param {number|string|null} value as JSON has it */
export function number(value, digits = 4) {
  if (value === null || value === undefined || value === "") return "—";
  const v = Number(value), size = Math.abs(v);
  if (Number.isNaN(v)) return "NaN";
  const text = size === Infinity ? String(v).replace("Infinity", "∞")
    : v === 0 || (size < 1e6 && Number.isInteger(v)) ? String(v)
      : size >= 1e6 || size < 1e-4 ? v.toExponential(Math.min(digits, 17) - 1).replace(/(\.\d*?)0+e/, "$1e").replace(/\.?e\+?/, "e")
        : String(Number(v.toPrecision(digits)));
  return text.replaceAll("-", "-");
}

/** `0.4 s`, `42 s`, `01:15` (minutes and seconds), `1h 02m`, `3d 04h`. */
export function duration(seconds) {
  const s = Math.abs(seconds ?? NaN), sign = seconds < 0 ? "-" : "";
  if (!Number.isFinite(s)) return "—";
  if (s < 9.95) return `${sign}${s.toFixed(1)} s`;
  if (s < 60) return `${sign}${Math.floor(s)} s`;
  if (s < 3600) return `${sign}${two(s / 60)}:${two(s % 60)}`;
  if (s < 86400) return `${sign}${Math.floor(s / 3600)}h ${two((s % 3600) / 60)}m`;
  return `${sign}${Math.floor(s / 86400)}d ${two((s % 86400) / 3600)}h`;
}

/** `2026-11-26 12:41:47`, local. @param {number} time seconds since 1970, as everywhere here */
export function absolute(time) {
  const d = new Date(time * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${[d.getHours(), d.getMinutes(), d.getSeconds()].map(two).join(":")}`;
}

/** `just now`, `3 min ago`, `in 2 h`; the date when it is more than thirty days. */
export function ago(time, now = Date.now() / 1000) {
  const gap = Math.abs(now - time);
  if (gap < 10) return "just now";
  if (gap > 30 * 86400) return absolute(time).slice(0, 10);
  const [unit, span] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, s]) => gap >= s);
  return time > now ? `in ${Math.floor(gap / span)} ${unit}` : `${Math.floor(gap / span)} ${unit} ago`;
}

/** Bytes by powers of 1024, as everywhere. */
export function size(bytes) {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
  return `${number(bytes / 1024 ** power, 3)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** A long name cut in the middle, since both its ends tell runs apart. */
export function middle(text, most = 32) {
  const letters = [...String(text)], tail = Math.floor((most - 1) / 2);
  return letters.length <= most ? String(text) : [...letters.slice(0, most - 1 - tail), "…", ...letters.slice(-tail)].join("");
}

/** An element of text or children: the one way in which data comes onto the page. @param {string|(string|Node)[]} content */
export function element(tag, className = "", content = "", attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...(Array.isArray(content) ? content : [content]));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
