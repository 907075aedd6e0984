"""Progress of a training run: epoch, loss, accuracy, speed and time left. Does not import a Keras backend."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from training.fit.checkpoints import AGREEMENT, VAL_ACCURACY


class Progress:
    """Prints one line per epoch and, on a terminal, shows a bar for the whole run."""

    def __init__(self, done: int, epochs: int, images_per_epoch: int, steps_per_epoch: int) -> None:
        self.epochs, self.images, self.steps = epochs, images_per_epoch, steps_per_epoch
        self.epoch, self.seconds, self._began = done, 0.0, 0.0
        self._console = Console(highlight=False, soft_wrap=True)
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
        self.epoch, self._began = epoch, time.monotonic()

    def show_status(self, status: str) -> None:
        """Set the text beside the bar."""
        self._bar.update(self._task, description=f"epoch {self.epoch + 1}/{self.epochs}  {status}")

    def show(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Update the bar after a batch."""
        images = (batch + 1) / self.steps * self.images
        rate = images / (time.monotonic() - self._began)
        status = f"{images:,.0f}/{self.images:,} images  {rate:,.0f} images/s{_figures(logs) if logs else ''}"
        self.show_status(status)
        self._bar.update(self._task, completed=self.epoch * self.images + images)

    def stop_clock(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the epoch's duration, before any evaluation."""
        self.seconds = time.monotonic() - self._began

    def finish(self, record: Mapping[str, float]) -> None:
        """Print the epoch's final line."""
        text = f"epoch {self.epoch + 1}/{self.epochs}{_figures(record)}"
        if VAL_ACCURACY in record:
            text += f"  val accuracy {record[VAL_ACCURACY]:.4f}"
        left = format_duration(self.seconds * (self.epochs - self.epoch - 1))
        self._console.print(f"{text}  {self.images / self.seconds:,.0f} images/s  {left} left")


def format_duration(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _figures(record: Mapping[str, float]) -> str:
    metric = AGREEMENT if AGREEMENT in record else "accuracy"
    return f"  loss {record['loss']:.4f}  {metric} {record[metric]:.4f}"
