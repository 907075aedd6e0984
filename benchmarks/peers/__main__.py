"""Compare our service with other servers: same network, images, load and machine, in turns.

    python -m benchmarks.peers [--peers triton,mosec,bare] [--rounds 3] [--seconds 6] [--connections 1,32]

Most peers serve our network exported to OpenVINO IR, with Pillow decoding and their own dynamic batching, as their
documentation shows. mosec (a Rust front end with Python workers) and bare (an ASGI application on uvicorn that only
reads, decodes, batches, infers and writes JSON) run our own decoder and classifier, so they show the cost of the
server alone; bare has our batcher and connection too. NAME-tuned runs two processes with one network thread each, for
two cores, NAME one process with two. Our service gets the image both as the body and as a form.

Needs wrk and, once for each peer, the package registry; environments are stored in ~/.cache/peer-bench. Machines are
noisy: compare ratios, which are medians over rounds. Writes peers.json. Linux only.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.machine import CpuTimes, Machine
from benchmarks.harness.server import serving
from benchmarks.harness.tables import write_json
from benchmarks.harness.turns import Turn
from benchmarks.load.closed_loop import require_wrk, whole_number
from benchmarks.peers.environments import environment
from benchmarks.peers.rounds import our_turns, peer_turn, ratios_table, servers_table
from benchmarks.peers.starts import PEERS, TUNED_PEERS
from model_store.files import MANIFEST
from model_store.manifest import read_manifest
from model_store.store import Store
from model_store.version import read_network, verify
from training.export.export import export

CAPTION = (
    "peers: the same weights in the precision that OpenVINO chooses; bare and mosec: our decoder and classifier in our "
    "precision; -tuned: two processes with one network thread each, instead of one with two"
)


@dataclass(frozen=True)
class PeerResults:
    """Results of all rounds."""

    machine: Machine
    others_cores: float  # used by other processes during the run
    model: str
    precision: str  # of ours
    seconds: int
    turns: list[Turn]


def main() -> int:
    """Measure, print and write. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ",".join(PEERS)
    parser.add_argument(
        "--peers", type=_peers, default=list(TUNED_PEERS), metavar="A,B,…", help=f"of {names} (default: those tuned)"
    )
    parser.add_argument("--rounds", type=whole_number, default=3)
    parser.add_argument("--seconds", type=whole_number, default=6, help="of each load")
    parser.add_argument("--connections", type=_counts, default=[1, 32], metavar="N,N,…")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    options = parser.parse_args()
    try:
        require_wrk()
        for name in options.peers:
            environment(PEERS[name])  # install before measuring
        results = compare_peers(options.peers, options.rounds, options.connections, options.seconds)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{results.machine} and {results.others_cores:.1f} during it")
    print(f"ours: {results.model} in {results.precision}; {CAPTION}")
    print("", servers_table(results.turns), "", ratios_table(results.turns), sep="\n")
    write_json(results, options.out / "peers.json")
    print(f"\nwritten: {options.out}/peers.json")
    return 0


def _peers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a peer; choose from {', '.join(PEERS)}")
    return names


def _counts(text: str) -> list[int]:
    return [whole_number(part) for part in text.split(",")]


def compare_peers(names: Sequence[str], rounds: int, connections: Sequence[int], seconds: int) -> PeerResults:
    """Run all rounds. A peer that fails is left out of the round, and the reason is printed."""
    host, start, turns = machine.describe(), CpuTimes.now(), list[Turn]()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        variables = served_model(Path(folder))
        for number in range(1, rounds + 1):
            with serving() as server:
                turns += our_turns(server, number, connections, seconds)
            for name in names:
                print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
                try:
                    turns.append(peer_turn(number, name, variables, connections, seconds))
                except BenchmarkError as error:
                    print(f"{name} is left out of round {number}: {error}", file=sys.stderr)
    return PeerResults(host, start.others_until(CpuTimes.now()), server.model, server.precision, seconds, turns)


def served_model(folder: Path) -> dict[str, str]:
    """Export the served network as OpenVINO IR; return the environment variables that tell peers its path."""
    settings = Settings()
    store = Store(settings.store)
    version = store.folder(settings.model_name, store.choose_version(settings.model_name, settings.model_version))
    manifest, network = read_manifest(version / MANIFEST), folder / "net.xml"
    export(read_network(manifest, verify(version, manifest)), "openvino", network)
    return {"MODEL_XML": str(network), "MODEL_FOLDER": str(version), "PRECISION": settings.precision}


if __name__ == "__main__":
    sys.exit(main())
