// The pixels that the network saw, under the heat map for one label; a slider fades the heat map.
import { markExplained } from "./bars.js";
import { byId } from "../element.js";
import { whole } from "../format.js";
import { plain } from "../labels.js";
import { region } from "./region.js";

const figure = byId("explanation");
const seen = byId("seen");
const heat = byId("heat");
const strength = byId("strength");
const again = byId("heat-again");

// `address` is that of the pixels, or empty until the first explanation brings them.
export function showSeen(address) {
  if (address) seen.src = address;
  else seen.removeAttribute("src");
}

export function awaitHeat(label) {
  markExplained(label);
  tell("waiting", `Looking for what speaks for ${plain(label)}…`);
}

export function showHeat({ label, seen: pixels, overlay, saliency }) {
  seen.src = pixels;
  heat.src = overlay;
  return tell("shown", `What speaks for ${plain(label)}: ${region(saliency)}.`);
}

// Shows why there is no heat map in its place.
export function showNoHeat(problem, retry) {
  again.hidden = !problem.passes;
  again.onclick = retry;
  return tell("failed", `No heat map. ${problem.headline} ${whole(problem.detail)}`);
}

// For a service without explanations.
export function hideHeat() {
  tell("absent", "");
}

function tell(state, text) {
  figure.dataset.state = state;
  byId("reason").textContent = text;
  return text;
}

function fade() {
  heat.style.setProperty("opacity", strength.value / 100);
  strength.setAttribute("aria-valuetext", `${strength.value} %`);
}

seen.addEventListener("load", () => {
  const size = `${seen.naturalWidth}×${seen.naturalHeight} pixels`;
  seen.alt = `The picture in ${size}, as the network saw it`;
  byId("resolution").textContent = size;
});
strength.addEventListener("input", fade);
fade();
