"""Options and types that several jobs share."""

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from model_store.store import Store, check_name

STORE = Path("model_store/models")

Jobs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_data(job: argparse.ArgumentParser, note: str = "") -> None:
    """Add --data, with a note at the end of its help."""
    text = "folder that `fetch` made, or one folder of images for each class (default: $CIFAR10_DATA, else data)"
    job.add_argument("--data", type=Path, default=default_data(), help=text + note)


def default_data() -> Path:
    """Return the folder in $CIFAR10_DATA, or `data` if that is unset or empty."""
    return Path(os.environ.get("CIFAR10_DATA") or "data")


def add_store(job: argparse.ArgumentParser) -> None:
    """Add --store and --name."""
    job.add_argument("--store", type=Path, default=STORE, help=f"(default: {STORE})")
    job.add_argument("--name", default="cifar10", help="model name (default: cifar10)")


def open_store(options: argparse.Namespace) -> Store:
    """Check --name before anything is measured, which takes minutes, and return the store to publish into."""
    check_name(options.name)
    return Store(options.store)


def positive(text: str) -> int:
    """Parse a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def seed(text: str) -> int:
    """Parse a whole number that Keras takes as a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)
