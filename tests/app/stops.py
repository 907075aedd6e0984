"""Work that a `Stop` ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.process.stop import Stop


@contextmanager
def stoppable() -> Iterator[Stop]:
    stop = Stop()
    try:
        yield stop
    except BaseException as error:
        stop.finish(error)
        raise
    stop.finish(None)
