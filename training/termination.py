"""The last message of a job that did not succeed: on stderr and, in Kubernetes, in the container's termination log.

`kubectl describe pod` shows that log, which Kubernetes reads from the container's `terminationMessagePath`.
"""

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

TERMINATION_LOG = "TERMINATION_LOG"  # names the file if terminationMessagePath is not Kubernetes's default
DEFAULT_LOG = "/dev/termination-log"
MAX_BYTES = 4_096  # that Kubernetes shows


def report(message: str) -> None:
    """Print a message to stderr and write it to the termination log."""
    with suppress(OSError):  # stderr is closed or on a full disk
        print(message, file=sys.stderr, flush=True)
    write_termination_log(message)


def write_termination_log(message: str) -> None:
    """Replace the termination log's content, if the file exists and can be written; it is never created."""
    path = Path(os.environ.get(TERMINATION_LOG) or DEFAULT_LOG)
    with suppress(OSError):  # the message is on stderr as well
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "wb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                file.truncate()
                file.write(message.strip().encode("utf-8", "backslashreplace")[:MAX_BYTES])
