// Shows the image that the network saw under the heatmap for one label; a slider fades the heatmap.
import { markExplained } from "./bars.js";
import { byId } from "./element.js";

const figure = byId("explanation");
const frame = figure.querySelector(".frame");
const heat = byId("heat");
const strength = byId("strength");

// Reserves space until the first explanation arrives.
export function awaitExplanation(label) {
  byId("explained").textContent = label;
  frame.classList.add("waiting");
  figure.hidden = false;
  markExplained(null);
}

// Stops waiting for an explanation that failed; keeps showing an earlier one.
export function giveUpExplanation() {
  if (frame.classList.contains("waiting")) figure.hidden = true;
}

export function showExplanation({ label, seen, overlay }) {
  byId("seen").src = seen;
  heat.src = overlay;
  byId("explained").textContent = label;
  frame.classList.remove("waiting");
  figure.hidden = false;
  markExplained(label);
}

function fade() {
  heat.style.setProperty("opacity", strength.value / 100);
  strength.setAttribute("aria-valuetext", `${strength.value} %`);
}

strength.addEventListener("input", fade);
fade();
