// The labels of the served model in sentences. Those of CIFAR-10 get articles and plurals; others may be anything, and
// are quoted.
import { inWords, list } from "./format.js";

const CIFAR10 = {
  airplane: "airplanes", automobile: "cars", bird: "birds", cat: "cats", deer: "deer",
  dog: "dogs", frog: "frogs", horse: "horses", ship: "ships", truck: "trucks",
};
const FEW = 12;

export const isCifar10 = (labels) => labels.join() === Object.keys(CIFAR10).join();

export function named(label) {
  if (!Object.hasOwn(CIFAR10, label)) return `“${label}”`;
  return /^[aeiou]/.test(label) ? `an ${label}` : `a ${label}`;
}

export const plain = (label) => (Object.hasOwn(CIFAR10, label) ? label : `“${label}”`);

export const things = (labels) => `${inWords(labels.length)} ${labels.length === 1 ? "thing" : "things"}`;

export function knowledge(labels) {
  const plurals = labels.map((label) => CIFAR10[label] ?? `“${label}”`);
  return `It knows ${things(labels)}${labels.length > FEW ? "" : `: ${list(plurals)}`}.`;
}
