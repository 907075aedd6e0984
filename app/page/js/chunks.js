// Many files → requests that fit. Knows neither the page nor what is asked.
export const LARGEST = { files: 64, bytes: 24e6 }; // well within the service's default limits, and soon answered
const ATTEMPTS = 4;

export function* chunks(files, { files: most, bytes } = LARGEST) {
  let chunk = [], size = 0;
  for (const file of files) {
    if (chunk.length && (chunk.length === most || size + file.size > bytes)) {
      yield chunk;
      chunk = [], size = 0;
    }
    chunk.push(file);
    size += file.size + 500; // what a form adds to a file
  }
  if (chunk.length) yield chunk;
}

// One result a file. A request that is too large for this service is halved, one that found it busy waits its turn;
// whatever else goes wrong is the problem of the files that were in it.
export async function answers(files, ask, signal, attempt = 1) {
  try {
    return await ask(files, signal);
  } catch (problem) {
    if (problem.name === "AbortError" || signal.aborted) throw problem;
    if (problem.code === "too_large" && files.length > 1) {
      const middle = Math.ceil(files.length / 2);
      const first = await answers(files.slice(0, middle), ask, signal);
      return [...first, ...await answers(files.slice(middle), ask, signal)];
    }
    if (problem.code === "overloaded" && attempt < ATTEMPTS) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * problem.wait));
      return answers(files, ask, signal, attempt + 1);
    }
    return files.map(() => ({ problem }));
  }
}
