// Downloads pictures under their right labels, a folder for each, as `python -m training own` reads them.
import { announce } from "../announcement.js";
import { download } from "./download.js";
import { byId } from "../element.js";
import { pictures } from "./entry.js";
import { list } from "../format.js";
import { zip } from "./zip.js";

const ENOUGH = 10; // pictures of a class, for a training
const FEW = 5; // classes that are named
const box = byId("labelled");
const button = byId("zip");
const withOthers = byId("with-others");
let entries = [];
let isSaved = true;

export const hasUnsaved = () => !isSaved;

export function showLabelled(all, isChanged = false) {
  entries = all;
  if (isChanged) isSaved = false;
  const corrections = entries.filter((entry) => entry.correction).length;
  const others = entries.filter((entry) => !entry.correction && labelOf(entry)).length;
  box.hidden = corrections === 0;
  if (!corrections) isSaved = true;
  byId("labelled-count").textContent = `${pictures(corrections)} corrected. Closing this page forgets what is not downloaded.`;
  byId("with-others-text").textContent = `With the ${others === 1 ? "other picture" : `${others.toLocaleString("en")} others`}, under the word of its folder or answer`;
  note();
}

const labelOf = (entry) => entry.correction ?? (entry.prediction && (entry.folder ?? entry.prediction.label));
const chosen = () => entries.filter((entry) => (withOthers.checked ? labelOf(entry) : entry.correction));

function note() {
  const counts = new Map();
  for (const entry of chosen()) counts.set(labelOf(entry), (counts.get(labelOf(entry)) ?? 0) + 1);
  const few = [...counts].filter(([, count]) => count < ENOUGH).map(([label, count]) => `${label} (${count})`);
  const lacking = few.length > FEW ? [...few.slice(0, FEW), `${few.length - FEW} more`] : few;
  byId("labelled-note").textContent = "A folder for each word, to train with: unpack it and run “python -m training own FOLDER --name NAME”. "
    + (few.length ? `That needs ${ENOUGH} pictures of each; too few: ${list(lacking)}.` : counts.size < 2 ? "That needs two words or more." : "");
}

// Paths of the archive: names that every system can write, each once.
export function pathsOf(labelled) {
  const taken = new Set();
  return labelled.map(([label, file]) => {
    const [, stem, suffix] = /^(.+?)(\.[^.]*)?$/s.exec(safe(file.name));
    let path = "";
    for (let number = 1; !path || taken.has(path.toLowerCase()); number += 1) {
      path = `${safe(label)}/${stem}${number > 1 ? ` (${number})` : ""}${suffix ?? ""}`;
    }
    taken.add(path.toLowerCase());
    return [path, file];
  });
}

const safe = (name) => name.replaceAll(/[\\/:*?"<>|\p{C}]/gu, "_").replaceAll(/^[.\s]+|[.\s]+$/g, "_");

button.addEventListener("click", async () => {
  const files = pathsOf(chosen().map((entry) => [labelOf(entry), entry.file]));
  button.disabled = true;
  try {
    const archive = await zip(files, (count) => (button.textContent = `${count} of ${files.length} read…`));
    download(archive, "labelled.zip");
    isSaved = true;
    announce(`${pictures(files.length)} downloaded as folders.`);
  } catch (error) {
    const text = error instanceof RangeError ? error.message : "A picture can no longer be read. Was it changed or moved after you gave it?";
    byId("labelled-note").textContent = `No download. ${text}`;
    announce(byId("labelled-note").textContent);
  } finally {
    button.disabled = false;
    button.textContent = "Download as folders";
    if (document.activeElement === document.body) button.focus();
  }
});
withOthers.addEventListener("change", note);
