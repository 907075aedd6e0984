"""Accuracy and calibration of a network as it is served, measured through `Classifier.predict`.

Owns the figures and their definitions; `training.publish` draws them and puts them into a manifest.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier
from model_store.report import ClassReport, MistakeReport, ReliabilityBin, Report
from training.data.cifar10 import HUMAN_SOURCE, human_accuracy
from training.data.dataset import Images, as_inputs
from training.evaluate.intervals import accuracy_document, accuracy_with_interval

ECE_BINS = 15
DECIMALS = 6  # of published figures, which are rounded again when shown
PREDICT_BATCH = 1_000
MAX_MISTAKES = 32


@dataclass(frozen=True)
class Mistake:
    """A misclassified image, and how confident the network was. `index` counts the measured images."""

    index: int
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    label: str
    called: str
    confidence: float


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
    mistakes: tuple[Mistake, ...]  # the most confident ones, most confident first
    images_per_second: float
    hits: NDArray[np.bool_]  # (N,): whether each image's prediction is right

    @property
    def worst_class(self) -> str:
        """The label with the lowest recall, the first of equals."""
        return self.labels[int(np.argmin(self.recall_by_class))]

    @property
    def class_gap(self) -> float:
        """The highest recall of any class minus the lowest."""
        return max(self.recall_by_class) - min(self.recall_by_class)

    def report(self) -> Report:
        """Return everything, as it is published; without robustness and history, which are measured elsewhere."""
        mistakes = tuple(
            MistakeReport(
                index=mistake.index,
                label=mistake.label,
                called=mistake.called,
                confidence=round(mistake.confidence, DECIMALS),
            )
            for mistake in self.mistakes
        )
        return Report(
            **self.summary(),
            class_gap=round(self.class_gap, DECIMALS),
            classes=self._classes(),
            human_source=HUMAN_SOURCE if human_accuracy(self.labels) else None,
            confusion=self.confusion.tolist(),
            reliability=tuple(ReliabilityBin(*row) for row in self.reliability),
            mistakes=mistakes,
            images_per_second=round(self.images_per_second),
        )

    def summary(self) -> dict[str, Any]:
        """Return the figures for a manifest."""
        return {
            "images": self.images,
            "accuracy": round(self.accuracy, DECIMALS),
            "mirror_accuracy": round(self.mirror_accuracy, DECIMALS),
            "negative_log_likelihood": round(self.negative_log_likelihood, DECIMALS),
            "expected_calibration_error": round(self.expected_calibration_error, DECIMALS),
            "worst_class": self.worst_class,
            "worst_class_recall": round(min(self.recall_by_class), DECIMALS),
            "engine": self.engine,
            "precision": self.precision,
        }

    def document(self) -> dict[str, Any]:
        """Return every figure, unrounded, for `evaluate --json`; accuracies as `accuracy_document`."""
        human = human_accuracy(self.labels)
        right, true, called = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        return {
            "engine": self.engine,
            "precision": self.precision,
            "images": self.images,
            "accuracy": accuracy_document(int(right.sum()), self.images),
            "mirror_accuracy": accuracy_document(round(self.mirror_accuracy * self.images), self.images),
            "negative_log_likelihood": self.negative_log_likelihood,
            "expected_calibration_error": self.expected_calibration_error,
            "worst_class": self.worst_class,
            "class_gap": self.class_gap,
            "classes": [
                {
                    "label": label,
                    "recall": accuracy_document(int(right[index]), int(true[index])),
                    "precision": accuracy_document(int(right[index]), int(called[index])),
                    "human_accuracy": human[index] if human else None,
                }
                for index, label in enumerate(self.labels)
            ],
            "confusion": self.confusion.tolist(),
        }

    def table(self) -> str:
        """Format the figures for a terminal."""
        lines = [
            f"{self.engine} in {self.precision}, one forward pass an image",
            f"accuracy                    {self._with_interval(self.accuracy)}",
            f"negative log-likelihood     {self.negative_log_likelihood:.4f}",
            f"calibration error           {self.expected_calibration_error:.2%}, {ECE_BINS} bins",
            "",
            *self._class_lines(),
        ]
        if self.class_gap:
            gap = f"{100 * self.class_gap:.1f} points below the best"
            lines += ["", f"worst class: {self.worst_class}, recall {self._worst_recall()}, {gap}"]
        return "\n".join(lines)

    def _worst_recall(self) -> str:
        row = self.confusion[self.labels.index(self.worst_class)]
        return accuracy_with_interval(int(row[self.labels.index(self.worst_class)]), int(row.sum()))

    def _with_interval(self, accuracy: float) -> str:
        return accuracy_with_interval(round(accuracy * self.images), self.images)

    def _classes(self) -> dict[str, ClassReport]:
        human = human_accuracy(self.labels)
        rows = zip(self.labels, self.precision_by_class, self.recall_by_class, strict=True)
        return {
            label: ClassReport(
                precision=round(precision, DECIMALS),
                recall=round(recall, DECIMALS),
                **({"human_accuracy": human[index]} if human else {}),
            )
            for index, (label, precision, recall) in enumerate(rows)
        }

    def _class_lines(self) -> list[str]:
        human = human_accuracy(self.labels)
        lines = [
            f"{'class':<16}{'precision':>10}{'recall':>10}{'people' if human else '':>10}   most often mistaken for"
        ]
        for index, label in enumerate(self.labels):
            row = self.confusion[index].copy()
            row[index] = 0
            other = f"{self.labels[row.argmax()]} ({row.max()})" if row.max() else "nothing"
            people = f"{human[index]:.1%}" if human else ""
            figures = f"{self.precision_by_class[index]:>10.1%}{self.recall_by_class[index]:>10.1%}{people:>10}"
            lines.append(f"{label:<16}{figures}   {other}")
        return lines


def evaluate(classifier: Classifier, images: Images) -> Evaluation:
    """Measure a classifier on labelled images."""
    start = time.perf_counter()
    probabilities = predict_probabilities(classifier, images.pixels)
    seconds = time.perf_counter() - start
    mirrored = predict_probabilities(classifier, images.pixels[:, :, ::-1])
    predictions, classes = probabilities.argmax(1), len(classifier.labels)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (images.labels, predictions), 1)
    hits = np.diag(confusion)
    true = probabilities[np.arange(len(images)), images.labels]
    reliability = reliability_bins(probabilities, images.labels)
    return Evaluation(
        labels=classifier.labels,
        engine=classifier.engine,
        precision=classifier.precision,
        images=len(images),
        accuracy=float((predictions == images.labels).mean()),
        mirror_accuracy=float(((probabilities + mirrored).argmax(1) == images.labels).mean()),
        negative_log_likelihood=float(-np.log(np.maximum(true, 1e-12)).mean()),
        expected_calibration_error=calibration_error(reliability),
        precision_by_class=tuple((hits / np.maximum(confusion.sum(0), 1)).tolist()),
        recall_by_class=tuple((hits / np.maximum(confusion.sum(1), 1)).tolist()),
        confusion=confusion,
        reliability=reliability,
        mistakes=confident_mistakes(probabilities, images, classifier.labels),
        images_per_second=len(images) / seconds,
        hits=predictions == images.labels,
    )


def predict_probabilities(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (N, K) for any number of images (N, H, W, 3) RGB, resized for the network if necessary."""
    parts = [
        classifier.predict(as_inputs(pixels[start : start + PREDICT_BATCH], classifier.preprocessing)).probabilities
        for start in range(0, len(pixels), PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def confident_mistakes(
    probabilities: NDArray[np.float32], images: Images, labels: tuple[str, ...], limit: int = MAX_MISTAKES
) -> tuple[Mistake, ...]:
    """Return at most `limit` misclassified images, the most confident first; probabilities are (N, K)."""
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != images.labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]
    return tuple(
        Mistake(int(i), images.pixels[i], labels[images.labels[i]], labels[predictions[i]], float(confidence[i]))
        for i in order
    )


def reliability_bins(
    probabilities: NDArray[np.float32], labels: NDArray[np.int32]
) -> tuple[tuple[float, float, int], ...]:
    """Compute (mean confidence, accuracy, count) of each non-empty bin of confidence; bins have equal width.

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
    """Compute the expected calibration error: the mean gap of confidence and accuracy, weighted by counts."""
    total = sum(count for _, _, count in reliability)
    return sum(count / total * abs(confidence - accuracy) for confidence, accuracy, count in reliability)
