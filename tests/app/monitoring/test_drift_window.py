import numpy as np

from app.monitoring.drift_window import SLICE_SECONDS, SLICES, WINDOW_SECONDS, RecentCounts
from tests.app.conftest import Clock


def counted(recent: RecentCounts) -> list[int]:
    return recent.total().tolist()


def places(*bins: int) -> np.ndarray:
    return np.array(bins, np.int64)


def test_what_was_added_is_counted_and_a_bin_may_repeat():
    recent = RecentCounts(3)
    recent.add(places(0, 2, 2))
    recent.add(places(2))
    assert counted(recent) == [1, 0, 3]


def test_counts_age_out_slice_by_slice(tmp_path):
    for directory in (None, tmp_path):
        clock = Clock(16_667 * SLICE_SECONDS)
        recent = RecentCounts(1, directory, "m", clock)
        recent.add(places(0, 0))
        clock.now += SLICE_SECONDS
        recent.add(places(0))
        clock.now += WINDOW_SECONDS - 2 * SLICE_SECONDS
        assert counted(recent) == [3]
        clock.now += SLICE_SECONDS
        assert counted(recent) == [1]
        clock.now += SLICE_SECONDS
        assert counted(recent) == [0]
        recent.add(places(0))
        assert counted(recent) == [1]
        recent.close()


def test_a_machine_that_has_just_started_counts_too():
    clock = Clock(1.0)
    recent = RecentCounts(1, clock=clock)
    recent.add(places(0))
    assert counted(recent) == [1]


def test_processes_that_share_a_directory_answer_for_each_other(tmp_path):
    one, other = RecentCounts(2, tmp_path, "cifar10@3"), RecentCounts(2, tmp_path, "cifar10@3")
    one.add(places(0))
    other.add(places(0, 1, 1))
    assert counted(one) == counted(other) == [2, 2]
    one.close(), other.close()


def test_other_versions_are_not_added(tmp_path):
    one, other = RecentCounts(2, tmp_path, "cifar10@3"), RecentCounts(4, tmp_path, "cifar10@4")
    one.add(places(0))
    other.add(places(3))
    assert (counted(one), counted(other)) == ([1, 0], [0, 0, 0, 1])
    one.close(), other.close()


def test_the_counts_of_a_dead_process_stay_until_they_are_old_and_its_file_is_taken_over(tmp_path):
    clock = Clock(16_667 * SLICE_SECONDS)
    kept = RecentCounts(1, tmp_path, "m", clock)
    for _ in range(20):
        mortal = RecentCounts(1, tmp_path, "m", clock)
        mortal.add(places(0))
        mortal.close()  # as the end of its process does, which gives up the lock
    assert counted(kept) == [20]
    assert len(list(tmp_path.iterdir())) == 2
    clock.now += WINDOW_SECONDS
    assert counted(kept) == [0]
    kept.close()


def test_a_file_that_is_just_being_made_is_left_out(tmp_path):
    recent = RecentCounts(1, tmp_path, "m")
    (tmp_path / "m@7.counts").touch()
    recent.add(places(0))
    assert counted(recent) == [1]
    recent.close()


def test_memory_is_bounded_and_files_hold_slice_numbers_and_counts_only(tmp_path):
    clock = Clock(16_667 * SLICE_SECONDS)
    recent = RecentCounts(3, tmp_path, "m", clock)
    for _ in range(500):
        recent.add(places(1, 1))
        clock.now += SLICE_SECONDS / 2
    (file,) = tmp_path.iterdir()
    slices = np.fromfile(file, np.int64).reshape(SLICES, 1 + 3)
    last = int(clock.now // SLICE_SECONDS)
    assert sorted(slices[:, 0]) == list(range(last - SLICES + 1, last + 1))
    assert (slices[:, 1:] == [0, 4, 0]).all()
    assert file.stat().st_mode & 0o077 == 0
    recent.close()
