"""Pictures of results, in the style of the training reports, to be read at about 800 pixels' width."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.batches import BatchStudy
from benchmarks.cores import CoreStudy
from benchmarks.results import Offered, Results, peak
from benchmarks.sizes import FORMS, SizeStudy
from training.pictures import DPI, GREY, MISTAKE, NETWORK, PEOPLE, STYLE

COLOURS = NETWORK, PEOPLE
LINES = "o:", "o-"


def save(figure: Figure, path: Path) -> None:
    """Write a PNG and forget the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def latency(results: Results) -> Figure:
    """For each body the median and the 99th percentile at each offered rate, up to overload."""
    bodies = list(dict.fromkeys(offered.body for offered in results.opened))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(bodies), figsize=(8, 3.6), squeeze=False, sharey=True)
        for place, body in zip(axes[0], bodies, strict=True):
            _latency(place, [offered for offered in results.opened if offered.body == body])
            top = peak(results.closed, body)
            place.axvline(top, color=GREY, linestyle="--", zorder=1, label="best closed loop")
            place.set(title=body, xlabel="requests/s offered")
        axes[0][0].set_ylabel("ms from when it was due")
        axes[0][0].legend()
    return figure


def _latency(axes: Axes, rates: Sequence[Offered]) -> None:
    refused = [rate for rate in rates if rate.refused]
    axes.plot(_rates(rates), _milliseconds(rates, "p99_ms"), "s-", color=PEOPLE, label="p99")
    axes.plot(_rates(rates), _milliseconds(rates, "p50_ms"), "o-", color=NETWORK, label="p50")
    axes.plot(_rates(refused), _milliseconds(refused, "p99_ms"), "x", color=MISTAKE, ms=11, label="some refused")
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _rates(rates: Sequence[Offered]) -> list[float]:
    return [rate.rate for rate in rates]


def _milliseconds(rates: Sequence[Offered], name: str) -> list[float]:
    return [getattr(rate, name) or math.nan for rate in rates]


def by_cores(found: CoreStudy) -> Figure:
    """Throughput at the most connections, and the 99th percentile at each number of them."""
    most = max(each.load.connections for each in found.loads)
    figure, (left, right) = _two("cores", "requests/s", "p99, ms")
    for colour, body in zip(COLOURS, dict.fromkeys(each.load.body for each in found.loads), strict=False):
        for sign, connections in zip(LINES, dict.fromkeys(each.load.connections for each in found.loads), strict=False):
            loads = [each for each in found.loads if (each.load.body, each.load.connections) == (body, connections)]
            counts = [each.cores for each in loads]
            times = [each.load.p99_ms for each in loads]
            right.plot(counts, times, sign, color=colour, label=f"{body}, {connections}")
            if connections == most:
                left.plot(counts, [each.load.rate for each in loads], sign, color=colour, label=body)
    left.set(title=f"With {most} connections", xlim=(0, None), ylim=(0, None))
    right.set(title="By connections", yscale="log", xlim=(0, None))
    _finished(figure, left, right)
    right.legend(loc="center right", frameon=False)
    return figure


def by_size(found: SizeStudy) -> Figure:
    """Throughput and the 99th percentile at each size."""
    figure, (left, right) = _two("megapixels", "requests/s", "p99, ms")
    for colour, form in zip(COLOURS, FORMS, strict=False):
        loads = [each for each in found.loads if each.form == form]
        pixels = [each.side**2 / 1e6 for each in loads]
        left.plot(pixels, [each.load.rate for each in loads], "o-", color=colour, label=form)
        right.plot(pixels, [each.load.p99_ms for each in loads], "o-", color=colour, label=form)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
    return _finished(figure, left, right)


def by_batch(found: BatchStudy) -> Figure:
    """Throughput and time of a call at each number of images."""
    figure, (left, right) = _two("images in one call", "images/s", "ms of a call")
    counts, served = [calls.images for calls in found.calls], [load.images for load in found.loads]
    left.plot(counts, [calls.rate for calls in found.calls], "o-", color=NETWORK, label="Classifier.predict")
    left.plot(served, [load.rate * load.images for load in found.loads], "s-", color=PEOPLE, label="/predict/batch")
    right.plot(counts, [calls.milliseconds for calls in found.calls], "o-", color=NETWORK, label="Classifier.predict")
    right.plot(served, [load.p50_ms for load in found.loads], "s-", color=PEOPLE, label="/predict/batch, p50")
    left.set_ylim(bottom=0)
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
    return _finished(figure, left, right)


def _two(x: str, left: str, right: str) -> tuple[Figure, tuple[Axes, Axes]]:
    with plt.rc_context(STYLE):
        figure, (first, second) = plt.subplots(1, 2, figsize=(8, 3.6))
    first.set(xlabel=x, ylabel=left)
    second.set(xlabel=x, ylabel=right)
    return figure, (first, second)


def _finished(figure: Figure, *axes: Axes) -> Figure:
    for place in axes:
        place.legend(frameon=False)
        for axis in (place.xaxis, place.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    return figure
