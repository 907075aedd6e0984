"""A run beside an earlier one: ratios, which say more than either's figures where machines are noisy."""

from collections.abc import Iterator

from benchmarks.results import Results
from benchmarks.tables import table

HEAD = ["now / baseline", "connections", "requests/s", "of the cores", "p50", "p99", "CPU a request"]


def comparison(now: Results, before: Results) -> str:
    """Ratios of what both have measured; what only one has is left out."""
    lines = [table(HEAD, list(_loads(now, before))), "", table(["now / baseline", "ratio"], list(_others(now, before)))]
    if now.seconds != before.seconds:
        lines.append(f"The baseline measured {before.seconds} s each, this run {now.seconds} s.")
    if now.machine.processor != before.machine.processor or now.machine.cores != before.machine.cores:
        lines.append(f"The baseline is of another machine: {before.machine}.")
    return "\n".join(lines)


def _loads(now: Results, before: Results) -> Iterator[list[str]]:
    known = {(load.body, load.connections): load for load in before.closed}
    for load in now.closed:
        if other := known.get((load.body, load.connections)):
            pairs = [
                (load.rate, other.rate),
                (now.share(load), before.share(other)),
                (load.p50_ms, other.p50_ms),
                (load.p99_ms, other.p99_ms),
                (load.server_ms, other.server_ms),
            ]
            yield [load.body, str(load.connections), *(_ratio(*pair) for pair in pairs)]


def _others(now: Results, before: Results) -> Iterator[list[str]]:
    for body, limit in now.limits.items():
        if body in before.limits:
            yield [f"what the cores can do, {body}", _ratio(limit, before.limits[body])]
    yield ["start until all are ready", _ratio(now.all_ready_seconds, before.all_ready_seconds)]
    yield ["resident memory", _ratio(sum(now.megabytes), sum(before.megabytes))]
    known = {overload.factor: overload for overload in before.overload}
    for overload in now.overload:
        if other := known.get(overload.factor):
            pair = overload.offered.goodput / overload.peak, other.offered.goodput / other.peak
            yield [f"goodput at {overload.factor:g} × the peak, as share of it", _ratio(*pair)]


def _ratio(now: float | None, before: float | None) -> str:
    return "–" if now is None or not before else f"{now / before:.2f}"
