// The command line and the Python program that ask the same question; the tests run them as they stand here.
import { byId } from "./element.js";

const inShell = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
// curl takes ; and , in a file's name for its own, unless the name is quoted once more
const inForm = (name) => (/[;,"\\]/.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}"` : name);
// JSON's escapes are Python's too; what nobody sees in a name is written out.
const inPython = (text) => JSON.stringify(text).replace(/[\p{Cf}\p{Zl}\p{Zp}]/gu, (each) =>
  `\\U${each.codePointAt(0).toString(16).padStart(8, "0")}`);

// `sample` is the address of a picture that whoever runs this does not have as a file.
export function programs(name, sample, address = new URL("predict", document.baseURI).href) {
  if (sample) {
    return {
      curl: `curl -s ${inShell(sample)} | curl -F file=@- ${inShell(address)}`,
      python: [
        "import httpx",
        "",
        `image = httpx.get(${inPython(sample)}).content`,
        `print(httpx.post(${inPython(address)}, files={"file": image}).json())`,
      ].join("\n"),
    };
  }
  return {
    curl: `curl -F ${inShell(`file=@${inForm(name)}`)} ${inShell(address)}`,
    python: [
      "import httpx",
      "",
      `with open(${inPython(name)}, "rb") as image:`,
      `    print(httpx.post(${inPython(address)}, files={"file": image}).json())`,
    ].join("\n"),
  };
}

export function showPrograms(name, sample) {
  for (const [id, text] of Object.entries(programs(name, sample))) byId(id).textContent = text;
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.hidden = !navigator.clipboard; // browsers have it on HTTPS and localhost only
  button.addEventListener("click", async () => {
    const before = [...button.childNodes];
    await navigator.clipboard.writeText(byId(button.dataset.copies).textContent);
    button.replaceChildren("Copied");
    setTimeout(() => button.replaceChildren(...before), 1500);
  });
}
