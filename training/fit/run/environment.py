"""Machine, packages and code that a run was trained with, for `run.json`."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def describe_environment(backend: str, device: str) -> dict[str, str]:
    """Return package versions, backend, device, processor and the code's commit."""
    packages = {name: version(name) for name in ("keras", "numpy", backend)}
    return packages | {
        "backend": backend,
        "device": device,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "code": _code_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _code_version() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
