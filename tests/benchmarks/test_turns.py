import dataclasses

import pytest

from benchmarks import BenchmarkError
from benchmarks.server import ROOT
from benchmarks.turns import Round, Turn, check_checkout, median_ratio, summary
from tests.benchmarks.samples import LOAD, cells


def turn(*requests: int, ready: float = 2.0, p50: float = 3.5) -> Turn:
    loads = [
        dataclasses.replace(LOAD, connections=8 * (index + 1), requests=count, refused=0, p50_ms=p50)
        for index, count in enumerate(requests)
    ]
    return Turn(ready, 300.0, loads)


def lines(*rounds: Round) -> tuple[list[dict[str, str]], list[str]]:
    text, rest = summary(rounds).split("\n\n")
    return cells(text), rest.splitlines()


def test_ratios_are_medians_of_the_rounds_ratios():
    rounds = [Round(turn(now), turn(before)) for now, before in ((300, 100), (300, 300), (800, 200))]
    (row,), _ = lines(*rounds)
    assert row["requests/s"] == "3.00"  # of 3, 1 and 4
    assert (row["requests/s now"], row["requests/s before"]) == ("150", "100")  # in two seconds each
    assert (row["p99"], row["CPU"]) == ("1.00", "1.00")


def test_the_smallest_ratio_of_requests_is_named_with_its_load():
    _, rest = lines(Round(turn(400, 300, ready=1.0, p50=7.0), turn(200, 400)))
    assert rest == [
        "start until all processes are ready: 0.50",
        "resident memory: 1.00",
        "smallest ratio of requests/s: 0.75 (PNG 32×32, connections: 16)",
    ]


def test_a_load_that_only_fails_before_has_no_ratio_and_does_not_hide_the_smallest():
    (first, _), rest = lines(Round(turn(100, 300), turn(0, 400)))
    assert first["requests/s"] == "–"
    assert rest[-1].startswith("smallest ratio of requests/s: 0.75")


def test_errors_of_both_sides_are_counted():
    refusing = Turn(2.0, 300.0, [LOAD])
    (row,), _ = lines(Round(refusing, turn(4_000)), Round(refusing, turn(4_000)))
    assert row["errors now, before"] == "200, 0"


def test_nothing_is_divided_by_zero():
    assert median_ratio([(1, 2), (1, 0)]) is None


def test_only_a_checkout_is_compared_with(tmp_path):
    assert check_checkout(ROOT) == ROOT
    with pytest.raises(BenchmarkError, match=r"is not a checkout of this project, it has no app/__main__.py"):
        check_checkout(tmp_path)
