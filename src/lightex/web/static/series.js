/** The arithmetic of curves: smoothing, means over runs, what a range holds. */

/**
 * Exponential moving average with the bias of its start taken out, as in TensorBoard (`resmoothDataset` of
 * tf_line_chart_data_loader / line-chart.ts) and W&B: last = last*w + (1-w)*y, shown as last / (1 - w^n).
 * What is not finite passes through and counts for nothing.
 * @param {ArrayLike<number>} y @param {number} weight 0 (nothing) .. 0.99 @returns {Float64Array}
 */
export function smooth(y, weight) {
  const out = new Float64Array(y.length);
  let last = 0, left = 1;
  for (let i = 0; i < y.length; i += 1) {
    if (Number.isFinite(y[i])) {
      last = last * weight + (1 - weight) * y[i];
      left *= weight;
      out[i] = last / (1 - left);
    } else out[i] = y[i];
  }
  return out;
}

/** Index of the first x that is not below `value`. @param {ArrayLike<number>} x ascending */
export function firstFrom(x, value) {
  let lo = 0, hi = x.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (x[mid] < value) lo = mid + 1; else hi = mid;
  }
  return lo;
}

/** Index of the x nearest to `value`, -1 if there is none. */
export function nearest(x, value) {
  const i = firstFrom(x, value);
  if (i === x.length) return i - 1;
  return i > 0 && value - x[i - 1] < x[i] - value ? i - 1 : i;
}

/** Smallest and largest finite value of several arrays, or those at the quantiles `cut` and 1 - `cut`. */
export function extent(arrays, cut = 0) {
  let lo = Infinity, hi = -Infinity;
  if (cut) {
    const all = Float64Array.from(arrays.flatMap((a) => [...a].filter(Number.isFinite))).sort();
    return [all[Math.floor(cut * (all.length - 1))] ?? lo, all[Math.ceil((1 - cut) * (all.length - 1))] ?? hi];
  }
  for (const a of arrays) {
    for (let i = 0; i < a.length; i += 1) {
      const v = a[i];
      if (v < lo && v !== -Infinity) lo = v;
      if (v > hi && v !== Infinity) hi = v;
    }
  }
  return [lo, hi];
}

/** y at the places `at` (ascending) by straight lines between points; NaN outside of what the series holds. */
function interpolated({ x, y }, at) {
  const out = new Float64Array(at.length).fill(NaN), last = x.length - 1;
  for (let i = 0, k = 0; i < at.length; i += 1) {
    while (k < last && x[k + 1] <= at[i]) k += 1;
    if (at[i] < x[0] || at[i] > x[last] || last < 0) continue;
    out[i] = x[k] === at[i] || k === last ? y[k] : y[k] + ((y[k + 1] - y[k]) * (at[i] - x[k])) / (x[k + 1] - x[k]);
  }
  return out;
}

/**
 * The mean of several series at the union of their x's (at most 2,000 of them, evenly taken), each series counting where
 * it has values.
 * @param {{x: ArrayLike<number>, y: ArrayLike<number>}[]} list x ascending
 * @returns {{x: Float64Array, y: Float64Array, band: Band, range: Band, count: Uint32Array}} band is mean -+ standard
 *   deviation (of the population), range is min..max @typedef {{low: Float64Array, high: Float64Array}} Band
 */
export function groupMean(list) {
  const every = Float64Array.from(new Set(list.flatMap((s) => Array.from(s.x)))).sort();
  const n = Math.min(every.length, 2000);
  const x = Float64Array.from({ length: n }, (_, i) => every[Math.round((i * (every.length - 1)) / Math.max(1, n - 1))]);
  const [y, spread, least, most] = [0, 0, Infinity, -Infinity].map((v) => new Float64Array(n).fill(v));
  const count = new Uint32Array(n);
  for (const series of list) {
    const values = interpolated(series, x);
    for (let i = 0; i < n; i += 1) {
      const v = values[i];
      if (!Number.isFinite(v)) continue;
      const off = v - y[i]; // Welford's: one pass, no loss of digits
      y[i] += off / (count[i] += 1);
      spread[i] += off * (v - y[i]);
      least[i] = Math.min(least[i], v);
      most[i] = Math.max(most[i], v);
    }
  }
  for (let i = 0; i < n; i += 1) {
    spread[i] = Math.sqrt(spread[i] / count[i]);
    if (!count[i]) y[i] = least[i] = most[i] = NaN;
  }
  return { x, y, count, band: { low: y.map((v, i) => v - spread[i]), high: y.map((v, i) => v + spread[i]) },
    range: { low: least, high: most } };
}

/**
 * Indices from..to-1 that draw the same picture in `columns` pixels: of each column its first, lowest, highest and last
 * point, so that no peak is lost.
 */
export function thinned(x, y, from, to, columns) {
  if (to - from <= columns * 4) return Array.from({ length: to - from }, (_, i) => from + i);
  const out = [], width = (x[to - 1] - x[from]) / columns || 1;
  for (let i = from; i < to;) {
    const first = i, column = Math.floor((x[i] - x[from]) / width);
    let low = i, high = i;
    for (; i < to && Math.floor((x[i] - x[from]) / width) === column; i += 1) {
      if (!(y[i] >= y[low])) low = i;
      if (!(y[i] <= y[high])) high = i;
    }
    out.push(...new Set([first, low, high, i - 1].sort((a, b) => a - b)));
  }
  return out;
}
