"""Stores made of the shipped models."""

import json
import shutil
from pathlib import Path

from model_store.store import SHIPPED_STORE

NAME = "cifar10"
PACKAGES = {"cifar10": "8", "cifar10-small": "2"}


def put(store: Path, version: int, source: str = "cifar10-small", hidden: bool = False) -> Path:
    """Put a shipped model into the store under this number, as `publish` does; `hidden` returns before the rename."""
    folder = store / NAME / (f".incoming-{version}" if hidden else str(version))
    shutil.copytree(SHIPPED_STORE / source / PACKAGES[source], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"name": NAME, "version": version}))
    return folder
