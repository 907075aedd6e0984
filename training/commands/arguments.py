"""Options and argument types shared by several jobs."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from model_store.manifest import UNNORMALISED, Preprocessing
from model_store.store import Store, check_name
from training.data.cifar10 import LABELS
from training.errors import TrainingError
from training.fit.run.directory import Run
from training.places import default_store

if TYPE_CHECKING:
    from training.data.dataset import Dataset

MAX_SEEDS = 1_000
DEFAULT_DATA = "$CIFAR10_DATA, else data"
DATA_OF_RUN = f"for a run what it was trained on, else {DEFAULT_DATA}"

Jobs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_data(job: argparse.ArgumentParser, default: str = DEFAULT_DATA) -> None:
    """Add --data, whose help ends with its default; `load_data` applies that."""
    text = "folder written by `fetch`, folder with one folder of images per class, or CSV file of files and labels "
    job.add_argument("--data", type=Path, help=f"{text}(default: {default})")


def choose_data(passed: Path | None, run: Run | None = None) -> Path:
    """Return --data, else the data that the run remembers, else $CIFAR10_DATA, else `data`."""
    return passed or (run and run.data) or Path(os.environ.get("CIFAR10_DATA") or "data")


def load_data(
    passed: Path | None,
    run: Run | None = None,
    labels: Sequence[str] = LABELS,
    preprocessing: Preprocessing = UNNORMALISED,
) -> "Dataset":
    """Load the data of `choose_data`.

    Args:
        run: need not have begun; a version's folder is none.
        labels: that the data must have.
        preprocessing: as for `load_dataset`.

    Raises:
        TrainingError: it cannot be loaded, or the data that the run remembers is gone or has changed.
    """
    from training.data.load import load_dataset

    data = choose_data(passed, run)
    if not passed and run and not run.data and tuple(labels) != LABELS and not data.exists():
        raise TrainingError(f"{run.folder} does not record where its images are; pass --data with them")
    if passed or run is None or data != run.data:
        return load_dataset(data, preprocessing)
    trained = f"{run.folder} was trained on {data}"
    if not data.exists():
        raise TrainingError(f"{trained}, which does not exist any more; pass --data with its new place")
    try:
        dataset = load_dataset(data, preprocessing)
    except TrainingError as error:
        raise TrainingError(f"{trained}, which cannot be used any more; pass other --data: {error}") from None
    if dataset.sha256 != run.info.data_sha256:
        raise TrainingError(
            f"{trained}, which has changed since: its SHA-256 begins {dataset.sha256[:12]}, run.json says "
            f"{run.info.data_sha256[:12]}; pass the images to use as --data"
        )
    return dataset


def check_outside(option: str, folder: Path, data: Path) -> None:
    """Raise TrainingError if a job would write into the user's own images, where its files would look like a class."""
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise TrainingError(f"{option} {folder} is inside {data}, where it would be taken for a class; choose another")


def add_store(job: argparse.ArgumentParser) -> None:
    """Add --store."""
    text = "folder of the model store (default: $CIFAR10_STORE, else model_store/models)"
    job.add_argument("--store", type=Path, default=default_store(), help=text)


def add_target(job: argparse.ArgumentParser, default_name: str) -> None:
    """Add the options of jobs that publish: --store, --create, --name and --force."""
    add_store(job)
    job.add_argument("--create", action="store_true", help="create the store if it does not exist")
    job.add_argument("--name", help=f"model name ({default_name})")
    job.add_argument(
        "--force",
        action="store_true",
        help="publish a network that is worse than the version in service, or not evaluated",
    )


def add_no_report(job: argparse.ArgumentParser) -> None:
    """Add --no-report."""
    job.add_argument(
        "--no-report",
        action="store_true",
        help="skip the robustness measurement and the plots, which take most of the time",
    )


def existing_store(folder: Path) -> Store:
    """Return a store to read.

    Raises:
        TrainingError: it does not exist or is not a folder.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise TrainingError(f"the store {folder} {problem}; pass --store FOLDER, or set CIFAR10_STORE")
    return Store(folder)


def store_to_publish_into(options: argparse.Namespace) -> Store:
    """Return the store of `add_target`. Call it before measuring, which takes minutes.

    Raises:
        TrainingError: the store does not exist, is not the default one, and --create was not passed.
    """
    folder: Path = options.store
    if not folder.exists() and not options.create and folder != default_store():
        raise TrainingError(f"the store {folder} does not exist; pass --create to create it, or another --store")
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"the store {folder} is not a folder; pass another --store")
    return Store(folder)


def require_name(name: str | None, store: Store, proposal: str) -> str:
    """Check the model's name.

    Args:
        proposal: proposed in lower case, with dashes for what a model name may not hold, where `name` is None.

    Raises:
        TrainingError: there is no name.
        ModelError: it is not a model name.
    """
    if name is None:
        taken = store.names()
        valid = re.sub(r"[^a-z0-9._-]+", "-", proposal.lower()).strip("._-")[:56] or "mine"
        new = f"my-{valid}" if valid in taken else valid
        existing = f", or one of {store.root} to add its next version: {', '.join(taken)}" if taken else ""
        raise TrainingError(f"--name is missing; pass the name of a new model, such as --name {new}{existing}")
    check_name(name)
    return name


def require_existing_name(name: str | None, store: Store) -> str:
    """Check the name of a model in the store.

    Raises:
        TrainingError: there is no name, or the store has no such model.
    """
    names = store.names()
    if name not in names:
        problem = "--name is missing" if name is None else f"{store.root} has no model {name[:80]!r}"
        raise TrainingError(f"{problem}; pass --name with one of: {', '.join(names) or '(the store is empty)'}")
    assert name
    return name


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def seed(text: str) -> int:
    """Parse a whole number that Keras takes as a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Parse different seeds and ranges of them, such as `0,3,5-7`."""
    values: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = seed(first), seed(last) if dash else seed(first)
        if not low <= high < low + MAX_SEEDS:
            raise argparse.ArgumentTypeError(f"{part!r} is not a range of 1 to {MAX_SEEDS:,} seeds, such as 0-7")
        values.extend(range(low, high + 1))
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"{text!r} names a seed twice")
    return tuple(values)
