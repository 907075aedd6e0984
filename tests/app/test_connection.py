"""What is written to a transport that only remembers, and what a client of the service receives."""

import asyncio
import socket

from app.connection import Joined
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
