// What the served model knows: its labels, the size of its input, and the confidence from which it counts as sure.
import { model } from "../service/service.js";

let served = { labels: [], size: "32×32", sureFrom: 0.9 }; // until the manifest is there
let name = "";

export const known = () => served;

const nameOf = ({ name: model, version }) => `${model} ${version}`;

// Fetches the manifest, unless it is that of the model that has answered.
export async function learn(answering) {
  if (answering && nameOf(answering) === name) return served;
  const { manifest, input = { height: 32, width: 32 } } = await model();
  name = nameOf(manifest);
  const { labels, verdicts } = manifest;
  served = { labels, size: `${input.width}×${input.height}`, sureFrom: verdicts?.confidence_below ?? 0.9 };
  return served;
}
