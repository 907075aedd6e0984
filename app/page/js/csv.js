// Formats predictions as CSV (RFC 4180), with the columns of `python -m app classify --format csv` and one for problems.
const COLUMNS = ["file", "label", "confidence", "verdict", "novelty"];

const cell = (value) => {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function csv(entries) {
  const labels = Object.keys(entries.find((entry) => entry.prediction)?.prediction.probabilities ?? {});
  const head = [...COLUMNS, ...labels.map((label) => `probability_${label}`), "problem"];
  const lines = entries.map(({ name, prediction, problem }) => {
    const { label, confidence, verdict, novelty, probabilities } = prediction ?? {};
    const shares = labels.map((each) => probabilities?.[each]);
    return [name, label, confidence, verdict, novelty, ...shares, problem && `${problem.headline} ${problem.detail}`];
  });
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}
