"""Default places of runs and versions, and what a person may have meant by a name that is none."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from model_store.errors import ModelError
from model_store.files import MANIFEST
from model_store.store import SHIPPED_STORE, Store

PACKAGED_STORE = Path("model_store/models")  # in a checkout
RUNS = Path("runs")
RUN_FILE = "run.json"


def default_store() -> Path:
    """Return the folder in $CIFAR10_STORE, which the images set, or `model_store/models` if that is unset or empty."""
    return Path(os.environ.get("CIFAR10_STORE") or PACKAGED_STORE)


def guess(folder: Path) -> str:
    """Return `; did you mean RUN|VERSION?` for a folder that is neither, or nothing if there is no candidate.

    Looked for: in the folder, in the default and the shipped store, in `runs`, and a similar name beside the folder.
    """
    proposed = next(filter(_is_run_or_version, _candidates(folder)), None)
    return f"; did you mean {proposed}?" if proposed else ""


def _candidates(folder: Path) -> Iterator[Path]:
    yield from _versions(folder)
    yield from (version for model in _folders(folder) for version in _versions(model))
    yield from _folders(folder)
    if len(folder.parts) == 1:
        for store in (default_store(), _from_here(SHIPPED_STORE)):
            yield from _versions(store / folder)
        yield RUNS / folder
    if not folder.exists():
        yield from _versions(folder.parent)
        beside = {path.name: path for path in _folders(folder.parent)}
        yield from (beside[name] for name in get_close_matches(folder.name, beside))


def _versions(model: Path) -> Iterator[Path]:
    """The served version of a model, if it is one."""
    try:
        yield model / str(Store(model.parent).choose_version(model.name))
    except (ModelError, OSError):
        return


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _is_run_or_version(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / RUN_FILE).exists()


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
