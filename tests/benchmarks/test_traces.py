import pytest

from benchmarks.traces import OFF, TRACED, measure, row

pytestmark = [pytest.mark.slow, pytest.mark.process]


def test_services_with_and_without_traces_are_measured():
    seconds = measure(None, rounds=2, requests=10)
    assert list(seconds) == [OFF, *TRACED]
    assert all(len(each) == 2 and min(each) > 0 for each in seconds.values())
    assert row(OFF, seconds)["/ off"] == "1.00"
