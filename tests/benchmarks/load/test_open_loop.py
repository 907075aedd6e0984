import socket

import pytest

from benchmarks.load.bodies import Body, Picture
from benchmarks.load.client import Answer
from benchmarks.load.open_loop import Offered, offer, percentile_ms, schedule, summarise
from tests.benchmarks.conftest import BUSY, CLOSE, OK

RATE, SECONDS, CONNECTIONS = 300, 0.1, 8
DUE = len(list(schedule(RATE, SECONDS)))
BODY = Body("PNG", "/predict", "image/png", b"png", Picture("PNG", "image/png", b"png"))


def offered(port: int, connections: int = CONNECTIONS, patience: float = 10) -> Offered:
    return offer(port, BODY, RATE, SECONDS, connections, patience)


def only_predictions(answer):
    """Answers predictions with `answer`, a value or a function, and probes with OK."""
    return lambda head: (answer(head) if callable(answer) else answer) if b"/predict" in head else OK


def test_every_request_that_was_due_is_answered_once(server_with):
    server = server_with(OK)
    result = offered(server.port)
    assert (result.requests, result.goodput, result.refused, result.lost) == (DUE, DUE / SECONDS, 0, 0)
    assert server.requests == DUE + result.probes
    assert result.probes > 0 == result.probes_failed
    assert result.client_cores > 0


def test_a_refusal_is_known_by_its_status_and_retry_after(server_with):
    result = offered(server_with(BUSY).port)
    assert (result.refused, result.goodput, result.lost) == (DUE, 0, 0)
    assert result.probes_failed == result.probes > 0


def test_answers_on_one_connection_do_not_inherit_retry_after(server_with):
    without = BUSY.replace(b"Retry-After", b"X")
    answers = iter([BUSY, without] * DUE)
    result = offered(server_with(only_predictions(lambda head: next(answers))).port, connections=1)
    assert (result.refused, result.lost) == ((DUE + 1) // 2, DUE // 2)


@pytest.mark.parametrize(
    "answer",
    [
        [OK[:20], OK[20:-1], OK[-1:]],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 \r\nCONTENT-LENGTH:0\r\n\r\n",
    ],
    ids=["in pieces", "after 100", "chunked", "without a reason"],
)
def test_heads_are_read_however_they_are_written(server_with, answer):
    assert offered(server_with(answer).port).goodput == DUE / SECONDS


def test_a_connection_that_the_answer_ends_is_replaced(server_with):
    server = server_with(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    assert offered(server.port, connections=1).goodput == DUE / SECONDS
    assert server.connections >= DUE


@pytest.mark.parametrize("answer", [CLOSE, b"SSH-2.0\r\n\r\n"], ids=["closed", "no HTTP"])
def test_a_broken_connection_counts_as_lost_and_the_next_request_gets_another(server_with, answer):
    broken = iter([answer] * 3)
    result = offered(server_with(only_predictions(lambda head: next(broken, OK))).port, connections=1)
    assert (result.lost, result.goodput) == (3, (DUE - 3) / SECONDS)


def test_a_request_without_an_answer_counts_as_lost(server_with):
    result = offered(server_with(lambda head: None).port, connections=2, patience=0.1)
    assert (result.lost, result.p50_ms) == (DUE, None)
    assert result.probes_failed == result.probes > 0


def test_without_a_server_everything_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert offered(port).lost == DUE


def test_connections_are_limited(server_with):
    server = server_with(only_predictions(None))
    offered(server.port, connections=2, patience=0.1)
    assert server.most <= 3  # with the probe's


def test_latency_includes_the_wait_for_a_connection(server_with):
    """Answers take 19 ms at least, a millisecond between two pieces, and all requests are due within 100 ms."""
    pieces = [OK[place : place + 2] for place in range(0, 38, 2)] + [OK[38:]]
    result = offered(server_with(only_predictions(pieces)).port, connections=1)
    assert result.lost == 0
    assert result.p99_ms > DUE * 19 / 2 - 100


def test_requests_are_due_at_the_same_times_in_every_run():
    due = list(schedule(1_000, 2))
    assert due == sorted(due) == list(schedule(1_000, 2))
    assert due[0] > 0 and due[-1] < 2
    assert len(due) == pytest.approx(2_000, rel=0.1)


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 5), (51, 6), (90, 9), (99, 10), (100, 10)], ids=str
)
def test_percentile_is_the_nearest_rank(percent, value):
    assert percentile_ms(range(1, 11), percent) == value * 1_000


def test_outcomes_are_counted_as_the_client_saw_them():
    answers = [
        Answer(200, 0.010, False),
        Answer(200, 1.500, False),  # after the deadline
        Answer(503, 0.002, True),
        Answer(503, 0.002, False),  # without Retry-After: not how this service refuses
        Answer(500, 0.002, False),
        Answer(0, 5.0, False),
    ]
    probes = [Answer(200, 0.004, False), Answer(0, 5.0, False)]
    result = summarise("PNG", 2, answers, probes, late=[0.001] * 6)
    assert (result.rate, result.requests, result.refused, result.lost) == (3, 6, 1, 3)
    assert result.goodput == 0.5
    assert (result.p50_ms, result.p99_ms, result.refused_p50_ms, result.late_p99_ms) == (10, 1_500, 2, 1)
    assert (result.probes, result.probes_failed, result.probe_p99_ms) == (2, 1, 4)


def test_without_answers_there_are_no_times():
    result = summarise("PNG", 1, [Answer(0, 5.0, False)])
    times = (result.p50_ms, result.p99_ms, result.refused_p99_ms, result.probe_p99_ms, result.late_p99_ms)
    assert times == (None,) * 5
