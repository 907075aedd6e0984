// Shows the probabilities as bars, in the selected order; many labels are hidden behind "Show all".
import { byId, element } from "../element.js";
import { percent } from "../format.js";

const FEW = 10;
const body = byId("bars");
const more = byId("more");
let shares = []; // [label, probability] in label order
let all = false;
let explained = null; // the label whose explanation is shown
let chosen = () => {};

const order = () => document.querySelector("input[name=order]:checked").value;

// Calls `choose` with a label when its explanation is requested.
export function showBars({ probabilities, verdict }, choose) {
  body.dataset.verdict = verdict ?? "";
  shares = Object.entries(probabilities);
  all = false;
  explained = null;
  chosen = choose;
  draw();
}

export function markExplained(label) {
  explained = label;
  for (const button of body.querySelectorAll("button")) button.setAttribute("aria-pressed", button.value === label);
}

function draw() {
  const sorted = [...shares].sort((a, b) => b[1] - a[1]);
  const best = sorted[0]?.[0];
  const kept = new Set((all ? sorted : sorted.slice(0, FEW)).map(([label]) => label));
  const listed = (order() === "label" ? shares : sorted).filter(([label]) => kept.has(label));
  body.replaceChildren(...listed.map(([label, share]) => row(label, share, label === best)));
  more.hidden = shares.length <= FEW;
  more.textContent = all ? `Show the ${FEW} most probable` : `Show all ${shares.length.toLocaleString("en")} labels`;
}

function row(label, share, isBest) {
  const button = element("button", { type: "button", value: label, textContent: label, title: `Show what speaks for ${label}` });
  button.setAttribute("aria-pressed", label === explained);
  const fill = element("span", { className: "fill" });
  fill.style.setProperty("--share", share);
  return element("tr", { className: isBest ? "best" : "" },
    element("th", { scope: "row" }, button),
    element("td", {}, element("span", { className: "bar", "aria-hidden": "true" }, fill),
      element("span", { className: "share", textContent: percent(share) })));
}

body.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) chosen(button.value);
});
more.addEventListener("click", () => {
  all = !all;
  draw();
});
for (const radio of document.querySelectorAll("input[name=order]")) radio.addEventListener("change", draw);
