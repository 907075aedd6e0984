"""A virtual environment for each peer, made once from the package registry that pip is set to, and kept."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError

HOME = Path.home() / ".cache" / "peer-bench"
SHARED = ("openvino", "pillow", "numpy")


def environment(name: str, packages: Sequence[str]) -> Path:
    """The peer's bin directory, after installing it where that has not been done.

    Raises:
        BenchmarkError: it cannot be installed; with the end of what was said.
    """
    home = HOME / name
    done = home / "ok"
    if not done.exists():
        print(f"installing {name} into {home}; this takes minutes, once", file=sys.stderr, flush=True)
        _run(name, [sys.executable, "-m", "venv", "--clear", str(home)])
        _run(name, [str(home / "bin/pip"), "install", "--quiet", *SHARED, *packages])
        done.touch()
    return home / "bin"


def _run(name: str, command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{name} cannot be installed; the end of what {command[0]} wrote:\n{done.stderr[-1_500:]}")
