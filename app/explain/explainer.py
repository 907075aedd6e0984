"""Explains a prediction: finds the pixels that support a class, from predictions on masked copies of the image.

Knows the queue and the masks, but nothing about encoded images, models or HTTP.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.batcher import Batcher
from app.explain.saliency import Floats, Masks, fit_saliency, hide
from app.explain.turns import Turns
from app.prediction import Prediction

LARGE_VALUES = 64 * 64 * 3  # of an image: masking a chunk of copies takes a millisecond
CHUNK = 8  # maximum number of masked copies in the queue, and so ahead of any prediction


@dataclass(frozen=True)
class Explanation:
    """The image as the network saw it, a class with its confidence, and the saliency map for it."""

    seen: NDArray[np.uint8]  # (H, W, C)
    index: int  # of the class
    confidence: np.float32
    saliency: Floats  # (32, 32), from 0 to 1


class Explainer:
    """Explains one image at a time, queueing one chunk of masked copies after another.

    A prediction therefore waits for at most one chunk, never for a whole explanation. Clients have turns, so that one
    with many explanations does not delay another's.
    """

    def __init__(self, batcher: Batcher[Prediction], masks: Masks, max_wait_seconds: float, chunk: int = CHUNK) -> None:
        """`max_wait_seconds` is how long an explanation may wait for others."""
        self._batcher, self._masks, self._chunk = batcher, masks, chunk
        self._turns = Turns(max_wait_seconds)

    async def explain(self, image: NDArray[np.uint8], index: int | None = None, client: str = "") -> Explanation:
        """Explain the class `index`, by default the most probable one, for an image (H, W, C).

        Raises:
            QueueFullError: too many images are waiting, or other explanations take too long.
        """
        async with self._turns.turn(client):
            probabilities = (await self._batcher.submit(image)).row.probabilities
            index = int(probabilities.argmax()) if index is None else index
            masked = [
                await self._masked_probabilities(image, start, index)
                for start in range(0, len(self._masks.visible), self._chunk)
            ]
        saliency = fit_saliency(self._masks, float(probabilities[index]), np.concatenate(masked))
        return Explanation(image, index, probabilities[index], saliency)

    async def _masked_probabilities(self, image: NDArray[np.uint8], start: int, index: int) -> Floats:
        """Predict the class's probabilities (n,) under the chunk of masks that begins at `start`."""
        masks = self._masks.visible[start : start + self._chunk]
        copies = await asyncio.to_thread(hide, image, masks) if image.size > LARGE_VALUES else hide(image, masks)
        outputs = await self._batcher.submit_all(list(copies))
        return np.array([output.row.probabilities[index] for output in outputs], np.float32)
