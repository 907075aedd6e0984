"""What is written to a transport that only remembers, and what a client of the service receives."""

import asyncio
import re
import socket
import time

import httpx2
import pytest
from starlette.requests import ClientDisconnect
from uvicorn import Config
from uvicorn.server import ServerState

from app.process.connection import Connection, Joined, while_connected
from tests.app.conftest import PATIENCE_SECONDS, png
from tests.app.test_server import serving


class Remembered:
    """A transport that remembers what was asked of it."""

    def __init__(self):
        self.calls = []

    def write(self, data):
        self.calls.append(data)

    def close(self):
        self.calls.append("close")

    def is_closing(self):
        return "close" in self.calls

    def get_extra_info(self, name):
        return f"the {name}"


async def joined():
    transport = Remembered()
    return transport, Joined(transport, asyncio.get_running_loop())


def test_what_is_written_in_one_turn_of_the_loop_leaves_at_once():
    async def scenario():
        transport, joined_ = await joined()
        joined_.write(b"head ")
        joined_.write(b"body")
        before = list(transport.calls)
        await asyncio.sleep(0)
        joined_.write(b"next")
        await asyncio.sleep(0)
        return before, transport.calls, joined_.get_extra_info("peername")

    assert asyncio.run(scenario()) == ([], [b"head body", b"next"], "the peername")


def test_closing_sends_what_was_written_before_and_nothing_is_written_afterwards():
    async def scenario():
        transport, joined_ = await joined()
        joined_.write(b"last")
        joined_.close()
        joined_.write(b"too late")
        await asyncio.sleep(0)
        return transport.calls

    assert asyncio.run(scenario()) == [b"last", "close"]


def test_a_client_receives_head_and_body_together(tmp_path):
    with serving(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(20):
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b'\r\n\r\n{"status":"alive"}')


def test_a_client_that_sends_no_more_gets_its_answer(tmp_path):
    with serving(tmp_path) as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                assert client.recv(65_536).endswith(b'{"status":"alive"}')


def test_what_is_done_while_connected_stops_when_the_client_leaves():
    async def scenario():
        scope, never = {}, asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: scope["stop"]())
        with pytest.raises(ClientDisconnect), while_connected(scope):
            await never.wait()
        await asyncio.sleep(0)  # the task itself goes on
        return scope

    assert asyncio.run(scenario()) == {}


def test_another_reason_to_stop_stays_what_it_is():
    async def scenario():
        async def work():
            with while_connected({}):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError), while_connected({}):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    asyncio.run(scenario())


def asked_for(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_nothing_is_computed_for_clients_that_have_left(tmp_path):
    with serving(tmp_path, workers="1") as server:
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for client, path in zip(clients, ["/explain"] + ["/explain", "/explain?format=json"] * 10, strict=False):
            client.sendall(asked_for(path, png()))
        assert clients[0].recv(65_536).startswith(b"HTTP/1.1 200 OK")  # one at a time is explained
        for client in clients:
            client.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(lines := [line for line in server.lines() if line.get("route") == "/explain"]) < len(clients):
            assert time.monotonic() < deadline, lines
            time.sleep(0.05)
        assert [line["status"] for line in lines].count(499) >= 10
        assert not [line for line in server.lines() if line["level"] in ("error", "warning")]
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
        counted = httpx2.get(server.url("/metrics")).text
        assert 'cifar10_request_seconds_count{route="/explain",status="499"}' in counted
        assert 'route="/explain",status="5' not in counted
        assert set(re.findall(r"cifar10_refusals_total\{code=\"(\w+)", counted)) <= {"not_ready"}  # while it started


def exchanged(server, *parts: bytes) -> bytes:
    """All that a connection gives for what is sent in these parts."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        received = b""
        while more := connection.recv(65_536):
            received += more
        return received


def test_an_offered_upgrade_is_passed_over(tmp_path):
    body = png()
    offer = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    head = b"POST /predict?top_k=2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%sX-Request-ID: mine\r\n\r\n" % (
        len(body),
        offer,
    )
    kept = head.replace(b", close", b"")
    with serving(tmp_path, workers="1") as server:
        for parts in (
            [head + body],
            [head, body],
            [head[:90], head[90:] + body[:9], body[9:]],
            [kept + body + head + body],
        ):
            received = exchanged(server, *parts)
            answers = parts[0].count(b"POST")
            assert received.count(b"HTTP/1.1 200 OK") == received.count(b'"label":') == answers
            assert received.count(b"x-request-id: mine") == answers
        assert {line["level"] for line in server.lines()} == {"info"}


def test_a_head_without_end_is_refused(tmp_path):
    with serving(tmp_path, workers="1") as server:
        lines = [b"X-%d: %s\r\n" % (number, b"a" * 60_000) for number in range(9)]
        received = exchanged(server, b"GET /health HTTP/1.1\r\nHost: x\r\n", *lines)
        assert received.startswith(b"HTTP/1.1 400 ") and b"head has more than 524288 bytes" in received
        assert httpx2.get(server.url("/health")).status_code == 200


def test_a_client_that_sends_no_head_is_given_up(monkeypatch):
    monkeypatch.setattr("app.process.connection.MOST_HEAD_SECONDS", 0.2)

    async def scenario(*parts: bytes) -> bytes:
        config = Config(app=nothing, http=Connection, ws="none", lifespan="off")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for part in parts:
                writer.write(part)
            received = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
            writer.close()
            await writer.wait_closed()
            return received

    for parts in ([], [b"GET / HT"]):
        assert asyncio.run(scenario(*parts)) == b""


async def nothing(scope, receive, send):
    raise AssertionError("there was no request")
