// Shows a command line and a Python program that send the same request; the tests run both.
import { announce } from "../announcement.js";
import { byId } from "../element.js";
import { storedKey } from "../service/key.js";

const inShell = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
// curl interprets ; and , in a file name unless it is quoted again.
const inForm = (name) => (/[;,"\\]/.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}"` : name);
// JSON's escapes are valid in Python too; invisible characters are escaped as well.
const inPython = (text) => JSON.stringify(text).replace(/[\p{Cf}\p{Zl}\p{Zp}]/gu, (each) =>
  `\\U${each.codePointAt(0).toString(16).padStart(8, "0")}`);

const CURL_KEY = '-H "Authorization: Bearer $CIFAR10_KEY" ';
const PYTHON_KEY = ', headers={"Authorization": "Bearer " + os.environ["CIFAR10_KEY"]}';

// `sample` is the address of a sample picture, which the programs download first. With `needsKey`, they read the key from
// the environment.
export function programs(name, sample, address = new URL("predict", document.baseURI).href, needsKey = Boolean(storedKey())) {
  const [curl, headers, imports] = needsKey ? [`curl ${CURL_KEY}`, PYTHON_KEY, ["import os", ""]] : ["curl ", "", []];
  if (sample) {
    return {
      curl: `curl -s ${inShell(sample)} | ${curl}-F file=@- ${inShell(address)}`,
      python: [
        ...imports,
        "import httpx",
        "",
        `image = httpx.get(${inPython(sample)}).content`,
        `print(httpx.post(${inPython(address)}, files={"file": image}${headers}).json())`,
      ].join("\n"),
    };
  }
  return {
    curl: `${curl}-F ${inShell(`file=@${inForm(name)}`)} ${inShell(address)}`,
    python: [
      ...imports,
      "import httpx",
      "",
      `with open(${inPython(name)}, "rb") as image:`,
      `    print(httpx.post(${inPython(address)}, files={"file": image}${headers}).json())`,
    ].join("\n"),
  };
}

export function showPrograms(name, sample) {
  for (const [id, text] of Object.entries(programs(name, sample))) byId(id).textContent = text;
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.hidden = !navigator.clipboard; // available only on HTTPS and localhost
  button.addEventListener("click", async () => {
    const before = [...button.childNodes];
    await navigator.clipboard.writeText(byId(button.dataset.copies).textContent);
    button.replaceChildren("Copied");
    announce("Copied.");
    setTimeout(() => button.replaceChildren(...before), 1500);
  });
}
