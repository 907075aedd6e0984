// The live camera: answers in big type while one points it, and stops at a frame. Without HTTPS the page may not use the
// camera, so the device's own app takes a photo.
import { byId } from "./element.js";
import { whole } from "./format.js";
import { known } from "./model/manifest.js";
import { patiently, pause } from "./service/patience.js";
import { asProblem } from "./service/problem.js";
import { predict } from "./service/service.js";
import { encoded } from "./shrink.js";
import { headline, judgement } from "./answer/verdict.js";

const SIDE = 320; // pixels of a frame on its long side, about 15 kB
const PERIOD = 300; // milliseconds between an answer and the next frame
const AFTER_PROBLEM = 2_000;
const dialog = byId("camera");
const viewfinder = byId("viewfinder");
const complaint = byId("camera-problem");
const freeze = byId("freeze");
const use = byId("use");
let stream = null;
let looking = new AbortController();
let last = null; // the frame that was answered last, as a File
let before = ""; // the headline before the one that is shown
let hand = () => {};

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, or choose a file.",
  NotFoundError: "No camera was found. Choose a file instead.",
  NotReadableError: "Another program is using the camera. Close it, or choose a file.",
};

export const isLive = () => Boolean(navigator.mediaDevices?.getUserMedia);

// Calls `give` with a frame as a File, if one is chosen.
export async function pointCamera(give) {
  if (!isLive()) {
    byId("capture").click();
    return;
  }
  hand = give;
  last = null;
  complain("");
  say("Point at something", "");
  freeze.disabled = use.disabled = true;
  dialog.showModal();
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (!dialog.open) return release(opened);
    stream = opened;
    viewfinder.srcObject = opened;
  } catch (error) {
    if (dialog.open) complain(REASONS[error.name] ?? "The camera cannot be used. Choose a file instead.");
    return;
  }
  await thaw();
}

async function thaw() {
  freeze.textContent = "Freeze";
  await viewfinder.play().catch(() => {}); // closed meanwhile
  freeze.disabled = !dialog.open;
  look(false);
}

function stop() {
  viewfinder.pause();
  freeze.textContent = "Go on";
  look(true);
}

// Asks about frame after frame, or only about the one at which the picture stands.
async function look(isFrozen) {
  looking.abort();
  const { signal } = (looking = new AbortController());
  do {
    const rest = await lookOnce(signal, isFrozen).catch(() => AFTER_PROBLEM); // aborted, if nothing else
    if (signal.aborted || isFrozen) return;
    await pause(rest);
  } while (!signal.aborted && dialog.open);
}

async function lookOnce(signal, isFrozen) {
  const { videoWidth: width, videoHeight: height } = viewfinder;
  const frame = await encoded(viewfinder, Math.min(1, SIDE / Math.max(width, height)));
  if (!frame) return PERIOD;
  const file = new File([frame], "camera.jpg", { type: frame.type });
  try {
    const { prediction } = await patiently(() => predict(file, signal), signal);
    if (signal.aborted) return PERIOD;
    complain("");
    const { chip, detail } = judgement(prediction, known().sureFrom);
    say(headline(prediction, known().sureFrom), [chip, detail].filter(Boolean).join(" · "), prediction.verdict, isFrozen);
    last = file;
    use.disabled = false;
    return PERIOD;
  } catch (error) {
    const problem = asProblem(error);
    if (!signal.aborted) complain(`${problem.headline} ${whole(problem.detail)}`);
    return AFTER_PROBLEM;
  }
}

// A screen reader hears an answer only once it is given twice, or frozen.
function say(text, detail, verdict = "", isFrozen = false) {
  byId("live").textContent = text;
  byId("live").dataset.verdict = verdict ?? "";
  byId("live-detail").textContent = detail;
  const status = byId("live-status");
  const heard = isFrozen ? `${text} ${detail}` : text;
  if ((isFrozen || text === before) && status.textContent !== heard) status.textContent = heard;
  before = text;
}

// Takes away the last answer, which is not of what the camera sees now.
function complain(text) {
  if (text) say("", "");
  if (complaint.textContent !== text) complaint.textContent = text;
  complaint.hidden = !text;
}

const release = (opened) => opened?.getTracks().forEach((track) => track.stop());

freeze.addEventListener("click", () => (viewfinder.paused ? thaw() : stop()));
use.addEventListener("click", () => {
  dialog.close();
  hand(last);
});
byId("leave").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  looking.abort();
  release(stream);
  stream = null;
  viewfinder.srcObject = null;
});
