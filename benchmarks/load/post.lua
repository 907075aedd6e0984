-- For wrk: posts the file $BODY as $MIME, with the header $HEADER_NAME if that is set, and at the end prints one line that benchmarks/closed_loop.py reads.

local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("MIME")
if os.getenv("HEADER_NAME") then
  wrk.headers[os.getenv("HEADER_NAME")] = os.getenv("HEADER_VALUE")
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'measured: {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
