"""A client of the whole application with the shipped model, in this process."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.main import create_app
from app.pipeline import load_chosen
from app.settings import Settings
from model_store.drift import reference_of
from model_store.manifest import Verdicts, write_manifest
from model_store.novelty import novelty
from model_store.store import Store

PATIENCE_SECONDS = 60


def started(settings: Settings) -> TestClient:
    """A client whose application has finished loading, for better or worse."""
    app = create_app(settings)
    client = TestClient(app, raise_server_exceptions=False)
    client.__enter__()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while app.state.pipeline.loaded is None and app.state.pipeline.reason == "the model is being loaded and tested":
        assert time.monotonic() < deadline, "the model did not load"
        time.sleep(0.01)
    return client


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The service with default settings."""
    client = started(Settings())
    yield client
    client.__exit__(None, None, None)


@pytest.fixture
def client_with() -> Iterator[Callable[..., TestClient]]:
    """Makes services with other settings and stops them at the end."""
    clients = []

    def make(**settings: object) -> TestClient:
        clients.append(started(Settings(**settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.__exit__(None, None, None)


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
    loaded = load_chosen(Settings())
    said, pixels = loaded.classifier.predict(blotches(1_000)), blotches(1_000)
    assert said.score is not None
    steps = tuple(np.quantile(said.score, np.linspace(0, 1, 101)).tolist())
    verdicts = Verdicts(novelty_above=0.95, confidence_below=0.5, scores=steps)
    said = replace(said, novelty=novelty(said.score, np.array(verdicts.scores)))
    update = {"verdicts": verdicts, "reference": reference_of(pixels, said, verdicts)}
    folder = tmp_path_factory.mktemp("store") / loaded.manifest.name / str(loaded.manifest.version)
    shutil.copytree(Store(Settings().store).folder(loaded.manifest.name, loaded.manifest.version), folder)
    write_manifest(loaded.manifest.model_copy(update=update), folder / "manifest.json")
    return folder.parent.parent
