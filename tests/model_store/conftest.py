"""A tiny published-shape model that many tests read, and a store to publish it in."""

from pathlib import Path

import pytest

from model_store.files import ARCHITECTURE, GOLDEN, WEIGHTS
from model_store.golden import Golden, write_golden
from model_store.manifest import Manifest
from model_store.store import Store
from tests.model_store.network.keras_models import PREPROCESSING, Tiny, tiny_model

NAME = "cifar10"


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Three classes, ending in logits, with what Keras on TensorFlow answers for a few images."""
    return tiny_model()


def manifest_of(version, **changes):
    fields = {
        "name": NAME,
        "version": version,
        "created": "2026-11-23T10:00:00+00:00",
        "labels": ("a", "b", "c"),
        "preprocessing": PREPROCESSING,
        "output": "logits",
        "golden_tolerance": {"float32": 1e-4, "bfloat16": 0.05},
        "files": {},
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def write(tiny):
    """Fills a version's folder with the tiny model, a report and its manifest."""

    def fill(folder: Path, version: int, **changes) -> Manifest:
        (folder / ARCHITECTURE).write_text(tiny.architecture)
        (folder / WEIGHTS).write_bytes(tiny.weights)
        write_golden(Golden(tiny.images, tiny.probabilities), folder / GOLDEN)
        (folder / "report").mkdir()
        (folder / "report" / "table.txt").write_text(f"version {version}")
        return manifest_of(version, **changes)

    return fill


@pytest.fixture
def published(store, write):
    """The folder of a published version 1."""
    return store.folder(NAME, store.publish(NAME, write))
