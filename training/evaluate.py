"""How good a network is, measured through `Classifier.predict`, that is, on what is served.

Owns the figures and their definitions; `report.py` draws them, `publish.py` puts them into a manifest.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier
from training.data import Images

ECE_BINS = 15
CHUNK = 1_000


@dataclass(frozen=True)
class Evaluation:
    """Figures of one network on one set of images. `confusion[i, j]` counts images of class i called class j."""

    labels: tuple[str, ...]
    engine: str
    precision: str
    images: int
    accuracy: float
    mirror_accuracy: float
    negative_log_likelihood: float
    expected_calibration_error: float
    precision_by_class: tuple[float, ...]
    recall_by_class: tuple[float, ...]
    confusion: NDArray[np.int64]  # (K, K)
    reliability: tuple[tuple[float, float, int], ...]  # mean confidence, accuracy and count of each bin
    images_per_second: float

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        by_class = {
            label: {"precision": round(precision, 4), "recall": round(recall, 4)}
            for label, precision, recall in zip(self.labels, self.precision_by_class, self.recall_by_class, strict=True)
        }
        return {
            **self.summary(),
            "classes": by_class,
            "confusion": self.confusion.tolist(),
            "reliability": [list(row) for row in self.reliability],
            "images_per_second": round(self.images_per_second),
        }

    def summary(self) -> dict[str, Any]:
        """The figures a manifest carries."""
        return {
            "images": self.images,
            "accuracy": round(self.accuracy, 4),
            "mirror_accuracy": round(self.mirror_accuracy, 4),
            "negative_log_likelihood": round(self.negative_log_likelihood, 4),
            "expected_calibration_error": round(self.expected_calibration_error, 4),
            "worst_class_recall": round(min(self.recall_by_class), 4),
            "engine": self.engine,
            "precision": self.precision,
        }

    def table(self) -> str:
        """The figures for a terminal."""
        lines = [
            f"images {self.images:,}, {self.engine} in {self.precision}, {self.images_per_second:,.0f} images/s",
            f"accuracy                    {self.accuracy:8.2%}   one forward pass",
            f"accuracy with mirror        {self.mirror_accuracy:8.2%}   averaged with the mirror image's; not served",
            f"negative log-likelihood     {self.negative_log_likelihood:8.4f}",
            f"calibration error (ECE)     {self.expected_calibration_error:8.2%}   {ECE_BINS} bins",
            "",
            f"{'class':<16}{'precision':>10}{'recall':>10}   most often mistaken for",
        ]
        for index, label in enumerate(self.labels):
            row = self.confusion[index].copy()
            row[index] = 0
            other = f"{self.labels[row.argmax()]} ({row.max()})" if row.max() else "nothing"
            lines.append(
                f"{label:<16}{self.precision_by_class[index]:>10.1%}{self.recall_by_class[index]:>10.1%}   {other}"
            )
        return "\n".join(lines)


def evaluate(classifier: Classifier, images: Images) -> Evaluation:
    """Measure a classifier on labelled images."""
    began = time.perf_counter()
    probabilities = predict(classifier, images.pixels)
    seconds = time.perf_counter() - began
    mirrored = predict(classifier, images.pixels[:, :, ::-1])
    called, classes = probabilities.argmax(1), len(classifier.labels)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (images.labels, called), 1)
    hits = np.diag(confusion)
    own = probabilities[np.arange(len(images)), images.labels]
    reliability = reliability_bins(probabilities, images.labels)
    return Evaluation(
        labels=classifier.labels,
        engine=classifier.engine,
        precision=classifier.precision,
        images=len(images),
        accuracy=float((called == images.labels).mean()),
        mirror_accuracy=float(((probabilities + mirrored).argmax(1) == images.labels).mean()),
        negative_log_likelihood=float(-np.log(np.maximum(own, 1e-12)).mean()),
        expected_calibration_error=calibration_error(reliability),
        precision_by_class=tuple((hits / np.maximum(confusion.sum(0), 1)).tolist()),
        recall_by_class=tuple((hits / np.maximum(confusion.sum(1), 1)).tolist()),
        confusion=confusion,
        reliability=reliability,
        images_per_second=len(images) / seconds,
    )


def predict(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (N, K) for any number of images (N, 32, 32, 3)."""
    parts = [classifier.predict(pixels[start : start + CHUNK]).probabilities for start in range(0, len(pixels), CHUNK)]
    return np.concatenate(parts)


def reliability_bins(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32]
) -> tuple[tuple[float, float, int], ...]:
    """(mean confidence, accuracy, count) of each of the equal-width bins of confidence that has any image.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    return tuple(
        (float(confidence[bins == index].mean()), float(right[bins == index].mean()), int((bins == index).sum()))
        for index in np.unique(bins)
    )


def calibration_error(reliability: tuple[tuple[float, float, int], ...]) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy, weighted by the bins' counts."""
    total = sum(count for _, _, count in reliability)
    return sum(count / total * abs(confidence - accuracy) for confidence, accuracy, count in reliability)
