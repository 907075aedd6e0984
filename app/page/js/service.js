// Calls the service's endpoints. Addresses are relative to the page, so they work behind a proxy's prefix.
// Knows nothing about the page's elements.
import { HEADLINES } from "./format.js";
import { obtainKey, storedKey } from "./key.js";

// An error described for the user of the page.
export class Problem extends Error {
  constructor(headline, detail, { code = "", status = 0, requestId = "", wait = 1 } = {}) {
    super(`${headline} ${detail}`);
    Object.assign(this, { headline, detail, code, status, requestId, wait });
  }

  // True if the same request may succeed later.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export const problemOf = (document) =>
  new Problem(HEADLINES[document.code] ?? document.title, document.detail, {
    code: document.code, status: document.status, requestId: document.request_id,
  });

async function refusal(response) {
  const kind = response.headers.get("content-type") ?? "";
  if (!kind.startsWith("application/problem+json")) {
    const detail = `The response has status ${response.status} and no explanation; it may come from a proxy.`;
    return new Problem("The service did not answer.", detail, { status: response.status });
  }
  const problem = problemOf(await response.json());
  problem.wait = Number(response.headers.get("retry-after")) || 1;
  return problem;
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

export async function predict(file, signal) {
  const began = performance.now();
  const response = await ask("predict", { method: "POST", body: form("file", [file]), signal });
  const prediction = await response.json();
  return { prediction, stages: timings(response.headers.get("server-timing")), roundTrip: performance.now() - began };
}

// Returns a {prediction} or {problem} for each file, in order.
export async function predictAll(files, signal) {
  const response = await ask("predict/batch", { method: "POST", body: form("files", files), signal });
  const { results } = await response.json();
  return results.map(({ prediction, problem }) => (problem ? { problem: problemOf(problem) } : { prediction }));
}

// Returns the explanation of a label; null if the service has no explanations.
export async function explain(file, label, signal) {
  try {
    const query = `?format=json&class=${encodeURIComponent(label)}`;
    const response = await ask(`explain${query}`, { method: "POST", body: form("file", [file]), signal });
    return await response.json();
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

export const model = async () => (await look("model")).json();
export const health = async () => (await look("health")).json();
export const metrics = async () => (await look("metrics")).text();
export const card = async () => (await ask("model/card")).text();
export const picture = async (address) => URL.createObjectURL(await (await look(address)).blob());

// Returns null if the service does not report drift.
export async function drift() {
  try {
    return await (await look("model/drift")).json();
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
