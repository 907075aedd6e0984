// Shows how many pictures of a batch are of each kind, and lets the user show one kind only.
import { byId, element } from "../element.js";
import { isWrong, stateOf } from "./entry.js";
import { capital } from "../format.js";
import { VERDICTS } from "../answer/verdict.js";

const FILTERS = {
  all: { text: "All", keeps: () => true },
  ...Object.fromEntries(Object.entries({ ...VERDICTS, failed: "failed" }).map(([state, word]) =>
    [state, { text: capital(word), keeps: (entry) => stateOf(entry) === state }])),
  wrong: { text: "Wrong", keeps: isWrong },
};
const box = byId("filters");
let changed = () => {};

for (const [name, filter] of Object.entries(FILTERS)) {
  filter.count = element("b");
  filter.radio = element("input", { type: "radio", name: "filter", value: name, checked: name === "all" });
  filter.option = element("label", {}, filter.radio, element("span", { className: "chip" }, `${filter.text} `, filter.count));
  filter.option.querySelector(".chip").dataset.verdict = name;
  filter.radio.addEventListener("change", () => changed(filter.keeps));
  box.append(filter.option);
}

// Calls `change` with a predicate of entries when the user chooses a filter.
export function onFilter(change) {
  changed = change;
}

export function countFilters(entries) {
  for (const [name, { radio, option, keeps, count }] of Object.entries(FILTERS)) {
    const found = entries.filter(keeps).length;
    count.textContent = found.toLocaleString("en");
    option.hidden = found === 0 && name !== "all" && !radio.checked;
  }
}

// Marks "all" as chosen, or no filter while other entries are shown than those of a filter.
export function markFilter(name) {
  for (const { radio } of Object.values(FILTERS)) radio.checked = radio.value === name;
}

export function summary(entries) {
  const { all: _, wrong, ...states } = FILTERS;
  const counted = (filters) => filters.map(({ text, keeps }) => [entries.filter(keeps).length, text.toLowerCase()])
    .filter(([count]) => count).map(([count, text]) => `${count.toLocaleString("en")} ${text}`).join(", ");
  return [counted(Object.values(states)), counted([wrong])].filter(Boolean).join("; of these ");
}
