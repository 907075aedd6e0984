"""Progress line of a training run: epoch, loss, accuracy, speed and time left. Imports no backend."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from training.fit.checkpoints import AGREEMENT, VAL_ACCURACY


class Progress:
    """Prints one line per epoch, and updates it during the epoch on a terminal."""

    def __init__(self, epochs: int, images_per_epoch: int, steps_per_epoch: int) -> None:
        self.epochs, self.images, self.steps = epochs, images_per_epoch, steps_per_epoch
        self.epoch, self.seconds, self._began, self._shown = 0, 0.0, 0.0, 0.0
        self._live = sys.stdout.isatty()

    def start(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.epoch, self._began = epoch, time.monotonic()

    def show_status(self, status: str) -> None:
        """Show a status on a terminal while the epoch waits."""
        if self._live:
            print(f"\repoch {self.epoch + 1}/{self.epochs}  {status}", end="", flush=True)

    def show(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Update the line after a batch, at most twice a second."""
        now = time.monotonic()
        if not self._live or now - self._shown < 0.5:
            return
        self._shown = now
        images = round((batch + 1) / self.steps * self.images)
        rate = images / (now - self._began)
        left = (self.images - images + (self.epochs - self.epoch - 1) * self.images) / rate
        text = f"epoch {self.epoch + 1}/{self.epochs}  {images:,}/{self.images:,} images  {rate:,.0f} images/s"
        if logs:
            text += _figures(logs)
        print(f"\r{text}  {format_duration(left)} left ", end="", flush=True)

    def stop_clock(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the epoch's duration, before any evaluation."""
        self.seconds = time.monotonic() - self._began

    def finish(self, record: Mapping[str, float]) -> None:
        """Print the epoch's final line."""
        text = f"epoch {self.epoch + 1}/{self.epochs}{_figures(record)}"
        if VAL_ACCURACY in record:
            text += f"  val accuracy {record[VAL_ACCURACY]:.4f}"
        left = format_duration(self.seconds * (self.epochs - self.epoch - 1))
        rate = self.images / self.seconds
        print(f"{chr(13) if self._live else ''}{text}  {rate:,.0f} images/s  {left} left" + " " * 20, flush=True)


def format_duration(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _figures(record: Mapping[str, float]) -> str:
    metric = AGREEMENT if AGREEMENT in record else "accuracy"
    return f"  loss {record['loss']:.4f}  {metric} {record[metric]:.4f}"
