// Lets the user say what a picture of a batch shows, in a known word or another.
import { byId, element } from "../element.js";

const form = byId("correction");
const truth = byId("truth");
const word = byId("word");
const ANOTHER = "\n"; // no label
let corrected = null;
let save = () => {};

// Calls `save_` with an entry whose correction has changed.
export function onCorrection(save_) {
  save = save_;
}

export function askCorrection(entry, labels) {
  corrected = entry;
  form.hidden = false;
  byId("another").hidden = true;
  word.value = "";
  const none = entry.folder ? `${entry.folder} (its folder)` : "choose a word";
  truth.replaceChildren(
    element("option", { value: "", textContent: none }),
    ...labels.map((label) => element("option", { value: label, textContent: label })),
    element("option", { value: ANOTHER, textContent: "something else…" }),
  );
  truth.value = entry.correction ?? "";
}

export function hideCorrection() {
  form.hidden = true;
}

function correct(label) {
  corrected.correction = label || undefined;
  save(corrected);
}

truth.addEventListener("change", () => {
  const isAnother = truth.value === ANOTHER;
  byId("another").hidden = !isAnother;
  if (isAnother) word.focus();
  else correct(truth.value);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const label = word.value.trim();
  if (label) correct(label);
});
