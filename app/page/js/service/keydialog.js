// The dialog that asks for a key.
import { byId } from "../element.js";

const dialog = byId("key");
const field = byId("key-field");
const complaint = byId("key-problem");
const SENDABLE = /^[\x21-\x7e]+$/; // in a header

function complainOf(text) {
  complaint.textContent = text;
  complaint.hidden = !text;
}

// Resolves with the key that the user enters; null after Cancel.
export function askForKey(problem) {
  complainOf(problem.code === "key_unknown" ? problem.headline : "");
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const key = dialog.returnValue;
      field.value = "";
      resolve(key || null);
    }, { once: true });
  });
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = field.value.trim();
  if (SENDABLE.test(key)) dialog.close(key);
  else complainOf("A key has letters, digits, hyphens and underscores only. Copy it again.");
});
byId("key-cancel").addEventListener("click", () => dialog.close());
