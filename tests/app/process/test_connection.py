"""What is written to a transport that only remembers, and what a client of the service receives."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from uvicorn import Config

from app.process.connection import (
    MAX_CHUNKS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    MAX_TRAILER_BYTES,
    MAX_TRAILERS,
    STOP,
    Connection,
    JoiningTransport,
)
from app.process.open_connections import OpenConnections
from tests.app.conftest import png
from tests.app.service import Server, serving
from tests.app.stops import stoppable
from tests.waiting import DEADLINE_SECONDS, next_turn, run_ready_tasks, wait_until


class Remembered:
    """A transport that remembers what was asked of it."""

    peer = ("192.0.2.7", 40_000)

    def __init__(self):
        self.calls, self.options = [], []
        self.unread = 0  # bytes written that the client's system has not taken
        self.protocol = None

    def write(self, data):
        self.calls.append(data)

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def is_closing(self):
        return "close" in self.calls or "abort" in self.calls

    def get_write_buffer_size(self):
        return self.unread

    def get_protocol(self):
        return self.protocol

    def get_extra_info(self, name):
        return {"peername": self.peer, "socket": self}.get(name)

    def getsockname(self):
        return "192.0.2.1", 8000

    def getpeername(self):
        return self.peer

    def setsockopt(self, *option):
        self.options.append(option)

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    @property
    def written(self) -> bytes:
        return b"".join(call for call in self.calls if isinstance(call, bytes))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """The service in one process; no test here stops or changes it."""
    with serving(tmp_path_factory.mktemp("connection"), workers="1") as server:
        yield server


async def joined():
    transport = Remembered()
    return transport, JoiningTransport(transport, asyncio.get_running_loop())


def test_what_is_written_in_one_turn_of_the_loop_leaves_at_once():
    async def scenario():
        transport, joined_ = await joined()
        joined_.write(b"head ")
        joined_.write(b"body")
        before = list(transport.calls)
        await next_turn()
        joined_.write(b"next")
        await next_turn()
        return before, transport.calls, joined_.get_extra_info("peername")

    assert asyncio.run(scenario()) == ([], [b"head body", b"next"], Remembered.peer)


def test_closing_sends_what_was_written_before_and_nothing_is_written_afterwards():
    async def scenario():
        transport, joined_ = await joined()
        joined_.write(b"last")
        joined_.close()
        joined_.write(b"too late")
        await next_turn()
        return transport.calls

    assert asyncio.run(scenario()) == [b"last", "close"]


@pytest.mark.process
def test_a_client_receives_head_and_body_together(server):
    with server.connect() as client:
        for _ in range(20):
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b'\r\n\r\n{"status":"alive"}')


@pytest.mark.process
def test_a_client_that_sends_no_more_gets_its_answer(server):
    for _ in range(20):
        with server.connect() as client:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65_536).endswith(b'{"status":"alive"}')


@pytest.mark.process
def test_nothing_is_computed_for_clients_that_have_left(tmp_path):
    with serving(tmp_path, workers="1") as server:
        clients = [server.connect() for _ in range(20)]
        for client, path in zip(clients, ["/explain"] + ["/explain", "/explain?format=json"] * 10, strict=False):
            client.sendall(post(path, png()))
        assert clients[0].recv(65_536).startswith(b"HTTP/1.1 200 OK")  # one at a time is explained
        for client in clients:
            client.close()

        def explained() -> list[int]:
            return [line["status"] for line in server.lines() if line.get("route") == "/explain"]

        wait_until(lambda: len(explained()) == len(clients), explained)
        assert set(explained()) == {200, 499}
        assert not [line for line in server.lines() if line["level"] in ("error", "warning")]
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
        counted = httpx2.get(server.url("/metrics")).text
        assert 'cifar10_request_seconds_count{route="/explain",status="499"}' in counted
        assert not re.search(r'cifar10_request_seconds_count{route="/explain",status="5.."} [1-9]', counted)
        refused = re.findall(r'^cifar10_refusals_total\{code="(\w+)"\} [1-9]', counted, re.MULTILINE)
        assert set(refused) <= {"not_ready"}  # while it started


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"Host: localhost", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


async def echo(scope, receive, send):
    """Answers with the method, the target, the headers' names and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    target = b"%s?%s" % (scope["raw_path"], scope["query_string"])
    names = b",".join(name for name, _ in scope["headers"])
    answer = b"<%s %s %s %s>" % (scope["method"].encode(), target, names, body)
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def refuse(scope, receive, send):
    """Answers without reading the body."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class Client:
    """A connection in front of an application, its transport, and a clock that stands still."""

    def __init__(self, app=echo, limit: int = 100):
        self.seconds, self.transport = 0.0, Remembered()
        self.state = OpenConnections(limit, 75.0, lambda: self.seconds)
        self.config = Config(app=app, http=Connection, ws="none", lifespan="off")
        self.connection = self.connect(self.transport)

    def connect(self, transport: Remembered) -> Connection:
        """Make another connection of the same process."""
        connection = transport.protocol = Connection(self.config, self.state, {})
        connection.connection_made(transport)
        return connection

    async def send(self, *parts: bytes) -> None:
        """Let the connection receive these parts one after the other."""
        for part in parts:
            if not self.transport.is_closing():
                self.connection.data_received(part)
            await run_ready_tasks()

    def sweep_after(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.seconds += seconds
        self.state.sweep()

    async def leave(self) -> None:
        """End the connection and what it started."""
        self.connection.connection_lost(ConnectionResetError())  # None would close the transport
        await asyncio.gather(*self.state.tasks)


def exchange(*parts: bytes, app=echo) -> Remembered:
    """What a connection in front of `app` writes and does when it receives these parts one after the other."""

    async def scenario() -> Remembered:
        client = Client(app)
        await client.send(*parts)
        calls = 0
        while len(client.transport.calls) > calls:
            calls = len(client.transport.calls)
            await run_ready_tasks()
        await client.leave()
        return client.transport

    return asyncio.run(scenario())


OFFER = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"
OFFERED = post("/predict?top_k=2", b"an image", *OFFER, b"X-Request-ID: mine")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2 * len(OFFERED)), max_size=6), st.booleans())
def test_an_offered_upgrade_is_passed_over_however_the_bytes_arrive(cuts, twice):
    sent = OFFERED * (1 + twice)
    edges = [0, *sorted(cuts), len(sent)]
    transport = exchange(*(sent[start:end] for start, end in pairwise(edges) if end > start))
    expected = b"<POST /predict?top_k=2 host,content-length,connection,x-request-id an image>"
    assert transport.written.count(b"HTTP/1.1 200 OK") == transport.written.count(expected) == 1 + twice
    assert transport.written.count(b"<") == 1 + twice


@pytest.mark.process
def test_the_service_passes_over_an_offered_upgrade(server):
    with server.connect() as client:
        client.sendall(post("/predict?top_k=2", png(), *OFFER, b"X-Request-ID: upgrade"))
        answer = client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 OK") and b"x-request-id: upgrade" in answer and b'"label":' in answer


def test_a_head_without_end_is_refused():
    lines = [b"X-%d: %s\r\n" % (number, b"a" * 60_000) for number in range(9)]
    assert sum(map(len, lines[:-1])) < MAX_HEAD_BYTES < sum(map(len, lines))
    start = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    transport = exchange(start, *lines)
    assert transport.written.startswith(b"HTTP/1.1 400 ") and b"head has more than 524288 bytes" in transport.written
    assert transport.is_closing()
    assert exchange(start, *lines[:-1], b"\r\n").written.startswith(b"HTTP/1.1 200 ")


GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_head_that_is_too_large_is_refused_however_its_bytes_arrive():
    head = GET + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n"
    for parts in ([head], [head[:250_000], head[250_000:500_000], head[500_000:]], [post("/", b"a" * 9) + head]):
        written = exchange(*parts).written
        assert b"head has more than 524288 bytes" in written or b"<POST" in written
        assert b"<GET" not in written


def test_a_large_body_does_not_count_as_head():
    assert b"200 OK" in exchange(post("/", b"a" * 2 * MAX_HEAD_BYTES)).written


def test_too_many_headers_are_refused():
    headers = [b"a: b\r\n"] * (MAX_HEADERS - 1)
    assert exchange(GET + b"".join(headers) + b"\r\n").written.startswith(b"HTTP/1.1 200 ")
    refused = exchange(GET + b"".join(headers) + b"a: b\r\n\r\n")
    assert refused.written.startswith(b"HTTP/1.1 400 ") and b"has 101 headers, the limit is 100" in refused.written


ENDLESS_TRAILERS = {
    "many lines": [b"0\r\n" + b"a:b\r\n" * (MAX_TRAILERS + 1) + b"\r\n"],
    "many lines, one by one": [b"0\r\n", *[b"a:b\r\n"] * (MAX_TRAILERS + 1), b"\r\n"],
    "large lines": [b"0\r\n" + (b"a:" + b"b" * 9_000 + b"\r\n") * 2 + b"\r\n"],
    "an endless value": [b"0\r\na:", *[b"b" * 1_000] * 17],
    "an endless name": [b"0\r\n", *[b"a" * 1_000] * 17],
    "an endless value after data": [b"3\r\nabc\r\n0\r\na:", *[b"b" * 1_000] * 17],
    "endless zeros of a size": [*[b"0" * 1_000] * 17],
    "an endless extension": [b"3;", *[b"a" * 1_000] * 17],
    "an endless extension after data": [b"3\r\nabc\r\n3;", *[b"a" * 1_000] * 17],
}


@pytest.mark.parametrize("parts", ENDLESS_TRAILERS.values(), ids=ENDLESS_TRAILERS)
def test_an_endless_trailer_ends_the_connection(parts):
    waiting = exchange(CHUNKED, *parts)
    assert waiting.written.startswith(b"HTTP/1.1 400 ") and b"has more than 100 lines or 16384 bytes" in waiting.written
    answered = exchange(CHUNKED, *parts, app=refuse)
    assert answered.written.count(b"HTTP/1.1") == 1 and answered.written.startswith(b"HTTP/1.1 413 ")
    assert waiting.is_closing() and answered.is_closing()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 400), max_size=6))
def test_a_trailer_is_dropped_however_the_bytes_arrive(cuts):
    sent = CHUNKED + b"8\r\nan image\r\n0\r\nHost: other\r\nX-Request-ID: mine\r\n\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    written = exchange(*(sent[start:end] for start, end in pairwise(edges) if end > start)).written
    assert b"<POST /? host,transfer-encoding an image>" in written and written.count(b"HTTP/1.1") == 1


def test_a_large_trailer_in_the_first_read_is_refused_before_the_answer():
    get = CHUNKED.replace(b"POST", b"GET")
    lines = b"a:b\r\n" * (MAX_TRAILERS + 1)
    refused = exchange(get + b"0\r\n" + lines, lines)
    assert refused.written.startswith(b"HTTP/1.1 400 ") and refused.written.count(b"HTTP/1.1") == 1
    assert refused.is_closing()


def test_heads_and_extensions_of_chunks_with_data_do_not_add_up():
    chunks = [b"1;" + b"a" * 1_000 + b"\r\n", b"a\r\n"] * 20
    assert exchange(CHUNKED, *chunks, b"0\r\n\r\n").written.startswith(b"HTTP/1.1 200 ")


def test_a_second_head_does_not_count_as_framing_of_the_body_before_it():
    head = GET.replace(b"GET", b"POST") + b"Content-Length: 1\r\nX: " + b"a" * 2 * MAX_TRAILER_BYTES + b"\r\n\r\n"
    assert exchange(CHUNKED + b"0\r\n", b"\r\n" + head, b"a").written.count(b"HTTP/1.1 200 ") == 2


def test_the_data_of_a_chunk_does_not_count_as_trailer():
    size = 3 * MAX_TRAILER_BYTES
    parts = [b"%x\r\n" % size, *[b"a" * 1_024] * (size // 1_024), b"\r\n0\r\n\r\n"]
    assert exchange(CHUNKED, *parts).written.startswith(b"HTTP/1.1 200 ")


def test_a_body_of_tiny_chunks_is_refused():
    refused = exchange(CHUNKED, b"1\r\na\r\n" * (MAX_CHUNKS + 1))
    assert refused.written.startswith(b"HTTP/1.1 400 ") and b"more than 100000 chunks; send larger" in refused.written


FAULTY_HEADS = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, b"no Host header; send one"),
    "no host in HTTP/2.0": (b"GET / HTTP/2.0\r\n\r\n", 400, b"no Host header; send one"),
    "two hosts": (GET + b"Host: x\r\n\r\n", 400, b"2 Host headers; send one"),
    "no host name": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, b"Host header is not a host name"),
    "gzip, chunked": (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, b"gzip, chunked' is not supported"),
    "gzip": (GET + b"Transfer-Encoding: gzip\r\n\r\n", 501, b"'gzip' is not supported"),
    "two codings": (GET + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501, b"gzip, chunked'"),
    "no HTTP": (b"hello\r\n\r\n", 400, b"Invalid HTTP request received."),
}


@pytest.mark.parametrize(("head", "status", "detail"), FAULTY_HEADS.values(), ids=FAULTY_HEADS)
def test_a_head_that_breaks_http_is_refused(head, status, detail):
    refused = exchange(head)
    assert refused.written.startswith(b"HTTP/1.1 %d " % status) and refused.is_closing()
    assert b"connection: close\r\n" in refused.written and detail in refused.written.split(b"\r\n\r\n")[1]


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"],
    ids=["HTTP/1.0 without a host", "an empty host", "an IPv6 address and a port"],
)
def test_a_host_that_http_allows_is_accepted(head):
    assert exchange(head).written.startswith(b"HTTP/1.1 200 ")


def test_requests_before_a_faulty_one_are_answered_first_and_the_connection_closed():
    for faulty in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        transport = exchange(post("/", b"first") + faulty)
        assert transport.written.count(b"HTTP/1.1") == 1 and b" first>" in transport.written
        assert b"connection: close\r\n" in transport.written and transport.is_closing()


def test_a_body_that_turns_out_faulty_after_its_answer_gets_no_second_answer():
    transport = exchange(CHUNKED, b"no chunk\r\n", app=refuse)
    assert transport.written.count(b"HTTP/1.1") == 1 and transport.is_closing()


def test_requests_sent_ahead_of_answers_are_limited():
    assert exchange((GET + b"\r\n") * MAX_PIPELINED).written.count(b"200 OK") == MAX_PIPELINED
    for request in (GET + b"\r\n", OFFERED):
        transport = exchange(request * 3_000)
        assert transport.written.count(b"200 OK") <= MAX_PIPELINED + 1 and transport.is_closing()


WAITING_CLIENTS = {
    "sends nothing": (echo, []),
    "sends half a head": (echo, [b"GET / HT"]),
    "sends line ends only": (echo, [b"\r\n"]),
    "sends a slow second head": (echo, [GET + b"\r\n", b"GET / HT"]),
    "sends nothing after its answer": (echo, [GET + b"\r\n"]),
    "sends a line end after its answer": (echo, [GET + b"\r\n", b"\r\n"]),
    "sends a byte of a refused body": (refuse, [post("/", b"body")[:-3], b"o"]),
    "sends half a chunk of a refused body": (refuse, [CHUNKED, b"64\r\nabc"]),
    "sends trailers of a refused body": (refuse, [CHUNKED, b"0\r\n", b"a: b\r\n"]),
}


@pytest.mark.parametrize(("app", "parts"), WAITING_CLIENTS.values(), ids=WAITING_CLIENTS)
@pytest.mark.parametrize("trickle", [b"", b"\r\n"], ids=["silent", "trickling"])
def test_a_client_is_not_waited_for_without_end(app, parts, trickle):
    async def scenario() -> Remembered:
        client = Client(app)
        await client.send(*parts)
        client.sweep_after(29)
        assert not client.transport.is_closing()
        for _ in range(3):
            if trickle and client.connection._part is None:  # elsewhere it would be a part of the request
                await client.send(trickle)
            client.sweep_after(25)
        await client.leave()
        return client.transport

    assert asyncio.run(scenario()).is_closing()


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["kept open", "closing"])
@pytest.mark.parametrize("paused", [True, False], ids=["a large answer", "a small answer"])
def test_a_client_that_does_not_read_its_answer_is_dropped(last, paused):
    async def scenario() -> Remembered:
        client = Client()
        client.transport.unread = 1
        await client.send(GET + last + b"\r\n")
        if paused:
            client.connection.pause_writing()
        client.sweep_after(75)
        client.sweep_after(30)
        await client.leave()
        return client.transport

    assert asyncio.run(scenario()).calls[-1] == "abort"


def test_a_client_that_does_not_read_is_dropped_sooner_when_the_service_stops():
    async def scenario() -> list:
        client = Client()
        await client.send(GET + b"\r\n")
        client.connection.pause_writing()
        client.state.stop()
        client.sweep_after(5)
        await client.leave()
        return client.transport.calls

    assert "abort" in asyncio.run(scenario())


def test_a_client_that_reads_on_is_waited_for():
    async def scenario() -> bool:
        client = Client()
        await client.send(GET + b"\r\n")
        for _ in range(10):
            client.connection.pause_writing()
            client.sweep_after(29)
            client.connection.resume_writing()
        await client.leave()
        return "abort" in client.transport.calls

    assert not asyncio.run(scenario())


@pytest.mark.process
def test_a_client_that_sends_no_more_gets_its_prediction(server):
    for _ in range(20):
        with server.connect() as client:
            client.sendall(post("/predict", png()))
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")
            assert client.recv(65_536) == b""


@pytest.mark.parametrize("complete", [1, 2])
def test_a_client_that_sends_no_more_within_a_request_gets_the_answers_to_those_before(complete):
    async def scenario() -> Remembered:
        client = Client()
        client.connection.data_received(post("/", b"whole") * complete + post("/", b"cut short")[:-3])
        assert client.connection.eof_received() and not client.transport.is_closing()
        await run_ready_tasks()
        await client.leave()
        return client.transport

    transport = asyncio.run(scenario())
    assert transport.written.count(b"200 OK") == transport.written.count(b" whole>") == complete
    assert b"cut" not in transport.written and b"100 Continue" not in transport.written and transport.is_closing()


def test_a_client_that_sends_no_more_gets_the_answers_to_all_its_requests():
    async def scenario() -> Remembered:
        client = Client()
        client.connection.data_received(post("/", b"first") + post("/", b"second"))
        assert client.connection.eof_received()
        await run_ready_tasks()
        await client.leave()
        return client.transport

    transport = asyncio.run(scenario())
    assert transport.written.count(b"200 OK") == 2 and transport.written.count(b"connection: close") == 1
    assert b" second>" in transport.written and transport.is_closing()


@asynccontextmanager
async def connected(app) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client connected to a `Connection` by a real socket."""
    config, state = Config(app=app, http=Connection, ws="none", lifespan="off"), OpenConnections(100, 75.0)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()
        await writer.wait_closed()


def test_a_client_that_sends_no_more_is_asked_once_whether_it_has_left(monkeypatch):
    monkeypatch.setattr(Connection, "_probe_seconds", 0.0)

    async def scenario() -> bytes:
        asked = asyncio.Event()

        async def slow_echo(scope, receive, send):
            await asked.wait()
            await echo(scope, receive, send)

        async with connected(slow_echo) as (reader, writer), asyncio.timeout(DEADLINE_SECONDS):
            writer.write(GET + b"\r\n")
            writer.write_eof()
            received = await reader.readuntil(b"\r\n\r\n")
            await run_ready_tasks()
            asked.set()
            return received + await reader.read()

    received = asyncio.run(scenario())
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") and b"<GET" in received


def test_a_request_stops_when_its_client_turns_out_to_have_left():
    async def scenario() -> None:
        left = asyncio.Event()

        async def forever(scope, receive, send):
            try:
                with stoppable() as scope[STOP]:
                    await asyncio.Event().wait()
            except ClientDisconnect:
                left.set()

        async with connected(forever) as (_, writer), asyncio.timeout(DEADLINE_SECONDS):
            writer.write(GET + b"\r\n")
            writer.close()
            await left.wait()

    asyncio.run(scenario())


def test_a_client_that_sends_no_more_of_an_incomplete_request_is_given_up():
    for parts in ([b"GET / HT"], [post("/", b"body")[:-1]], [GET + b"\r\n"]):

        async def scenario(parts=parts) -> tuple[bool, bool]:
            client = Client()
            await client.send(*parts)
            kept_open = client.connection.eof_received()
            await client.leave()
            return kept_open, client.transport.is_closing()

        assert asyncio.run(scenario()) == (False, True)


def test_every_answer_is_the_last_of_its_connection_while_draining():
    async def scenario(early: bool) -> Remembered:
        client = Client()
        if early:
            client.state.drain()
        client.connection.data_received(GET + b"\r\n")
        if not early:
            client.state.drain()
        await run_ready_tasks()
        await client.leave()
        return client.transport

    for early in (True, False):
        transport = asyncio.run(scenario(early))
        assert b"connection: close\r\n" in transport.written and transport.is_closing()


@pytest.mark.process
def test_idle_clients_make_room_for_others(tmp_path):
    with serving(tmp_path, workers="1", max_connections="8", keep_alive_seconds="3600") as server:
        idle = []
        for _ in range(40):
            client = server.connect()
            idle.append(client)
            client.sendall(GET.replace(b"/ ", b"/health/live ") + b"\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        assert idle[0].recv(65_536) == b""
        assert httpx2.get(server.url("/health/live")).status_code == 200
        warnings = [line["message"] for line in server.lines() if line["level"] == "warning"]
        assert len(warnings) == 1 and warnings[0].startswith("all 8 connections are in use")
        for client in idle:
            client.close()


@pytest.mark.process
def test_an_idle_client_is_given_up_whatever_line_ends_it_sends(tmp_path):
    with serving(tmp_path, workers="1", keep_alive_seconds="0.5") as server, server.connect() as client:
        client.sendall(GET.replace(b"/ ", b"/health/live ") + b"\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        assert client.recv(65_536) == b""
