"""Predictions for single images, and their JSON."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from model_store.classifier import Classifier
from model_store.drift import bin_indices
from model_store.manifest import Manifest
from model_store.novelty import Verdict, verdict


class Prediction(NamedTuple):
    """Probabilities for one image; novelty and verdict are None if the version has no fitted thresholds."""

    probabilities: NDArray[np.float32]  # (K,)
    novelty: float | None = None
    verdict: Verdict | None = None
    bins: NDArray[np.int64] | None = None  # (5,), of drift's features, if they were asked for

    @property
    def rounded_novelty(self) -> float | None:
        """Novelty rounded to four digits, as in every output."""
        return None if self.novelty is None else round(self.novelty, 4)


def predict_each(
    classifier: Classifier, images: NDArray[np.uint8], wide: bool = False, binned: bool = False
) -> list[Prediction]:
    """Predict images (N, H, W, C) in one call of the network.

    Args:
        wide: as for `Classifier.predict`.
        binned: find each image's bins for drift as well, if the version has fitted thresholds.
    """
    predictions, verdicts = classifier.predict(images, wide), classifier.verdicts
    if predictions.novelty is None or predictions.rejected is None or verdicts is None:
        return [Prediction(probabilities) for probabilities in predictions.probabilities]
    confidences, novelties = predictions.probabilities.max(1).tolist(), predictions.novelty.tolist()
    bins: Iterable[NDArray[np.int64] | None] = repeat(None, len(images))
    if binned:
        bins = bin_indices(
            images, predictions.probabilities, predictions.rejected, verdicts, classifier.preprocessing.channel_order
        )
    rows = zip(predictions.probabilities, confidences, novelties, predictions.rejected.tolist(), bins, strict=True)
    return [
        Prediction(probabilities, novelty, verdict(confidence, rejected, verdicts), own_bins)
        for probabilities, confidence, novelty, rejected, own_bins in rows
    ]


def prediction_json(manifest: Manifest, row: Prediction, top_k: int | None = None) -> dict[str, Any]:
    """Build the JSON object for one image, with all probabilities in label order, or the `top_k` largest first."""
    probabilities = list(row.probabilities)  # NumPy's float32: orjson writes its digits only, not a float64's
    best = int(row.probabilities.argmax())
    order = range(len(probabilities)) if top_k is None else largest(row.probabilities, top_k)
    return {
        "label": manifest.labels[best],
        "confidence": probabilities[best],
        "verdict": row.verdict,
        "novelty": row.rounded_novelty,
        "probabilities": {manifest.labels[index]: probabilities[index] for index in order},
        "model": model_name(manifest),
    }


def largest(probabilities: NDArray[np.float32], count: int) -> list[int]:
    """Return the indices of the `count` largest probabilities, largest first, and ties in label order."""
    indices: list[int] = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return indices


def model_name(manifest: Manifest) -> dict[str, str]:
    """Build the `model` field of answers: name and version."""
    return {"name": manifest.name, "version": str(manifest.version)}


def to_json(content: dict[str, Any]) -> bytes:
    """Encode as one line of UTF-8; `content` may contain NumPy floats."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
