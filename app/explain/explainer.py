"""An image and a class → which pixels speak for it, asked of the network a few masked copies at a time.

Knows the queue and the masks; nothing of encoded images, models or HTTP.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.batcher import Batcher
from app.explain.saliency import Floats, Masks, hide, saliency
from app.prediction import Prediction

CHUNK = 8  # masked copies in the queue at a time: about as long as a prediction of somebody else has to wait


@dataclass(frozen=True)
class Explanation:
    """What the network saw, what it says of one class, and where that comes from."""

    seen: NDArray[np.uint8]  # (32, 32, 3)
    index: int  # of the class
    confidence: np.float32
    saliency: Floats  # (32, 32), from 0 to 1


class Explainer:
    """Explains one image at a time: however many are asked for, one chunk of masked copies is in the queue.

    So a prediction waits for one chunk at most, and never behind a whole explanation.
    """

    def __init__(self, batcher: Batcher[Prediction], masks: Masks, chunk: int = CHUNK) -> None:
        self._batcher, self._masks, self._chunk = batcher, masks, chunk
        self._turn = asyncio.Lock()

    async def explain(self, image: NDArray[np.uint8], index: int | None = None) -> Explanation:
        """Explain the class with that index, or the most probable one, for an image (32, 32, 3).

        Raises:
            QueueFullError: too many images are waiting.
        """
        async with self._turn:
            row = (await self._batcher.submit(image)).row.probabilities
            index = int(row.argmax()) if index is None else index
            hidden = [await self._scores(image, start, index) for start in range(0, len(self._masks.kept), self._chunk)]
        found = saliency(self._masks, float(row[index]), np.concatenate(hidden))
        return Explanation(image, index, row[index], found)

    async def _scores(self, image: NDArray[np.uint8], start: int, index: int) -> Floats:
        """The class's probabilities (n,) under the chunk of masks that begins at `start`."""
        copies = hide(image, self._masks.kept[start : start + self._chunk])
        answers = await self._batcher.submit_all(list(copies))
        return np.array([answer.row.probabilities[index] for answer in answers], np.float32)
