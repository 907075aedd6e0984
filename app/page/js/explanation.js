// What the network saw, and over it the heat of what speaks for one label, which the slider fades.
import { markExplained } from "./bars.js";
import { byId } from "./element.js";

const figure = byId("explanation");
const frame = figure.querySelector(".frame");
const heat = byId("heat");
const strength = byId("strength");

// Keeps its place free until the first explanation comes.
export function awaitExplanation(label) {
  byId("explained").textContent = label;
  frame.classList.add("waiting");
  figure.hidden = false;
  markExplained(null);
}

// There is no explanation, or not of this label; one that is shown stays.
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
