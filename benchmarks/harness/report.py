"""Results of the full benchmark, as tables and as a plot of latency by offered rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import pyplot as plt

from benchmarks.harness.machine import Machine
from benchmarks.harness.tables import Row, percent, table
from benchmarks.load.closed_loop import Load
from benchmarks.load.open_loop import Offered
from training.publish.plots import DPI, GREY, MISTAKE, NETWORK, PEOPLE, STYLE


@dataclass(frozen=True)
class Overload:
    """Requests at a multiple of the peak rate, with the memory of all processes before and after."""

    factor: float
    peak: float
    offered: Offered
    megabytes_before: float
    megabytes_after: float


@dataclass(frozen=True)
class Results:
    """Results of one run."""

    command: str
    machine: Machine
    others_cores: float  # used by other processes during the run
    model: str
    precision: str
    ready_seconds: float
    all_ready_seconds: float
    megabytes: list[float]  # of each process, after the loads
    limits: dict[str, float]  # images/s that the cores can decode and classify, by body
    closed: list[Load]
    opened: list[Offered]
    overload: list[Overload]

    def __str__(self) -> str:
        memory = ", ".join(f"{value:.0f}" for value in self.megabytes)
        head = (
            f"{self.machine} and {self.others_cores:.1f} during it\n{self.model} in {self.precision}: ready after "
            f"{self.ready_seconds:.2f} s, in all processes after {self.all_ready_seconds:.2f} s; {memory} MB resident "
            "after the loads"
        )
        limits: list[Row] = [
            {"request": body, "images/s": rate, "core ms an image": self.machine.cores * 1_000 / rate}
            for body, rate in self.limits.items()
        ]
        tables = limits, closed_rows(self), opened_rows(self.opened), overload_rows(self.overload)
        return "\n\n".join([head, *map(table, tables)])


def closed_rows(results: Results) -> list[Row]:
    """Return one row per body and number of connections."""
    return [
        {
            "request": load.body,
            "connections": load.connections,
            **load.figures(),
            "images/s": load.rate * load.images,
            "of the cores": percent(load.rate * load.images, results.limits.get(load.body, 0)),
            "errors": load.errors,
            "client cores": load.client_cores,
        }
        for load in results.closed
    ]


def opened_rows(opened: Sequence[Offered]) -> list[Row]:
    """Return one row per body and offered rate."""
    return [
        {
            "request": offered.body,
            **_outcomes(offered),
            "late p50 ms": offered.late_p50_ms,
            "late p99 ms": offered.late_p99_ms,
            "client cores": offered.client_cores,
        }
        for offered in opened
    ]


def overload_rows(overload: Sequence[Overload]) -> list[Row]:
    """Return one row per multiple of the peak rate."""
    return [
        {
            case.offered.body: f"{case.factor:g} × the peak",
            **_outcomes(case.offered),
            "of the peak": percent(case.offered.goodput, case.peak),
            "refusal p50 ms": case.offered.refused_p50_ms,
            "refusal p99 ms": case.offered.refused_p99_ms,
            "probe p99 ms": case.offered.probe_p99_ms,
            "MB before": round(case.megabytes_before),
            "MB after": round(case.megabytes_after),
            "client cores": case.offered.client_cores,
        }
        for case in overload
    ]


def _outcomes(offered: Offered) -> Row:
    return {
        "offered/s": offered.rate,
        "good/s": offered.goodput,
        "p50 ms": offered.p50_ms,
        "p99 ms": offered.p99_ms,
        "refused": percent(offered.refused, offered.requests),
        "lost": offered.lost,
        "probes failed": f"{offered.probes_failed} of {offered.probes}",
    }


def peak(loads: Sequence[Load], body: str) -> float:
    """Return the highest rate of successful answers at any number of connections."""
    return max(load.rate for load in loads if load.body == body)


def draw_latency(results: Results, path: Path) -> None:
    """Write a PNG of the median and 99th percentile at each offered rate, up to overload, one plot per body."""
    bodies = list(dict.fromkeys(offered.body for offered in results.opened))
    with plt.rc_context(STYLE):
        figure, places = plt.subplots(1, len(bodies), figsize=(8, 3.6), squeeze=False, sharey=True)
        for axes, body in zip(places[0], bodies, strict=True):
            answered = [offered for offered in results.opened if offered.body == body and offered.p50_ms]
            refusing = [offered for offered in answered if offered.refused]
            for marker, color, label, points in (
                ("s-", PEOPLE, "p99", [(offered.rate, offered.p99_ms) for offered in answered]),
                ("o-", NETWORK, "p50", [(offered.rate, offered.p50_ms) for offered in answered]),
                ("x", MISTAKE, "some refused", [(offered.rate, offered.p99_ms) for offered in refusing]),
            ):
                axes.plot([rate for rate, _ in points], [ms for _, ms in points], marker, color=color, label=label)
            axes.axvline(peak(results.closed, body), color=GREY, linestyle="--", zorder=1, label="best closed loop")
            axes.set(title=body, xlabel="requests/s offered", yscale="log", xlim=(0, None))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        places[0][0].set_ylabel("ms from when it was due")
        places[0][0].legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
