import math
import socket

import pytest

from benchmarks.arrivals import Answer, Arrivals, offer, percentile, schedule
from tests.benchmarks.conftest import BUSY, CLOSE, OK

RATE, SECONDS, CONNECTIONS = 300, 0.1, 8
DUE = len(list(schedule(RATE, SECONDS)))
REQUEST = b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\npng"
PROBE = b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n"


def offered(port: int, connections: int = CONNECTIONS, patience: float = 10) -> Arrivals:
    return offer(port, REQUEST, RATE, SECONDS, connections, PROBE, patience)


def test_every_request_that_was_due_is_answered_once(server_with):
    result = offered(server_with(OK).port)
    assert [answer.status for answer in result.answers] == [200] * DUE
    assert len(result.late) == DUE
    assert all(0 < seconds < math.inf for seconds in result.probes)
    assert result.probes
    assert result.client_cores > 0


def test_a_refusal_is_known_by_its_status_and_retry_after(server_with):
    result = offered(server_with(BUSY).port)
    assert {answer[::2] for answer in result.answers} == {(503, True)}
    assert result.goodput(deadline=10) == 0
    assert set(result.probes) == {math.inf}


def test_answers_on_one_connection_do_not_inherit_retry_after(server_with):
    answers = iter([BUSY, OK] * DUE)
    server = server_with(lambda head: next(answers) if b"predict" in head else OK)
    result = offered(server.port, connections=1)
    assert [answer[::2] for answer in result.answers[:4]] == [(503, True), (200, False), (503, True), (200, False)]


@pytest.mark.parametrize(
    "answer",
    [
        [OK[:20], OK[20:-1], OK[-1:]],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 \r\nCONTENT-LENGTH:0\r\n\r\n",
    ],
    ids=["in pieces", "after 100", "chunked", "without words"],
)
def test_heads_are_read_however_they_are_written(server_with, answer):
    assert [given.status for given in offered(server_with(answer).port).answers] == [200] * DUE


def test_a_connection_that_the_answer_ends_is_replaced(server_with):
    server = server_with(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    result = offered(server.port, connections=1)
    assert [answer.status for answer in result.answers] == [200] * DUE
    assert server.connections >= DUE


@pytest.mark.parametrize("answer", [CLOSE, b"SSH-2.0\r\n\r\n"], ids=["closed", "no HTTP"])
def test_a_broken_connection_counts_as_lost_and_the_next_request_gets_another(server_with, answer):
    broken = iter([answer] * 3)
    result = offered(server_with(lambda head: next(broken, OK) if b"predict" in head else OK).port, connections=1)
    assert [answer.status for answer in result.answers] == [0] * 3 + [200] * (DUE - 3)


def test_what_is_never_answered_is_counted_as_lost(server_with):
    result = offered(server_with(lambda head: None).port, connections=2, patience=0.1)
    assert [answer.status for answer in result.answers] == [0] * DUE
    assert set(result.probes) == {math.inf}


def test_without_a_server_everything_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = offered(port)
    assert [answer.status for answer in result.answers] == [0] * DUE


def test_there_are_at_most_so_many_connections(server_with):
    server = server_with(lambda head: None if b"predict" in head else OK)
    offered(server.port, connections=2, patience=0.1)
    assert server.most <= 3  # and the probe's


def test_waiting_for_a_connection_counts(server_with):
    """The only connection is taken by a request without an answer; the others' time runs until they are given up."""
    result = offered(server_with(lambda head: None).port, connections=1, patience=0.1)
    assert max(answer.seconds for answer in result.answers) >= 0.1


def test_requests_are_due_at_the_same_times_each_time():
    due = list(schedule(1_000, 2))
    assert due == sorted(due) == list(schedule(1_000, 2))
    assert due[0] > 0 and due[-1] < 2
    assert len(due) == pytest.approx(2_000, rel=0.1)


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 5), (51, 6), (90, 9), (99, 10), (100, 10)], ids=str
)
def test_percentile_is_the_nearest_rank(percent, value):
    assert percentile(range(1, 11), percent) == value


def test_percentile_of_nothing_is_nan():
    assert math.isnan(percentile([], 99))


def test_goodput_counts_good_answers_in_time():
    answers = [Answer(200, 0.1, False), Answer(200, 1.1, False), Answer(503, 0.1, True), Answer(0, 0.1, False)]
    result = Arrivals(2, 2, answers)
    assert result.goodput(deadline=1) == 0.5
    assert result.latencies(200) == [0.1, 1.1]
