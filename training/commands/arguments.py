"""Options and argument types shared by several jobs."""

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from model_store.store import Store, check_name

Jobs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_data(job: argparse.ArgumentParser, note: str = "") -> None:
    """Add --data, with a note at the end of its help."""
    text = (
        "folder written by `fetch`, folder with one folder of images per class, or CSV file of files and labels "
        "(default: $CIFAR10_DATA, else data)"
    )
    job.add_argument("--data", type=Path, default=default_data(), help=text + note)


def default_data() -> Path:
    """Return the folder in $CIFAR10_DATA, or `data` if that is unset or empty."""
    return Path(os.environ.get("CIFAR10_DATA") or "data")


def add_store(job: argparse.ArgumentParser) -> None:
    """Add --store and --name."""
    add_store_folder(job)
    job.add_argument("--name", default="cifar10", help="model name (default: cifar10)")


def add_store_folder(job: argparse.ArgumentParser) -> None:
    """Add --store."""
    text = "folder of the model store (default: $CIFAR10_STORE, else model_store/models)"
    job.add_argument("--store", type=Path, default=default_store(), help=text)


def default_store() -> Path:
    """Return the folder in $CIFAR10_STORE, which the images set, or `model_store/models` if that is unset or empty."""
    return Path(os.environ.get("CIFAR10_STORE") or "model_store/models")


def open_store(options: argparse.Namespace) -> Store:
    """Return the store to publish into. Checks --name now, because measuring takes minutes."""
    check_name(options.name)
    return Store(options.store)


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
