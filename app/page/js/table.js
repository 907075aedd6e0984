// Shows many answers as a table with a row per picture, sortable by column.
import { byId, element } from "./element.js";
import { percent, whole } from "./format.js";
import { VERDICTS } from "./verdict.js";

const body = byId("results");
const head = document.querySelector(".results thead");
const VALUES = {
  file: (entry) => entry.name,
  label: (entry) => entry.prediction?.label,
  confidence: (entry) => entry.prediction?.confidence,
  verdict: (entry) => entry.prediction?.verdict ?? undefined,
  novelty: (entry) => entry.prediction?.novelty ?? undefined,
};
let listed = [];
let sorted = null; // {column, ascending}

export function clearTable(entries) {
  for (const { address } of entries) URL.revokeObjectURL(address);
  sorted = null;
  markOrder();
}

export function listRows(entries, open) {
  listed = entries;
  for (const entry of entries) {
    entry.address = URL.createObjectURL(entry.file);
    const thumbnail = element("img", { alt: "", width: 44, height: 44, loading: "lazy", decoding: "async", src: entry.address });
    thumbnail.addEventListener("error", () => thumbnail.classList.add("broken"));
    const name = element("button", { type: "button", className: "link", textContent: entry.name, onclick: () => open(entry.file) });
    name.title = "Show the full answer";
    entry.row = element("tr", {}, element("td", { className: "thumbnail" }, thumbnail), element("th", { scope: "row" }, name));
    fillRow(entry);
  }
  body.replaceChildren(...entries.map((entry) => entry.row));
}

export function fillRow({ row, prediction, problem }) {
  while (row.cells.length > 2) row.deleteCell(2);
  row.classList.toggle("failed", Boolean(problem));
  if (problem) {
    const cell = element("td", { colSpan: 4, textContent: `${problem.headline} ${whole(problem.detail)}` });
    cell.append(element("span", { className: "small", textContent: problem.smallPrint }));
    row.append(cell);
  } else if (prediction) {
    const { label, confidence, verdict, novelty } = prediction;
    row.append(
      element("td", { textContent: label }),
      element("td", { className: "number", textContent: percent(confidence) }),
      element("td", { textContent: VERDICTS[verdict] ?? "–" }),
      element("td", { className: "number", textContent: typeof novelty === "number" ? percent(novelty) : "–" }),
    );
  } else {
    row.append(element("td", { colSpan: 4, className: "waiting", textContent: "…" }));
  }
}

const names = new Intl.Collator("en", { numeric: true });

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
    const cell = button.closest("th");
    if (sorted?.column === button.dataset.column) cell.setAttribute("aria-sort", sorted.ascending ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  }
}

head.addEventListener("click", (event) => {
  const column = event.target.closest("button")?.dataset.column;
  if (!column) return;
  const numeric = column === "confidence" || column === "novelty";
  sorted = { column, ascending: sorted?.column === column ? !sorted.ascending : !numeric };
  markOrder();
  sortTable();
});
