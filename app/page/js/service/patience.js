// Waits out a busy service, as its Retry-After says. Knows neither the page nor the endpoints.
const ATTEMPTS = 4;
const LONGEST = 20; // seconds; who is told to wait longer is told so

export async function patiently(work, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (problem) {
      if (!problem.isBusy || attempt === ATTEMPTS || problem.wait > LONGEST) throw problem;
      await pause(1000 * problem.wait, signal);
    }
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
