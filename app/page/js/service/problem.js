// An error described for the user of the page. Knows neither the page nor the service.
import { bytes } from "../format.js";

const HEADLINES = {
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

export class Problem extends Error {
  constructor(headline, detail, { code = "", status = 0, requestId = "", wait = 1 } = {}) {
    super(`${headline} ${detail}`);
    Object.assign(this, { headline, detail, code, status, requestId, wait });
  }

  // True if the same request may succeed later.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }

  // True if the service asks for the same request after `wait` seconds.
  get isBusy() {
    return this.status === 503 || this.status === 429;
  }

  get smallPrint() {
    return [this.status || "", this.code, this.requestId && `request ${this.requestId}`].filter(Boolean).join(" · ");
  }
}

// `document` is a problem document of the service, `wait` its Retry-After in seconds.
export const problemOf = (document, wait) =>
  new Problem(HEADLINES[document.code] ?? document.title, document.detail, {
    code: document.code, status: document.status, requestId: document.request_id, wait,
  });

// Errors of the page itself, such as too little memory for a picture, are shown like the service's.
export const asProblem = (error) =>
  error instanceof Problem ? error : new Problem("Something went wrong on this page.", error.message);

// The headline for a picture of `size` bytes: of one that is too large, with both sizes.
export function headlineFor({ code, headline, detail }, size) {
  const [, limit] = (code === "too_large" && /limit is ([\d,]+)/.exec(detail)) || [];
  return limit ? `This picture has ${bytes(size)}; at most ${bytes(Number(limit.replaceAll(",", "")))}.` : headline;
}
