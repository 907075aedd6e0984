// Classifies pictures: shows a full answer for one, a table for several. A new request cancels the previous one.
import { announce } from "./announcement.js";
import { focusVerdict, hideAnswer, showAnswer, showFailure, showLooking } from "./answer/answer.js";
import { byId } from "./element.js";
import { awaitHeat, hideHeat, showHeat, showNoHeat } from "./answer/explanation.js";
import { known, learn } from "./model/manifest.js";
import { patiently } from "./service/patience.js";
import { asProblem, Problem } from "./service/problem.js";
import { explain, predict } from "./service/service.js";
import { shrunk } from "./shrink.js";

let prediction = new AbortController(); // of the request in progress
let explanation = new AbortController();
let workbench = null; // the module of the table, once it is loaded

function begin() {
  prediction.abort();
  explanation.abort();
  prediction = new AbortController();
  return prediction.signal;
}

// `sample` is the file's address if it is one of the page's samples.
export function classify(files, sample) {
  if (files.length > 1) return classifyMany(files);
  workbench?.leaveRow();
  return classifyOne(files[0], sample);
}

async function classifyMany(files) {
  const signal = workbench ? null : begin();
  try {
    await loadWorkbench();
  } catch {
    if (!signal.aborted) showUnloaded(files);
    return;
  }
  if (!signal?.aborted) await workbench.showBatch(files, { open: classifyOne, close });
}

// Loads what only several pictures need: a third of the page.
export async function loadWorkbench() {
  workbench ??= await import("./batch/batch.js");
}

function showUnloaded(files) {
  const problem = new Problem("A part of this page could not be loaded.", "The service may have been stopped, or this device may be offline.");
  showLooking(files[0]);
  showFailure(files[0], problem, () => classifyMany(files));
}

function close() {
  begin();
  hideAnswer();
}

function cancel() {
  close();
  announce("Cancelled.");
  if (!workbench?.closeRow()) byId("files").focus();
}

async function classifyOne(file, sample) {
  const signal = begin();
  showLooking(file);
  try {
    const sent = await shrunk(file);
    const answered = await patiently(() => predict(sent, signal, true), signal);
    const { sureFrom } = await learn(answered.prediction.model).catch(known);
    if (signal.aborted) return;
    const seen = asFile(answered.prediction.seen) ?? sent;
    showAnswer({ file, sent, sample, sureFrom, ...answered }, (label) => explainLabel(seen, label, true));
    await explainLabel(seen, answered.prediction.label);
  } catch (error) {
    if (!signal.aborted) showFailure(file, asProblem(error), () => classifyOne(file, sample));
  }
}

// The pixels that the network saw are all that an explanation needs, and take 3 kB. Null without an address.
function asFile(address) {
  if (!address) return null;
  const bytes = Uint8Array.from(atob(address.split(",")[1]), (letter) => letter.charCodeAt(0));
  return new File([bytes], "seen.png", { type: "image/png" });
}

async function explainLabel(picture, label, isPressed = false) {
  explanation.abort();
  const { signal } = (explanation = new AbortController());
  awaitHeat(label);
  try {
    const explained = await patiently(() => explain(picture, label, signal), signal);
    if (explained) announceIf(isPressed, showHeat(explained));
    else hideHeat();
  } catch (error) {
    const retry = () => {
      focusVerdict();
      explainLabel(picture, label, true);
    };
    if (!signal.aborted) announceIf(isPressed, showNoHeat(asProblem(error), retry));
  }
}

function announceIf(isPressed, text) {
  if (isPressed) announce(text);
}

byId("cancel").addEventListener("click", cancel);
