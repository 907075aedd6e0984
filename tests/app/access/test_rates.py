"""A key's rate holds over time, for single images and batches, and in all processes together."""

import fcntl
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.key_file import MAX_KEYS, Key
from app.access.rates import FILE, PLACE_BYTES, PLACES, Rates
from tests.app.conftest import Clock

TEN = Key("ten", b"", 10.0)


@pytest.fixture(params=["alone", "shared"])
def rates(request, tmp_path, clock) -> Rates:
    return Rates(None if request.param == "alone" else tmp_path, clock)


def taken(rates: Rates, key: Key, tries: int = 100) -> int:
    return sum(rates.take(key) == 0 for _ in range(tries))


def test_an_idle_key_has_one_seconds_images_and_then_its_rate(rates, clock):
    assert taken(rates, TEN) == 10
    assert rates.take(TEN) == pytest.approx(0.1)
    for _ in range(20):
        clock.now += 0.25
        assert taken(rates, TEN) in (2, 3)
    clock.now += 3_600
    assert taken(rates, TEN) == 10


def test_a_slow_rate_allows_one_at_a_time(rates, clock):
    slow = Key("slow", b"", 0.1)
    assert taken(rates, slow) == 1
    clock.now += 9
    assert rates.take(slow) == pytest.approx(1.0)
    clock.now += 1
    assert taken(rates, slow) == 1


def test_a_key_without_a_rate_is_not_counted(rates):
    assert taken(rates, Key("any", b""), 1_000) == 1_000


def test_a_large_batch_is_answered_and_waited_for_afterwards(rates, clock):
    assert rates.take(TEN) == 0
    rates.charge(TEN, 255)
    assert rates.take(TEN) == pytest.approx(24.7)
    clock.now += 24.7
    assert taken(rates, TEN) == 1


def test_keys_do_not_share_their_rates(rates):
    others = [Key(f"key-{number}", b"", 10.0) for number in range(MAX_KEYS)]
    for other in others:
        rates.charge(other, 100)
    assert taken(rates, TEN) == 10
    assert all(rates.take(other) > 0 for other in others)


def test_places_of_keys_that_rested_are_used_again(rates, clock):
    for generation in range(10):
        for number in range(MAX_KEYS):
            assert rates.take(Key(f"{generation}-{number}", b"", 1.0)) == 0
        clock.now += 2.0
    assert taken(rates, TEN) == 10


def test_processes_of_a_directory_count_together(tmp_path, clock):
    one, other = Rates(tmp_path, clock), Rates(tmp_path, clock)
    assert taken(one, TEN, 6) + taken(other, TEN, 6) == 10
    assert (tmp_path / FILE).stat().st_size == PLACES * PLACE_BYTES
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def hammer(directory: Path, key: Key, tries: int, begin: Callable, results) -> None:
    rates = Rates(directory, lambda: 100.0)
    begin.wait()
    results.put(taken(rates, key, tries))


def test_processes_that_take_at_the_same_time_lose_next_to_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    key, begin, results = Key("many", b"", 10_000.0), context.Barrier(3), context.Queue()
    workers = [context.Process(target=hammer, args=(tmp_path, key, 9_000, begin, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert sum(results.get() for _ in workers) == pytest.approx(10_000, rel=0.02)
    for worker in workers:
        worker.join()


def test_a_process_that_holds_the_lock_for_ever_stops_nobody(tmp_path, clock):
    rates = Rates(tmp_path, clock)
    with (tmp_path / FILE).open("rb") as suspended:
        fcntl.flock(suspended, fcntl.LOCK_EX)
        assert taken(rates, TEN) == 10


def test_a_directory_without_room_is_said_and_each_process_counts_alone(tmp_path, clock, caplog):
    rates = Rates(tmp_path / "gone", clock)
    assert "each process limits the rates for itself" in caplog.text
    assert taken(rates, TEN) == 10


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 30)), min_size=1, max_size=40), st.floats(0.5, 50))
def test_no_pattern_gets_more_than_the_rate_and_one_burst(steps, rate):
    """Batches are charged whole, so what exceeds the rate is at most one burst and the last batch."""
    clock = Clock()
    rates, key, images, last = Rates(clock=clock), Key("any", b"", rate), 0, 0
    for seconds, batch in steps:
        clock.now += seconds
        if rates.take(key) == 0:
            rates.charge(key, batch - 1)
            images, last = images + batch, batch
    assert images <= rate * (clock.now - 100.0) + max(rate, 1) + last + 1e-3
