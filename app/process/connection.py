"""uvicorn's HTTP/1.1 connection, on which an answer's head and body go out together.

uvicorn writes them one after the other, and uvloop hands each to the kernel at once: two calls and two packets for
every answer, a tenth of what it costs without the network. And it tells a request under way that its client has left.
What a request may not be is refused here: a head without end. Knows bytes, and nothing of what is asked for.
"""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STOP = "stop"  # in the scope of a request
# A head arrives in one or two reads, each of up to 262,144 bytes, of which the first may be another request's body.
MOST_HEAD_BYTES, MOST_HEAD_SECONDS = 524_288, 30.0
LAST_REQUESTS_SECONDS = 0.1
OF_AN_UPGRADE = b"upgrade", b"http2-settings"


class Connection(HttpToolsProtocol):
    """A connection of a client."""

    _timer: asyncio.TimerHandle | None = None  # while a head is awaited or arrives
    _head_bytes: int | None = 0  # received of a head, which is then not complete; None where there is no head under way

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Write through a `Joined` from now on."""
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        self._timer = self.loop.call_later(MOST_HEAD_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        """Take what a client sends. What it offers to change to (RFC 9110, 7.8; Java's to HTTP/2) is passed over."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offered:
            if self._offers_upgrade():
                again = self._head_without_upgrade() + data[offered.args[0] :]
                self.parser = HttpRequestParser(self)
                self.data_received(again)
                return
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._head_bytes is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self.send_400_response(f"The request's head has more than {MOST_HEAD_BYTES} bytes.")
        elif not self._timer:
            self._timer = self.loop.call_later(MOST_HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """A head has begun."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is there. With an upgrade in it, it comes again without."""
        self._head_bytes = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._offers_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there, too."""
        if not self._offers_upgrade():
            super().on_message_complete()

    def _offers_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(token for token in value.split(b",") if token.strip().lower() not in OF_AN_UPGRADE)
            if name not in OF_AN_UPGRADE:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def eof_received(self) -> None:
        """The client sends nothing more, after which uvloop closes: an answer that is under way goes out before."""
        if isinstance(self.transport, Joined):
            self.transport.flush()

    def shutdown(self) -> None:
        """The service stops: close, but answer before what is on its way already."""
        self.loop.call_later(LAST_REQUESTS_SECONDS, super().shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is done `while_connected`."""
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()
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
