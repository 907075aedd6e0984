"""Bodies of requests in the protocols of other servers."""

import base64

import numpy as np

from tests.app.conftest import png

SHAPE = (32, 32, 3)


def pixels(seed: int = 0) -> np.ndarray:
    """The pixels (32, 32, 3) that `png(seed)` encodes."""
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def b64(data: bytes | None = None) -> str:
    """An encoded image, by default `png()`, in base64."""
    return base64.b64encode(png() if data is None else data).decode()


def expected(client, seed: int = 0) -> list[float]:
    """The probabilities that /predict answers for `png(seed)`."""
    return list(client.post("/predict", content=png(seed)).json()["probabilities"].values())
