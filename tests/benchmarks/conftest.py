"""A tiny HTTP server, real but in a thread of this process, that answers as it is told."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

if sys.platform != "linux":  # which alone the benchmarks run on
    collect_ignore_glob = ["test_*.py"]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 1\r\n\r\nbusy"
CLOSE = b""  # instead of an answer: close the connection


class Conversation(asyncio.Protocol):
    """Answers each request by `server.answer`: bytes, bytes in pieces, CLOSE, or None for no answer ever."""

    def __init__(self, server):
        self.server, self.received = server, b""

    def connection_made(self, transport):
        self.transport = transport
        self.server.open.add(transport)
        self.server.connections += 1
        self.server.most = max(self.server.most, len(self.server.open))

    def connection_lost(self, error):
        self.server.open.discard(self.transport)

    def data_received(self, data):
        self.received += data
        head, ended, body = self.received.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        if ended and len(body) >= length:
            self.received = body[length:]
            self.server.requests += 1
            self.reply(self.server.answer(head))

    def reply(self, answer):
        if answer is None:
            return
        if answer == CLOSE:
            self.transport.close()
            return
        pieces = [answer] if isinstance(answer, bytes) else list(answer)
        self.transport.write(pieces[0])
        if pieces[1:]:  # from the loop again, so that they leave as packets of their own
            asyncio.get_running_loop().call_later(0.001, self.reply, pieces[1:])


class Server:
    """One port, until `stop`."""

    def __init__(self, answer):
        self.answer, self.open = answer, set()
        self.requests = self.connections = self.most = 0
        self.loop, self.listening = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.run(),))
        self.thread.start()
        assert self.listening.wait(10)

    async def run(self):
        self.stopped = asyncio.Event()
        listener = await self.loop.create_server(lambda: Conversation(self), "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self.listening.set()
        await self.stopped.wait()
        listener.close()
        while self.open:
            for transport in list(self.open):
                transport.abort()
            await asyncio.sleep(0)
        await listener.wait_closed()

    def stop(self):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def server_with() -> Iterator[Callable[..., Server]]:
    """Makes servers and stops them at the end."""
    servers: list[Server] = []

    def make(answer) -> Server:
        servers.append(Server(answer if callable(answer) else lambda head: answer))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()
