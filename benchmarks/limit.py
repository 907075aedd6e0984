"""Upper limit of throughput on this machine: `decode` and `Classifier.predict` in a plain loop, without a service.

Runs one process with one thread per core, all at once. Throughput over HTTP is reported as a share of this.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache

import numpy as np

from app.settings import Settings
from app.versions.loading import choose
from app.versions.serving import MAX_BATCH
from benchmarks.harness.machine import cores
from benchmarks.load.bodies import Body
from model_store.images.decode import decode
from model_store.version import Loaded

WARM_UP_SECONDS = 0.5


def images_per_second(bodies: Sequence[Body], seconds: float) -> list[float]:
    """Measure the images per second that all cores together decode and classify, for each body.

    Each call of the network has as many images as the request, or the service's largest batch if the request has one.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, os.sched_setaffinity, (0, {core}))) for core in cores()
        ]
        rates = []
        for body in bodies:
            for duration in (WARM_UP_SECONDS, seconds):
                futures = [pool.submit(rate, body.picture.data, body.count, duration) for pool in pools]
                total = sum(future.result() for future in futures)
            rates.append(total)
        return rates


@cache
def _loaded() -> Loaded:
    return choose(Settings(), threads=1).loaded


def rate(data: bytes, count: int, seconds: float) -> float:
    """Measure images per second in this process, on one thread."""
    loaded, calls = _loaded(), 0
    preprocessing = loaded.manifest.preprocessing
    size = count if count > 1 else MAX_BATCH
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        loaded.classifier.predict(np.stack([decode(data, preprocessing) for _ in range(size)]))
        calls += 1
    return calls * size / passed
