"""Scaling of the service with cores, image size and images per call.

    python -m benchmarks.scaling [cores] [sizes] [batches] [--seconds 3] [--out runs/bench]

Runs all three by default. Each prints a table and writes NAME.json. Linux only.
"""

import argparse
import io
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
from PIL import Image

from app.settings import Settings
from app.versions.loading import choose
from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.machine import on_cores
from benchmarks.harness.server import serving
from benchmarks.harness.tables import Row, table, write_json
from benchmarks.load import bodies
from benchmarks.load.closed_loop import closed_loop, require_wrk, whole_number
from model_store.images.formats import MAX_PIXELS

CONNECTIONS = (1, 32)
SIDES = (32, 128, 512, 2048, 4096, math.isqrt(MAX_PIXELS))
MAX_BODY_BYTES = (
    128_000_000  # a noisy PNG of MAX_PIXELS has about 55 million bytes; the service's default is 32 million
)
LARGEST_BATCH, BATCH_CONNECTIONS = 1_024, 2
CALL_SECONDS, WARM_UP_CALLS = 1.0, 3


def by_cores(seconds: int) -> Iterator[Row]:
    """Load the service on 1, 2, 4 and so on cores. The client has the other cores, if any, to itself."""
    cores = machine.cores()
    for count in powers_of_two(len(cores)):
        with serving(on=cores[:count], workers=count) as server, on_cores(cores[count:] or cores):
            for picture in bodies.pictures():
                for connections in CONNECTIONS:
                    load = closed_loop(server.pid, server.port, bodies.raw(picture), connections, seconds)
                    yield {
                        "request": f"{load.body}, {connections} connections",
                        "cores": count,
                        **load.figures(),
                        "client cores": load.client_cores,
                    }


def by_size(seconds: int) -> Iterator[Row]:
    """Load the service with square JPEGs and PNGs of growing size, on one connection per core."""
    small = Image.open(io.BytesIO(bodies.pictures()[0].data)).convert("RGB")
    with serving(max_body_bytes=MAX_BODY_BYTES) as server:
        for side in SIDES:
            image = bodies.enlarge(small, side, side)
            for image_format in ("JPEG", "PNG"):
                # At the default level a PNG of MAX_PIXELS takes half a minute to encode.
                body = bodies.raw(bodies.encode(image, image_format, compress_level=1))
                load = closed_loop(server.pid, server.port, body, len(machine.cores()), seconds)
                yield {
                    "request": image_format,
                    "pixels": f"{side}×{side}",
                    "megapixels": side**2 / 1e6,
                    "MB": len(body.data) / 1e6,
                    "n": load.requests,
                    **load.figures(),
                }


def by_batch(seconds: int) -> Iterator[Row]:
    """Call `Classifier.predict` in this process, and /predict/batch, with growing numbers of images."""
    classifier, rng = choose(Settings()).loaded.classifier, np.random.default_rng(0)
    for count in powers_of_two(LARGEST_BATCH):
        images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        times = list(_call_times(partial(classifier.predict, images)))
        row: Row = {"call": "Classifier.predict", "images": count, "n": len(times)}
        yield {**row, "images/s": count / mean(times), "p50 ms": median(times) * 1_000}
    png, _ = bodies.pictures()
    with serving() as server:
        for count in powers_of_two(Settings().max_files):
            load = closed_loop(server.pid, server.port, bodies.batch(png, count), BATCH_CONNECTIONS, seconds)
            row = {"call": "/predict/batch", "images": count, "n": load.requests}
            yield {**row, "images/s": load.rate * count, "p50 ms": load.p50_ms}


def powers_of_two(largest: int) -> Iterator[int]:
    """Yield 1, 2, 4 and so on, up to and including `largest`."""
    return (1 << exponent for exponent in range(largest.bit_length()))


def _call_times(call: Callable[[], object]) -> Iterator[float]:
    for _ in range(WARM_UP_CALLS):
        call()
    end = time.perf_counter() + CALL_SECONDS
    while (start := time.perf_counter()) < end:
        call()
        yield time.perf_counter() - start


STUDIES = {"cores": by_cores, "sizes": by_size, "batches": by_batch}


def main() -> int:
    """Measure, print and write. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], metavar="|".join(STUDIES))
    parser.add_argument("--seconds", type=whole_number, default=3, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    options = parser.parse_args()
    try:
        require_wrk()
        print(machine.describe())
        for name in options.studies or STUDIES:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            rows = list(STUDIES[name](options.seconds))
            print(f"\n{table(rows)}", flush=True)
            write_json(rows, options.out / f"{name}.json")
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
