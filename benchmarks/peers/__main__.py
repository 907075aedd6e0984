"""Our service beside the servers users would pick instead: same network, images, load and machine, in turns.

    python -m benchmarks.peers [--peers triton,litserve,bentoml,rayserve,mlserver,naive] [--rounds 3] [--seconds 6]

The network that our service serves is exported to OpenVINO IR; every peer serves that, with Pillow decoding and its own
dynamic batching, as its documentation shows. Ours is asked with the image as the body and as a form. Needs wrk and,
once for each peer, the package registry; environments are kept under ~/.cache/peer-bench. Machines are noisy: read the
ratios, which are medians over rounds, not the absolute figures. Writes peers.json. Linux only.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.settings import Settings
from benchmarks import machine, results
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Watch
from benchmarks.peers.environments import environment
from benchmarks.peers.rounds import Comparison, Turn, our_turns, peer_turn, ratios_table, servers_table
from benchmarks.peers.starts import PEERS
from benchmarks.wrk import require_wrk, whole_seconds
from model_store.manifest import read_manifest
from model_store.store import Store, read_network, verify
from training.export import export


def main() -> int:
    """Measure, print and write. Returns the exit code."""
    options = _parser().parse_args()
    try:
        require_wrk()
        for name in options.peers:
            environment(name, PEERS[name].packages)  # before anything is measured
        found = compare(options.peers, options.rounds, options.connections, options.seconds)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(found.machine)
    print(f"ours: {found.model} in {found.precision}; peers: the same weights in the precision that OpenVINO chooses")
    print("", servers_table(found), "", ratios_table(found), sep="\n")
    results.write(found, options.out / "peers.json")
    print(f"\nwritten: {options.out}/peers.json")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=_peers, default=list(PEERS), metavar="A,B,…")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=whole_seconds, default=6, help="of each load")
    parser.add_argument("--connections", type=_counts, default=[1, 32], metavar="N,N,…")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    return parser


def _peers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no peer; choose from {', '.join(PEERS)}")
    return names


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def compare(names: Sequence[str], rounds: int, connections: Sequence[int], seconds: int) -> Comparison:
    """All rounds; a peer that fails is left out of the round, with a line that says why."""
    here, turns = machine.describe(), list[Turn]()
    machine.warn_if_busy(here)
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        network = Path(folder, "net.xml")
        export_served(network)
        for number in range(1, rounds + 1):
            model, precision, own = our_turns(number, connections, seconds)
            turns += own
            for name in names:
                print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
                turns += _tried(number, name, network, connections, seconds)
    return Comparison(watch.stamped(here), model, precision, seconds, turns)


def _tried(number: int, name: str, network: Path, connections: Sequence[int], seconds: int) -> list[Turn]:
    try:
        return [peer_turn(number, name, network, connections, seconds)]
    except BenchmarkError as error:
        print(f"{name} is left out of round {number}: {error}", file=sys.stderr)
        return []


def export_served(out: Path) -> None:
    """Write the network that the service serves as OpenVINO IR."""
    settings = Settings()
    store = Store(settings.store)
    folder = store.folder(settings.model_name, store.choose(settings.model_name, settings.model_version))
    manifest = read_manifest(folder / "manifest.json")
    export(read_network(manifest, verify(folder, manifest)), "openvino", out)


if __name__ == "__main__":
    sys.exit(main())
