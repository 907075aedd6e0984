// An answer in words, from verdict and confidence together.
import { capital, inSentence, percent } from "../format.js";
import { named, plain, things } from "../labels.js";

// The verdicts in words.
export const VERDICTS = { confident: "sure", unsure: "not sure", none_of_these: "unusual" };

// `sureFrom` is the confidence from which the model counts as sure.
export function headline({ verdict, label, confidence, probabilities }, sureFrom) {
  if (verdict === "unsure") return `Maybe ${named(label)}.`;
  if (verdict !== "none_of_these") return `Looks like ${named(label)}.`;
  if (confidence >= sureFrom) return `Looks like ${named(label)}, but unlike the pictures it learned from.`;
  return `Probably none of the ${things(Object.keys(probabilities))} it knows. Closest: ${plain(label)}.`;
}

// The coloured words beside the headline, and what stands after them.
export function judgement({ verdict, label, confidence, probabilities }, sureFrom) {
  const sure = `${capital(inSentence(confidence))} sure`;
  if (verdict === "confident") return { chip: sure, detail: "" };
  if (verdict === "unsure") return { chip: "Not sure", detail: `${shares(probabilities, 2)}.` };
  if (verdict !== "none_of_these") return { chip: "", detail: `${sure}.` };
  return { chip: "Unusual", detail: confidence >= sureFrom ? "Do not rely on this answer." : `${plain(label)}: ${percent(confidence)}.` };
}

const shares = (probabilities, count) =>
  Object.entries(probabilities).sort((a, b) => b[1] - a[1]).slice(0, count)
    .map(([label, share]) => `${plain(label)}: ${percent(share)}`).join(", ");
