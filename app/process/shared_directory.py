"""The directory in which the processes of the service share their metrics and recent counts."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported, so set before that
LEFT_BEHIND = "*.db", "*.counts"


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Give this process and those that it starts one directory for their metrics, in memory if possible.

    One that the operator names is used, emptied of what an earlier service left in it.
    """
    if given := os.environ.get(METRICS_DIRECTORY):
        try:
            Path(given).mkdir(parents=True, exist_ok=True)
            for ending in LEFT_BEHIND:
                for left in Path(given).glob(ending):
                    left.unlink()
        except OSError as error:
            raise SystemExit(
                f"error: {METRICS_DIRECTORY} is {given!r}: {error.strerror}; name a folder that can be written, or none"
            ) from None
        yield
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cifar10-metrics-", dir=memory) as made:
        os.environ[METRICS_DIRECTORY] = made
        try:
            yield
        finally:
            del os.environ[METRICS_DIRECTORY]


def shared_directory() -> Path | None:
    """The directory of the service's metrics, if it has one."""
    given = os.environ.get(METRICS_DIRECTORY)
    return Path(given) if given else None
