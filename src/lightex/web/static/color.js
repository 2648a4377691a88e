/** A run's colour, for ever; and a scale of colours that colour-blind people can read. */

/**
 * Ten hues after Okabe and Ito (jfly.uni-koeln.de/color) as OKLCH's lightness, chroma, hue: of a lightness that stands out
 * 3:1 from the white page and from the dark one, so that a run looks alike in both.
 */
const BASE = [[0.56, 0.15, 250], [0.62, 0.17, 45], [0.58, 0.13, 162], [0.63, 0.14, 345], [0.63, 0.13, 75],
  [0.63, 0.1, 215], [0.57, 0.17, 298], [0.58, 0.19, 18], [0.59, 0.12, 118], [0.6, 0.02, 260]];
const SHIFT = [[0, 0], [0.025, -13], [-0.02, 13]];
const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3]];
/** Cividis (Nuñez, Anderton, Renslow 2018). */
const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];

/** FNV-1a: small, and the same in every browser and year. */
function hash(text) {
  let h = 0x811c9dc5;
  for (const letter of String(text)) h = Math.imul(h ^ letter.codePointAt(0), 0x01000193);
  return (h ^ (h >>> 15)) >>> 0;
}

/** The colour of an id, whatever else is on the page: ten hues, three shades of each. */
export function colorOf(id) {
  const h = hash(id), [light, chroma, hue] = BASE[h % 10], [lift, turn] = SHIFT[Math.floor(h / 10) % 3];
  return `oklch(${(light + lift).toFixed(3)} ${chroma} ${hue + turn})`;
}

/** Runs shown together: those that share a hue differ by dash. @returns {Map<string, {color: string, dash: number[]}>} */
export function stylesOf(ids) {
  const seen = Array(10).fill(0);
  return new Map(ids.map((id) => [id, { color: colorOf(id), dash: DASHES[seen[hash(id) % 10]++ % 4] }]));
}

/** From dark blue (0) to yellow (1). */
export function ramp(t) {
  const place = Math.min(1, Math.max(0, t)) * 5, i = Math.min(Math.floor(place), 4);
  return `rgb(${CIVIDIS[i].map((a, k) => Math.round(a + (CIVIDIS[i + 1][k] - a) * (place - i)))})`;
}
