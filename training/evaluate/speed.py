"""How fast a network is on this machine, through `Classifier.predict`."""

import statistics
import time
from typing import NamedTuple

import numpy as np

from model_store.classifier import Classifier

ROUNDS = 5  # batches of both sizes in turns, medians over rounds: other work on the machine comes and goes
ROUND_SECONDS = 0.2  # for each batch size
SPEED_BATCH = 32  # the largest batch that the service asks the network for


class Speed(NamedTuple):
    """Latency of one image, and throughput in batches of 32."""

    milliseconds_alone: float
    images_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.milliseconds_alone:.2f} ms for one image, "
            f"{self.images_per_second:,.0f} images/s in batches of {SPEED_BATCH}"
        )


def measure_speed(classifier: Classifier) -> Speed:
    """Time the classifier on one image and on batches of 32, for two seconds in all."""
    rounds = [[_seconds_per_call(classifier, batch) for batch in (1, SPEED_BATCH)] for _ in range(ROUNDS)]
    alone, batched = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return Speed(alone * 1_000, SPEED_BATCH / batched)


def _seconds_per_call(classifier: Classifier, batch: int) -> float:
    images = np.random.default_rng(batch).integers(0, 256, (batch, *classifier.shape), dtype=np.uint8)
    classifier.predict(images)
    start, calls = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < ROUND_SECONDS or not calls:
        classifier.predict(images)
        calls += 1
    return seconds / calls
