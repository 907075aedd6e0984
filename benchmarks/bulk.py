"""Speed and memory of `python -m app classify --to`.

    python -m benchmarks.bulk [--images 8000] [--rounds 3]     speed, beside a plain loop on the same cores
    python -m benchmarks.bulk --memory 1000000 [--folder /tmp] memory of all processes while so many are classified

Images are CIFAR-10's training images, repeated, shifted and mirrored, as PNG. A plain loop, `decode` and
`Classifier.predict` in a process per core, is the in-process rate. For every source and number of workers, two runs, of
a third of the images and of all, take turns with the loop; rate and processor time are those of the further images, so
that starting counts separately. The slow source is a bucket whose server takes 20 ms for every request. Needs CIFAR-10
in CIFAR10_DATA and the group `bulk`; Linux only.
"""

import argparse
import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from app.settings import Settings
from app.versions.loading import choose
from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.machine import cores
from benchmarks.harness.processes import default_signals, resident_megabytes
from benchmarks.harness.server import ROOT
from benchmarks.harness.slow_bucket import slow_bucket
from benchmarks.harness.tables import Row, percent, table
from benchmarks.load.closed_loop import whole_number
from model_store.images.decode import decode
from model_store.version import Loaded
from training.data.cifar10 import FOLDER, Cifar10
from training.fit.augmentation import translate

BATCH, ROWS = 64, 1_000
REACH = 4  # pixels that an image is shifted at most
SLOW_SECONDS = 0.02
SAMPLE_SECONDS, LINES = 1.0, 20
SECRETS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Case:
    """A kind of source and a number of workers."""

    kind: str
    workers: int


class Seconds(NamedTuple):
    """How long a command took, and how much processor time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    """One round of a case: images/s, seconds, and processor seconds of an image."""

    rate: float
    in_process: float
    start_seconds: float
    cpu_seconds: float
    in_process_cpu_seconds: float


def main() -> int:
    """Measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bulk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=whole_number, default=8_000, help="of a run (default: 8,000)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="default: 3")
    parser.add_argument("--memory", type=whole_number, metavar="IMAGES", help="measure memory instead of speed")
    parser.add_argument(
        "--folder", type=Path, help="for the images and answers, 2.5 kB each (default: a temporary one)"
    )
    options = parser.parse_args()
    print(machine.describe())
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            if options.memory:
                print(table(memory(options.memory, Path(folder))))
            else:
                print(table(speed(options.images, options.rounds, Path(folder))))
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def pngs(count: int) -> Iterator[bytes]:
    """Yield the images of `pictures` as PNG."""
    for pixels in pictures(count):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        yield buffer.getvalue()


def pictures(count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield CIFAR-10's training images (32, 32, 3), repeated, each time shifted and mirrored otherwise."""
    images = Cifar10(Path(os.environ.get("CIFAR10_DATA", "data")) / FOLDER).trainval.pixels
    rng = np.random.default_rng(0)

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            for start in range(0, len(images), ROWS):
                for pixels in translate(images[start : start + ROWS], rng, REACH):
                    yield pixels[:, ::-1] if rng.random() < 0.5 else pixels

    return islice(endless(), count)


def speed(count: int, rounds: int, folder: Path, workers: Sequence[int] | None = None) -> list[Row]:
    """Measure every source in turns with the plain loop, and return a row for each number of `workers`."""
    data = list(pngs(count))
    few, many = (_write_sources(data[:size], folder / str(size)) for size in (count // 3, count))
    cases = [Case(kind, number) for kind in many for number in workers or _numbers()]
    measured: dict[Case, list[Measured]] = {case: [] for case in cases}
    with ExitStack() as stack:
        objects = {f"{size}/{n}.png": data[n] for size in (count // 3, count) for n in range(size)}
        address = stack.enter_context(slow_bucket(objects, SLOW_SECONDS))
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), os.sched_setaffinity, (0, {core})))
            for core in cores()
        ]
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for case in cases if number % 2 else cases[::-1]:
                in_process, in_process_cpu = _in_process(pools[: case.workers], data)
                to = folder / "answers.parquet"
                short, long = (_run(sources[case.kind], to, case.workers, address) for sources in (few, many))
                further = count - count // 3
                rate, cpu = further / (long.wall - short.wall), (long.cpu - short.cpu) / further
                measured[case].append(Measured(rate, in_process, long.wall - count / rate, cpu, in_process_cpu))
    return [_row(case, results) for case, results in measured.items()]


def memory(count: int, folder: Path) -> list[Row]:
    """Classify a Parquet file of `count` images; return the resident memory at equal distances of time."""
    source = folder / "images.parquet"
    _write_parquet(pngs(count), source)
    print(f"{count:,} images in {source.stat().st_size / 1e6:,.0f} MB of Parquet", file=sys.stderr, flush=True)
    began, samples = time.monotonic(), list[tuple[float, list[float]]]()
    with _start(source, folder / "answers.parquet", None, {}) as process:
        while process.poll() is None:
            samples.append((time.monotonic() - began, resident_megabytes(process.pid)))
            time.sleep(SAMPLE_SECONDS)
    _check(process)
    seconds = time.monotonic() - began
    answered = parquet.read_metadata(folder / "answers.parquet").num_rows
    print(f"{answered:,} rows in {seconds:,.0f} s, {answered / seconds:,.0f} images/s with the start", file=sys.stderr)
    size = max(1, len(samples) // LINES)
    return [_memory_row(samples[start : start + size]) for start in range(0, len(samples), size)]


def _memory_row(samples: Sequence[tuple[float, list[float]]]) -> Row:
    main, workers = max(each[0] for _, each in samples if each), max(max(each[1:], default=0.0) for _, each in samples)
    total = max(sum(each) for _, each in samples)
    return {
        "seconds": f"{samples[-1][0]:,.0f}",
        "MB, main process": main,
        "MB, largest other": workers,
        "MB, all": total,
    }


def _numbers() -> list[int]:
    return sorted({1, min(2, len(cores())), len(cores())})


def _write_sources(data: Sequence[bytes], folder: Path) -> dict[str, str]:
    """Write the images as every kind of source; return what names each on the command line."""
    files = folder / "files"
    files.mkdir(parents=True)
    with tarfile.open(folder / "images.tar", "w") as archive:
        for number, content in enumerate(data):
            (files / f"{number}.png").write_bytes(content)
            archive.add(files / f"{number}.png", f"{number}.png")
    _write_parquet(iter(data), folder / "images.parquet")
    slow = f"slow bucket ({SLOW_SECONDS * 1000:.0f} ms)"
    paths = {"Parquet": folder / "images.parquet", "tar": folder / "images.tar", "folder": files}
    return {kind: str(path) for kind, path in paths.items()} | {slow: f"s3://bucket/{folder.name}"}


def _write_parquet(data: Iterator[bytes], path: Path) -> None:
    with parquet.ParquetWriter(path, pa.schema([("image", pa.binary())]), compression="none") as writer:
        while cells := list(islice(data, ROWS)):
            writer.write_table(pa.table({"image": cells}))


def _run(source: str, to: Path, workers: int, address: str) -> Seconds:
    began, cpu = time.monotonic(), _ended_cpu_seconds()
    with _start(source, to, workers, SECRETS | {"AWS_ENDPOINT_URL": address}) as process:
        pass
    _check(process)
    return Seconds(time.monotonic() - began, _ended_cpu_seconds() - cpu)


def _ended_cpu_seconds() -> float:
    """Return the processor time of all child processes that have ended, with theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _start(source: str | Path, to: Path, workers: int | None, environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "app", "classify", str(source), "--to", str(to), "--overwrite"]
    command += ["--workers", str(workers)] if workers else []
    with default_signals():
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.DEVNULL, text=True)


def _check(process: "subprocess.Popen[str]") -> None:
    if process.returncode:
        raise BenchmarkError(f"`classify` ended with code {process.returncode}; run it by hand: {process.args!r}")


def _in_process(pools: Sequence[ProcessPoolExecutor], data: Sequence[bytes]) -> tuple[float, float]:
    """Measure plain loops, one on each of some cores: images/s together, and processor seconds of an image."""
    share = [data[index :: len(pools)] for index in range(len(pools))]
    for _ in range(2):  # the first loads the model
        began = time.monotonic()
        loops = [pool.submit(_loop, part) for pool, part in zip(pools, share, strict=True)]
        cpu = sum(loop.result() for loop in loops)
        seconds = time.monotonic() - began
    return len(data) / seconds, cpu / len(data)


@cache
def _loaded() -> Loaded:
    return choose(Settings(), threads=1).loaded


def _loop(data: Sequence[bytes]) -> float:
    """Decode and classify all images; return the processor time."""
    loaded, began = _loaded(), time.process_time()
    preprocessing = loaded.manifest.preprocessing
    for start in range(0, len(data), BATCH):
        loaded.classifier.predict(np.stack([decode(each, preprocessing) for each in data[start : start + BATCH]]))
    return time.process_time() - began


def _row(case: Case, results: Sequence[Measured]) -> Row:
    return {
        "source": case.kind,
        "workers": case.workers,
        "images/s": median(result.rate for result in results),
        "in-process images/s": median(result.in_process for result in results),
        "share": percent(median(result.rate / result.in_process for result in results), 1),
        "CPU µs an image": median(result.cpu_seconds for result in results) * 1e6,
        "in-process CPU µs": median(result.in_process_cpu_seconds for result in results) * 1e6,
        "start, s": median(result.start_seconds for result in results),
    }


if __name__ == "__main__":
    sys.exit(main())
