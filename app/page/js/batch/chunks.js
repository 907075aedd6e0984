// Splits many items into requests of limited size. Knows neither the page nor the endpoint.
import { patiently } from "../service/patience.js";
import { asProblem } from "../service/problem.js";

// Well within the service's default limits, and sent in twenty seconds over a slow line. The first is an eighth of that, so
// that something is seen soon.
const LARGEST = { files: 64, bytes: 2e6 };
const FIRST = 1 / 8;
const AHEAD = 4; // items prepared at a time

// Yields arrays of {item, sent}, where `sent` is the file that `prepare` makes of an item.
export async function* chunks(items, prepare) {
  let chunk = [], size = 0, share = FIRST;
  for await (const part of ahead(items, async (item) => ({ item, sent: await prepare(item) }))) {
    if (chunk.length && (chunk.length >= share * LARGEST.files || size + part.sent.size > share * LARGEST.bytes)) {
      yield chunk;
      chunk = [], size = 0, share = Math.min(1, 2 * share);
    }
    chunk.push(part);
    size += part.sent.size + 500; // overhead of a form for each file
  }
  if (chunk.length) yield chunk;
}

// Yields the results of `work` in order, with some of them under way.
async function* ahead(items, work) {
  const waiting = [];
  for (const item of items) {
    waiting.push(work(item));
    if (waiting.length === AHEAD) yield waiting.shift();
  }
  yield* waiting;
}

// Returns one result per file. Halves a request that is too large for the service and waits out one that finds it busy or
// its key used up. Any other problem becomes the result of every file in the request.
export async function answers(files, ask, signal) {
  try {
    return await patiently(() => ask(files, signal), signal);
  } catch (problem) {
    if (problem.name === "AbortError" || signal.aborted) throw problem;
    if (problem.code === "too_large" && files.length > 1) {
      const middle = Math.ceil(files.length / 2);
      const first = await answers(files.slice(0, middle), ask, signal);
      return [...first, ...await answers(files.slice(middle), ask, signal)];
    }
    return files.map(() => ({ problem: asProblem(problem) }));
  }
}
