// Classifies pictures: shows a full answer for one, a table for several. A new request cancels the previous one.
import { showAnswer } from "./answer.js";
import { showBatch } from "./batch.js";
import { byId } from "./element.js";
import { giveUpExplanation, showExplanation } from "./explanation.js";
import { announce, complain, withdraw } from "./alert.js";
import { Problem, explain, predict } from "./service.js";

let current = new AbortController();
let asked = null; // the label whose explanation was requested last

function begin() {
  current.abort();
  current = new AbortController();
  wait(false);
  withdraw();
  return current.signal;
}

function wait(isAsked) {
  for (const id of ["answer", "empty"]) byId(id).setAttribute("aria-busy", isAsked);
  if (isAsked) announce("Classifying the picture…");
}

// `sample` is the file's address if it is one of the page's samples.
export function classify(files, sample) {
  if (files.length === 1) return classifyOne(files[0], sample);
  begin();
  return showBatch(files, (file) => classifyOne(file));
}

async function classifyOne(file, sample) {
  const signal = begin();
  const again = () => classifyOne(file, sample);
  wait(true);
  await attempt(again, signal, async () => {
    const answered = await predict(file, signal);
    wait(false);
    showAnswer({ file, sample, ...answered }, (label) => explainLabel(file, label, signal));
    bringIntoView(byId("answer"));
    await explainLabel(file, answered.prediction.label, signal);
  });
  if (!signal.aborted) wait(false);
}

async function explainLabel(file, label, signal) {
  let explanation = null;
  asked = label;
  await attempt(() => explainLabel(file, label, signal), signal, async () => {
    explanation = await explain(file, label, signal);
  });
  if (signal.aborted || label !== asked) return;
  if (explanation) showExplanation(explanation);
  else giveUpExplanation();
}

async function attempt(again, signal, work) {
  try {
    withdraw();
    await work();
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    complain(error, again);
  }
}

// On a phone the answer is below the button that was pressed.
function bringIntoView(part) {
  const { top } = part.getBoundingClientRect();
  if (top < window.innerHeight * 0.6 && top >= 0) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  part.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}
