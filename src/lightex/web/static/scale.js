/** Axes: from values to pixels and back, and the ticks that people expect. */
import { absolute, duration, number } from "./format.js";

/**
 * @typedef {{lo: number, hi: number, log: boolean, px: (v: number) => number, inv: (p: number) => number}} Scale
 * @param {number} lo @param {number} hi values at the pixels `from` and `to`
 * @returns {Scale}
 */
export function makeScale(lo, hi, from, to, log = false) {
  const f = log ? Math.log10 : (v) => v, back = log ? (v) => 10 ** v : (v) => v;
  const a = f(lo), k = (to - from) / (f(hi) - a || 1);
  return { lo, hi, log, px: (v) => from + (f(v) - a) * k, inv: (p) => back(a + (p - from) / k) };
}

/** The range widened by `pad` of itself on both sides; a range of one value, or of none, becomes one that can be drawn. */
export function padded(lo, hi, log = false, pad = 0.04) {
  if (!(lo <= hi)) return log ? [0.1, 1] : [0, 1];
  if (log) {
    const by = Math.max((hi / lo) ** pad, lo === hi ? 2 : 1);
    return [lo / by, hi * by];
  }
  const by = lo === hi ? Math.abs(lo) * 0.1 || 1 : (hi - lo) * pad;
  return [lo - by, hi + by];
}

const SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
  86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

/** Multiples of `step` within lo..hi, counted from `zero`. */
function multiples(lo, hi, step, zero = 0) {
  const first = Math.ceil((lo - zero) / step - 1e-9), last = Math.floor((hi - zero) / step + 1e-9);
  return Array.from({ length: Math.max(0, Math.min(100, last - first + 1)) }, (_, i) => zero + (first + i) * step);
}

function linearTicks(lo, hi, count) {
  const rough = (hi - lo) / count, ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((m) => m * ten >= rough * 0.999);
  return multiples(lo, hi, step).map((v) => Number(v.toPrecision(12)));
}

function logTicks(lo, hi, count) {
  const decades = Math.log10(hi / lo);
  if (decades < 1.2) return linearTicks(lo, hi, count).filter((v) => v > 0);
  const every = Math.max(1, Math.ceil(decades / count)), ticks = [];
  for (let e = Math.floor(Math.log10(lo)); e <= Math.log10(hi); e += 1) {
    if (e % every === 0) ticks.push(...(decades < count / 2 ? [1, 2, 5] : [1]).map((m) => m * 10 ** e));
  }
  return ticks.filter((v) => v >= lo * 0.999 && v <= hi * 1.001);
}

/**
 * @param {Scale} scale @param {number} count about how many
 * @param {"number"|"relative"|"wall"} kind relative and wall are seconds
 * @returns {{value: number, text: string}[]}
 */
export function ticks({ lo, hi, log }, count, kind = "number") {
  if (kind === "number" || log) {
    return (log ? logTicks : linearTicks)(lo, hi, count).map((value) => ({ value, text: number(value) }));
  }
  const step = SECONDS.find((s) => s >= (hi - lo) / count) ?? 31536000 * Math.ceil((hi - lo) / count / 31536000);
  const zone = kind === "wall" ? new Date(lo * 1000).getTimezoneOffset() * 60 : 0; // days begin at midnight, here
  return multiples(lo, hi, step, zone).map((value) => ({ value, text: xText(value, kind, step) }));
}

/** A value of the x axis in words; `step` is how far ticks lie apart (0: the whole of it). */
export function xText(value, kind, step = 0) {
  if (kind === "relative") return value === 0 && step ? "0" : duration(value);
  if (kind !== "wall") return number(value, step ? 4 : 8);
  const text = absolute(value);
  if (!step) return text;
  if (step >= 86400) return text.slice(5, 10);
  return step < 60 ? text.slice(11) : text.slice(11, 16);
}
