// Colors of the map: comes in an attribute of the items, goes out a number for each point, and what each number means.

import { get } from "./api.js";

// Ten that can be told from one another on light and on dark ground, after Observable's categorical scheme.
const HUES = [
  [66, 105, 208],
  [239, 177, 24],
  [255, 114, 92],
  [108, 197, 176],
  [60, 169, 81],
  [255, 138, 183],
  [164, 99, 242],
  [151, 187, 245],
  [156, 107, 78],
  [181, 189, 46],
];
const OTHER = 255;
const NEUTRAL = HUES.length;

/** The color of points that have none of their own. */
export function neutralColor(dark) {
  return dark ? [132, 139, 152] : [150, 155, 165];
}

/** The colors by number, the last for all that have none. */
export function listColors(dark) {
  return [...HUES, neutralColor(dark)];
}

/** All points alike. */
export function colorAlike(n) {
  return { attribute: "", looks: new Uint8Array(n).fill(NEUTRAL), legend: [] };
}

/** Points by an attribute. legend: `{look, name, n}` of each value with a color, then of all others together. */
export async function colorBy(attribute, n, signal) {
  const { categories, codes } = await get(["map", "colors"], { attribute }, { signal });
  const text = atob(codes);
  if (text.length !== n) return null; // another release than that of the points
  const looks = new Uint8Array(n);
  const counts = new Uint32Array(NEUTRAL + 1);
  for (let row = 0; row < n; row += 1) {
    const code = text.charCodeAt(row);
    looks[row] = code === 0 || code === OTHER || code > NEUTRAL ? NEUTRAL : code - 1;
    counts[looks[row]] += 1;
  }
  const legend = categories.slice(0, NEUTRAL).map((name, look) => ({ look, name, n: counts[look] }));
  if (counts[NEUTRAL])
    legend.push({ look: NEUTRAL, name: categories.length > NEUTRAL ? "all others" : "none", n: counts[NEUTRAL] });
  return { attribute, looks, legend };
}

/** A color for a style sheet. */
export function toCss([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** A color of the style sheet as numbers. */
export function readColor(name) {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  probe.fillRect(0, 0, 1, 1);
  return Array.from(probe.getImageData(0, 0, 1, 1).data.slice(0, 3));
}
