"""A client of the whole application with the shipped model, in this process."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.versions.loading import choose
from model_store.drift import count_reference
from model_store.manifest import Verdicts, write_manifest
from model_store.novelty import is_rejected, novelty
from model_store.store import SHIPPED_STORE, Store
from tests.waiting import wait_until

LOADING = "the model is being loaded and tested"


@contextmanager
def running(settings: Settings, **parts: Any) -> Iterator[TestClient]:
    """A client whose application has finished loading, with a model or without; `parts` go to `create_app`."""
    with TestClient(create_app(settings, **parts), raise_server_exceptions=False) as client:
        wait_until(lambda: client.get("/health").json().get("detail") != LOADING)
        yield client


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The service with default settings."""
    with running(Settings()) as client:
        yield client


@pytest.fixture
def client_with() -> Iterator[Callable[..., TestClient]]:
    """Makes services with other settings and stops them at the end."""
    with ExitStack() as services:
        yield lambda **settings: services.enter_context(running(Settings(**settings)))


@pytest.fixture
def altered(client_with, tmp_path) -> Callable[..., tuple[TestClient, Path]]:
    """Makes a service of a copy of a shipped version, changed by `change(manifest, folder)` before it is loaded."""

    def make(change: Callable[[dict, Path], None] = lambda manifest, folder: None) -> tuple[TestClient, Path]:
        shipped, folder = Store(SHIPPED_STORE), tmp_path / "cifar10" / "1"
        shutil.copytree(shipped.folder("cifar10", shipped.choose_version("cifar10")), folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest, folder)
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
        return client_with(store=tmp_path), folder

    return make


def png(seed: int = 0, side: int = 32) -> bytes:
    """A PNG of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def blotches(n: int, seed: int = 0) -> np.ndarray:
    """Made-up pictures (N, 32, 32, 3): coarse patches of many brightnesses, a little rough."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-60, 60, (n, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
    return np.clip(rng.normal(120, 40, (n, 1, 1, 3)) + coarse + rng.normal(0, 4, (n, 32, 32, 3)), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="session")
def watched_store(tmp_path_factory) -> Path:
    """A store with the shipped network, whose reference are `blotches`."""
    loaded = choose(Settings()).loaded
    predictions, pixels = loaded.classifier.predict(blotches(1_000)), blotches(1_000)
    assert predictions.ood_score is not None
    steps = tuple(np.quantile(predictions.ood_score, np.linspace(0, 1, 101)).tolist())
    verdicts = Verdicts(novelty_above=0.95, confidence_below=0.5, scores=steps)
    share = novelty(predictions.ood_score, np.array(verdicts.scores))
    predictions = replace(predictions, rejected=is_rejected(share, predictions.rejection_score, verdicts))
    update = {"verdicts": verdicts, "reference": count_reference(pixels, predictions, verdicts)}
    folder = tmp_path_factory.mktemp("store") / loaded.manifest.name / str(loaded.manifest.version)
    shutil.copytree(Store(Settings().store).folder(loaded.manifest.name, loaded.manifest.version), folder)
    write_manifest(loaded.manifest.model_copy(update=update), folder / "manifest.json")
    return folder.parent.parent
