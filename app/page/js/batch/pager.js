// Walks from picture to picture of a batch while one of them is open beside the table.
import { byId } from "../element.js";

const bar = byId("pager");
let current = null;
let steps = { list: () => [], open: () => {}, close: () => {} };

// `list` returns the entries to walk, `open` shows one, and `close` is called with the one that was open.
export function walk({ list, open, close }) {
  steps = { list, open, close };
}

export const openEntry = () => current;

// Without an entry, for a picture that is not of the batch, there is a way back only.
export function showPager(entry) {
  current = entry;
  bar.hidden = false;
  const list = steps.list();
  const at = list.indexOf(entry);
  byId("position").textContent = at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`;
  for (const [id, to] of [["previous", at - 1], ["next", at + 1]]) {
    byId(id).hidden = !entry;
    byId(id).setAttribute("aria-disabled", !list[to]); // keeps the focus at the end of the list
  }
}

export function hidePager() {
  current = null;
  bar.hidden = true;
}

function step(by) {
  const list = steps.list();
  const next = list[list.indexOf(current) + by];
  if (next) steps.open(next);
}

export function close() {
  const last = current;
  hidePager();
  steps.close(last);
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("back").addEventListener("click", close);
document.addEventListener("keydown", (event) => {
  if (bar.hidden || document.querySelector("dialog[open]")) return;
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.key === "Escape") close();
  else if (current && !event.target.closest("input, select, .code") && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    event.preventDefault();
    step(event.key === "ArrowLeft" ? -1 : 1);
  }
});
