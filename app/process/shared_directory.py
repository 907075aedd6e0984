"""The shared directory of the service's processes, for metrics and drift counts."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import METRICS_DIRECTORY

LEFT_BEHIND = "*.db", "*.counts"  # by prometheus_client and by monitoring/drift_window.py


@contextmanager
def shared_directory(directory: Path | None) -> Iterator[Path]:
    """Delete an earlier run's files from `directory`; without one, create a temporary directory, in memory if possible.

    Raises:
        SystemExit: the directory is not writable.
    """
    if directory:
        _empty(directory)
        yield directory
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cifar10-metrics-", dir=memory) as temporary:
        # prometheus_client, imported later, and the worker processes read it from the environment.
        os.environ[METRICS_DIRECTORY] = temporary
        try:
            yield Path(temporary)
        finally:
            del os.environ[METRICS_DIRECTORY]


def _empty(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for pattern in LEFT_BEHIND:
            for path in directory.glob(pattern):
                path.unlink()
    except OSError as error:
        raise SystemExit(
            f"error: {METRICS_DIRECTORY} is {str(directory)!r}: {error.strerror}; "
            "name a folder that is writable, or unset it"
        ) from None
