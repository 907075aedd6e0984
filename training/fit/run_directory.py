"""A run directory: what `train` writes, `--resume` reads and `evaluate` and `publish` take.

    run.json             what is being trained, how and where           written first
    state.npz            every variable after the last epoch saved   replaced atomically, every ten seconds at most
    history.json         one record an epoch
    architecture.json    the float32 network                            written last
    model.weights.h5     its weights                                    written last
    start/               what a fine-tuned network began as             written first
    answers-0.npy …      what the teachers say of the views that recur  each when it is needed first

Knows files, not training: no backend is imported here.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model_store.files import ARCHITECTURE, MANIFEST, WEIGHTS
from model_store.manifest import Frozen, Preprocessing, read_manifest
from model_store.version import verify
from training.errors import TrainingError

AGREEMENT = "agreement"  # in a taught network's history, for its accuracy: how often it calls what its teachers call


class RunInfo(Frozen):
    """The contents of `run.json`. `recipe_values` holds every hyper-parameter as it was used.

    `teachers` are the SHA-256 of the weights it learns from.
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
    start_sha256: str | None = None  # of the weights that it needs again to be resumed
    teachers: tuple[str, ...] = ()
    data_sha256: str
    images: int
    environment: dict[str, str]


@dataclass(frozen=True)
class Source:
    """What `--from` and `--teachers` name: a finished run or a published version, and what is known of its network.

    `recipe_values` are as in `run.json`; `data_sha256` and `hold_out` say what it was trained on. Of an imported
    network none of them is known.
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
        """Whether it learned from the images that --hold-out leaves out of this data, as far as is known.

        Only data that is the same to the last byte is recognised.
        """
        return self.data_sha256 == data_sha256 and not self.hold_out

    def weights_sha256(self) -> str:
        """Which weights these are."""
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()


@dataclass(frozen=True)
class Run:
    """A run directory on disk."""

    folder: Path

    @property
    def start_folder(self) -> Path:
        """Where a run that goes on from any network keeps that one's two files, so that it can be resumed alone."""
        return self.folder / "start"

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.folder / "run.json").exists()

    @property
    def info(self) -> RunInfo:
        """What is being trained.

        Raises:
            TrainingError: the folder holds no readable `run.json`.
        """
        path = self.folder / "run.json"
        try:
            return RunInfo.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise TrainingError(f"{self.folder} is not a training run: it has no run.json") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise TrainingError(f"{path} is not this version's run.json: {where}: {first['msg']}") from None

    @property
    def history(self) -> list[dict[str, float]]:
        """One record for each finished epoch.

        Raises:
            TrainingError: the file was damaged.
        """
        path = self.folder / "history.json"
        if not path.exists():
            return []
        try:
            records: list[dict[str, float]] = json.loads(path.read_bytes())
        except ValueError as error:
            raise TrainingError(f"{path} is damaged: {error}; start a new run with another --out") from None
        return records

    @property
    def finished(self) -> bool:
        """Whether the network and its weights have been written."""
        return (self.folder / ARCHITECTURE).exists() and (self.folder / WEIGHTS).exists()

    def require_finished(self) -> "Run":
        """The run itself.

        Raises:
            TrainingError: training has not come to its end.
        """
        done, total = len(self.history), self.info.epochs
        if not self.finished:
            raise TrainingError(
                f"{self.folder} has finished {done} of {total} epochs; "
                f"continue it with `python -m training train --recipe {self.info.recipe} --out {self.folder} --resume`"
            )
        return self

    def start(self, info: RunInfo, kept: Source | None = None) -> None:
        """Claim the folder for a new run, and copy the network to be `kept`.

        Raises:
            TrainingError: a run is there already, or a version or network that would be lost.
        """
        if self.begun:
            raise TrainingError(f"{self.folder} already holds a run; continue it with --resume or choose another --out")
        for name in (MANIFEST, ARCHITECTURE, WEIGHTS):
            if (self.folder / name).exists():
                raise TrainingError(f"{self.folder} holds {name}, which no run may overwrite; choose another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in ("state.npz", "history.json", "answers-*.npy"):
            for path in self.folder.glob(stale):
                path.unlink()
        if kept:
            self.start_folder.mkdir(exist_ok=True)
            for name in (ARCHITECTURE, WEIGHTS):
                shutil.copyfile(kept.folder / name, self.start_folder / name)
        self._replace("run.json", (info.model_dump_json(indent=2) + "\n").encode())

    @property
    def partial_weights(self) -> Path:
        """Where the weights are written before `finish`, so that no half of them is ever taken for a finished run's."""
        return self.folder / f"partial.{WEIGHTS.split('.', 1)[1]}"

    def finish(self, architecture: str) -> None:
        """Put the network's JSON and its `partial_weights` in their places."""
        self._replace(ARCHITECTURE, (architecture + "\n").encode())
        self.partial_weights.replace(self.folder / WEIGHTS)

    def checkpoint(self, variables: list[NDArray[Any]], history: list[dict[str, float]]) -> None:
        """Record an epoch's end. A kill between the two files loses no state: it says how many of the records count."""
        self._replace("history.json", (json.dumps(history, indent=1) + "\n").encode())
        partial = self.folder / "state.partial.npz"
        arrays: dict[str, Any] = {f"v{i:04}": value for i, value in enumerate(variables)}
        with partial.open("wb") as file:
            np.savez(file, epoch=len(history), **arrays)
            _to_disk(file)
        partial.replace(self.folder / "state.npz")

    def restore(self) -> tuple[list[NDArray[Any]], int]:
        """The variables after the last epoch saved, and how many epochs that makes; ([], 0) before the first.

        Raises:
            TrainingError: the file was damaged.
        """
        path = self.folder / "state.npz"
        if not path.exists():
            return [], 0
        try:
            with path.open("rb") as file, np.load(file) as state:
                return [state[key] for key in sorted(state.files) if key != "epoch"], int(state["epoch"])
        except (ValueError, KeyError, EOFError, BadZipFile) as error:
            raise TrainingError(f"{path} is damaged: {error}; start a new run with another --out") from None

    def answers(self, view: int) -> NDArray[np.float32] | None:
        """What the teachers said of all images (N, K) in that view, if they were asked before and it can be read."""
        try:
            kept: NDArray[np.float32] = np.load(self.folder / f"answers-{view}.npy")
        except (FileNotFoundError, EOFError, ValueError):
            return None
        return kept

    def keep_answers(self, view: int, answers: NDArray[np.float32]) -> None:
        """Remember them, also for when the run is resumed."""
        partial = self.folder / "answers.partial.npy"
        with partial.open("wb") as file:
            np.save(file, answers)
            _to_disk(file)
        partial.replace(self.folder / f"answers-{view}.npy")

    def _replace(self, name: str, content: bytes) -> None:
        partial = self.folder / f"{name}.partial"
        with partial.open("wb") as file:
            file.write(content)
            _to_disk(file)
        partial.replace(self.folder / name)


def _to_disk(file: IO[bytes]) -> None:
    """Otherwise a machine that stops may leave the new name with an empty file behind it."""
    file.flush()
    os.fsync(file.fileno())


def read_source(folder: Path) -> Source:
    """The run or version in a folder.

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
            info.labels,
            info.preprocessing,
            info.output,
            info.data_sha256,
            info.hold_out,
        )
    check_version(folder)
    manifest = read_manifest(folder / MANIFEST)
    verify(folder, manifest)
    trained = manifest.training
    return Source(
        folder,
        f"{manifest.name}/{manifest.version}",
        trained.get("recipe_values", {}),
        manifest.labels,
        manifest.preprocessing,
        manifest.output,
        trained.get("data_sha256"),
        trained.get("hold_out"),
    )


def check_version(folder: Path) -> None:
    """Raises TrainingError if a folder that holds no run holds no version either."""
    if not (folder / MANIFEST).exists():
        what = "it has no run.json and no manifest.json" if folder.exists() else "it does not exist"
        raise TrainingError(f"{folder} is neither a run nor a version: {what}")


def environment(backend: str, device: str) -> dict[str, str]:
    """Where a run happens: versions, processor and the code's own commit, for the record."""
    packages = {name: version(name) for name in ("keras", "numpy", backend)}
    return packages | {
        "backend": backend,
        "device": device,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "code": _code_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _code_version() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
