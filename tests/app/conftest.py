"""A client of the whole application with the shipped model, in this process."""

import io
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

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
