// The panel with one picture, in one of three states: looking, answered or failed.
import { announce } from "../announcement.js";
import { showBars } from "./bars.js";
import { byId, element } from "../element.js";
import { showSeen } from "./explanation.js";
import { bytes, whole } from "../format.js";
import { pathOf } from "../paths.js";
import { headlineFor } from "../service/problem.js";
import { showPrograms } from "./programs.js";
import { showTimes } from "./timing.js";
import { headline, judgement } from "./verdict.js";

const panel = byId("answer");
const picture = byId("picture");
const chip = byId("chip");

export function showLooking(file) {
  URL.revokeObjectURL(picture.src);
  picture.parentElement.classList.remove("broken");
  picture.classList.remove("pixels");
  picture.src = URL.createObjectURL(file);
  showAbout(file);
  byId("empty").hidden = true;
  show("looking", { verdict: "Looking…" });
  announce(`Looking at ${file.name}…`);
  bringIntoView();
}

// Calls `choose` with a label when its explanation is requested.
export function showAnswer({ file, sent, sample, sureFrom, prediction, stages, roundTrip }, choose) {
  const { seen, ...answer } = prediction;
  const texts = { verdict: headline(prediction, sureFrom), ...judgement(prediction, sureFrom) };
  showAbout(file, sent);
  showBars(prediction, choose);
  showSeen(seen);
  showTimes(stages, roundTrip);
  showPrograms(file.name, sample);
  byId("json").textContent = JSON.stringify(answer, null, 2);
  show("answered", texts);
  chip.dataset.verdict = answer.verdict ?? "";
  announce(`${texts.verdict} ${whole(texts.chip)} ${texts.detail}`);
}

export function showFailure(file, problem, retry) {
  const texts = { verdict: headlineFor(problem, file.size), detail: whole(problem.detail), small: problem.smallPrint };
  byId("retry").hidden = !problem.passes;
  byId("retry").onclick = () => {
    focusVerdict();
    retry();
  };
  show("failed", texts);
  announce(`${file.name}: ${texts.verdict} ${texts.detail}`);
}

// For buttons that vanish when they are pressed.
export const focusVerdict = () => byId("verdict").focus({ preventScroll: true });

export function hideAnswer() {
  panel.hidden = true;
  byId("empty").hidden = false;
}

function show(state, { verdict, chip: words = "", detail = "", small = "" }) {
  panel.dataset.state = state;
  panel.setAttribute("aria-busy", state === "looking");
  byId("verdict").textContent = verdict;
  byId("detail").textContent = detail;
  byId("small").textContent = small;
  chip.hidden = !words;
  chip.textContent = words;
  panel.hidden = false;
}

function showAbout(file, sent = file) {
  const size = sent === file ? bytes(file.size) : `${bytes(file.size)}, sent as ${bytes(sent.size)}`;
  byId("about").replaceChildren(element("bdi", { textContent: pathOf(file) }), ` · ${size}`);
}

// On a phone the panel is below the button that was pressed.
function bringIntoView() {
  const { top } = panel.getBoundingClientRect();
  if (top < window.innerHeight * 0.4 && top >= 0) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  panel.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

// The service also reads formats that the browser may not show, such as HEIC and TIFF.
picture.addEventListener("error", () => picture.parentElement.classList.add("broken"));
picture.addEventListener("load", () => picture.classList.toggle("pixels", picture.naturalWidth < 200));
