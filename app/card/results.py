"""Quality figures of the card: overall, by class, under corruptions and at photo sizes.

Selects and formats figures; the text around them is in `card.html`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from app.card.plots import Confusion, confusion_matrix, describe_confusion, frequent_confusions, recall_by_class
from app.card.values import MAX_NUMBER, items, number, percent, points, text
from model_store.manifest import Manifest
from model_store.report import Report, RobustnessReport
from model_store.wilson import decimals, wilson_interval

Fact: TypeAlias = tuple[str, str]
MAX_CONFUSIONS = 20


@dataclass(frozen=True)
class ServedVersion:
    """A version, its report, and the engine and precision in use."""

    manifest: Manifest
    report: Report | None
    engine: str
    precision: str

    def metric(self, *path: str) -> float | None:
        """Look up a figure in the manifest's metrics."""
        return number(self.manifest.metrics, *path)


@dataclass(frozen=True)
class FigureTable:
    """A table; the first cell of a row is its name."""

    caption: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Int8Comparison:
    """Accuracy on validation images before and after quantization, and whether int8 may be served."""

    before: str
    after: str
    adopted: bool


@dataclass(frozen=True)
class Quality:
    """Figures over all classes; `measured_in` is their precision if this service computes in another one."""

    facts: list[Fact]
    measured_in: str | None
    by_precision: FigureTable | None
    int8: Int8Comparison | None


@dataclass(frozen=True)
class People:
    """Accuracy of people: its source, and the number of classes in which they beat the network."""

    source: str
    ahead: int
    classes: int


@dataclass(frozen=True)
class ClassResults:
    """Recall and precision of each class, with people's accuracy if the report has it, and what is confused.

    The confusion matrix of many classes is too large to be read: `confusions` lists its largest entries instead.
    """

    table: FigureTable
    people: People | None
    confusion: Confusion | None
    confusions: FigureTable | None
    most_confused: str
    mistakes: FigureTable | None


@dataclass(frozen=True)
class RobustnessResults:
    """Accuracy under corruptions and at photo sizes; by kind if the version has a report."""

    means: FigureTable
    by_corruption: FigureTable | None
    by_photo: FigureTable | None


def measure_quality(served: ServedVersion) -> Quality | None:
    """Collect the figures over all classes; None if the manifest has none."""
    facts = [fact for fact in (_accuracy(served), _error(served), _likelihood(served), _worst(served)) if fact]
    if not facts:
        return None
    measured = text(served.manifest.metrics, "test", "precision")
    return Quality(
        facts=facts,
        measured_in=None if measured == served.precision else measured,
        by_precision=_by_precision(served),
        int8=_int8(served),
    )


def verdict_shares(served: ServedVersion) -> list[Fact]:
    """Format the share of each verdict on the test images."""
    rows = {
        "Confident": "confident",
        "Accuracy of confident answers": "confident_accuracy",
        "Unsure": "unsure",
        "None of these (wrongly)": "none_of_these",
    }
    shares = [(name, served.metric("verdicts", "test", key)) for name, key in rows.items()]
    return [(name, percent(share)) for name, share in shares if share is not None]


def class_results(report: Report) -> ClassResults:
    """Tabulate recall, precision and confusions by class."""
    confusion, people = confusion_matrix(report), _people(report)
    return ClassResults(
        table=_by_class(report, with_people=people is not None),
        people=people,
        confusion=confusion,
        confusions=None if confusion else _confusions(report),
        most_confused=describe_confusion(report),
        mistakes=_mistakes(report),
    )


def robustness_results(served: ServedVersion) -> RobustnessResults | None:
    """Tabulate accuracy under corruptions and at photo sizes; None if the manifest has neither."""
    means = {
        "untouched": served.metric("robustness", "accuracy"),
        "under our own corruptions (not CIFAR-10-C)": served.metric("robustness", "corruption_accuracy"),
        "under CIFAR-10-C's corruptions (14 of 15)": served.metric("robustness", "cifar10_c_accuracy"),
        "enlarged from 32×32 pixels to photo sizes, decoded as here": served.metric("robustness", "photo_accuracy"),
    }
    rows = [(name, percent(mean)) for name, mean in means.items() if mean is not None]
    if not rows:
        return None
    images = served.metric("robustness", "images")
    caption = f"Mean accuracy on the same {images:,.0f} test images" if images else "Mean accuracy"
    robustness = served.report.robustness if served.report else None
    return RobustnessResults(
        means=FigureTable(caption, ("images", "accuracy"), rows),
        by_corruption=_by_corruption(robustness) if robustness else None,
        by_photo=_by_photo(robustness) if robustness else None,
    )


def _accuracy(served: ServedVersion) -> Fact | None:
    accuracy, images = served.metric("test", "accuracy"), served.metric("test", "images")
    if accuracy is None:
        return None
    precision = text(served.manifest.metrics, "test", "precision")
    measured = _of_images(accuracy, images) if images and images >= 1 and 0 <= accuracy <= 1 else percent(accuracy)
    return "Accuracy", f"{measured}, one forward pass each" + (f", computed in {precision}" if precision else "")


def _of_images(share: float, images: float) -> str:
    """Format a share of so many images with its 95 % interval (Wilson)."""
    digits = decimals(images)
    low, high = wilson_interval(round(share * images), images)
    interval = f"95\N{NO-BREAK SPACE}% interval {percent(float(low), digits)} to {percent(float(high), digits)}"
    return f"{percent(share, digits)} of {images:,.0f} ({interval})"


def _error(served: ServedVersion) -> Fact | None:
    error, before = (served.metric(key, "expected_calibration_error") for key in ("test", "test_uncalibrated"))
    if error is None:
        return None
    definition = "mean difference between confidence and accuracy, 15 bins"
    return "Calibration error", f"{percent(error)}, {_before(served, before, percent)}; {definition}"


def _likelihood(served: ServedVersion) -> Fact | None:
    loss, before = (served.metric(key, "negative_log_likelihood") for key in ("test", "test_uncalibrated"))
    if loss is None:
        return None
    return "Negative log-likelihood", f"{loss:.4f}, {_before(served, before, '{:.4f}'.format)}"


def _before(served: ServedVersion, value: float | None, format_value: Callable[[float], str]) -> str:
    """Format the same figure before calibration."""
    if value is None:
        return "not calibrated" if served.manifest.temperature == 1 else "after calibration"
    precision = text(served.manifest.metrics, "test_uncalibrated", "precision")
    return f"{format_value(value)} before calibration" + (f" (in {precision})" if precision else "")


def _worst(served: ServedVersion) -> Fact | None:
    metrics = served.manifest.metrics
    low, label = number(metrics, "test", "worst_class_recall"), text(metrics, "test", "worst_class")
    if low is None:
        return None
    if served.report is None:
        return "Weakest class", f"{label or 'not named'}, recall {percent(low)}"
    (worst, lowest), *_, (best, high) = recall_by_class(served.report)
    if high <= lowest:
        return None
    images = dict(zip(served.report.classes, map(sum, served.report.confusion), strict=True)).get(label or worst)
    counted = images and images < MAX_NUMBER and 0 <= low <= 1
    recall = _of_images(low, images) if images and counted else percent(low)
    return "Weakest class", f"{label or worst}, recall {recall}; {points(high - low)} below the best, {best}"


def _by_precision(served: ServedVersion) -> FigureTable | None:
    precisions = [name for name, _ in items(served.manifest.metrics, "accuracy_by_precision")]
    accuracies = [(name, served.metric("accuracy_by_precision", name)) for name in precisions]
    rows = [(name, percent(accuracy)) for name, accuracy in accuracies if accuracy is not None]
    return FigureTable("Accuracy by precision", ("precision", "accuracy"), rows) if rows else None


def _int8(served: ServedVersion) -> Int8Comparison | None:
    before, after = (served.metric("quantization", key) for key in ("accuracy_before", "accuracy_after"))
    if before is None or after is None:
        return None
    adopted = served.manifest.metrics["quantization"].get("adopted") is True
    return Int8Comparison(percent(before), percent(after), adopted)


def _by_class(report: Report, with_people: bool) -> FigureTable:
    caption = (
        "Recall: share of a class's images that were recognised. Precision: share of its predictions that were right."
    )
    heads = ("class", "recall", "precision", *["people"][: int(with_people)])
    rows = [
        (label, percent(figures.recall, 1), percent(figures.precision, 1), _share(figures.human_accuracy))[: len(heads)]
        for label, figures in report.classes.items()
    ]
    return FigureTable(caption, heads, rows)


def _confusions(report: Report) -> FigureTable | None:
    rows = [(true, called, f"{count:,}") for count, true, called in frequent_confusions(report, MAX_CONFUSIONS)]
    return FigureTable("The most frequent confusions", ("is", "called", "images"), rows) if rows else None


def _mistakes(report: Report) -> FigureTable | None:
    rows = [(each.label, each.called, percent(each.confidence, 1)) for each in report.mistakes]
    return FigureTable("The most confident mistakes", ("is", "called", "confidence"), rows) if rows else None


def _people(report: Report) -> People | None:
    pairs = [(figures.recall, figures.human_accuracy) for figures in report.classes.values()]
    ahead = [human > recall for recall, human in pairs if human is not None]
    source = report.human_source or "from a source the report does not name"
    return People(source, sum(ahead), len(ahead)) if ahead else None


def _by_corruption(robustness: RobustnessReport) -> FigureTable:
    """Tabulate corruptions, lowest mean first; each may have its own number of strengths."""
    kinds = sorted(robustness.corruptions.items(), key=lambda kind: kind[1].mean)
    strengths = max(len(figures.accuracy) for _, figures in kinds)
    rows = [
        (
            name,
            percent(figures.mean, 1),
            *(percent(share, 1) for share in figures.accuracy),
            *[""] * (strengths - len(figures.accuracy)),
        )
        for name, figures in kinds
    ]
    heads = ("corruption", "mean", *(str(strength) for strength in range(1, strengths + 1)))
    return FigureTable("Accuracy under each corruption, on average and by its strength", heads, rows)


def _by_photo(robustness: RobustnessReport) -> FigureTable:
    rows = [(f"{photo.width}×{photo.height}", photo.file, percent(photo.accuracy)) for photo in robustness.photos]
    return FigureTable("Accuracy at photo sizes", ("pixels", "saved as", "accuracy"), rows)


def _share(value: float | None) -> str:
    return "not measured" if value is None else percent(value, 1)
