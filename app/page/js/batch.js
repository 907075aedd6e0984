// Classifies several pictures: sends them in chunks, fills a table as answers arrive, and exports it as CSV.
import { announce } from "./announcement.js";
import { answers, chunks } from "./chunks.js";
import { csv } from "./csv.js";
import { byId, element } from "./element.js";
import { predictAll } from "./service.js";
import { clearTable, fillRow, listRows, sortTable } from "./table.js";

const section = byId("batch");
const progress = byId("progress");
const again = byId("again");
let entries = []; // {file, name, prediction or problem, row}
let sending = new AbortController();

// Calls `open` with a file when its full answer is requested.
export async function showBatch(files, open) {
  clearTable(entries);
  entries = files.map((file) => ({ file, name: file.webkitRelativePath || file.name }));
  listRows(entries, open);
  byId("empty").hidden = true;
  section.hidden = false;
  section.scrollIntoView({ block: "nearest" });
  await send(entries);
}

async function send(waiting) {
  sending.abort();
  const { signal } = (sending = new AbortController());
  const files = new Map(waiting.map((entry) => [entry.file, entry]));
  report();
  try {
    for (const chunk of chunks([...files.keys()])) {
      const results = await answers(chunk, predictAll, signal);
      if (signal.aborted) return;
      chunk.forEach((file, index) => fillRow(Object.assign(files.get(file), { problem: undefined }, results[index])));
      report();
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return;
  }
  sortTable();
  announce(summary());
}

const isDone = (entry) => Boolean(entry.prediction || entry.problem);
const failed = () => entries.filter((entry) => entry.problem?.passes);

function summary() {
  const broken = entries.filter((entry) => entry.problem).length;
  const pictures = `${entries.length.toLocaleString("en")} pictures`;
  return broken ? `${pictures}, ${broken.toLocaleString("en")} without an answer` : pictures;
}

function report() {
  const done = entries.filter(isDone).length;
  progress.max = entries.length;
  progress.value = done;
  progress.hidden = done === entries.length;
  byId("batch-title").textContent = progress.hidden ? summary() : `${done} of ${entries.length} pictures`;
  byId("csv").disabled = !progress.hidden;
  again.hidden = !progress.hidden || failed().length === 0;
  again.textContent = `Try ${failed().length.toLocaleString("en")} again`;
}

again.addEventListener("click", () => {
  const waiting = failed();
  for (const entry of waiting) fillRow(Object.assign(entry, { problem: undefined }));
  send(waiting);
});

byId("csv").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([csv(entries)], { type: "text/csv" }));
  element("a", { href: address, download: "predictions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser reads it after the click
});
