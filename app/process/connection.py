"""uvicorn's HTTP/1.1 connection, changed to send the head and body of a response together.

uvicorn writes them separately, and uvloop passes each to the kernel at once: two system calls and two packets per
response, a tenth of a request's cost without the network. The connection also cancels an in-flight request when its
client disconnects, and limits the size of heads, trailers and chunks, and the time that it waits for its client
(`open_connections.py`). Knows bytes, but nothing about endpoints.
"""

import asyncio
import re
import socket
from enum import Enum
from typing import Any, NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.process.open_connections import OpenConnections, Queue

STOP = "stop"  # key in a request's scope, for the `Stop` of its work
# A head arrives in one or two reads of up to 262,144 bytes each; the first may begin with the previous request's body.
MAX_HEAD_BYTES = 524_288
MAX_HEADERS = 100  # as Apache; 130,000 in one head blocked the event loop for 0.4 s
MAX_TRAILER_BYTES, MAX_TRAILERS = 16_384, 100
MAX_CHUNKS = 100_000  # of one body; each costs half a microsecond, which would be 16 s for 32 MB of single bytes
MAX_PIPELINED = 100  # requests received while one is answered; each takes 2 kB, and one read may hold 8,000
LAST_REQUESTS_SECONDS = 0.1
UPGRADE_HEADERS = b"upgrade", b"http2-settings"
HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*")  # RFC 3986, 3.2.2, and the underscore that some networks use
PROBE_SECONDS = 0.1  # after a client has closed its side; most answers take a few milliseconds
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Part(Enum):
    """The part of a request that is being received."""

    HEAD, BODY = "head", "body"


class Refusal(Exception):
    """A request that breaks HTTP or a limit of the connection."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


INVALID = Refusal(400, "Invalid HTTP request received.")


class Connection(HttpToolsProtocol):
    """A client's connection."""

    server_state: OpenConnections
    transport: "JoiningTransport"  # type: ignore[assignment]
    queue: Queue | None = None  # what the connection waits for
    unread_bytes = 0
    _part: Part | None = None  # None between requests
    _head_bytes = 0  # received of an incomplete head
    _read_bytes = 0  # the head's bytes after this read, at most
    _chunks = 0  # of this body
    _framing_only = False  # this read began within a body and has brought none of its data
    _framing_bytes = 0  # of such reads since the last data: chunk extensions and the trailer
    _refusal: Refusal | None = None
    _ends_with_pipeline = False  # the client has closed its side within a request
    _probed, _probe_seconds = False, PROBE_SECONDS  # and the delay of the next probe

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Write through a `JoiningTransport`, and wait for the first head."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self.server_state.make_room(self)
        self.server_state.wait(self, self.server_state.head)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and refuse those that break HTTP or a limit."""
        self._read_bytes = self._head_bytes + len(data)
        self._framing_only = self._part is Part.BODY
        try:
            self._parse(data)
            if self._part is Part.HEAD:
                self._head_bytes += len(data)
                self._check_head(self._head_bytes)
            elif self._part is Part.BODY:
                self._framing_bytes += len(data) * self._framing_only
                self._check_framing()
        except (HttpParserError, Refusal):
            self._refuse(self._refusal or INVALID)
        self._wait()

    def _parse(self, data: bytes) -> None:
        """Ignore offers to upgrade (RFC 9110, 7.8), such as Java's client's to use HTTP/2."""
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                if not self._offers_upgrade():
                    return
                head, rest = self._head_without_upgrade(), memoryview(rest)[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn: pipelined requests
                self.parser.feed_data(head)
            else:
                return

    def on_message_begin(self) -> None:
        """Start a head."""
        super().on_message_begin()
        self._part, self._head_bytes, self._chunks = Part.HEAD, 0, 0
        self._framing_only, self._framing_bytes = False, 0

    def on_headers_complete(self) -> None:
        """Check the head and pass it on. One that offers an upgrade is parsed again without the offer instead."""
        if not self._offers_upgrade():
            sizes = (
                [len(name) + len(value) for name, value in self.headers] if self._read_bytes > MAX_HEAD_BYTES else []
            )
            self._check_head(len(self.url) + sum(sizes))
            self._check_host_and_coding()
            if len(self.pipeline) >= MAX_PIPELINED:
                self._fail(400, "Too many requests were sent before the first was answered; wait for answers.")
            super().on_headers_complete()
            if self.server_state.draining:
                self.cycle.keep_alive = False
        self._part, self._head_bytes = Part.BODY, 0

    def on_chunk_header(self) -> None:
        """Count a chunk. The last one has no data; what follows it is a trailer.

        Nothing here reads trailers. Keep them out of the request's headers, where they would be trusted.
        """
        self._chunks += 1
        self.headers = []
        if self._chunks > MAX_CHUNKS:
            self._fail(400, f"The body has more than {MAX_CHUNKS} chunks; send larger ones.")

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._framing_only, self._framing_bytes = False, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Pass the end of the body on, unless the head offers an upgrade."""
        if self._chunks:
            self._check_framing()
        self._part = None
        if not self._offers_upgrade():
            super().on_message_complete()

    def _check_head(self, size: int) -> None:
        if size > MAX_HEAD_BYTES:
            self._fail(400, f"The request head has more than {MAX_HEAD_BYTES} bytes.")
        if len(self.headers) > MAX_HEADERS:
            self._fail(400, f"The request has {len(self.headers)} headers, the limit is {MAX_HEADERS}; send fewer.")

    def _check_host_and_coding(self) -> None:
        """Check Host (RFC 9112, 3.2) and Transfer-Encoding (6.1)."""
        hosts, codings = [], []
        for name, value in self.headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings.append(value)
        if len(hosts) > 1 or (not hosts and self.parser.get_http_version() > "1.0"):
            self._fail(400, f"The request has {len(hosts) or 'no'} Host header{'s' * bool(hosts)}; send one.")
        if hosts and not HOST.fullmatch(hosts[0]):
            self._fail(400, "The Host header is not a host name or address with an optional port; send one.")
        if codings and (coding := b", ".join(codings)).strip().lower() != b"chunked":
            self._fail(
                501, f"The transfer coding {coding[:80]!r} is not supported; send the body as it is, or chunked."
            )

    def _check_framing(self) -> None:
        trailer = self.headers if self._chunks else []
        size = max(self._framing_bytes, sum(len(name) + len(value) for name, value in trailer))
        if size > MAX_TRAILER_BYTES or len(trailer) > MAX_TRAILERS:
            limit = f"{MAX_TRAILERS} lines or {MAX_TRAILER_BYTES} bytes"
            self._fail(400, f"The trailer or a chunk extension has more than {limit}; send none, as nothing reads it.")

    def _fail(self, status: int, detail: str) -> NoReturn:
        """Stop parsing. The parser raises its own exception for one of a callback, so keep the original."""
        self._refusal = Refusal(status, detail)
        raise self._refusal

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a faulty request and close the connection. Answers to requests before it come first."""
        if self._part is Part.BODY:  # self.cycle is this request's
            if self.pipeline or self.cycle.response_started:
                self.transport.close()
                return
        elif cycle := self._in_flight():
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        detail = refusal.detail.encode("ascii")
        head = [STATUS_LINE[refusal.status], *(b"%s: %s\r\n" % header for header in self.server_state.default_headers)]
        head.append(b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(detail))
        self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", detail]))
        self.transport.close()

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

    def on_response_complete(self) -> None:
        """Start the next pipelined request or wait for one, without uvicorn's timer, which ends at a stray byte."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._ends_with_pipeline:
            self.transport.close()
        self._wait()

    def _wait(self) -> None:
        """Enter the queue of what the connection waits for now."""
        if not self.transport.is_closing():
            self.server_state.wait(self, self._awaited())

    def _awaited(self) -> Queue | None:
        state = self.server_state
        if self.flow.write_paused:
            return state.unread
        if cycle := self._in_flight():
            return state.body if cycle.more_body else None
        if self._part is None:
            return state.idle
        return state.head if self._part is Part.HEAD else state.rest

    def _in_flight(self) -> RequestResponseCycle | None:
        """Return the latest request, unless it has been answered."""
        cycle: Any = self.cycle  # None before the first request
        return None if cycle is None or cycle.response_complete else cycle

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self.wait_for_reader()

    def resume_writing(self) -> None:
        """Write on: the client has read."""
        super().resume_writing()
        self._wait()

    def wait_for_reader(self) -> None:
        """Wait for the client to read what was written."""
        self.server_state.wait(self, self.server_state.unread)

    def answer_last(self) -> None:
        """Close the connection after the request in flight."""
        if (cycle := self._in_flight()) and not cycle.response_started:
            cycle.keep_alive = False

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a complete request of a client that sends no more, and close the connection otherwise."""
        self.transport.flush()
        cycle = self._in_flight()
        if cycle and cycle.more_body and self.pipeline:  # those before this request still get their answers
            self.pipeline.popleft()
            self._ends_with_pipeline = True
            return True
        if cycle is None or cycle.more_body:
            self.transport.close()
            return False
        cycle.keep_alive = False
        self._probe_later()
        return True

    def _probe_later(self) -> None:
        self.loop.call_later(self._probe_seconds, self._probe)
        self._probe_seconds *= 2

    def _probe(self) -> None:
        """Find out whether a client that sends no more still waits for its answer.

        A client that has left looks the same until something is sent to it, which its system answers with a reset. So
        send `100 Continue` once, which clients must ignore (RFC 9110, 15.2), and look for the reset later.
        """
        if self.transport.is_closing() or self.pipeline or self.cycle.response_started:
            return
        if not self._probed and self.cycle.scope["http_version"] != "1.0":
            self._probed = True
            self.transport.write(CONTINUE)
        elif self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        self._probe_later()

    def shutdown(self) -> None:
        """Close the connection when the service stops, after a delay for requests already on their way."""
        self.loop.call_later(LAST_REQUESTS_SECONDS, self._read_and_close)

    def _read_and_close(self) -> None:
        """Close once the event loop has read what has arrived, which a busy one may not have in that time."""
        self.loop.call_soon(self.loop.call_soon, super().shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the request in flight, if it lets itself be stopped."""
        super().connection_lost(exc)
        self.server_state.wait(self, None)
        stop: Any = getattr(self.cycle, "scope", {}).get(STOP)  # uvicorn creates the cycle with the first request
        if stop:
            stop(ClientDisconnect)


class JoiningTransport:
    """Sends all writes of one turn of the event loop together; delegates everything else to the transport."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self.is_closing = transport.is_closing  # asked three times a request; __getattr__ takes four times as long
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the bytes at the end of this turn, together with its other writes."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send pending writes and close, once the client has read what fills the buffers."""
        if self.is_closing():
            return
        self.flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._transport.get_protocol().wait_for_reader()  # type: ignore[attr-defined]

    def flush(self) -> None:
        """Send pending writes."""
        if self._parts and not self.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()
