// Shows the service's current health, polled every few seconds while the view is visible.
import { byId, element } from "../element.js";
import { between, buckets, quantile } from "./scrape.js";
import { drift, health, metrics } from "../service/service.js";
import { milliseconds } from "../format.js";

const PERIOD = 2_000; // milliseconds
const WINDOW = 30_000;
const FINDINGS = {
  ok: "none", watch: "a little", drifted: "drifted", too_few_images: "too few yet", no_reference: "not measured",
};
let scrapes = []; // {at, counts}, the oldest first
let timer = null;

export function watchHealth(isWatched) {
  clearTimeout(timer);
  timer = null;
  if (isWatched) look();
}

async function look() {
  const [ready, text, drifted] = await Promise.allSettled([health(), metrics(), drift()]);
  if (text.status === "fulfilled") remember(text.value);
  show(ready, text.status === "fulfilled", drifted.value);
  if (!byId("view-model").hidden) timer = setTimeout(look, scrapes.length < 2 ? PERIOD / 2 : PERIOD);
}

function remember(text) {
  const at = performance.now();
  scrapes.push({ at, counts: buckets(text) });
  scrapes = scrapes.filter((scrape) => at - scrape.at <= WINDOW + PERIOD);
}

function show(ready, isReached, drifted) {
  const [first, last] = [scrapes[0], scrapes.at(-1)];
  const seconds = isReached && scrapes.length > 1 ? (last.at - first.at) / 1000 : 0;
  const counted = seconds ? between(first.counts, last.counts) : [];
  const time = (share) => {
    const found = quantile(share, counted);
    return found === null ? "–" : milliseconds(1000 * found);
  };
  const rate = seconds && counted.length ? (counted.at(-1)[1] / seconds).toFixed(1) : seconds ? "0.0" : "–";
  const state = ready.status === "fulfilled" ? ready.value : null;
  const tiles = [
    ["Status", state ? "ready" : ready.reason.status ? "not ready" : "not reached", state ? "good" : "bad"],
    ["Requests/s", rate],
    ["p50", time(0.5)],
    ["p99", time(0.99)],
    ...(drifted ? [["Drift", FINDINGS[drifted.status] ?? drifted.status, drifted.status === "drifted" ? "bad" : ""]] : []),
  ];
  byId("health").replaceChildren(...tiles.map(([name, value, kind = ""]) => tile(name, value, kind)));
  byId("window").textContent = note(state, ready.reason, seconds, drifted);
  showFeatures(drifted?.features ?? {});
}

const tile = (name, value, kind) =>
  element("div", { className: `tile ${kind}` }, element("dt", { textContent: name }), element("dd", { textContent: value }));

function note(state, reason, seconds, drifted) {
  if (!state) return reason.message;
  const said = [`${state.model.name} ${state.model.version} on ${state.engine} in ${state.precision}.`];
  if (seconds) said.push(`Predictions, batches and explanations of the last ${Math.round(seconds) === 1 ? "second" : `${Math.round(seconds)} seconds`}.`);
  if (drifted?.images) {
    const hours = drifted.window_seconds / 3600;
    said.push(`Drift of ${drifted.images.toLocaleString("en")} pictures in ${hours === 1 ? "the last hour" : `the last ${hours} hours`}.`);
  }
  return said.join(" ");
}

function showFeatures(features) {
  const rows = Object.entries(features).map(([name, { psi, status }]) =>
    element("tr", {},
      element("th", { scope: "row", textContent: name.replaceAll("_", " ") }),
      element("td", { className: "number", textContent: typeof psi === "number" ? psi.toFixed(3) : "–" }),
      element("td", { textContent: FINDINGS[status] ?? status })));
  byId("features").replaceChildren(...rows);
  byId("drift").hidden = rows.length === 0;
}

document.addEventListener("visibilitychange", () => {
  if (!byId("view-model").hidden) watchHealth(!document.hidden);
});
