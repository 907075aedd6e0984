"""uvicorn's HTTP/1.1 connection, changed to send the head and body of a response together.

uvicorn writes them separately, and uvloop passes each to the kernel at once: two system calls and two packets per
response, a tenth of a request's cost without the network. The connection also cancels an in-flight request when its
client disconnects, and limits the size and duration of request heads. Knows bytes, but nothing about endpoints.
"""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STOP = "stop"  # key in a request's scope, for the function that cancels it
# A head arrives in one or two reads of up to 262,144 bytes each; the first may begin with the previous request's body.
MAX_HEAD_BYTES, MAX_HEAD_SECONDS = 524_288, 30.0
LAST_REQUESTS_SECONDS = 0.1
UPGRADE_HEADERS = b"upgrade", b"http2-settings"


class Connection(HttpToolsProtocol):
    """A client's connection."""

    _timer: asyncio.TimerHandle | None = None  # closes the connection unless a complete head arrives in time
    _head_bytes: int | None = 0  # received of an incomplete head; None between heads

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Write through a `JoiningTransport`, and start the timer for the first head."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self._timer = self.loop.call_later(MAX_HEAD_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. Ignore offers to upgrade (RFC 9110, 7.8), such as Java's client's to use HTTP/2."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._offers_upgrade():
                request = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
                self.data_received(request)
                return
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._head_bytes is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response(f"The request head has more than {MAX_HEAD_BYTES} bytes.")
        elif not self._timer:
            self._timer = self.loop.call_later(MAX_HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """Start counting the bytes of a head."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop the timer and pass the head on. One that offers an upgrade is parsed again without the offer instead."""
        self._head_bytes = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._offers_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Pass the end of the body on, unless the head offers an upgrade."""
        if not self._offers_upgrade():
            super().on_message_complete()

    def _offers_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(token for token in value.split(b",") if token.strip().lower() not in UPGRADE_HEADERS)
            if name not in UPGRADE_HEADERS:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def eof_received(self) -> None:
        """Send a pending response: uvloop closes the connection once the client has closed its side."""
        if isinstance(self.transport, JoiningTransport):
            self.transport.flush()

    def shutdown(self) -> None:
        """Close the connection when the service stops, after a delay for requests already on their way."""
        self.loop.call_later(LAST_REQUESTS_SECONDS, super().shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request that is inside `while_connected`."""
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()
        stop: Any = getattr(self.cycle, "scope", {}).get(STOP)  # uvicorn creates the cycle with the first request
        if stop:
            stop()


@contextmanager
def while_connected(scope: MutableMapping[str, Any]) -> Iterator[None]:
    """Cancel the block when the request's client disconnects.

    Raises:
        ClientDisconnect: the client disconnected.
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


class JoiningTransport:
    """Sends all writes of one turn of the event loop together; delegates everything else to the transport."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the bytes at the end of this turn, together with its other writes."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send pending writes and close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send pending writes."""
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()
