"""Progress of a run: a bar with speed and time left on a terminal, a line a minute elsewhere."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 60.0


class BulkProgress:
    """Counts of images, on stderr. The total may become known later, or never."""

    def __init__(
        self,
        done: int,
        counts: Iterable[int | None],
        share: Callable[[int], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe the images.

        Args:
            done: images answered by former runs.
            counts: images of each file, added up in a thread; None if they cannot be counted.
            share: how many of that many images are this run's.
            clock: seconds.
        """
        self.done, self.errors, self.others, self._former = done, Counter[str](), 0, done
        self._clock, self._began, self._line = clock, clock(), clock()
        self._total: int | None = None
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=None, completed=done)
        self._counter = threading.Thread(target=self._add_up, args=(counts, share), name="count", daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._bar.start()
        self._counter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._ended.set()
        self._counter.join()  # a thread in PyArrow's code aborts a process that ends

    def show(self, images: int, errors: Counter[str], others: int) -> None:
        """Add the images of a chunk."""
        self.done, self.errors, self.others = self.done + images, self.errors + errors, self.others + others
        self._bar.update(self._task, completed=self.done, total=self._total, description=self._text())
        if not self._console.is_terminal and self._clock() - self._line >= LINE_SECONDS:
            self._line = self._clock()
            print(self._text() + self._time_left(), file=sys.stderr, flush=True)

    def summary(self) -> str:
        """Describe what this run did."""
        seconds = self._clock() - self._began
        images = self.done - self._former - self.others
        text = f"{images:,} images in {_duration(seconds)}, {self.rate:,.0f} images/s"
        if self._former:
            text += f", after {self._former:,} files and images of former runs"
        if self.errors:
            text += "; errors: " + ", ".join(f"{count:,} {code}" for code, count in sorted(self.errors.items()))
        return text + (f"; skipped {self.others:,} file{'s' * (self.others > 1)} of other types" if self.others else "")

    @property
    def rate(self) -> float:
        """Images per second of this run."""
        return (self.done - self._former) / max(1e-9, self._clock() - self._began)

    def _text(self) -> str:
        total = "" if self._total is None else f"/{self._total:,}"
        return f"{self.done:,}{total} images  {self.rate:,.0f} images/s"

    def _time_left(self) -> str:
        if self._total is None or not self.rate:
            return ""
        return f"  {_duration(max(0, self._total - self.done) / self.rate)} left"

    def _add_up(self, counts: Iterable[int | None], share: Callable[[int], int]) -> None:
        total = 0
        for count in counts:
            if count is None or self._ended.is_set():
                return
            total += count
        self._total = share(total)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
