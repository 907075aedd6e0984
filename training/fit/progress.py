"""The live line of a training run: where it is, how it does, how fast, and how long it will still take."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import keras

from training.fit.run_directory import AGREEMENT, clock


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Prints one line an epoch, and on a terminal keeps it current in between."""

    def __init__(self, epochs: int, images_per_epoch: int) -> None:
        super().__init__()
        self.epochs, self.images = epochs, images_per_epoch
        self.epoch, self.seconds, self._began, self._shown = 0, 0.0, 0.0, 0.0
        self._live = sys.stdout.isatty()

    def start(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.epoch, self._began = epoch, time.monotonic()

    def say(self, what: str) -> None:
        """Show on a terminal what the epoch waits for."""
        if self._live:
            print(f"\repoch {self.epoch + 1}/{self.epochs}  {what}", end="", flush=True)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Refresh the line, at most twice a second."""
        now = time.monotonic()
        if not self._live or now - self._shown < 0.5:
            return
        self._shown = now
        done = round((batch + 1) / self.params["steps"] * self.images)
        rate = done / (now - self._began)
        left = (self.images - done + (self.epochs - self.epoch - 1) * self.images) / rate
        text = f"epoch {self.epoch + 1}/{self.epochs}  {done:,}/{self.images:,} images  {rate:,.0f} images/s"
        if logs:
            text += _figures(logs)
        print(f"\r{text}  {clock(left)} left ", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop the clock before the evaluation that may follow."""
        self.seconds = time.monotonic() - self._began

    def finish(self, record: dict[str, float]) -> None:
        """Print the epoch's final line."""
        text = f"epoch {self.epoch + 1}/{self.epochs}{_figures(record)}"
        if "watched_accuracy" in record:
            text += f"  watched accuracy {record['watched_accuracy']:.4f}"
        left = clock(self.seconds * (self.epochs - self.epoch - 1))
        rate = self.images / self.seconds
        print(f"{chr(13) if self._live else ''}{text}  {rate:,.0f} images/s  {left} left" + " " * 20, flush=True)


def _figures(record: Mapping[str, float]) -> str:
    called = AGREEMENT if AGREEMENT in record else "accuracy"
    return f"  loss {record['loss']:.4f}  {called} {record[called]:.4f}"
