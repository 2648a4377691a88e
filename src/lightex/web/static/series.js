/** The arithmetic of curves: smoothing, means over runs, what a range holds. */

/**
 * Exponential moving average less the bias of its start, as TensorBoard (`resmoothDataset` of its line chart) and W&B
 * have it: last = w*last + (1-w)*y, shown as last / (1 - w^n). What is not finite passes through and counts for nothing.
 * @param {ArrayLike<number>} y @param {number} weight 0 (nothing) .. 0.99 @returns {Float64Array}
 */
export function smooth(y, weight) {
  let last = 0, left = 1;
  return Float64Array.from(y, (v) => {
    if (!Number.isFinite(v)) return v;
    last = last * weight + (1 - weight) * v;
    left *= weight;
    return last / (1 - left);
  });
}

/** Index of the first x (ascending) that is not below `value`. */
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
  return i === x.length || (i > 0 && value - x[i - 1] < x[i] - value) ? i - 1 : i;
}

/** Smallest and largest finite value of several arrays, or their quantiles `cut` and 1 - `cut`; on log axes those above 0. */
export function extent(arrays, log = false, cut = 0) {
  let lo = Infinity, hi = -Infinity;
  const floor = log ? 0 : -Infinity, all = [];
  for (const a of arrays) {
    for (let i = 0; i < a.length; i += 1) {
      const v = a[i];
      if (!(v > floor && v < Infinity)) continue;
      if (v < lo) lo = v;
      if (v > hi) hi = v;
      if (cut) all.push(v);
    }
  }
  if (!all.length) return [lo, hi];
  const sorted = Float64Array.from(all).sort();
  return [cut, 1 - cut].map((q) => sorted[Math.round(q * (sorted.length - 1))]);
}

/** y at the places `at` (ascending) by straight lines between points; NaN outside of what the series holds. */
function interpolated({ x, y }, at) {
  let k = 0;
  return at.map((v) => {
    while (x[k + 1] <= v) k += 1;
    if (!(v >= x[0] && v <= x[x.length - 1])) return NaN;
    return x[k] === v ? y[k] : y[k] + ((y[k + 1] - y[k]) * (v - x[k])) / (x[k + 1] - x[k]);
  });
}

/**
 * The mean of series (x ascending) at the union of their x's, at most 2,000 of them; each counts where it has values.
 * @returns {{x, y, band: {low, high}}} arrays of one length; band is the mean -+ the standard deviation (of the population)
 */
export function groupMean(list) {
  const every = Float64Array.from(new Set(list.flatMap((s) => Array.from(s.x)))).sort(), n = Math.min(every.length, 2000);
  const x = Float64Array.from({ length: n }, (_, i) => every[Math.round((i * (every.length - 1)) / (n - 1 || 1))]);
  const [y, squares, count] = [1, 2, 3].map(() => new Float64Array(n));
  for (const series of list) {
    interpolated(series, x).forEach((v, i) => {
      if (!Number.isFinite(v)) return;
      const off = v - y[i]; // Welford's: one pass, no loss of digits
      y[i] += off / (count[i] += 1);
      squares[i] += off * (v - y[i]);
    });
  }
  for (let i = 0; i < n; i += 1) if (!count[i]) y[i] = NaN;
  const spread = (sign) => y.map((v, i) => v + sign * Math.sqrt(squares[i] / count[i]));
  return { x, y, band: { low: spread(-1), high: spread(1) } };
}

/** Indices from..to-1 that draw the same picture in `columns` pixels: no column loses its first, lowest, highest or last. */
export function thinned(x, y, from, to, columns) {
  if (to - from <= columns * 4) return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  const out = [], columnOf = (i) => Math.floor(((x[i] - x[from]) * columns) / (x[to - 1] - x[from]));
  for (let i = from; i < to;) {
    const first = i;
    let low = i, high = i;
    for (; i < to && columnOf(i) === columnOf(first); i += 1) {
      if (!(y[i] >= y[low])) low = i;
      if (!(y[i] <= y[high])) high = i;
    }
    out.push(...new Set([first, Math.min(low, high), Math.max(low, high), i - 1]));
  }
  return out;
}
