// Shows problems in an alert without changing the rest of the page, and announces texts to screen readers.
import { byId, element } from "./element.js";
import { whole } from "./format.js";

const box = byId("alert");
const announcement = byId("announcement");

export function announce(text) {
  announcement.textContent = text;
}

export function withdraw() {
  box.hidden = true;
  box.replaceChildren();
}

export function smallPrint({ status, code, requestId }) {
  return [status || "", code, requestId && `request ${requestId}`].filter(Boolean).join(" · ");
}

// Offers `retry`, if provided, for problems that may be temporary.
export function complain(problem, retry) {
  const buttons = element("div", { className: "choices" });
  if (retry && problem.passes) {
    buttons.append(element("button", { type: "button", className: "button", textContent: "Try again", onclick: retry }));
  }
  buttons.append(element("button", { type: "button", className: "button quiet", textContent: "Dismiss", onclick: withdraw }));
  const small = smallPrint(problem);
  box.replaceChildren(
    element("p", { className: "headline", textContent: problem.headline }),
    element("p", { textContent: whole(problem.detail) }),
    ...(small ? [element("p", { className: "small", textContent: small })] : []),
    buttons,
  );
  box.hidden = false;
  box.scrollIntoView({ block: "nearest" });
}
