"""Which connections are closed when there are too many, and how many there may be."""

import asyncio
import logging
import resource
import socket
import struct
import sys

import pytest

from app.process.open_connections import MAX_UNREAD_BYTES, OpenConnections, connection_limit
from tests.app.process.test_connection import CHUNKED, GET, Client, Remembered, post, refuse
from tests.waiting import run_ready_tasks

BODY = post("/", b"body")[:-1]


def dropped(parts: list[list[bytes]], app=None) -> list[int]:
    """Open a connection for each list of parts, send them and open one too many; which were dropped, in their order."""

    async def scenario() -> list[int]:
        client = Client(*([app] if app else []), limit=len(parts))
        opened = [client.transport] + [Remembered() for _ in parts]
        connections = [client.connection]
        for number, received in enumerate(parts):
            if number:
                connections.append(client.connect(opened[number]))
            for part in received:
                connections[number].data_received(part)
                await run_ready_tasks()
            client.seconds += 1
        connections.append(client.connect(opened[-1]))
        for connection in connections:
            connection.connection_lost(None)
        for task in client.state.tasks:
            task.cancel()
        return [number for number, transport in enumerate(opened) if "abort" in transport.calls]

    return asyncio.run(scenario())


async def forever(scope, receive, send):
    """Answers GET, and nothing else."""
    if scope["method"] == "GET":
        await refuse(scope, receive, send)
    else:
        await receive()
        await asyncio.Event().wait()


IDLE, HALF_HEAD, HALF_BODY, COMPUTING = [GET + b"\r\n"], [b"GET"], [BODY], [post("/", b"body")]


@pytest.mark.parametrize(
    ("parts", "first"),
    [
        ([IDLE, IDLE], 0),
        ([HALF_HEAD, HALF_HEAD], 0),
        ([COMPUTING, HALF_BODY, IDLE, IDLE, HALF_HEAD], 2),
        ([COMPUTING, HALF_BODY, HALF_HEAD], 2),
        ([COMPUTING, HALF_BODY], 1),
        ([COMPUTING, COMPUTING], 2),  # the newcomer
        ([[*IDLE, *COMPUTING], IDLE, IDLE], 1),
        ([[*IDLE, b"\r\n"], IDLE], 0),
    ],
    ids=["idle", "head", "idle first", "then head", "then body", "newcomer", "busy again", "a stray line end"],
)
def test_the_connection_that_waits_longest_for_its_client_makes_room(parts, first):
    assert dropped(parts, forever) == [first]


def test_refused_bodies_make_room_too():
    assert dropped([[CHUNKED], [CHUNKED]], refuse) == [0]


def test_that_connections_are_in_use_is_logged_once(caplog):
    async def scenario() -> None:
        client = Client(limit=1)
        with caplog.at_level(logging.WARNING, "app"):
            for _ in range(5):
                client.connect(Remembered())
                client.sweep_after(0)

    asyncio.run(scenario())
    assert len(caplog.messages) == 1 and "raise CIFAR10_MAX_CONNECTIONS" in caplog.messages[0]


def test_clients_that_do_not_read_hold_a_limited_number_of_bytes(caplog):
    size = MAX_UNREAD_BYTES // 4

    async def scenario() -> list[int]:
        client = Client(refuse)
        transports = [Remembered() for _ in range(8)]
        connections = [client.connect(transport) for transport in transports]
        with caplog.at_level(logging.WARNING, "app"):
            for connection, transport in zip(connections[:6], transports, strict=False):
                transport.unread = size
                connection.pause_writing()
            connections[4].resume_writing()
            for connection, transport in zip(connections[6:], transports[6:], strict=True):
                transport.unread = size
                connection.pause_writing()
        return [number for number, transport in enumerate(transports) if "abort" in transport.calls]

    assert asyncio.run(scenario()) == [0, 1, 2]  # four fit, and the fifth had been read
    assert len(caplog.messages) == 1 and "wait for clients that do not read them" in caplog.messages[0]


def test_the_kernel_forgets_what_a_client_did_not_read():
    async def scenario() -> Remembered:
        client = Client(refuse)
        client.transport.unread = 1
        client.connection.pause_writing()
        client.sweep_after(31)
        return client.transport

    transport = asyncio.run(scenario())
    assert transport.calls == ["abort"]
    assert transport.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]


def test_a_connection_that_ended_waits_for_nothing():
    async def scenario() -> OpenConnections:
        client = Client()
        for part in (GET + b"\r\n", b"GET"):
            await client.send(part)
        await client.leave()
        client.connection.transport.close()
        return client.state

    state = asyncio.run(scenario())
    assert not any(queue.since for queue in vars(state).values() if hasattr(queue, "since"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no descriptors")
@pytest.mark.parametrize(
    ("files", "wanted", "limit"),
    [
        (256, None, 96),
        (1_024, None, 480),
        (1_024, 100, 100),
        (1_024, 5_000, 480),
        (1_048_576, None, 10_000),
        (1_048_576, 20_000, 20_000),
        (32, None, 8),
        (resource.RLIM_INFINITY, None, 10_000),
    ],
)
def test_each_connection_has_a_descriptor_for_itself_and_one_for_a_file(monkeypatch, caplog, files, wanted, limit):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connection_limit(wanted) == limit
    assert ("CIFAR10_MAX_CONNECTIONS is 5000" in caplog.text) == (wanted == 5_000)
