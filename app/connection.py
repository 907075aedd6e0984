"""uvicorn's HTTP/1.1 connection, on which an answer's head and body go out together.

uvicorn writes them one after the other, and uvloop hands each to the kernel at once: two calls and two packets for
every answer, a tenth of what it costs without the network. And it tells a request under way that its client has left.
Knows bytes, and nothing of what is asked for.
"""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STOP = "stop"  # in the scope of a request


class Connection(HttpToolsProtocol):
    """A connection of a client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Write through a `Joined` from now on."""
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]

    def eof_received(self) -> None:
        """The client sends nothing more, after which uvloop closes: an answer that is under way goes out before."""
        if isinstance(self.transport, Joined):
            self.transport.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is done `while_connected`."""
        super().connection_lost(exc)
        stop: Any = getattr(self.cycle, "scope", {}).get(STOP)  # there is no cycle before the first request
        if stop:
            stop()


@contextmanager
def while_connected(scope: MutableMapping[str, Any]) -> Iterator[None]:
    """Do what is inside for one request, but only until its client leaves.

    Raises:
        ClientDisconnect: it has left.
    """
    task, left = asyncio.current_task(), False
    assert task is not None

    def stop() -> None:
        nonlocal left
        left = True
        task.cancel()

    scope[STOP] = stop
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        del scope[STOP]


class Joined:
    """A transport that sends at once whatever is written in one turn of the loop. All but writing is left to it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send with what else is written in this turn."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Close when everything is sent."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was written."""
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()
