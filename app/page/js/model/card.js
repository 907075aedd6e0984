// Shows the model card: inserts the service's document into the page instead of using a frame.
import { byId, element } from "../element.js";
import { storedKey } from "../service/key.js";
import { card, picture } from "../service/service.js";
import { whole } from "../format.js";

const LOWER = { H1: "h2", H2: "h3", H3: "h4" }; // the view already has a heading
const PAUSE = 2; // seconds, at least, before a service that does not answer is asked again
let isShown = false;
let isAsked = false; // once at a time: an answer replaces what a person may have opened
let timer = null;

export async function showCard() {
  clearTimeout(timer);
  if (isShown || isAsked) return;
  isAsked = true;
  try {
    const read = new DOMParser().parseFromString(await card(), "text/html");
    byId("card").replaceChildren(...adopted(read.querySelector("main")));
    isShown = true;
  } catch (problem) {
    byId("card").replaceChildren(
      element("p", { className: "wrong", textContent: `The model card cannot be shown. ${problem.headline ?? ""} ${whole(problem.detail ?? problem.message)}` }),
      ...(problem.passes ? [element("p", { textContent: "It appears here when the service has it." })] : []),
    );
    if (problem.passes) timer = setTimeout(tryAgain, 1_000 * Math.max(PAUSE, problem.wait));
  } finally {
    isAsked = false;
  }
}

// Not while the view is hidden: showing it asks again.
function tryAgain() {
  if (!byId("view-model").hidden) showCard();
}

// Resolves addresses against the card's own URL, since they are not relative to this page.
function adopted(main) {
  const base = new URL("model/card", document.baseURI);
  for (const name of ["href", "src"]) {
    for (const each of main.querySelectorAll(`[${name}]`)) {
      each.setAttribute(name, new URL(each.getAttribute(name), base).href);
    }
  }
  if (storedKey()) fetchWithKey(main);
  for (const heading of main.querySelectorAll("h1, h2, h3")) {
    const lower = element(LOWER[heading.tagName]);
    lower.append(...heading.childNodes);
    heading.replaceWith(lower);
  }
  return [...main.childNodes].map((node) => document.adoptNode(node));
}

// A browser loads pictures and follows links without the key.
function fetchWithKey(main) {
  main.querySelector("nav")?.remove();
  for (const image of main.querySelectorAll("img")) fetchPicture(image);
}

function fetchPicture(image) {
  const address = image.src;
  image.removeAttribute("src");
  picture(address).then((url) => {
    image.src = url;
    const link = image.closest("a");
    if (link) link.href = url;
  }, () => {}); // the alternative text stays
}
