"""Networks named by `--from` and `--teachers`: finished runs and versions. Does not import a Keras backend."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from model_store.files import MANIFEST, WEIGHTS
from model_store.manifest import Preprocessing, read_manifest
from model_store.version import verify
from training.data.dataset import compose
from training.errors import TrainingError
from training.fit.run.directory import Run, RunInfo
from training.places import guess


@dataclass(frozen=True)
class Source:
    """A finished run or a published version.

    `labels` are in NFC, even if the folder has others. `recipe` is a run's recipe, or NAME/VERSION of a version.
    `recipe_values` are as in `run.json`; `data_sha256` and `hold_out` describe the training data. For imported networks
    the first is empty and the others are None.
    """

    folder: Path
    recipe: str
    recipe_values: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    output: Literal["logits", "probabilities"]
    data_sha256: str | None
    hold_out: bool | None

    def saw_val(self, data_sha256: str) -> bool:
        """Return True if the network was trained on the validation images of this data.

        Only byte-identical data is recognised.
        """
        return self.data_sha256 == data_sha256 and not self.hold_out

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights file."""
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()


def read_source(folder: Path) -> Source:
    """Read the run or version in a folder.

    Raises:
        TrainingError: it is neither a finished run nor a version.
        ModelError: a file of the version is missing or altered.
    """
    if Run(folder).begun:
        info = Run(folder).require_finished().info
        return Source(
            folder,
            info.recipe,
            info.recipe_values,
            tuple(map(compose, info.labels)),
            info.preprocessing,
            info.output,
            info.data_sha256,
            info.hold_out,
        )
    check_version(folder)
    manifest = read_manifest(folder / MANIFEST)
    verify(folder, manifest)
    training = manifest.training
    return Source(
        folder,
        f"{manifest.name}/{manifest.version}",
        training.get("recipe_values", {}),
        tuple(map(compose, manifest.labels)),
        manifest.preprocessing,
        manifest.output,
        training.get("data_sha256"),
        training.get("hold_out"),
    )


def check_input(source: Source) -> None:
    """Raise TrainingError unless the source takes 32×32 RGB pixels, on which all training is."""
    if source.preprocessing.schema_version != 1:
        raise TrainingError(
            f"{source.folder} takes {source.preprocessing.describe()}, and training is on 32×32 RGB pixels; "
            "pass a run or version of these"
        )


def read_record(folder: Path) -> RunInfo:
    """Read how a run or a version was trained.

    Raises:
        TrainingError: it is neither a run nor a version, or the version has no such record.
    """
    if Run(folder).begun:
        return Run(folder).info
    check_version(folder)
    training = read_manifest(folder / MANIFEST).training
    try:
        return RunInfo.model_validate({key: training[key] for key in RunInfo.model_fields if key in training})
    except ValidationError:
        raise TrainingError(
            f"{folder} does not record how it was trained, because it was imported; pass another one"
        ) from None


def check_version(folder: Path) -> None:
    """Raise TrainingError if the folder does not hold a version; call it for folders without a run."""
    if not (folder / MANIFEST).exists():
        reason = "it has no run.json and no manifest.json" if folder.exists() else "it does not exist"
        raise TrainingError(f"{folder} is neither a run nor a version: {reason}{guess(folder)}")
