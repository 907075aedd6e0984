"""The plots of a version's report that a card shows, with their captions and alternative texts.

Descriptions state the main figures, for people who cannot see the plots.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.card.values import percent
from model_store.manifest import Manifest
from model_store.report import REPORT_FOLDER, Report


@dataclass(frozen=True)
class CaptionedPlot:
    """A plot of the report; its address is relative to the card."""

    address: str
    caption: str
    description: str


def caption_plots(manifest: Manifest, report: Report) -> dict[str, CaptionedPlot]:
    """Caption the plots that the version has, by file name."""
    return {
        name: CaptionedPlot(REPORT_FOLDER + name, caption, f"{caption}. {describe(report)}".strip())
        for name, (caption, describe) in PLOTS.items()
        if REPORT_FOLDER + name in manifest.files
    }


def recall_by_class(report: Report) -> list[tuple[str, float]]:
    """Return pairs of class and recall, lowest first."""
    recalls = [(label, figures.recall) for label, figures in report.classes.items()]
    return sorted(recalls, key=lambda pair: pair[1])


def _confusion(report: Report) -> str:
    """Name the most frequent confusion. Rows of the matrix are true classes, columns predicted ones."""
    labels = list(report.classes)
    wrong = [
        (count, labels[i], labels[j]) for i, row in enumerate(report.confusion) for j, count in enumerate(row) if i != j
    ]
    count, true, called = max(wrong)
    return f"Most often {true} was taken for {called}: {count:,} times." if count else "No class was confused."


def _reliability(report: Report) -> str:
    return f"On average the two are {percent(report.expected_calibration_error)} apart."


def _classes(report: Report) -> str:
    (worst, low), *_, (best, high) = recall_by_class(report)
    return f"From {worst}, {percent(low, 1)}, to {best}, {percent(high, 1)}."


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    first = report.mistakes[0]
    return (
        f"The first shows {first.label}, predicted {first.called} with a confidence of {percent(first.confidence, 1)}."
    )


def _corruptions(report: Report) -> str:
    robustness = report.robustness
    if robustness is None:
        return ""
    means = sorted((figures.mean, name) for name, figures in robustness.corruptions.items())
    (low, worst), (high, best) = means[0], means[-1]
    mean = percent(robustness.corruption_accuracy, 1)
    return f"On average {mean}: from {percent(low, 1)} for {worst} to {percent(high, 1)} for {best}."


def _photos(report: Report) -> str:
    robustness = report.robustness
    if robustness is None:
        return ""
    mean, untouched = percent(robustness.photo_accuracy, 1), percent(robustness.accuracy, 1)
    return f"On average {mean}; not enlarged: {untouched}."


def _curves(report: Report) -> str:
    shown = next((epoch for epoch in report.history if epoch.kept), report.history[-1] if report.history else None)
    if shown is None or shown.accuracy is None:
        return ""
    when = f"Epoch {shown.epoch} was kept: after it," if shown.kept else f"After {shown.epoch} epochs"
    when = f"No epoch was kept. {when}" if report.kept_epoch == 0 else when
    return f"{when} {percent(shown.accuracy, 1)} of the training images were classified correctly."


PLOTS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "curves.png": ("Loss and accuracy, epoch by epoch", _curves),
    "confusion.png": ("True class and predicted class of the test images", _confusion),
    "reliability.png": ("Accuracy against confidence", _reliability),
    "classes.png": ("Recall of each class, with its 95 % interval", _classes),
    "mistakes.png": ("The most confident mistakes", _mistakes),
    "corruptions.png": ("Accuracy under our own corruptions, which are not CIFAR-10-C", _corruptions),
    "photos.png": ("Accuracy when the 32×32 pixels of test images are enlarged to the sizes of photos", _photos),
}
