import dataclasses

import pytest

from benchmarks.arrivals import Answer, Arrivals
from benchmarks.errors import BenchmarkError
from benchmarks.results import Results, best, peak, read, summarise, write
from tests.benchmarks.made import LOAD, OFFERED, RESULTS

INFINITE = float("inf")


def test_ends_are_counted_by_what_the_client_saw():
    answers = [
        Answer(200, 0.010, False),
        Answer(200, 1.500, False),
        Answer(503, 0.002, True),
        Answer(503, 0.002, False),  # no Retry-After: not how this service refuses
        Answer(500, 0.002, False),
        Answer(0, 5.0, False),
    ]
    found = summarise("PNG", Arrivals(3, 2, answers, probes=[0.004, INFINITE], late=[0.001] * 6, client_cores=0.5))
    assert (found.rate, found.requests, found.refused, found.lost) == (3, 6, 1, 3)
    assert found.goodput == 0.5  # the other 200 came after the deadline
    assert (found.p50_ms, found.p99_ms, found.refused_p50_ms) == (10, 1_500, 2)
    assert (found.probes, found.probes_failed, found.probe_p99_ms) == (2, 1, 4)


def test_without_answers_there_are_no_times():
    found = summarise("PNG", Arrivals(1, 1, [Answer(0, 5.0, False)]))
    assert found.goodput == 0
    assert (found.p50_ms, found.p99_ms, found.refused_p99_ms, found.probe_p99_ms, found.late_p99_ms) == (None,) * 5


def test_a_rate_counts_good_answers_and_a_share_their_images():
    assert LOAD.rate == 2_000
    assert RESULTS.share(LOAD) == 0.5
    assert RESULTS.share(dataclasses.replace(LOAD, images=2)) == 1
    assert RESULTS.share(dataclasses.replace(LOAD, body="PNG 32×32, explained")) is None


def test_the_peak_is_the_best_of_one_body():
    other = dataclasses.replace(LOAD, body="JPEG", requests=90_000)
    assert peak([*RESULTS.closed, other], LOAD.body) == 3_000
    offers = [dataclasses.replace(OFFERED, body=body, goodput=3_100.0) for body in (LOAD.body, "JPEG")]
    assert best([*RESULTS.closed, other], offers, LOAD.body) == 3_100
    assert best([*RESULTS.closed, other], offers, "JPEG") == 44_950


def test_results_survive_their_file(tmp_path):
    path = tmp_path / "new" / "service.json"
    write(RESULTS, path)
    assert read(Results, path) == RESULTS


@pytest.mark.parametrize(
    ("text", "wrong"), [("no JSON", "its text"), ("{}", "command"), ('{"command": 1}', "command")], ids=str
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, text, wrong):
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=rf"old.json holds no Results of this version \({wrong} is wrong\)"):
        read(Results, path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(BenchmarkError, match=r"absent.json cannot be read: No such file.*; name a JSON file"):
        read(Results, tmp_path / "absent.json")
