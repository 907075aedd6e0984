"""An HTTP/1.1 client for measurements: a pool of connections that tells answers from broken connections."""

import asyncio
import time
from typing import NamedTuple, cast

import httptools


class Answer(NamedTuple):
    """The outcome of one request. `status` is 0 if the connection broke or the request was not answered."""

    status: int
    seconds: float
    retry_after: bool
    content: bytes = b""


class Client:
    """A pool of connections to a local port; a request waits while all of them are in use."""

    def __init__(self, port: int, connections: int) -> None:
        self._port, self._free = port, asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    @property
    def connections(self) -> int:
        """The connections that are open."""
        return len(self._open)

    async def ask(self, request: bytes, due: float) -> Answer:
        """Send a request on an idle connection, or on a new one. A cancelled request counts as lost.

        Args:
            due: when the answer's seconds begin, a value of `time.perf_counter`.
        """
        status, retry_after, content = 0, False, b""
        try:
            async with self._free:
                connection = await self._connect()
                status, retry_after, content = await connection.ask(request)
                self._idle.append(connection)
        except (OSError, asyncio.CancelledError):
            pass
        return Answer(status, time.perf_counter() - due, retry_after, content)

    async def abandon(self, request: bytes, share: float, seconds: float) -> None:
        """Send the first `share` of a request and break the connection `seconds` later."""
        try:
            async with self._free:
                connection = await self._connect()
                connection.ask(request[: int(len(request) * share)])
                await asyncio.sleep(seconds)
                connection.transport.abort()
        except OSError:
            pass

    async def _connect(self) -> "_Connection":
        while self._idle:
            if not (connection := self._idle.pop()).transport.is_closing():
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._open), "127.0.0.1", self._port)
        return connection

    def close(self) -> None:
        """Break all connections."""
        for connection in list(self._open):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One request at a time. An answer without a length, which ends with the connection, counts as lost."""

    transport: asyncio.Transport

    def __init__(self, connections: set["_Connection"]) -> None:
        self._connections = connections
        self._parser, self._retry_after, self._content = httptools.HttpResponseParser(self), False, list[bytes]()
        self._answer: asyncio.Future[tuple[int, bool, bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._connections.add(self)

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bool, bytes]]:
        """Send a request; the future gets (status, has Retry-After, content), or ConnectionError."""
        self._answer, self._retry_after, self._content = asyncio.get_running_loop().create_future(), False, []
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_body(self, part: bytes) -> None:
        self._content.append(part)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer.done():  # "100 Continue" and the like, or an unasked answer
            return
        if not self._parser.should_keep_alive():
            self.transport.close()
        self._answer.set_result((status, self._retry_after, b"".join(self._content)))

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if not self._answer.done():
            self._answer.set_exception(ConnectionError())
            self._answer.exception()  # mark it as retrieved: nobody awaits a connection that was never used
