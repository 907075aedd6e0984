// Lets the user say what a picture of a batch shows, in a known word or another.
import { byId, element } from "../element.js";
import { named } from "../labels.js";

const form = byId("correction");
const truth = byId("truth");
const word = byId("word");
const ANOTHER = "\n"; // no label
let corrected = null;
let before; // the correction when the list of words got the focus
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
    ...labels.map((label) => element("option", { value: label, textContent: named(label) })),
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

truth.addEventListener("focus", () => {
  before = corrected.correction;
});
truth.addEventListener("change", () => {
  if (truth.value !== ANOTHER) return correct(truth.value);
  if (corrected.correction !== before) correct(before); // arrow keys pass through all other words
  truth.value = ANOTHER;
  byId("another").hidden = false;
  word.focus();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const label = word.value.trim();
  if (!label) return;
  correct(label);
  truth.focus(); // the field is hidden
});
