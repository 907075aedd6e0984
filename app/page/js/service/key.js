// Keeps the key of this tab, for a service that lets in clients with a key only. Never in an address, never longer than
// the tab. Knows nothing about the page's elements.
const PLACE = "cifar10-key"; // docs.js reads it too
let question = async () => null;
let asking = null;
let isDeclined = false;

export const storedKey = () => sessionStorage.getItem(PLACE);

// `ask` gets the service's problem and resolves with a key; null if the user has none.
export function askWith(ask) {
  question = ask;
}

// Resolves with true once there is another key than `refused`. Asks once for all requests that wait, and after a refusal
// by the user only for requests that the user makes.
export async function obtainKey(problem, refused, isBackground) {
  if (storedKey() !== refused) return true;
  if (isBackground && isDeclined) return false;
  asking ??= ask(problem).finally(() => (asking = null));
  return asking;
}

async function ask(problem) {
  sessionStorage.removeItem(PLACE);
  const key = await question(problem);
  isDeclined = key === null;
  if (!isDeclined) sessionStorage.setItem(PLACE, key);
  return !isDeclined;
}
