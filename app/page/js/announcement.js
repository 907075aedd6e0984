// Says a text to screen readers.
import { byId } from "./element.js";

const region = byId("announcement");

export function announce(text) {
  region.textContent = text;
}
