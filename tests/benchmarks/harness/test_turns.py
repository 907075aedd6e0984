import dataclasses

import pytest

from benchmarks import BenchmarkError
from benchmarks.harness.server import ROOT
from benchmarks.harness.turns import BEFORE, NOW, Turn, check_checkout, median_ratio, summary
from benchmarks.load.closed_loop import Load
from tests.benchmarks.samples import LOAD, cells


def loads(*requests: int, p50: float = 3.5) -> list[Load]:
    return [
        dataclasses.replace(LOAD, connections=8 * (index + 1), requests=count, refused=0, p50_ms=p50)
        for index, count in enumerate(requests)
    ]


def lines(*rounds: tuple[list[Load], list[Load]], ready: float = 2.0) -> tuple[list[dict[str, str]], list[str]]:
    turns = [
        Turn(number, server, seconds, 300.0, server_loads)
        for number, (now, before) in enumerate(rounds)
        for server, seconds, server_loads in ((NOW, ready, now), (BEFORE, 2.0, before))
    ]
    text, rest = summary(turns).split("\n\n")
    return cells(text), rest.splitlines()


def test_ratios_are_medians_of_the_rounds_ratios():
    rounds = [(loads(now), loads(before)) for now, before in ((300, 100), (300, 300), (800, 200))]
    (row,), _ = lines(*rounds)
    assert row["requests/s"] == "3.00"  # of 3, 1 and 4
    assert (row["requests/s now"], row["requests/s before"]) == ("150", "100")  # in two seconds each
    assert (row["p99"], row["CPU"]) == ("1.00", "1.00")


def test_the_smallest_ratio_of_requests_is_named_with_its_load():
    _, rest = lines((loads(400, 300, p50=7.0), loads(200, 400)), ready=1.0)
    assert rest == [
        "start until all processes are ready: 0.50",
        "resident memory: 1.00",
        "smallest ratio of requests/s: 0.75 (PNG 32×32, connections: 16)",
    ]


def test_a_load_that_only_fails_before_has_no_ratio_and_does_not_hide_the_smallest():
    (first, _), rest = lines((loads(100, 300), loads(0, 400)))
    assert first["requests/s"] == "–"
    assert rest[-1].startswith("smallest ratio of requests/s: 0.75")


def test_without_any_request_answered_before_there_is_no_smallest_ratio():
    _, rest = lines((loads(100), loads(0)))
    assert rest[-1] == "smallest ratio of requests/s: –"


def test_errors_of_both_sides_are_counted():
    (row,), _ = lines(*[([LOAD], loads(4_000))] * 2)
    assert row["errors now, before"] == "200, 0"


def test_nothing_is_divided_by_zero():
    assert median_ratio([(1, 2), (1, 0)]) is None


def test_only_a_checkout_is_compared_with(tmp_path):
    assert check_checkout(ROOT) == ROOT
    with pytest.raises(BenchmarkError, match=r"is not a checkout of this project, it has no app/__main__.py"):
        check_checkout(tmp_path)
