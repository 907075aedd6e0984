"""Files that let an interrupted run resume: `state.npz`, `history.json` and the teachers' cached soft targets.

Each is written to a partial file, flushed to disk and renamed. No backend is imported here.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

STATE, HISTORY = "state.npz", "history.json"
# Keys of history.json. Runs and published versions have these names, so they stay.
VAL_LOSS, VAL_ACCURACY = "watched_loss", "watched_accuracy"
AGREEMENT = "agreement"  # replaces the accuracy of a distilled network: how often it predicts its teachers' class

History = list[dict[str, float]]


def save_checkpoint(folder: Path, variables: list[NDArray[Any]], history: History) -> None:
    """Record the end of an epoch.

    The state is written last and says how many of the records count, so a kill between the two files loses nothing.
    """
    replace_file(folder / HISTORY, (json.dumps(history, indent=1) + "\n").encode())
    arrays: dict[str, Any] = {f"v{i:04}": value for i, value in enumerate(variables)}
    with _replacing(folder / STATE) as file:
        np.savez(file, epoch=len(history), **arrays)


def load_checkpoint(folder: Path) -> tuple[list[NDArray[Any]], int]:
    """The variables after the last epoch saved, and the number of epochs; ([], 0) before the first.

    Raises:
        TrainingError: the file is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return [], 0
    try:
        with path.open("rb") as file, np.load(file) as state:
            return [state[key] for key in sorted(state.files) if key != "epoch"], int(state["epoch"])
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise TrainingError(f"{path} is damaged: {error}; start a new run with another --out") from None


def load_history(folder: Path) -> History:
    """One record for each finished epoch.

    Raises:
        TrainingError: the file is damaged.
    """
    path = folder / HISTORY
    if not path.exists():
        return []
    try:
        history: History = json.loads(path.read_bytes())
    except ValueError as error:
        raise TrainingError(f"{path} is damaged: {error}; start a new run with another --out") from None
    return history


def save_soft_targets(folder: Path, view: int, soft_targets: NDArray[np.float32]) -> None:
    """Cache the teachers' probabilities (N, K) for an augmented view, also for when the run is resumed."""
    with _replacing(_soft_targets(folder, view)) as file:
        np.save(file, soft_targets)


def load_soft_targets(folder: Path, view: int) -> NDArray[np.float32] | None:
    """The cached probabilities (N, K), or None if the view has no readable cache."""
    try:
        soft_targets: NDArray[np.float32] = np.load(_soft_targets(folder, view))
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return soft_targets


def remove_checkpoints(folder: Path) -> None:
    """Remove files of an earlier run whose `run.json` is gone."""
    for path in (folder / STATE, folder / HISTORY, *folder.glob("answers-*.npy")):
        path.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that other processes see either as it was or complete."""
    with _replacing(path) as file:
        file.write(content)


def _soft_targets(folder: Path, view: int) -> Path:
    return folder / f"answers-{view}.npy"


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # otherwise a machine that crashes may leave the new name with an empty file
    partial.replace(path)
