"""Progress of a training run: epoch, loss, accuracy, speed and time left. Does not import a Keras backend."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from training.fit.run.checkpoints import AGREEMENT, VAL_ACCURACY
from training.pace import Clock, Pace, format_duration


class Progress:
    """On a terminal a bar for the whole run and a line per epoch; elsewhere at most a line a minute.

    The first and the last epoch always end with a line.
    """

    def __init__(
        self, done: int, epochs: int, images_per_epoch: int, steps_per_epoch: int, clock: Clock = time.monotonic
    ) -> None:
        self.epochs, self.images, self.steps = epochs, images_per_epoch, steps_per_epoch
        self.epoch, self.seconds, self._began = done, 0.0, 0.0
        self._always_shown = done, epochs - 1
        self._val_accuracy = ""
        self._clock, self._pace = clock, Pace(clock)
        self._console = _Output(highlight=False, soft_wrap=True)
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(elapsed_when_finished=True)
        self._bar = Bar(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=epochs * images_per_epoch, completed=done * images_per_epoch)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.epoch, self._began = epoch, self._clock()

    def show_status(self, status: str) -> None:
        """Set the text beside the bar, or print it if the last line was a minute ago."""
        self._describe(status)
        if not self._console.is_terminal and self._pace.due():
            self._console.print(f"epoch {self.epoch + 1}/{self.epochs}  {status}")

    def show(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Update the bar after a batch, or print a line if the last one was a minute ago."""
        images = (batch + 1) / self.steps * self.images
        rate = images / (self._clock() - self._began)
        figures = _figures(logs) if logs else ""
        self._describe(f"{images:,.0f}/{self.images:,} images  {rate:,.0f} images/s{figures}")
        self._bar.update(self._task, completed=self.epoch * self.images + images)
        if not self._console.is_terminal and self._pace.due():
            left = format_duration(((self.epochs - self.epoch) * self.images - images) / rate)
            share = f"{images / self.images:.0%}"
            text = f"epoch {self.epoch + 1}/{self.epochs}  {share}{figures}{self._val_accuracy}"
            self._console.print(f"{text}  {rate:,.0f} images/s  {left} left")

    def stop_clock(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the epoch's duration, before any evaluation."""
        self.seconds = self._clock() - self._began

    def finish(self, record: Mapping[str, float]) -> None:
        """Print the epoch's final line, unless a log had a line less than a minute ago."""
        text = f"epoch {self.epoch + 1}/{self.epochs}{_figures(record)}"
        if VAL_ACCURACY in record:
            accuracy = f"  val accuracy {record[VAL_ACCURACY]:.4f}"
            text += accuracy
            self._val_accuracy = f"{accuracy} after epoch {self.epoch + 1}"
        if self._console.is_terminal or self.epoch in self._always_shown or self._pace.due():
            left = format_duration(self.seconds * (self.epochs - self.epoch - 1))
            self._console.print(f"{text}  {self.images / self.seconds:,.0f} images/s  {left} left")
            self._pace.restart()

    def _describe(self, status: str) -> None:
        self._bar.update(self._task, description=f"epoch {self.epoch + 1}/{self.epochs}  {status}")


class _Output(Console):
    """A console that lets the command line handle a closed pipe: rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that rich is handling."""
        raise


def _figures(record: Mapping[str, float]) -> str:
    metric = AGREEMENT if AGREEMENT in record else "accuracy"
    return f"  loss {record['loss']:.4f}  {metric} {record[metric]:.4f}"
