"""Results as tables in Markdown, for the terminal and for docs/performance.md alike."""

from collections.abc import Sequence

from benchmarks.results import Offered, Overload, Results
from benchmarks.wrk import Load

CLOSED = "request, connections, requests/s, images/s, of the cores, p50 ms, p99 ms, CPU ms, errors, client cores"
OPENED = (
    "request, offered/s, good/s, p50 ms, p99 ms, refused, lost, probes failed, late p50 ms, late p99 ms, client cores"
)
OVERLOAD = (
    "JPEG 640×480, offered/s, good/s, of the peak, p50 ms, p99 ms, refused, refusal p50 ms, refusal p99 ms, lost, "
    "probes failed, probe p99 ms, MB before, MB after, client cores"
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a Markdown table; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in [head, rule, *rows])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"


def number(value: float | None, digits: int = 3) -> str:
    """With so many digits, and all of those before the point; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.{max(0, digits - len(str(int(abs(value)))))}f}"


def closed_table(results: Results) -> str:
    """A row for each body and number of connections."""
    return table(CLOSED.split(", "), [_closed(load, results.share(load)) for load in results.closed])


def _closed(load: Load, share: float | None) -> list[str]:
    figures = [number(value) for value in (load.rate, load.rate * load.images)]
    times = [number(value) for value in (load.p50_ms, load.p99_ms, load.server_ms)]
    errors = str(load.refused + load.broken)
    return [
        load.body,
        str(load.connections),
        *figures,
        "–" if share is None else f"{share:.0%}",
        *times,
        errors,
        number(load.client_cores),
    ]


def opened_table(results: Results) -> str:
    """A row for each body and offered rate."""
    return table(OPENED.split(", "), [[offered.body, *_opened(offered)] for offered in results.opened])


def _opened(offered: Offered) -> list[str]:
    figures = [number(value) for value in (offered.rate, offered.goodput, offered.p50_ms, offered.p99_ms)]
    ends = [_share(offered.refused, offered.requests), str(offered.lost)]
    client = [number(value) for value in (offered.late_p50_ms, offered.late_p99_ms, offered.client_cores)]
    return [*figures, *ends, _probes(offered), *client]


def overload_table(results: Results) -> str:
    """A row for each multiple of the peak rate."""
    return table(OVERLOAD.split(", "), [_overload(overload) for overload in results.overload])


def _overload(overload: Overload) -> list[str]:
    offered = overload.offered
    times = [number(value) for value in (offered.p50_ms, offered.p99_ms)]
    refusals = [number(value) for value in (offered.refused_p50_ms, offered.refused_p99_ms)]
    memory = [f"{value:,.0f}" for value in (overload.megabytes_before, overload.megabytes_after)]
    return [
        f"{overload.factor:g} × the peak",
        number(offered.rate),
        number(offered.goodput),
        f"{offered.goodput / overload.peak:.0%}",
        *times,
        _share(offered.refused, offered.requests),
        *refusals,
        str(offered.lost),
        _probes(offered),
        number(offered.probe_p99_ms),
        *memory,
        number(offered.client_cores),
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _probes(offered: Offered) -> str:
    return f"{offered.probes_failed} of {offered.probes}"


def limits_table(results: Results) -> str:
    """What the cores can do without a service."""
    rows = [[body, number(rate), number(results.machine.cores * 1_000 / rate)] for body, rate in results.limits.items()]
    return table(["request", "images/s", "core ms an image"], rows)


def stages_table(results: Results) -> str:
    """Where the time of a request goes that is alone in the service."""
    names = list(next(iter(results.stages.values())))
    rows = [[body, *(number(times.get(name)) for name in names)] for body, times in results.stages.items()]
    return table(["ms of one request alone", *names], rows)


def start_line(results: Results) -> str:
    """Start and memory."""
    memory = ", ".join(f"{value:.0f}" for value in results.megabytes)
    return (
        f"{results.model} in {results.precision}: ready after {results.ready_seconds:.2f} s, in all processes after "
        f"{results.all_ready_seconds:.2f} s; {memory} MB resident after the loads"
    )
