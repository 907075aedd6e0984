// Shows the answer for one picture: the picture, the verdict in words, the bars and the timing.
import { showBars } from "./bars.js";
import { byId, element } from "./element.js";
import { awaitExplanation } from "./explanation.js";
import { announce } from "./alert.js";
import { showPrograms } from "./programs.js";
import { bytes, certainty, milliseconds, sentence, whole } from "./format.js";

const STAGES = {
  receive: "receive", decode: "decode", queue: "queue", infer: "network", serialize: "write the answer", rest: "other",
};
const picture = byId("picture");

// Calls `choose` with a label when its explanation is requested.
export function showAnswer({ file, sample, prediction, stages, roundTrip }, choose) {
  URL.revokeObjectURL(picture.src);
  picture.parentElement.classList.remove("broken");
  picture.classList.remove("pixels");
  picture.src = URL.createObjectURL(file);
  byId("about").textContent = `${file.name} · ${bytes(file.size)} · ${prediction.model.name} ${prediction.model.version}`;
  byId("verdict").textContent = sentence(prediction);
  byId("verdict").dataset.verdict = prediction.verdict ?? "";
  byId("certainty").textContent = certainty(prediction);
  showBars(prediction.probabilities, choose);
  awaitExplanation(prediction.label);
  showTimes(stages, roundTrip);
  showPrograms(file.name, sample);
  byId("empty").hidden = true;
  byId("answer").hidden = false;
  announce(`${whole(sentence(prediction))} ${certainty(prediction)}.`);
}

// The service also reads formats that the browser may not show, such as HEIC and TIFF.
picture.addEventListener("error", () => picture.parentElement.classList.add("broken"));
picture.addEventListener("load", () => picture.classList.toggle("pixels", picture.naturalWidth < 200));

function showTimes(stages, roundTrip) {
  const total = stages.find(([name]) => name === "total")?.[1] ?? 0;
  const known = stages.filter(([name]) => name !== "total");
  const rest = total - known.reduce((sum, [, time]) => sum + time, 0);
  const parts = rest > 0 ? [...known, ["rest", rest]] : known;
  byId("stages").replaceChildren(...parts.map(([name, time]) => {
    const part = element("i", { className: name, title: STAGES[name] ?? name });
    part.style.setProperty("flex-grow", time);
    return part;
  }));
  const lines = parts.map(([name, time]) => line(name, STAGES[name] ?? name, time));
  byId("times").replaceChildren(...lines, line("total", "in the service", total), line("trip", "including the network", roundTrip));
}

const line = (kind, name, time) =>
  element("li", { className: kind }, element("span", { textContent: name }), element("b", { textContent: milliseconds(time) }));
