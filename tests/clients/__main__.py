"""Run clients that others wrote against the service, each in an environment of its own.

    python -m tests.clients [--clients triton,kserve] [--record]

The environments are installed once, with the hashes of requirements/client-NAME.txt, into ~/.cache/cifar10-clients.
--record stores the requests for tests/app/protocols/test_recorded_clients.py, which needs no environments.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import BenchmarkError
from benchmarks.harness.server import ROOT, serving
from benchmarks.peers.environments import make_environment
from tests.clients.recorder import RECORDED, recording

CLIENTS = ("triton", "kserve")
HOME = Path.home() / ".cache" / "cifar10-clients"
CAT = ROOT / "docs" / "cat.png"
INFERENCE_SERVICE = ROOT / "deploy" / "kubernetes" / "examples" / "kserve" / "inference-service.yaml"
SECONDS = 120


def main() -> int:
    """Run the clients; the exit code is 1 if one of them fails."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", default=",".join(CLIENTS), help="default: %(default)s")
    parser.add_argument("--record", action="store_true", help=f"store the requests in {RECORDED.relative_to(ROOT)}")
    options = parser.parse_args()
    failed = []
    try:
        environments = {name: install(name) for name in options.clients.split(",")}
        with serving(workers=1) as server, tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), server.port)
            for name, bin_ in environments.items():
                with recording(name, server.port) if options.record else nullcontext(server.port) as port:
                    script = Path(__file__).with_name(f"{name}_client.py")
                    command = [bin_ / "python", "-W", "ignore", script, f"127.0.0.1:{port}", folder]
                    if subprocess.run(command, timeout=SECONDS).returncode:
                        failed.append(name)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"failed: {', '.join(failed)}" if failed else "every client works")
    return int(bool(failed))


def install(name: str) -> Path:
    """Return the bin directory of a client's environment, installed anew when its lock has changed.

    Raises:
        BenchmarkError: the client is unknown, or cannot be installed.
    """
    if name not in CLIENTS:
        raise BenchmarkError(f"{name!r} is not a client; choose from {', '.join(CLIENTS)}")
    lock = ROOT / "requirements" / f"client-{name}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    return make_environment(HOME / f"{name}-{digest}", ["--require-hashes", "--requirement", str(lock)])


def prepare(folder: Path, port: int) -> None:
    """Store the image, its pixels, /predict's answer and the manifest for KServe."""
    shutil.copy(CAT, folder)
    shutil.copy(INFERENCE_SERVICE, folder)
    np.save(folder / "cat.npy", np.asarray(Image.open(CAT).convert("RGB")))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/predict", CAT.read_bytes()) as answer:
        (folder / "expected.json").write_text(json.dumps(json.load(answer)))


if __name__ == "__main__":
    sys.exit(main())
