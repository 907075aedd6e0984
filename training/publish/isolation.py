"""Read files of unknown origin in a process of its own: damaged HDF5 may take all memory, or never be read."""

import multiprocessing
import re
import resource
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

from model_store.errors import ModelError

P = ParamSpec("P")
T = TypeVar("T")
SECONDS = 300.0
BYTES = (
    4_000_000_000  # besides what this process has; the largest network, of 100 million weights, takes less than 1.5 GB
)


def run_isolated(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Call a function in a forked process, where only Python, NumPy and HDF5 work, and return what it returns.

    Raises:
        ModelError: the function does, or it takes more than SECONDS or BYTES.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(sender, lambda: function(*arguments, **keywords)), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12's and JAX's, about threads, which the function does not need
        child.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            raise ModelError(f"it is not read after {SECONDS:.0f} s, so it is damaged; save it again with Keras")
        result, error = receiver.recv()
    except EOFError:
        raise ModelError("reading it ended the process that read it, so it is damaged; save it again") from None
    finally:
        child.kill()
        child.join()
    if error:
        raise error
    return result  # type: ignore[no-any-return]


def _run(sender: Connection, function: Callable[[], T]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limit = _data_bytes() + BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        sender.send((function(), None))
    except MemoryError:
        sender.send((None, ModelError(f"reading it takes more than {BYTES / 1e9:.0f} GB; save it again with Keras")))
    except RecursionError:
        sender.send((None, ModelError("it is nested too deeply; save it again with Keras")))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised where it is waited for
        sender.send((None, error))


def _data_bytes() -> int:
    """Return how much memory this process has that RLIMIT_DATA counts."""
    return 1_024 * int(re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
