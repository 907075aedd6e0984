// Formats predictions as CSV (RFC 4180), with the columns of `python -m app classify --format csv`, one for what a picture
// was said to show, if that is known of any, and one for problems.
import { truthOf } from "./entry.js";

const COLUMNS = ["file", "label", "confidence", "verdict", "novelty"];

const cell = (value) => {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function csv(entries) {
  const labels = Object.keys(entries.find((entry) => entry.prediction)?.prediction.probabilities ?? {});
  const truths = entries.some(truthOf) ? ["true_label"] : [];
  const head = [...COLUMNS, ...labels.map((label) => `probability_${label}`), ...truths, "problem"];
  const lines = entries.map((entry) => {
    const { path, prediction, problem } = entry;
    const { label, confidence, verdict, novelty, probabilities } = prediction ?? {};
    const shares = labels.map((each) => probabilities?.[each]);
    return [
      path, label, confidence, verdict, novelty, ...shares, ...truths.map(() => truthOf(entry)),
      problem && `${problem.headline} ${problem.detail}`,
    ];
  });
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}
