"""A proxy that records the requests of a client, and the status that each was answered with."""

import asyncio
import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httptools

RECORDED = Path(__file__).parent / "recorded"
HEADERS = ("content-type", "inference-header-content-length")  # those that change an answer


@dataclass
class Exchange:
    """One request, its body in base64, and the status of its answer."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 0


def read_exchanges(name: str) -> list[Exchange]:
    """The recorded exchanges of a client."""
    document = json.loads(gzip.decompress((RECORDED / f"{name}.json.gz").read_bytes()))
    return [Exchange(**exchange) for exchange in document]


@contextmanager
def recording(name: str, port: int) -> Iterator[int]:
    """Pass connections on to a local port from another one, and store the exchanges at the end."""
    exchanges: list[Exchange] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(exchanges)
        answers = _Answers(connection)
        upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            _pipe(reader, downstream, connection.parser),
            _pipe(upstream, writer, answers.parser),
            return_exceptions=True,
        )

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(accept, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        RECORDED.mkdir(exist_ok=True)
        content = json.dumps([asdict(exchange) for exchange in exchanges], indent=1).encode()
        (RECORDED / f"{name}.json.gz").write_bytes(gzip.compress(content, mtime=0))


class _Connection:
    """Collects the requests of one connection."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.exchanges, self.unanswered = exchanges, list[Exchange]()
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.current, self.body = Exchange(), b""

    def on_url(self, url: bytes) -> None:
        self.current.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if (lower := name.decode().lower()) in HEADERS:
            self.current.headers[lower] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.current.method = self.parser.get_method().decode()
        self.current.body = base64.b64encode(self.body).decode()
        self.unanswered.append(self.current)


class _Answers:
    """Gives each request of a connection the status of its answer."""

    def __init__(self, connection: _Connection) -> None:
        self.connection, self.parser = connection, httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        exchange = self.connection.unanswered.pop(0)
        exchange.status = self.parser.get_status_code()
        self.connection.exchanges.append(exchange)


async def _pipe(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser,
) -> None:
    while data := await reader.read(65_536):
        parser.feed_data(data)
        writer.write(data)
        await writer.drain()
    writer.close()
