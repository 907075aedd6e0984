// Shows how many pictures were labelled right, and what was mixed up with what, where folders are named like classes.
import { byId, element } from "../element.js";
import { isMeasured, isWrong, pictures, truthOf } from "./entry.js";

const MOST = 25; // classes in the matrix
const box = byId("accuracy");
let choose = () => {};

// Calls `show` with a predicate of entries and its description when a cell of the matrix is pressed.
export function onCell(show) {
  choose = show;
}

export function showAccuracy(entries) {
  const measured = entries.filter((entry) => entry.folder && isMeasured(entry));
  box.hidden = measured.length === 0;
  if (box.hidden) return;
  const right = measured.filter((entry) => !isWrong(entry)).length;
  const [low, high] = interval(right, measured.length).map((share) => (100 * share).toFixed(1));
  byId("score").replaceChildren(
    element("b", { textContent: `${(100 * right / measured.length).toFixed(1)} % right` }),
    ` · ${right.toLocaleString("en")} of ${pictures(measured.length)} in folders named like what it knows `,
    element("span", { className: "small", textContent: `(95 % interval: ${low} to ${high} %)` }),
  );
  drawMatrix(measured);
}

// Wilson's interval of a share, with 95 %.
export function interval(count, total, z = 1.96) {
  const share = count / total;
  const middle = share + z ** 2 / (2 * total);
  const half = z * Math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2);
  return [middle - half, middle + half].map((bound) => bound / (1 + z ** 2 / total));
}

function drawMatrix(measured) {
  const counts = new Map(); // of "truth\nlabel"
  for (const entry of measured) {
    const key = keyOf(truthOf(entry), entry.prediction.label);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const all = new Set(measured.flatMap((entry) => [truthOf(entry), entry.prediction.label]));
  const classes = mostMixedUp([...all].sort(), measured);
  byId("matrix-note").textContent = "A row is what the pictures show, a column what they were called. Press a number to see its pictures."
    + (classes.length < all.size ? ` Of ${all.size.toLocaleString("en")} classes, the ${MOST} that are mixed up most.` : "");
  const rows = classes.filter((truth) => classes.some((label) => counts.has(keyOf(truth, label))));
  const pressed = byId("matrix").querySelector("[aria-pressed=true]")?.value;
  byId("matrix").replaceChildren(
    element("thead", {}, element("tr", {}, element("td"),
      ...classes.map((label) => element("th", { scope: "col" }, element("span", { textContent: label }))))),
    element("tbody", {}, ...rows.map((truth) => {
      const total = classes.reduce((sum, label) => sum + (counts.get(keyOf(truth, label)) ?? 0), 0);
      return element("tr", {}, element("th", { scope: "row", textContent: truth }),
        ...classes.map((label) => cell(truth, label, counts.get(keyOf(truth, label)) ?? 0, total, pressed)));
    })),
  );
}

const keyOf = (truth, label) => `${truth}\n${label}`;

function mostMixedUp(classes, measured) {
  if (classes.length <= MOST) return classes;
  const mistakes = new Map(classes.map((label) => [label, 0]));
  for (const entry of measured.filter(isWrong)) {
    for (const label of [truthOf(entry), entry.prediction.label]) mistakes.set(label, mistakes.get(label) + 1);
  }
  return classes.toSorted((a, b) => mistakes.get(b) - mistakes.get(a)).slice(0, MOST).sort();
}

function cell(truth, label, count, total, pressed) {
  if (!count) return element("td", { className: "none", textContent: "0" });
  const button = element("button", { type: "button", value: keyOf(truth, label), textContent: count.toLocaleString("en") });
  button.title = `${truth}, called ${label}`;
  button.setAttribute("aria-label", `${pictures(count)}: ${truth}, called ${label}`);
  button.setAttribute("aria-pressed", button.value === pressed);
  const found = element("td", { className: truth === label ? "right" : "mixed" }, button);
  found.style.setProperty("--share", `${Math.round(18 + 22 * count / total)}%`);
  return found;
}

export function unpressCells() {
  byId("matrix").querySelector("[aria-pressed=true]")?.setAttribute("aria-pressed", "false");
}

byId("matrix").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  unpressCells();
  button.setAttribute("aria-pressed", "true");
  choose((entry) => isMeasured(entry) && keyOf(truthOf(entry), entry.prediction.label) === button.value);
});
