import itertools
import threading
from collections import Counter

from app.bulk.progress import BulkProgress
from tests.app.conftest import Clock


def summary(clock: Clock, former: int, *chunks: tuple[int, int]) -> str:
    """Return the last line of a run of ten seconds. A chunk is a number of files and how many of them were skipped."""
    progress = BulkProgress(former, (), int, clock)
    for files, others in chunks:
        progress.show(files, Counter(), others)
    clock.now += 10
    return progress.summary()


def test_skipped_files_are_no_images(clock):
    assert summary(clock, 0, (50, 1), (50, 0)).startswith("99 images in 0:10, ")
    assert summary(clock, 0, (50, 1)).endswith("; skipped 1 file of other types")
    assert summary(clock, 0, (50, 1), (50, 1)).endswith("; skipped 2 files of other types")
    assert "skipped" not in summary(clock, 0, (50, 0))


def test_a_continued_run_counts_its_own_images(clock):
    assert summary(clock, 7_000, (50, 2)).startswith("48 images in 0:10, ")
    assert ", after 7,000 files and images of former runs; skipped 2" in summary(clock, 7_000, (50, 2))


def test_the_total_is_the_share_of_what_was_counted():
    with BulkProgress(0, iter([3, 4]), lambda images: images // 2) as progress:
        progress._counter.join()
        progress.show(1, Counter(), 0)
        assert progress._text().startswith("1/3 images")


def test_what_cannot_be_counted_has_no_total():
    with BulkProgress(0, iter([3, None, 4]), int) as progress:
        progress._counter.join()
        assert progress._text().startswith("0 images")


def test_counting_ends_with_the_run():
    with BulkProgress(0, itertools.repeat(1), int):
        pass
    assert "count" not in [thread.name for thread in threading.enumerate()]
