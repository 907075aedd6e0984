// The page's behaviour: send the chosen or dropped photo to /predict and show the ten bars.
const form = document.getElementById("form");
const input = document.getElementById("file");
const answer = document.getElementById("answer");
const problem = document.getElementById("problem");
const picture = document.getElementById("picture");

document.getElementById("address").textContent = new URL(".", location.href).href;

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function row(label, share) {
  const line = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = label;
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = share;
  bar.setAttribute("aria-label", label);
  const cell = document.createElement("td");
  cell.className = "bar";
  cell.append(bar);
  const number = document.createElement("td");
  number.textContent = percent(share);
  line.append(name, cell, number);
  return line;
}

function complain(text) {
  answer.hidden = true;
  problem.textContent = text;
  problem.hidden = false;
}

function show(file, prediction) {
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  document.getElementById("verdict").textContent = `${prediction.label}, ${percent(prediction.confidence)}`;
  const bars = Object.entries(prediction.probabilities).map(([label, share]) => row(label, share));
  document.getElementById("bars").replaceChildren(...bars);
  problem.hidden = true;
  answer.hidden = false;
}

async function classify(file) {
  const body = new FormData();
  body.append("file", file);
  try {
    const response = await fetch("predict", { method: "POST", body });
    const content = await response.json();
    if (response.ok) show(file, content);
    else complain(content.detail);
  } catch {
    complain("The service cannot be reached. Is it still running?");
  }
}

input.addEventListener("change", () => input.files[0] && classify(input.files[0]));
form.addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
}
document.addEventListener("dragleave", () => form.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) classify(file);
});
