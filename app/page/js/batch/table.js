// Shows the answers of a batch as a table with a row per picture: sorted by column, filtered, and walked by arrow keys.
import { byId, element } from "../element.js";
import { isWrong, stateOf, truthOf } from "./entry.js";
import { capital, percent, whole } from "../format.js";
import { headlineFor } from "../service/problem.js";
import { VERDICTS } from "../answer/verdict.js";

const body = byId("results");
const head = document.querySelector(".results thead");
const names = new Intl.Collator("en", { numeric: true });
const VALUES = {
  file: (entry) => entry.path,
  label: (entry) => entry.prediction?.label,
  confidence: (entry) => entry.prediction?.confidence,
  verdict: (entry) => stateOf(entry),
};
let listed = [];
let sorted = null; // {column, ascending}
let keeps = () => true;

export const byPath = (a, b) => names.compare(a.path, b.path);

// Calls `open` with an entry when its full answer is requested.
export function listRows(entries, open) {
  sorted = null;
  keeps = () => true;
  markOrder();
  listed = [...entries];
  for (const entry of entries) makeRow(entry, open);
  body.replaceChildren(...entries.map((entry) => entry.row));
  if (entries.length) entries[0].button.tabIndex = 0;
}

function makeRow(entry, open) {
  const thumbnail = element("img", { className: "broken", alt: "", width: 44, height: 44, loading: "lazy", decoding: "async" });
  thumbnail.addEventListener("load", () => thumbnail.classList.remove("broken"));
  const [, folders, name] = /^(.*\/)?(.*)$/s.exec(entry.path);
  entry.button = element("button", { type: "button", className: "link", tabIndex: -1, title: "Show the full answer" },
    ...(folders ? [element("span", { className: "folders" }, ...breakable(folders))] : []), name);
  entry.row = element("tr", { role: "row", onclick: () => open(entry) },
    element("td", { role: "cell", className: "thumbnail" }, thumbnail),
    element("th", { role: "rowheader", scope: "row" }, entry.button));
  fillRow(entry);
}

// A path may break after each folder.
const breakable = (path) => path.split(/(?<=\/)/).flatMap((folder) => [folder, element("wbr")]);

// `small` is a picture that is decoded soon.
export function showThumbnail(entry, small) {
  URL.revokeObjectURL(entry.address);
  entry.address = URL.createObjectURL(small);
  entry.row.querySelector("img").src = entry.address;
}

export function fillRow(entry) {
  const { row, prediction, problem } = entry;
  while (row.cells.length > 2) row.deleteCell(2);
  row.classList.toggle("failed", Boolean(problem));
  row.hidden = !keeps(entry);
  if (problem) row.append(problemCell(entry), chipCell(entry));
  else if (prediction) row.append(answerCell(entry), cell("number", percent(prediction.confidence)), chipCell(entry));
  else row.append(element("td", { role: "cell", colSpan: 3, className: "waiting", textContent: "…" }));
}

const cell = (className, ...children) => element("td", { role: "cell", className }, ...children);

function problemCell({ file, problem }) {
  const found = cell("problem", `${headlineFor(problem, file.size)} ${whole(problem.detail)}`);
  found.colSpan = 2;
  return found;
}

function answerCell(entry) {
  const found = cell("label", entry.prediction.label);
  if (isWrong(entry)) found.append(element("span", { className: "wrong", textContent: `should be ${truthOf(entry)}` }));
  return found;
}

function chipCell(entry) {
  const state = stateOf(entry);
  if (!state) return cell("judged", "–");
  const chip = element("span", { className: "chip", textContent: capital(VERDICTS[state] ?? state) });
  chip.dataset.verdict = state;
  return cell("judged", chip);
}

// Shows the rows of the entries that `wanted` keeps, from now on.
export function showOnly(wanted) {
  keeps = wanted;
  for (const entry of listed) entry.row.hidden = !keeps(entry);
  const rest = shownEntries();
  byId("none-shown").hidden = rest.length > 0;
  if (rest.length && !rest.some(({ button }) => button.tabIndex === 0)) reach(rest[0]);
}

export const shownEntries = () => listed.filter((entry) => !entry.row.hidden);

export function markOpen(entry) {
  body.querySelector("[aria-current]")?.removeAttribute("aria-current");
  if (!entry) return;
  entry.row.setAttribute("aria-current", "true");
  entry.row.scrollIntoView({ block: "nearest" });
  reach(entry);
}

// One row at a time is in the order of the Tab key.
function reach(entry) {
  for (const { button } of listed) if (button.tabIndex === 0) button.tabIndex = -1;
  entry.button.tabIndex = 0;
}

body.addEventListener("keydown", (event) => {
  const shown = shownEntries();
  const at = shown.findIndex(({ button }) => button === event.target);
  const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: shown.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  if (!shown[to]) return;
  reach(shown[to]);
  shown[to].button.focus();
});

// Rows without a value come last in either direction.
function compare(a, b) {
  const [x, y] = [VALUES[sorted.column](a), VALUES[sorted.column](b)];
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
  const order = typeof x === "number" ? x - y : names.compare(x, y);
  return sorted.ascending ? order : -order;
}

export function sortTable() {
  if (!sorted) return;
  listed.sort(compare);
  body.append(...listed.map((entry) => entry.row));
}

function markOrder() {
  for (const button of head.querySelectorAll("button")) {
    const heading = button.closest("th");
    if (sorted?.column === button.dataset.column) heading.setAttribute("aria-sort", sorted.ascending ? "ascending" : "descending");
    else heading.removeAttribute("aria-sort");
  }
}

head.addEventListener("click", (event) => {
  const column = event.target.closest("button")?.dataset.column;
  if (!column) return;
  sorted = { column, ascending: sorted?.column === column ? !sorted.ascending : column !== "confidence" };
  markOrder();
  sortTable();
});
