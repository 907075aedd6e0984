"""Files for resuming an interrupted run: `state.npz`, `history.json` and the teachers' cached soft targets.

Each is written to a partial file, flushed to disk and renamed. This module imports no backend.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model_store.os_errors import naming
from training.errors import TrainingError

STATE, HISTORY = "state.npz", "history.json"
# Keys of history.json. They cannot change, because existing runs and published versions use them.
VAL_LOSS, VAL_ACCURACY = "watched_loss", "watched_accuracy"
AGREEMENT = "agreement"  # instead of accuracy in distillation: how often the network predicts its teachers' class

History = list[dict[str, float]]


class Checkpoint(NamedTuple):
    """The end of an epoch: every variable of training, and the best weights so far, if the recipe keeps them."""

    variables: list[NDArray[Any]]
    best: list[NDArray[Any]]
    epochs: int


def save_checkpoint(folder: Path, variables: list[NDArray[Any]], history: History, best: list[NDArray[Any]]) -> None:
    """Save the end of an epoch.

    The state is written last and has the number of valid records, so a kill between the two files loses nothing.
    """
    replace_file(folder / HISTORY, (json.dumps(history, indent=1) + "\n").encode())
    arrays: dict[str, Any] = {f"v{i:04}": value for i, value in enumerate(variables)}
    arrays |= {f"best{i:04}": value for i, value in enumerate(best)}
    with _replacing(folder / STATE) as file:
        np.savez(file, epoch=len(history), **arrays)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the last saved epoch; empty before the first.

    Raises:
        TrainingError: the file is damaged.
    """
    path = folder / STATE
    if not path.exists():
        return Checkpoint([], [], 0)
    try:
        with path.open("rb") as file, np.load(file) as state:
            variables, best = ([state[key] for key in sorted(state.files) if key.startswith(p)] for p in ("v", "best"))
            return Checkpoint(variables, best, int(state["epoch"]))
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise TrainingError(f"{path} is damaged: {error}; start a new run with another --out") from None


def load_history(folder: Path) -> History:
    """Return one record for each finished epoch.

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
    """Cache the teachers' probabilities (N, K) for an augmented view. A resumed run reads the cache, too."""
    with _replacing(_soft_targets(folder, view)) as file:
        np.save(file, soft_targets)


def load_soft_targets(folder: Path, view: int) -> NDArray[np.float32] | None:
    """Return the cached probabilities (N, K), or None if the view has no readable cache."""
    try:
        soft_targets: NDArray[np.float32] = np.load(_soft_targets(folder, view))
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return soft_targets


def remove_checkpoints(folder: Path) -> None:
    """Remove the files of an earlier run that has lost its `run.json`."""
    for path in (folder / STATE, folder / HISTORY, *folder.glob("answers-*.npy")):
        path.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: other processes see either the old content or the new."""
    with _replacing(path) as file:
        file.write(content)


def _soft_targets(folder: Path, view: int) -> Path:
    return folder / f"answers-{view}.npy"


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    partial = path.with_name(f"{path.name}.partial")
    try:
        with naming(path), partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # otherwise a crash of the machine may leave an empty file under the new name
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # a full disk needs the room
            partial.unlink()
        raise
