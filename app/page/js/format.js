// Formats numbers and texts for people. Knows neither the page nor the service.

// Whole percents; never "0 %" or "100 %" for what is neither impossible nor certain.
export function percent(share) {
  if (share < 1 && share >= 0.995) return "> 99 %";
  if (share > 0 && share < 0.005) return "< 1 %";
  return `${Math.round(100 * share)} %`;
}

export const inSentence = (share) => percent(share).replace("> ", "more than ").replace("< ", "less than ");

export function milliseconds(value) {
  if (value < 0.095) return `${value.toFixed(2)} ms`;
  return value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value).toLocaleString("en")} ms`;
}

const short = (value) => value.toFixed(value < 9.95 ? 1 : 0).replace(/\.0$/, "");

export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${short(count / 1000)} kB` : `${short(count / 1e6)} MB`;
}

const COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

export const inWords = (count) => COUNTS[count] ?? count.toLocaleString("en");

export const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function whole(text) {
  const sentence = capital(text);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}
