"""What the cores can do without a service: decode and `Classifier.predict` in a plain loop.

One process for each core with one thread each, all at once, as the service's own processes compute. What it answers
over HTTP is a share of that.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache

import numpy as np

from app.pipeline import load_chosen
from app.settings import Settings
from benchmarks.bodies import Body
from benchmarks.machine import cores
from model_store.images.decode import decode
from model_store.store import Loaded

WARM_UP_SECONDS = 0.5


def images_per_second(bodies: Sequence[Body], seconds: float) -> list[float]:
    """For each body how many of its images all cores together decode and classify in a second.

    As many images in one call as the request has, or as the service puts together at most when requests have one each.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, os.sched_setaffinity, (0, {core}))) for core in cores()
        ]
        rates = []
        for body in bodies:
            for duration in (WARM_UP_SECONDS, seconds):
                running = [pool.submit(rate, body.picture.data, body.count, duration) for pool in pools]
                total = sum(future.result() for future in running)
            rates.append(total)
        return rates


@cache
def _loaded() -> Loaded:
    return load_chosen(Settings(), threads=1)


def rate(data: bytes, count: int, seconds: float) -> float:
    """Images a second in this process, on one thread."""
    loaded, calls = _loaded(), 0
    resize = loaded.manifest.preprocessing.resize
    together = count if count > 1 else Settings().max_batch
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        loaded.classifier.predict(np.stack([decode(data, resize) for _ in range(together)]))
        calls += 1
    return calls * together / passed
