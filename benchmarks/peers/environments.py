"""A virtual environment for each peer, installed once from the package registry pip is configured for."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import BenchmarkError
from benchmarks.harness.server import ROOT
from benchmarks.peers.starts import Peer

HOME = Path.home() / ".cache" / "peer-bench"
SHARED = ("openvino", "pillow", "numpy")  # for peers with their own decoding
OURS = ("--require-hashes", "--requirement", str(ROOT / "requirements" / "serve.txt"))  # for peers that run our decoder


def environment(peer: Peer, home: Path = HOME, python: str = sys.executable) -> Path:
    """Return the bin directory of the peer's environment, installing it on first use.

    A peer without packages of its own runs in this environment.

    Raises:
        BenchmarkError: the installation failed; the text has the end of its output.
    """
    if not peer.packages:
        return Path(python).parent
    name = peer.packages[0].partition("[")[0]
    folder = home / (f"{name}-ours" if peer.runs_ours else name)
    return make_environment(folder, OURS if peer.runs_ours else SHARED, peer.packages, python=python)


def make_environment(
    folder: Path, *installs: Sequence[str], python: str = sys.executable, below: Path | None = None
) -> Path:
    """Return the bin directory of a virtual environment, made on first use with one `pip install` after another.

    Args:
        below: folder of packages that the environment sees besides its own, and which are not installed again.

    Raises:
        BenchmarkError: the installation failed; the text has the end of its output.
    """
    marker = folder / "ok"
    if not marker.exists():
        print(f"installing {installs[-1][-1]} into {folder}; this takes minutes, once", file=sys.stderr, flush=True)
        _run([python, "-m", "venv", "--clear", str(folder)])
        if below:
            (site,) = (folder / "lib").glob("python*/site-packages")
            (site / "below.pth").write_text(f"{below}\n")
        for arguments in installs:
            _run([str(folder / "bin" / "pip"), "install", "--quiet", *arguments])
        marker.touch()
    return folder / "bin"


def _run(command: Sequence[str]) -> None:
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise BenchmarkError(f"the command failed: {' '.join(command)}\n{process.stderr[-1_500:]}")
