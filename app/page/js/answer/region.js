// Where in a picture a saliency map has most of its weight, in words. Pure functions.
import { list } from "../format.js";

const ROWS = ["top", "", "bottom"];
const COLUMNS = ["left", "", "right"];
const FEW = 3; // more parts than these are everywhere
const MOST = 0.5; // of the weight

const nameOf = (row, column) => [ROWS[row], COLUMNS[column]].filter(Boolean).join(" ") || "centre";

// Sums the rows of a map (H, W) in three by three parts: [{name, weight}], weights in all 1.
function parts(map) {
  const found = new Map();
  let total = 0;
  map.forEach((values, y) => values.forEach((value, x) => {
    const name = nameOf(Math.floor(3 * y / map.length), Math.floor(3 * x / values.length));
    const weight = value ** 2; // what stands out
    found.set(name, (found.get(name) ?? 0) + weight);
    total += weight;
  }));
  return [...found].map(([name, weight]) => ({ name, weight: weight / (total || 1) }));
}

// "mostly the centre and the right"
export function region(map) {
  const chosen = [];
  let weight = 0;
  for (const part of parts(map).sort((a, b) => b.weight - a.weight)) {
    if (weight >= MOST) break;
    chosen.push(`the ${part.name}`);
    weight += part.weight;
  }
  return chosen.length > FEW ? "many parts of the picture" : `mostly ${list(chosen)}`;
}
