"""What is written to a transport that only remembers, and what a client of the service receives."""

import asyncio
import re
import socket
from collections.abc import Iterator
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from uvicorn import Config
from uvicorn.server import ServerState

from app.process.connection import MAX_HEAD_BYTES, Connection, JoiningTransport, while_connected
from tests.app.conftest import png
from tests.app.service import Server, serving
from tests.waiting import DEADLINE_SECONDS, next_turn, run_ready_tasks, wait_until


class Remembered:
    """A transport that remembers what was asked of it."""

    peer = ("192.0.2.7", 40_000)

    def __init__(self):
        self.calls = []

    def write(self, data):
        self.calls.append(data)

    def close(self):
        self.calls.append("close")

    def is_closing(self):
        return "close" in self.calls

    def get_extra_info(self, name):
        return {"peername": self.peer}.get(name)

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


def test_what_is_done_while_connected_stops_when_the_client_leaves():
    async def scenario():
        scope, never = {}, asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: scope["stop"]())
        with pytest.raises(ClientDisconnect), while_connected(scope):
            await never.wait()
        await next_turn()  # the task itself goes on
        return scope

    assert asyncio.run(scenario()) == {}


def test_another_reason_to_stop_stays_what_it_is():
    async def scenario():
        async def work():
            with while_connected({}):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await run_ready_tasks()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError), while_connected({}):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    asyncio.run(scenario())


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
        assert 'route="/explain",status="5' not in counted
        assert set(re.findall(r"cifar10_refusals_total\{code=\"(\w+)", counted)) <= {"not_ready"}  # while it started


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


def exchange(*parts: bytes) -> Remembered:
    """What a connection in front of `echo` writes and does when it receives these parts one after the other."""

    async def scenario() -> Remembered:
        transport, state = Remembered(), ServerState()
        connection = Connection(Config(app=echo, http=Connection, ws="none", lifespan="off"), state, {})
        connection.connection_made(transport)
        for part in parts:
            if not transport.is_closing():
                connection.data_received(part)
            await run_ready_tasks()
        await asyncio.gather(*state.tasks)
        await run_ready_tasks()
        connection.connection_lost(None)
        return transport

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


def test_a_client_that_sends_no_head_is_given_up(monkeypatch):
    monkeypatch.setattr("app.process.connection.MAX_HEAD_SECONDS", 0.2)

    async def scenario(*parts: bytes) -> bytes:
        config = Config(app=echo, http=Connection, ws="none", lifespan="off")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for part in parts:
                writer.write(part)
            received = await asyncio.wait_for(reader.read(), DEADLINE_SECONDS)
            writer.close()
            await writer.wait_closed()
            return received

    for parts in ([], [b"GET / HT"]):
        assert asyncio.run(scenario(*parts)) == b""
