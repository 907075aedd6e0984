"""What networks cost to serve, side by side in one run: only ratios of one run mean anything on a shared machine.

Owns the measuring; accuracy is `evaluate.py`'s.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_store.classifier import Classifier, PrecisionChoice
from model_store.network.model import Network
from model_store.store import WEIGHTS

ROUNDS = 15
SECONDS = 0.2  # of each network at each batch size in each round
BATCHES = (1, 32)


class Cost(NamedTuple):
    """One network's. Times are medians over rounds, through `Classifier.predict`."""

    name: str
    precision: str
    multiply_adds: int
    parameters: int
    file_bytes: int
    milliseconds_alone: float  # a call with one image
    images_per_second: float  # in calls with 32 images


def costs(folders: Sequence[Path], networks: Sequence[Network], precision: PrecisionChoice = "auto") -> list[Cost]:
    """Measure the networks in turns, so that whatever else the machine does falls on all of them alike."""
    classifiers = [Classifier(network, precision=precision) for network in networks]
    times: dict[tuple[int, int], list[float]] = {}
    for _ in range(ROUNDS):
        for index, classifier in enumerate(classifiers):
            for batch in BATCHES:
                times.setdefault((index, batch), []).append(_seconds_a_call(classifier, batch))
    return [
        Cost(
            str(folder),
            classifier.precision,
            network.architecture.multiply_adds,
            network.architecture.parameters,
            (folder / WEIGHTS).stat().st_size,
            statistics.median(times[index, 1]) * 1_000,
            BATCHES[1] / statistics.median(times[index, BATCHES[1]]),
        )
        for index, (folder, network, classifier) in enumerate(zip(folders, networks, classifiers, strict=True))
    ]


def _seconds_a_call(classifier: Classifier, batch: int) -> float:
    images = np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)
    classifier.predict(images)
    began, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < SECONDS:
        classifier.predict(images)
        calls += 1
    return passed / calls


def table(measured: Sequence[Cost]) -> str:
    """For a terminal; rates are relative to the first network's."""
    width = max(len(cost.name) for cost in measured)
    lines = [f"{'':<{width}}  precision  M multiply-adds  M parameters       bytes  ms alone  images/s at 32  relative"]
    for cost in measured:
        relative = cost.images_per_second / measured[0].images_per_second
        lines.append(
            f"{cost.name:<{width}}  {cost.precision:<9}{cost.multiply_adds / 1e6:>17.1f}{cost.parameters / 1e6:>14.2f}"
            f"{cost.file_bytes:>12,}{cost.milliseconds_alone:>10.2f}{cost.images_per_second:>16,.0f}{relative:>10.2f}"
        )
    return "\n".join(lines)
