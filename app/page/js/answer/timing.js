// Shows how long each stage of a request took.
import { byId, element } from "../element.js";
import { milliseconds } from "../format.js";

const STAGES = {
  receive: "receive", decode: "decode", queue: "queue", infer: "network", serialize: "write the answer", rest: "other",
};

// `stages` are pairs of a name and milliseconds, with the total last.
export function showTimes(stages, roundTrip) {
  const total = stages.find(([name]) => name === "total")?.[1] ?? 0;
  const parts = stages.filter(([name]) => name !== "total");
  const rest = total - parts.reduce((sum, [, time]) => sum + time, 0);
  if (rest > 0) parts.push(["rest", rest]);
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
