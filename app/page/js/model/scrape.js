// Computes rates and quantiles of predictions from two scrapes of Prometheus's text format. Pure functions.
const ROUTES = ["/predict", "/predict/batch", "/explain"];
const BUCKET = /^cifar10_request_seconds_bucket\{(.*)\} (\S+)/;

// Sums the cumulative counts of requests that use the network, by the bucket's upper bound in seconds.
export function buckets(text) {
  const counts = new Map();
  for (const line of text.split("\n")) {
    const [, labels, count] = BUCKET.exec(line) ?? [];
    if (!labels || !ROUTES.includes(/route="([^"]*)"/.exec(labels)?.[1])) continue;
    const bound = Number(/le="([^"]*)"/.exec(labels)[1].replace("+Inf", "Infinity"));
    counts.set(bound, (counts.get(bound) ?? 0) + Number(count));
  }
  return counts;
}

// Subtracts two scrapes: [upper bound, cumulative count] in order, or empty after a restart of the service.
export function between(before, after) {
  const bounds = [...after.keys()].sort((a, b) => a - b);
  const counted = bounds.map((bound) => [bound, after.get(bound) - (before.get(bound) ?? 0)]);
  return counted.some(([, count]) => count < 0) ? [] : counted;
}

// Estimates a quantile in seconds like Prometheus's histogram_quantile, which spreads requests evenly within a bucket.
// Returns null without requests.
export function quantile(share, counted) {
  const total = counted.at(-1)?.[1] ?? 0;
  if (total === 0) return null;
  const rank = share * total;
  const index = counted.findIndex(([, count]) => count >= rank);
  const [low, below] = index > 0 ? counted[index - 1] : [0, 0];
  const [high, count] = counted[index];
  return high === Infinity ? low : low + (high - low) * ((rank - below) / (count - below));
}
