// Entry point of the page: switches between its two views and connects the modules.
import { showCard } from "./model/card.js";
import { announce } from "./announcement.js";
import { classify, loadWorkbench } from "./classify.js";
import { byId } from "./element.js";
import { watchHealth } from "./model/health.js";
import { watch } from "./intake.js";
import { askWith, storedKey } from "./service/key.js";
import { askForKey } from "./service/keydialog.js";
import { isCifar10, knowledge } from "./labels.js";
import { learn } from "./model/manifest.js";

const TITLES = { classify: "Glimpse: what is in the picture?", model: "Glimpse: the model and its service" };

function show(view) {
  for (const name of Object.keys(TITLES)) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = TITLES[view];
  watchHealth(view === "model");
  if (view === "model") showCard();
}

function follow() {
  const view = location.hash.slice(1) || "classify";
  if (view in TITLES) show(view); // the skip link's hash is not a view
}

// A browser follows links without the key, so hide the link to the API's documentation unless that is public.
async function hideClosedDocs() {
  if (storedKey()) byId("api").hidden = (await fetch("docs", { method: "HEAD" })).status === 401;
}

askWith(askForKey);
window.addEventListener("hashchange", () => {
  follow();
  announce(document.title);
  window.scrollTo(0, 0);
});
follow();
watch((files, sample) => {
  if (!byId("view-model").hidden) location.hash = "classify";
  classify(files, sample);
});
learn().then(({ labels, size }) => {
  byId("knows").textContent = `${knowledge(labels)} It takes one small look, in ${size} pixels, and guesses.`;
  for (const id of ["samples", "credit"]) byId(id).hidden = !isCifar10(labels);
  return hideClosedDocs();
}).catch(() => {}).then(loadWorkbench).catch(() => {}); // or when it is needed
