// Collects pictures as Files: chosen, dropped (also in folders), pasted, from the camera, or samples.
import { isLive, pointCamera } from "./camera.js";
import { byId } from "./element.js";
import { keepPath } from "./paths.js";

// Calls `give` with File[], whose paths are in paths.js, and, for a sample, its address.
export function watch(give) {
  for (const id of ["files", "folder", "capture"]) {
    const input = byId(id);
    input.addEventListener("change", () => {
      if (input.files.length) give([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  byId("folder-chooser").hidden = !("webkitdirectory" in HTMLInputElement.prototype);
  byId("point").textContent = isLive() ? "Live camera" : "Take a photo";
  byId("point").addEventListener("click", () => pointCamera((photo) => give([photo])));
  byId("samples").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) giveSample(button.querySelector("img").src, button.dataset.sample, give);
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) give(files);
  });
  watchDrops(give);
}

async function giveSample(address, name, give) {
  const content = await fetch(address).then((response) => response.blob(), () => new Blob());
  give([new File([content], name, { type: "image/png" })], address);
}

function watchDrops(give) {
  const drop = byId("drop");
  let depth = 0; // nested elements that the drag has entered and not left
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (change) => {
    depth = Math.max(0, change === 0 ? 0 : depth + change);
    drop.classList.toggle("over", depth > 0);
  };
  document.addEventListener("dragenter", (event) => carriesFiles(event) && mark(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && mark(-1));
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    mark(0);
    const files = await dropped(event.dataTransfer);
    if (files.length) give(files);
  });
}

// Reads the entries before the first await, because the browser empties the list afterwards.
async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const taken = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = await Promise.all(taken.map(({ entry, file }) => (entry?.isDirectory ? within(entry) : [file])));
  return found.flat().filter(Boolean);
}

async function within(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    return file ? [keepPath(file, entry.fullPath.slice(1))] : [];
  }
  const reader = entry.createReader();
  const read = () => new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
  const inner = [];
  for (let some = await read(); some.length; some = await read()) inner.push(...some); // a hundred at a time
  return (await Promise.all(inner.map(within))).flat();
}
