/** Axes: from values to pixels and back, and the ticks that people expect. */
import { absolute, duration, number } from "./format.js";

/**
 * The values lo..hi over the pixels from..to.
 * @returns {{lo: number, hi: number, log: boolean, px: (v: number) => number, inv: (p: number) => number}}
 */
export function makeScale([lo, hi], from, to, log = false) {
  const f = log ? Math.log10 : (v) => v, back = log ? (v) => 10 ** v : (v) => v, a = f(lo), k = (to - from) / (f(hi) - a || 1);
  return { lo, hi, log, px: (v) => from + (f(v) - a) * k, inv: (p) => back(a + (p - from) / k) };
}

/** A range widened by the share `pad`; that of one value (a time: half a minute around it), or of none, becomes one that can be drawn. */
export function padded([lo, hi], log = false, pad = 0.04) {
  if (!(lo <= hi)) return log ? [0.1, 1] : [0, 1];
  const by = log ? (lo === hi ? 2 : (hi / lo) ** pad) : lo === hi ? (lo > 1e9 ? 30 : Math.abs(lo) * 0.1) || 1 : (hi - lo) * pad;
  return log ? [lo / by, hi * by] : [lo - by, hi + by];
}

const SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
  86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

function multiples(lo, hi, step, zero = 0) {
  const first = Math.ceil((lo - zero) / step - 1e-9), n = Math.floor((hi - zero) / step + 1e-9) - first + 1;
  return Array.from({ length: Math.min(100, Math.max(0, n)) }, (_, i) => Number((zero + (first + i) * step).toPrecision(12)));
}

function linearTicks(lo, hi, count) {
  const rough = (hi - lo) / count, ten = 10 ** Math.floor(Math.log10(rough));
  return multiples(lo, hi, ten * [1, 2, 5, 10].find((m) => m * ten >= rough * 0.999));
}

function logTicks(lo, hi, count) {
  const decades = Math.log10(hi / lo), every = Math.ceil(decades / count), parts = decades < count / 2 ? [1, 2, 5] : [1];
  if (decades < 1.2) return linearTicks(lo, hi, count).filter((v) => v > 0);
  const powers = multiples(Math.floor(Math.log10(lo)), Math.log10(hi), every);
  return powers.flatMap((e) => parts.map((m) => m * 10 ** e)).filter((v) => v >= lo * 0.999 && v <= hi * 1.001);
}

/** About `count` of them. @param {"number"|"relative"|"wall"} kind relative and wall are seconds @returns {{value, text}[]} */
export function ticks({ lo, hi, log }, count, kind = "number") {
  if (kind === "number" || log) return (log ? logTicks : linearTicks)(lo, hi, count).map((value) => ({ value, text: number(value) }));
  const step = SECONDS.find((s) => s >= (hi - lo) / count) ?? 31536000 * Math.ceil((hi - lo) / count / 31536000);
  const zone = kind === "wall" ? new Date(lo * 1000).getTimezoneOffset() * 60 : 0; // days begin at midnight, here
  return multiples(lo, hi, step, zone).map((value) => ({ value, text: xText(value, kind, step) }));
}

/** A value of the x axis in words; `step` is how far ticks lie apart, 0 asks for the whole of it. */
export function xText(value, kind, step = 0) {
  if (kind === "relative") return value === 0 ? "0" : duration(value);
  if (kind !== "wall") return number(value, 8);
  return step ? absolute(value).slice(...(step >= 86400 ? [5, 10] : step < 60 ? [11] : [11, 16])) : absolute(value);
}
