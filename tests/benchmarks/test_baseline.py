import dataclasses

from benchmarks.baseline import comparison
from tests.benchmarks.made import LOAD, MACHINE, RESULTS
from tests.benchmarks.test_tables import cells

SLOWER = dataclasses.replace(LOAD, requests=2_100, p50_ms=7.0, server_ms=1.82)
BEFORE = dataclasses.replace(RESULTS, closed=[SLOWER], limits={"PNG 32×32": 2_000.0}, megabytes=[100.0, 77.5])


def test_a_run_beside_itself_is_all_ones():
    loads, others = comparison(RESULTS, RESULTS).split("\n\n")
    assert {value for row in cells(loads) for value in list(row.values())[2:]} == {"1.00"}
    assert {row["ratio"] for row in cells(others)} == {"1.00"}


def test_ratios_are_now_divided_by_before():
    (row,) = cells(comparison(RESULTS, BEFORE).split("\n\n")[0])  # what only one has is left out
    assert (row["requests/s"], row["p50"], row["p99"], row["CPU a request"]) == ("2.00", "0.50", "1.00", "0.50")
    assert row["of the cores"] == "1.00"  # the machine was twice as fast


def test_what_else_changed_is_compared_too():
    others = {row["now / baseline"]: row["ratio"] for row in cells(comparison(RESULTS, BEFORE).split("\n\n")[1])}
    assert others["what the cores can do, PNG 32×32"] == "2.00"
    assert others["resident memory"] == "2.00"
    assert others["goodput at 2 × the peak, as share of it"] == "1.00"
    assert "what the cores can do, JPEG 640×480" not in others


def test_another_machine_or_duration_is_named():
    other = dataclasses.replace(RESULTS, seconds=9, machine=dataclasses.replace(MACHINE, processor="Other"))
    said = comparison(RESULTS, other)
    assert "The baseline measured 9 s each, this run 2 s." in said
    assert "The baseline is of another machine: 2 cores of Other" in said


def test_nothing_is_divided_by_zero():
    idle = dataclasses.replace(LOAD, server_ms=0.0)
    (row,) = cells(comparison(RESULTS, dataclasses.replace(RESULTS, closed=[idle])).split("\n\n")[0])
    assert row["CPU a request"] == "–"
