import pytest

from benchmarks.load.mixed import SHARES, Outcome
from benchmarks.soak import Period, Soak, Usage, draw, find_faults, soak, summary


def period(p99: float = 20.0, megabytes: float = 400.0, descriptors: float = 60.0, threads: float = 16.0) -> Period:
    return Period(1_000, 5.0, p99, megabytes, descriptors, threads)


def outcome(due: float, seconds: float = 0.01, result: str = "right", kind: str = "PNG") -> Outcome:
    return Outcome(kind, result, due, seconds)


def test_periods_have_percentiles_of_right_answers_and_median_resources():
    result = Soak(start=100.0)
    result.outcomes = [outcome(100 + second / 10, 0.01 * (1 + second // 100)) for second in range(200)]
    result.outcomes.append(outcome(101, 9.0, "refused"))
    result.outcomes += [outcome(101, 9.0, kind="explanation")] * 5
    result.usages = [Usage(100 + second, 400.0 + second, 50, 16) for second in range(20)]
    first, second = result.periods(10.0)
    assert (first.requests, first.p50_ms, first.p99_ms, first.megabytes) == (106, 10.0, 10.0, 404.5)
    assert (second.requests, second.p50_ms, second.descriptors, second.threads) == (100, 20.0, 50, 16)


def test_a_service_that_stays_as_it_was_has_no_fault():
    result = Soak(outcomes=[outcome(0)])
    assert list(find_faults(result, [period(), period(p99=400.0), period(p99=25.0, megabytes=415.0)])) == []


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        (period(p99=27.0), "p99: 20.0 in the first minute, 27.0 in the last"),
        (period(megabytes=425.0), "memory in MB: 400 in the first minute, 425 in the last"),
        (period(descriptors=70.0), "file descriptors: 60.0 in the first minute, 70.0 in the last"),
        (period(threads=17.0), "threads: 16.0 in the first minute, 17.0 in the last"),
    ],
)
def test_growth_is_a_fault(last, fault):
    assert list(find_faults(Soak(), [period(), last])) == [fault]


def test_wrong_and_lost_answers_and_errors_in_the_log_are_faults():
    result = Soak(outcomes=[outcome(0, result="wrong"), outcome(0, result="lost")], serious_lines=["Traceback\n"])
    assert list(find_faults(result, [period(), period()])) == [
        "1 answers were wrong",
        "1 answers were lost",
        "1 lines of the log are errors, the first: Traceback",
    ]


def test_less_than_two_minutes_compare_nothing():
    assert list(find_faults(Soak(), [period()])) == [
        "1 complete minutes are too few to compare the first with the last"
    ]


def test_results_are_shown_by_kind_and_by_minute_and_drawn(tmp_path):
    result = Soak(peak=1_000.0, rate=700.0, outcomes=[outcome(0), outcome(0, result="abandoned", kind="abandoned")])
    text = summary(result, [period(), period()])
    assert "700 requests/s offered, 70% of 1,000 at the peak" in text
    assert "| 2      |    1,000 |" in text
    draw([period(), period()], tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.process
def test_under_a_mixed_load_no_answer_is_wrong_or_lost():
    result = Soak()
    soak(result, share=0.5, seconds=6.0, peak_seconds=2.0)
    counts = result.counts()
    assert set(counts) >= {*SHARES, "abandoned"} - {"explanation"}  # which are rare
    assert all(kind["wrong"] == kind["lost"] == 0 for kind in counts.values())
    assert counts["PNG"]["right"] > 0
    assert result.serious_lines == []
    assert len(result.periods(2.0)) >= 2
