// Formats answers, numbers and errors for people. Knows neither the page nor the service.
const CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

export const HEADLINES = {
  malformed_request: "The service could not read what this page sent.",
  key_required: "The service needs a key.",
  key_unknown: "The service does not know this key.",
  not_found: "The service does not have this address.",
  method_not_allowed: "The service does not have this address.",
  slow_upload: "The picture took too long to arrive.",
  too_large: "That is more than the service accepts.",
  unsupported_image: "That is not a picture the service can read.",
  unknown_host: "The service is not published under this name.",
  unusable_image: "That picture cannot be used.",
  invalid_parameter: "The service could not read what this page sent.",
  rate_exceeded: "That is more than this key may send now.",
  internal: "The service failed.",
  overloaded: "The service is busy.",
  not_ready: "The service is not ready.",
  timeout: "The answer took too long.",
};

export const VERDICTS = { confident: "confident", unsure: "unsure", none_of_these: "none of these" };

// CIFAR-10's labels get an article ("a cat"); labels of other models may be anything, and are quoted.
function named(label) {
  if (!CIFAR10.includes(label)) return `“${label}”`;
  return /^[aeiou]/.test(label) ? `an ${label}` : `a ${label}`;
}

export function sentence({ verdict, label, probabilities }) {
  if (verdict === "confident") return `This is ${named(label)}.`;
  if (verdict === "unsure") return `Possibly ${named(label)}, but not certain.`;
  if (verdict !== "none_of_these") return label;
  return Object.keys(probabilities).length === 10 ? "Probably none of these ten." : "Probably none of these.";
}

export function percent(share) {
  if (share < 1 && share > 0.9995) return "> 99.9 %";
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}

export function certainty({ label, confidence, novelty, verdict }) {
  const most = verdict === "none_of_these" ? `Closest label: ${label}, ` : "";
  const parts = [`${most}${percent(confidence)} probable`];
  if (novelty !== null && novelty !== undefined) {
    parts.push(`more unusual than ${Math.round(100 * novelty)} % of the pictures in its data set`);
  }
  return parts.join(" · ");
}

export function knowledge(labels, { width, height }) {
  const kinds = labels.length > 12
    ? `${labels.length.toLocaleString("en")} kinds of things`
    : `${labels.slice(0, -1).join(", ")} and ${labels.at(-1)}`;
  return `The picture is scaled to ${width}×${height} pixels and classified by a small neural network, which knows ${kinds}.`;
}

export function milliseconds(value) {
  if (value < 0.095) return `${value.toFixed(2)} ms`;
  return value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value).toLocaleString("en")} ms`;
}

export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${(count / 1000).toFixed(count < 1e4 ? 1 : 0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export const whole = (text) => {
  const said = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(said) ? said : `${said}.`;
};
