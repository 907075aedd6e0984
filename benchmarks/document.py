"""The tables of docs/performance.md, written anew from the results beside it.

    python -m benchmarks.service --out docs/performance
    python -m benchmarks.scaling --out docs/performance
    python -m benchmarks.peers --out docs/performance
    python -m benchmarks.document

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; what is around it is written by people.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import batches, cores, results, sizes, tables
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.peers import rounds
from benchmarks.results import Results
from benchmarks.server import ROOT

DOCUMENT, FOLDER = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write them. Returns the exit code."""
    try:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), made(FOLDER)), encoding="utf-8")
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def made(folder: Path) -> dict[str, str]:
    """Every table by name, from the JSON files in a folder."""
    service = results.read(Results, folder / "service.json")
    by_cores = results.read(cores.CoreStudy, folder / "cores.json")
    by_size = results.read(sizes.SizeStudy, folder / "sizes.json")
    by_batch = results.read(batches.BatchStudy, folder / "batches.json")
    peers = results.read(rounds.Comparison, folder / "peers.json")
    of_service: dict[str, Callable[[Results], str]] = {
        "limits": tables.limits_table,
        "stages": tables.stages_table,
        "closed": tables.closed_table,
        "opened": tables.opened_table,
        "overload": tables.overload_table,
    }
    count = max(turn.round for turn in peers.turns)
    return {name: table(service) for name, table in of_service.items()} | {
        "service": f"{_source(service.command, service.machine)}\n\n{tables.start_line(service)}.",
        "cores": _study("cores", by_cores.machine, by_cores.seconds, cores.cores_table(by_cores)),
        "sizes": _study("sizes", by_size.machine, by_size.seconds, sizes.sizes_table(by_size)),
        "batches": _study("batches", by_batch.machine, by_batch.seconds, batches.batches_table(by_batch)),
        "servers": f"{_source(rounds.command(peers), peers.machine, count)}\n\n{rounds.servers_table(peers)}",
        "ratios": rounds.ratios_table(peers),
    }


def _study(name: str, machine: Machine, seconds: int, table: str) -> str:
    return f"{_source(f'python -m benchmarks.scaling {name} --seconds {seconds}', machine)}\n\n{table}"


def _source(command: str, machine: Machine, count: int = 1) -> str:
    return f"`{command}`, n = {count}: {machine}."


def filled(text: str, with_: dict[str, str]) -> str:
    """The document with its tables replaced.

    Raises:
        BenchmarkError: it has a table of a name that there is none of.
    """
    if unknown := {name for _, name, _ in BLOCK.findall(text)} - set(with_):
        raise BenchmarkError(f"the document has a table {min(unknown)!r}; there are {', '.join(with_)}")
    return BLOCK.sub(lambda found: f"{found[1]}\n{with_[found[2]]}\n\n{found[3]}", text)


if __name__ == "__main__":
    sys.exit(main())
