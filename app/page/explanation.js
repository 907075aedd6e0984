// What the network saw, and over it the heat of what speaks for one label, which the slider fades.
import { markExplained } from "./bars.js";
import { byId } from "./element.js";

const figure = byId("explanation");
const heat = byId("heat");
const strength = byId("strength");

export function hideExplanation() {
  figure.hidden = true;
  markExplained(null);
}

export function showExplanation({ label, seen, overlay }) {
  byId("seen").src = seen;
  heat.src = overlay;
  byId("explained").textContent = label;
  figure.hidden = false;
  markExplained(label);
}

function fade() {
  heat.style.setProperty("opacity", strength.value / 100);
  strength.setAttribute("aria-valuetext", `${strength.value} %`);
}

strength.addEventListener("input", fade);
fade();
