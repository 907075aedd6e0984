"""Run directory: written by `train`, continued by `--resume`, read by `evaluate` and `publish`.

    run.json             recipe, data, seed and environment            written first
    data.json            the folder or file of the data                written after it; never published
    start/               the network that fine-tuning starts from      written first
    baselines.json       its accuracy on the validation images         written before the first epoch
    state.npz            every variable after the last epoch saved     replaced at most every ten seconds
    history.json         one record for each epoch                     replaced with state.npz
    answers-0.npy …      the teachers' soft targets for each view      when the view is first shown
    architecture.json    the float32 network                           written last
    model.weights.h5     its weights                                   written last

This module imports no backend. `checkpoints` writes the three files in the middle.
"""

import json
import shutil
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from model_store.command_line import python_command
from model_store.files import ARCHITECTURE, MANIFEST, WEIGHTS
from model_store.manifest import Frozen, Preprocessing
from model_store.os_errors import naming
from training.errors import TrainingError
from training.fit.run.checkpoints import (
    VAL_LOSS,
    History,
    load_history,
    remove_checkpoints,
    replace_file,
)
from training.places import RUN_FILE

INFO, BASELINES = RUN_FILE, "baselines.json"
DATA = "data.json"  # beside run.json, which goes into manifests: a path is private


class RunInfo(Frozen):
    """The contents of `run.json`. `recipe_values` holds every hyper-parameter as it was used.

    `teachers` are the SHA-256 of the teachers' weights. `start_sha256` is that of the weights in `--from`, which must
    be the same when the run is resumed; `start_labels` are the labels of a network to fine-tune. `val_images` is None
    in files from before it was recorded.
    """

    recipe: str
    recipe_values: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    output: Literal["logits", "probabilities"]
    seed: int
    epochs: int
    batch_size: int
    hold_out: bool
    started_from: str | None
    start_sha256: str | None = None
    start_labels: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    data_sha256: str
    images: int
    val_images: int | None = None
    environment: dict[str, str]


class Baselines(Frozen):
    """Figures on the validation images before the first epoch of fine-tuning, the contents of `baselines.json`.

    `start` is the accuracy of the network in `--from` with its own last layer, among the labels of the data; None if it
    has other labels. `probe_loss` and `probe` are the loss and accuracy with a linear probe as last layer.
    """

    images: int
    start: float | None
    probe_loss: float
    probe: float


def best_epoch(history: History, baselines: Baselines | None) -> int:
    """Return the number of the epoch with the lowest loss on the validation images; 0 if the probe's was lower.

    With a hundred images, one lucky image decides which epoch has the highest accuracy.
    """
    losses = [baselines.probe_loss if baselines else inf, *(record[VAL_LOSS] for record in history)]
    return losses.index(min(losses))


@dataclass(frozen=True)
class Run:
    """A run directory on disk."""

    folder: Path

    @property
    def start_folder(self) -> Path:
        """Copy of the network that fine-tuning starts from. With it the run can resume without the original."""
        return self.folder / "start"

    @property
    def begun(self) -> bool:
        """True if the folder holds a run, finished or not."""
        return (self.folder / INFO).exists()

    @property
    def info(self) -> RunInfo:
        """The contents of `run.json`.

        Raises:
            TrainingError: the folder holds no readable `run.json`.
        """
        path = self.folder / INFO
        try:
            return RunInfo.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise TrainingError(f"{self.folder} is not a training run: it has no run.json") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise TrainingError(f"{path} does not fit this version of the code: {where}: {first['msg']}") from None

    @property
    def history(self) -> History:
        """One record for each finished epoch.

        Raises:
            TrainingError: the file is damaged.
        """
        return load_history(self.folder)

    @property
    def baselines(self) -> Baselines | None:
        """What `--from` was worth before training, None if that was not measured."""
        path = self.folder / BASELINES
        return Baselines.model_validate_json(path.read_bytes()) if path.exists() else None

    def write_baselines(self, baselines: Baselines) -> None:
        """Write `baselines.json`."""
        replace_file(self.folder / BASELINES, (baselines.model_dump_json(indent=2) + "\n").encode())

    @property
    def data(self) -> Path | None:
        """The data that the run was last trained on, None if that was not recorded.

        Raises:
            TrainingError: the file is damaged.
        """
        path = self.folder / DATA
        try:
            return Path(json.loads(path.read_bytes())["path"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise TrainingError(f"{path} is damaged; delete it, and pass --data") from None

    def remember_data(self, data: Path) -> None:
        """Write `data.json`: the absolute path of a folder or a CSV file."""
        replace_file(self.folder / DATA, (json.dumps({"path": str(data.absolute())}) + "\n").encode())

    @property
    def finished(self) -> bool:
        """True if the network and its weights have been written."""
        return (self.folder / ARCHITECTURE).exists() and (self.folder / WEIGHTS).exists()

    def require_finished(self) -> "Run":
        """Return this run.

        Raises:
            TrainingError: training has not finished.
        """
        done, total = len(self.history), self.info.epochs
        if not self.finished:
            resume = python_command(f"training train --recipe {self.info.recipe} --out {self.folder} --resume")
            own = ", or with the same `own` command if it began so" if self.info.recipe == "fine-tune" else ""
            raise TrainingError(
                f"{self.folder} has finished {done} of {total} epochs; continue it with `{resume}`{own}"
            )
        return self

    def check_overwrites_nothing(self) -> None:
        """Raise TrainingError if the folder holds a version or network that is not a run's."""
        for name in () if self.begun else (MANIFEST, ARCHITECTURE, WEIGHTS):
            if (self.folder / name).exists():
                raise TrainingError(f"{self.folder} holds {name}, which a run must not overwrite; choose another --out")

    def start(self, info: RunInfo, pretrained: Path | None = None) -> None:
        """Claim the folder for a new run, and copy the network in the folder `pretrained` into it.

        Raises:
            TrainingError: the folder holds a run, or a version or network that would be overwritten.
        """
        if self.begun:
            raise TrainingError(f"{self.folder} already holds a run; continue it with --resume or choose another --out")
        self.check_overwrites_nothing()
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_checkpoints(self.folder)
        (self.folder / BASELINES).unlink(missing_ok=True)
        if pretrained:
            self.start_folder.mkdir(exist_ok=True)
            for name in (ARCHITECTURE, WEIGHTS):
                with naming(self.start_folder / name):
                    shutil.copyfile(pretrained / name, self.start_folder / name)
        replace_file(self.folder / INFO, (info.model_dump_json(indent=2) + "\n").encode())

    @property
    def partial_weights(self) -> Path:
        """Path of the weights before `finish`, so that a partial file never counts as finished."""
        return self.folder / f"partial.{WEIGHTS.split('.', 1)[1]}"

    def finish(self, architecture: str) -> None:
        """Write the network's JSON and move `partial_weights` into place."""
        replace_file(self.folder / ARCHITECTURE, (architecture + "\n").encode())
        self.partial_weights.replace(self.folder / WEIGHTS)
