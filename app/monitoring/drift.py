"""The answers of the last hour beside those that the served version was tested with, for /model/drift and /metrics.

Owns which answers are counted and when, and what is said of them; how they are compared is `model_store.drift`'s.
Counts are all that is kept of an image.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.drift_window import WINDOW_SECONDS, Recent
from app.prediction import Prediction, model_name
from model_store.classifier import Predictions
from model_store.drift import FEWEST_IMAGES, Comparison, Status, by_feature, compare, overall, places, sizes
from model_store.manifest import Feature, Manifest


class Drift:
    """Of one version; without a reference nothing is counted."""

    def __init__(self, manifest: Manifest, directory: Path | None = None) -> None:
        """`directory` is where the processes of the service share their counts; None for this process alone."""
        self._manifest, self._recent = manifest, None
        self._answered: list[tuple[NDArray[np.uint8], Prediction]] = []  # to be counted
        if manifest.reference:
            bins, name = sum(sizes(len(manifest.labels)).values()), f"{manifest.name}@{manifest.version}"
            self._recent = Recent(bins, directory, name)

    def add(self, images: Sequence[NDArray[np.uint8]], answered: Sequence[Prediction]) -> None:
        """Count images (32, 32, 3) that somebody asked about and has got the answer for; needs a running event loop.

        That is done in the loop's next turn but one, for all of this turn at once: to find the bins of an image takes
        a twentieth of a lone request's time, those of many together a tenth of that each, and no answer waits for it.
        """
        if self._recent is None or not answered:
            return
        if not self._answered:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._count)
        self._answered += zip(images, answered, strict=True)

    def _count(self) -> None:
        answered, self._answered = self._answered, []
        if not answered or self._recent is None or self._manifest.verdicts is None:
            return
        probabilities = np.stack([row.probabilities for _, row in answered])
        said = Predictions(probabilities, novelty=np.array([row.novelty for _, row in answered], np.float32))
        found = places(np.stack([image for image, _ in answered]), said, self._manifest.verdicts)
        self._recent.add(found.ravel())

    def close(self) -> None:
        """End counting."""
        if self._recent:
            self._count()
            self._recent.close()

    def compared(self) -> tuple[int, dict[Feature, Comparison]]:
        """The number of recent images, and each feature of them beside the reference's, if the version has one."""
        if self._recent is None or self._manifest.reference is None:
            return 0, {}
        self._count()
        counts, labels = self._recent.total(), self._manifest.labels
        images = int(by_feature(counts, len(labels))["class"].sum())
        return images, compare(self._manifest.reference, counts, labels)

    def document(self) -> dict[str, Any]:
        """What `GET /model/drift` says. Of too few images no shares: they would tell of single ones."""
        images, features = self.compared()
        status: Status = overall(found.status for found in features.values()) if features else "no_reference"
        return {
            "model": model_name(self._manifest),
            "window_seconds": WINDOW_SECONDS,
            "images": images,
            "status": status,
            "features": {feature: _feature(found, images >= FEWEST_IMAGES) for feature, found in features.items()},
        }


def _feature(found: Comparison, enough: bool) -> dict[str, Any]:
    return {
        "psi": round(found.psi, 4) if enough else None,
        "status": found.status,
        "bins": found.bins,
        "recent": found.recent.round(4).tolist() if enough else None,
        "reference": found.reference.round(4).tolist(),
    }
