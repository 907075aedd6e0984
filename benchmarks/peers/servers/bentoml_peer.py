"""BentoML with its own adaptive batching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from common import PROCESSES, answer, decode, load


@bentoml.service(workers=PROCESSES, traffic={"timeout": 30})
class Cifar:
    """A worker with one network."""

    def __init__(self) -> None:
        self.run = load()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def predict(self, images: list[Path]) -> list[dict[str, Any]]:
        """Classify the images in the form field `images`."""
        return [answer(row) for row in self.run(np.stack([decode(Path(p).read_bytes()) for p in images]))]
