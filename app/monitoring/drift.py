"""Drift of the last hour's images from the validation images, for /model/drift and /metrics.

Counts answered images; `model_store.drift` finds their bins, while the network has them, and compares the counts.
Nothing else about an image is kept.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.drift_window import WINDOW_SECONDS, RecentCounts
from app.prediction import Prediction, model_name
from model_store.drift import (
    MIN_DRIFT_IMAGES,
    Comparison,
    Status,
    bin_counts_by_feature,
    compare_with_reference,
    split_by_feature,
    worst_status,
)
from model_store.manifest import Feature, Manifest

COUNT_SECONDS = 0.1


class Drift:
    """Drift of one version. A version without a reference counts nothing."""

    def __init__(self, manifest: Manifest, directory: Path | None = None) -> None:
        """`directory` holds the counts of all processes; None for this process alone."""
        self._manifest, self._recent = manifest, None
        self._uncounted: list[NDArray[np.int64]] = []
        if manifest.reference:
            bins, name = (
                sum(bin_counts_by_feature(len(manifest.labels)).values()),
                f"{manifest.name}@{manifest.version}",
            )
            self._recent = RecentCounts(bins, directory, name)

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Count answered images, by the bins in their predictions; needs a running event loop.

        The images of a tenth of a second are counted together: counting one takes almost as long as counting many.
        """
        if self._recent is None:
            return
        bins = [prediction.bins for prediction in predictions if prediction.bins is not None]
        if bins and not self._uncounted:
            asyncio.get_running_loop().call_later(COUNT_SECONDS, self._count)
        self._uncounted += bins

    def _count(self) -> None:
        bins, self._uncounted = self._uncounted, []
        if bins and self._recent:
            self._recent.add(np.concatenate(bins))

    def close(self) -> None:
        """Count the last images and release the file of counts."""
        if self._recent:
            self._count()
            self._recent.close()

    def counts(self) -> NDArray[np.int64] | None:
        """Return the recent images in each bin (bins,), those of all processes; None without a reference."""
        if self._recent is None:
            return None
        self._count()
        return self._recent.total()

    def compare_recent(self, counts: NDArray[np.int64] | None = None) -> tuple[int, dict[Feature, Comparison]]:
        """Count the recent images and compare each feature with the reference; (0, {}) without a reference.

        Args:
            counts: sums over several services, as `counts` returns them; by default this service's.
        """
        counts, labels = self.counts() if counts is None else counts, self._manifest.labels
        if counts is None or self._manifest.reference is None:
            return 0, {}
        images = int(split_by_feature(counts, len(labels))["class"].sum())
        return images, compare_with_reference(self._manifest.reference, counts, labels)

    def document(self, counts: NDArray[np.int64] | None = None) -> dict[str, Any]:
        """Build the JSON of `GET /model/drift`, without shares for few images: they would describe single images.

        Args:
            counts: as in `compare_recent`.
        """
        images, comparisons = self.compare_recent(counts)
        statuses = [comparison.status for comparison in comparisons.values()]
        status: Status = worst_status(statuses) if statuses else "no_reference"
        return {
            "model": model_name(self._manifest),
            "window_seconds": WINDOW_SECONDS,
            "images": images,
            "status": status,
            "features": {
                feature: _feature_json(comparison, images >= MIN_DRIFT_IMAGES)
                for feature, comparison in comparisons.items()
            },
        }


def _feature_json(comparison: Comparison, enough: bool) -> dict[str, Any]:
    return {
        "psi": round(comparison.psi, 4) if enough else None,
        "status": comparison.status,
        "bins": comparison.bins,
        "recent": comparison.recent.round(4).tolist() if enough else None,
        "reference": comparison.reference.round(4).tolist(),
    }
