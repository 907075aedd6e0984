// Classifies the pictures of a batch: sends them in chunks, and connects the parts of the workbench that show them.
import { onCell, showAccuracy, unpressCells } from "./accuracy.js";
import { announce } from "../announcement.js";
import { answers, chunks } from "./chunks.js";
import { askCorrection, hideCorrection, onCorrection } from "./correction.js";
import { csv } from "./csv.js";
import { download } from "./download.js";
import { byId } from "../element.js";
import { isDone, pictures } from "./entry.js";
import { countFilters, markFilter, onFilter, summary } from "./filters.js";
import { hasUnsaved, showLabelled } from "./labelled.js";
import { close as closePager, hidePager, openEntry, showPager, walk } from "./pager.js";
import { classReader, isPicture, pathOf } from "../paths.js";
import { predictAll } from "../service/service.js";
import { shrunk } from "../shrink.js";
import { byPath, fillRow, listRows, markOpen, showOnly, showThumbnail, shownEntries, sortTable } from "./table.js";

const MOST = 10_000; // pictures
const THUMBNAIL = 128; // pixels on the long side
const SAY = 10_000; // milliseconds between announcements of the progress
const LANES = 2; // requests at a time: one is answered while the other is sent
const section = byId("batch");
const progress = byId("progress");
const resend = byId("resend");
let entries = []; // as entry.js describes them, with the elements of their rows
let labels = []; // that the model knows
let classOf = () => undefined;
let sending = new AbortController();
let isSending = false;
let said = 0; // when the progress was announced
let answer = { open: () => {}, close: () => {} };

// `open` shows the full answer of a file beside the table, `close` takes it away.
export async function showBatch(files, { open, close }) {
  if (!mayForget()) return;
  answer = { open, close };
  forget();
  close();
  const found = files.filter(isPicture).map((file) => ({ file, path: pathOf(file) })).sort(byPath);
  entries = found.slice(0, MOST);
  labels = [];
  listRows(entries, openRow);
  showLeftOut(files.length - found.length, found.length - entries.length);
  section.hidden = false;
  window.addEventListener("beforeunload", warn);
  section.scrollIntoView({ block: "nearest" });
  await send(entries);
}

// Returns false if nothing is open beside the table.
export function closeRow() {
  if (byId("pager").hidden) return false;
  closePager();
  return true;
}

// Shows that an answer beside the table is not of the batch.
export function leaveRow() {
  if (section.hidden) return;
  markOpen(null);
  hideCorrection();
  showPager(null);
}

const mayForget = () => !hasUnsaved() || window.confirm("You have corrected pictures and not downloaded them. Forget them?");

function forget() {
  sending.abort();
  for (const { address } of entries) URL.revokeObjectURL(address);
  entries = [];
  hidePager();
  hideCorrection();
  markFilter("all");
  showLabelled(entries);
  showAccuracy(entries);
  section.hidden = true;
  window.removeEventListener("beforeunload", warn);
}

function warn(event) {
  event.preventDefault();
  event.returnValue = true; // browsers of before 2024
}

function showLeftOut(others, tooMany) {
  const lines = [];
  if (others) lines.push(`${others.toLocaleString("en")} other ${others === 1 ? "file" : "files"} left out, not named like a picture.`);
  if (tooMany) lines.push(`${pictures(tooMany)} left out; a table holds ${MOST.toLocaleString("en")}.`);
  byId("left-out").hidden = lines.length === 0;
  byId("left-out").textContent = lines.join(" ");
}

async function send(waiting) {
  sending.abort();
  const { signal } = (sending = new AbortController());
  const parts = chunks(waiting, prepare);
  isSending = true;
  said = performance.now();
  report();
  announce(`Looking at ${pictures(waiting.length)}…`);
  try {
    await Promise.all(Array.from({ length: LANES }, () => sendChunks(parts, signal)));
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return;
  }
  isSending = false;
  sortTable();
  report();
  announce(`${pictures(entries.length)}: ${summary(entries) || "no answers"}.`);
}

// Rows of photos have thumbnails of their own: a browser takes a second to draw a screen of large ones.
async function prepare(entry) {
  const sent = await shrunk(entry.file);
  showThumbnail(entry, sent === entry.file ? sent : await shrunk(sent, THUMBNAIL, 0));
  return sent;
}

async function sendChunks(parts, signal) {
  for await (const part of parts) {
    signal.throwIfAborted();
    const results = await answers(part.map(({ sent }) => sent), predictAll, signal);
    signal.throwIfAborted();
    learnLabels(results);
    part.forEach(({ item }, index) => fill(item, results[index]));
    report();
    sayProgress();
  }
}

function learnLabels(results) {
  const first = results.find(({ prediction }) => prediction);
  if (labels.length || !first) return;
  labels = Object.keys(first.prediction.probabilities);
  classOf = classReader(labels);
}

function fill(entry, { prediction, problem }) {
  Object.assign(entry, { prediction, problem, folder: classOf(entry.path) });
  fillRow(entry);
}

const unanswered = () => entries.filter((entry) => !isDone(entry) || entry.problem?.passes);

function report() {
  const done = entries.filter(isDone).length;
  const left = unanswered().length;
  progress.max = entries.length;
  progress.value = done;
  progress.hidden = !isSending;
  byId("batch-title").textContent = isSending || done < entries.length ? `${done.toLocaleString("en")} of ${pictures(entries.length)}` : pictures(entries.length);
  byId("csv").disabled = isSending || done === 0;
  if (!isSending && left === 0 && document.activeElement === resend) byId("batch-title").focus();
  resend.hidden = !isSending && left === 0;
  resend.textContent = isSending ? "Stop" : done < entries.length ? `Go on with ${left.toLocaleString("en")}` : `Try ${left.toLocaleString("en")} again`;
  countFilters(entries);
  showAccuracy(entries);
}

function sayProgress() {
  if (performance.now() - said < SAY) return;
  said = performance.now();
  announce(byId("batch-title").textContent);
}

function openRow(entry) {
  const isBeside = entry === openEntry();
  markOpen(entry);
  showPager(entry);
  hideCorrection();
  if (entry.prediction) askCorrection(entry, knownWords());
  if (!isBeside) answer.open(entry.file);
  if (!section.checkVisibility()) byId("one").scrollIntoView(); // on a phone it takes the table's place
  if (!byId("pager").contains(document.activeElement)) byId("back").focus({ preventScroll: true });
}

// The labels of the model, and the words that the user gave.
const knownWords = () => [...new Set([...labels, ...entries.map((entry) => entry.correction).filter(Boolean)])];

walk({
  list: shownEntries,
  open: openRow,
  close(entry) {
    answer.close();
    hideCorrection();
    markOpen(null);
    (entry?.button ?? byId("batch-title")).focus();
  },
});

onFilter((keeps) => {
  unpressCells();
  show(keeps);
});
onCell((keeps) => {
  markFilter(null);
  show(keeps);
});

function show(keeps) {
  showOnly(keeps);
  if (openEntry()) showPager(openEntry());
  announce(`${pictures(shownEntries().length)} shown.`);
}

onCorrection((entry) => {
  fillRow(entry);
  countFilters(entries);
  showAccuracy(entries);
  showLabelled(entries, true);
  askCorrection(entry, knownWords());
  announce(entry.correction ? `Corrected: ${entry.correction}.` : "Correction taken back.");
});

resend.addEventListener("click", () => {
  if (isSending) {
    sending.abort();
    isSending = false;
    report();
    announce(`Stopped. ${byId("batch-title").textContent}.`);
    return;
  }
  const waiting = unanswered();
  for (const entry of waiting) fill(entry, {});
  send(waiting);
});

byId("csv").addEventListener("click", () => download(new Blob([csv(entries)], { type: "text/csv" }), "predictions.csv"));

byId("clear").addEventListener("click", () => {
  if (!mayForget()) return;
  if (openEntry()) answer.close();
  forget();
  byId("files").focus();
});
