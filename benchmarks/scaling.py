"""How the service scales: with cores, with the size of images, with the number of images in one call.

    python -m benchmarks.scaling [cores] [sizes] [batches] [--seconds 3] [--out runs/bench]

Without a name all three are studied. Each writes NAME.json and NAME.png. Linux only.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks import batches, cores, machine, plots, results, sizes
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine, Watch
from benchmarks.wrk import require_wrk, whole_seconds


class Study(NamedTuple):
    """How one is made, printed and drawn."""

    measure: Callable[[Machine, int], Any]
    table: Callable[[Any], str]
    draw: Callable[[Any], Figure]


STUDIES = {
    "cores": Study(cores.study, cores.cores_table, plots.by_cores),
    "sizes": Study(sizes.study, sizes.sizes_table, plots.by_size),
    "batches": Study(batches.study, batches.batches_table, plots.by_batch),
}


def main() -> int:
    """Measure, print, draw and write. Returns the exit code."""
    options = _parser().parse_args()
    try:
        require_wrk()
        here = machine.describe()
        machine.warn_if_busy(here)
        for name in options.studies or STUDIES:
            _run(name, here, options.seconds, options.out)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], metavar="|".join(STUDIES))
    parser.add_argument("--seconds", type=whole_seconds, default=3, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    return parser


def _run(name: str, here: Machine, seconds: int, out: Path) -> None:
    print(f"measuring {name}", file=sys.stderr, flush=True)
    chosen = STUDIES[name]
    watch = Watch()
    found = chosen.measure(here, seconds)
    found = dataclasses.replace(found, machine=watch.stamped(here))
    print(f"\n{found.machine}\n\n{chosen.table(found)}", flush=True)
    results.write(found, out / f"{name}.json")
    plots.save(chosen.draw(found), out / f"{name}.png")
    print(f"written: {out}/{name}.json and {name}.png")


if __name__ == "__main__":
    sys.exit(main())
