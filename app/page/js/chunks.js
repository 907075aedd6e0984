// Splits many files into requests of limited size. Knows neither the page nor the endpoint.
import { patiently } from "./patience.js";

export const LARGEST = { files: 64, bytes: 24e6 }; // well within the service's default limits, and answered soon

export function* chunks(files, { files: most, bytes } = LARGEST) {
  let chunk = [], size = 0;
  for (const file of files) {
    if (chunk.length && (chunk.length === most || size + file.size > bytes)) {
      yield chunk;
      chunk = [], size = 0;
    }
    chunk.push(file);
    size += file.size + 500; // overhead of a form for each file
  }
  if (chunk.length) yield chunk;
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
    return files.map(() => ({ problem }));
  }
}
