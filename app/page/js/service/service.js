// Calls the service's endpoints. Addresses are relative to the page, so they work behind a proxy's prefix.
// Knows nothing about the page's elements.
import { obtainKey, storedKey } from "./key.js";
import { Problem, problemOf } from "./problem.js";

async function refusal(response) {
  const kind = response.headers.get("content-type") ?? "";
  const wait = Number(response.headers.get("retry-after")) || 1;
  if (!kind.startsWith("application/problem+json")) {
    const detail = `The response has status ${response.status} and no explanation; it may come from a proxy.`;
    return new Problem("The service did not answer.", detail, { status: response.status, wait });
  }
  return problemOf(await response.json(), wait);
}

async function unreachable() {
  const alive = await fetch("health/live").then((response) => response.ok, () => false);
  return alive
    ? new Problem("The picture could not be sent.",
      "The connection was closed during the upload. The picture may be too large for the service, or have changed on disk.")
    : new Problem("The service cannot be reached.", "It may have been stopped, or this device may be offline.");
}

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : await unreachable();
  }
}

// Sends the key of this tab, if there is one, and again with another if the service wants one.
async function ask(path, options = {}, isBackground = false) {
  for (;;) {
    const key = storedKey();
    const response = await send(path, key ? { ...options, headers: { Authorization: `Bearer ${key}` } } : options);
    if (response.ok) return response;
    const problem = await refusal(response);
    const isAboutKey = problem.code === "key_required" || problem.code === "key_unknown";
    if (!isAboutKey || !(await obtainKey(problem, key, isBackground))) throw problem;
  }
}

// Reads an answer whose connection may break in its middle.
async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    throw error.name === "AbortError" ? error : await unreachable();
  }
}

const look = (path) => ask(path, {}, true); // a request that the user did not make

function form(field, files) {
  const body = new FormData();
  for (const file of files) body.append(field, file, file.name);
  return body;
}

// "decode;dur=0.2, total;dur=1.4" → [["decode", 0.2], ["total", 1.4]], in milliseconds
export const timings = (header) =>
  (header ?? "").split(", ").filter((part) => part.includes(";dur=")).map((part) => {
    const [name, milliseconds] = part.split(";dur=");
    return [name, Number(milliseconds)];
  });

// With `seen`, the prediction has the pixels that the network saw, for `explain`.
export async function predict(file, signal, seen = false) {
  const began = performance.now();
  const response = await ask(seen ? "predict?seen=true" : "predict", { method: "POST", body: form("file", [file]), signal });
  const prediction = await json(response);
  return { prediction, stages: timings(response.headers.get("server-timing")), roundTrip: performance.now() - began };
}

// Returns a {prediction} or {problem} for each file, in order.
export async function predictAll(files, signal) {
  const response = await ask("predict/batch", { method: "POST", body: form("files", files), signal });
  const { results } = await json(response);
  return results.map(({ prediction, problem }) => (problem ? { problem: problemOf(problem) } : { prediction }));
}

// Returns the explanation of a label; null if the service has no explanations.
export async function explain(file, label, signal) {
  try {
    const query = `?format=json&class=${encodeURIComponent(label)}`;
    const response = await ask(`explain${query}`, { method: "POST", body: form("file", [file]), signal });
    return await json(response);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

export const model = async () => json(await look("model"));
export const health = async () => json(await look("health"));
export const metrics = async () => (await look("metrics")).text();
export const card = async () => (await ask("model/card")).text();
export const picture = async (address) => URL.createObjectURL(await (await look(address)).blob());

// Returns null if the service does not report drift.
export async function drift() {
  try {
    return await json(await look("model/drift"));
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
