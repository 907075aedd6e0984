import pytest

from benchmarks.keys import KEYS, OPEN, gate_microseconds, measure, row

pytestmark = [pytest.mark.slow, pytest.mark.process]


def test_services_with_and_without_keys_answer_the_same_load():
    loads = measure(rounds=1, seconds=1)
    assert list(loads) == [OPEN, *KEYS]
    assert all(load.requests > 0 and load.errors == 0 for each in loads.values() for load in each)
    assert row(OPEN, loads)["/ open"] == "1.00"


def test_a_check_takes_time():
    assert all(gate_microseconds(rate) > 0 for rate in KEYS.values())
