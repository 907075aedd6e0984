"""The plots of a version's report that a card shows, with their captions and descriptions.

Descriptions state the main figures, for people who cannot see the plots.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

from app.card.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Dot,
    Drawing,
    Line,
    Row,
    Series,
    axis,
    draw_axes,
    draw_rows,
    draw_series,
    share_axis,
)
from app.card.values import MAX_NUMBER, percent
from model_store.manifest import Manifest
from model_store.report import REPORT_FOLDER, EpochReport, Report
from model_store.wilson import wilson_interval

MAX_ROWS = 40
MAX_LINES = 10
MAX_POINTS = 200  # of a line
MAX_CONFUSION_CLASSES = 20
MAX_SHADE = 7  # of a cell in which most images of its row are
NAMES_WIDTH = 132  # units, for the names of lines


@dataclass(frozen=True)
class Plot:
    """A drawing; `name` is unique in the card."""

    name: str
    caption: str
    description: str
    drawing: Drawing


@dataclass(frozen=True)
class Picture:
    """An image file of the report; its address is relative to the card."""

    address: str
    caption: str
    description: str


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix: for each true class, pairs of count and shade (0 to `MAX_SHADE`), one a predicted class."""

    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, int]]]]


def draw_plots(report: Report) -> dict[str, Plot]:
    """Draw the plots that the report has figures for, by name."""
    drawings = ((name, caption, *draw(report)) for name, (caption, draw) in PLOTS.items())
    return {name: Plot(name, caption, said, drawing) for name, caption, said, drawing in drawings if drawing}


def list_pictures(manifest: Manifest, report: Report) -> dict[str, Picture]:
    """Caption the report's pictures of images, which its figures do not have, by file name."""
    return {
        name: Picture(REPORT_FOLDER + name, caption, f"{caption}. {describe(report)}".strip())
        for name, (caption, describe) in PICTURES.items()
        if REPORT_FOLDER + name in manifest.files
    }


def confusion_matrix(report: Report) -> Confusion | None:
    """Shade the confusion matrix; None if it has too many classes to be read."""
    labels = list(report.classes)
    if len(labels) > MAX_CONFUSION_CLASSES:
        return None
    rows = [[(f"{count:,}" if count else "", _shade(count, sum(row))) for count in row] for row in report.confusion]
    return Confusion(labels, list(zip(labels, rows, strict=True)))


def frequent_confusions(report: Report, most: int) -> list[tuple[int, str, str]]:
    """Return the most frequent mistakes as number of images, true class and predicted class."""
    labels = list(report.classes)
    wrong = [
        (count, labels[i], labels[j])
        for i, row in enumerate(report.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(wrong, reverse=True)[:most]


def describe_confusion(report: Report) -> str:
    """Name the most frequent confusion."""
    for count, true, called in frequent_confusions(report, 1):
        return f"Most often {true} was taken for {called}: {count:,} times."
    return "No class was confused."


def recall_by_class(report: Report) -> list[tuple[str, float]]:
    """Return pairs of class and recall, lowest first."""
    recalls = [(label, figures.recall) for label, figures in report.classes.items()]
    return sorted(recalls, key=lambda pair: pair[1])


def _shade(count: int, images: int) -> int:
    """Let rare mistakes be seen: shades grow with the root of the share."""
    if not count:
        return 0
    return MAX_SHADE if 2 * count >= images else max(1, round((MAX_SHADE - 1) * sqrt(2 * count / images)))


def _loss(report: Report) -> tuple[str, Drawing | None]:
    training = _curve(report, lambda epoch: epoch.loss)
    val = _curve(report, lambda epoch: epoch.val_loss)
    if not training:
        return "", None
    losses = [loss for _, loss in training + val]
    drawing = _curves(report, axis("loss", [0, *losses]), training, val)
    return f"On the training images {training[0][1]:.3g} at first and {training[-1][1]:.3g} in the end.", drawing


def _accuracy(report: Report) -> tuple[str, Drawing | None]:
    distilled = bool(report.history) and report.history[0].agreement is not None
    training = _curve(report, lambda epoch: _share(epoch.agreement if distilled else epoch.accuracy))
    val = _curve(report, lambda epoch: _share(epoch.val_accuracy))
    if not training + val:
        return "", None
    shares = [share for _, share in training + val]
    described = "Of a distilled network, the agreement with its teachers. " if distilled else ""
    return described + _describe_epochs(report), _curves(report, share_axis("accuracy", shares), training, val)


def _curves(
    report: Report, y: Axis, training: Sequence[tuple[float, float]], val: Sequence[tuple[float, float]]
) -> Drawing:
    epochs = [epoch for epoch, _ in [*training, *val]]
    x = Axis("epoch", 0, max(1, *epochs), step=1)
    lines = [Series("training", "network", training), Series("validation", "val", val)]
    if report.kept_epoch and report.kept_epoch <= x.high:
        kept = [(report.kept_epoch, y.low), (report.kept_epoch, y.high)]
        lines.append(Series(f"kept: {report.kept_epoch:,}", "reference", kept))
    return draw_series(x, y, lines, 84)


def _curve(report: Report, value: Callable[[EpochReport], float | None]) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` pairs of epoch and value, without those that cannot be drawn."""
    pairs = [(epoch.epoch, value(epoch)) for epoch in report.history]
    points = [
        (float(epoch), shown)
        for epoch, shown in pairs
        if 0 <= epoch < MAX_NUMBER and shown is not None and isfinite(shown) and abs(shown) < MAX_NUMBER
    ]
    return [*points[: -1 : 1 + len(points) // MAX_POINTS], *points[-1:]]


def _share(value: float | None) -> float | None:
    return value if value is not None and 0 <= value <= 1 else None


def _describe_epochs(report: Report) -> str:
    shown = next((epoch for epoch in report.history if epoch.kept), report.history[-1])
    if shown.accuracy is None:
        return ""
    when = f"Epoch {shown.epoch} was kept: after it," if shown.kept else f"After {shown.epoch} epochs"
    when = f"No epoch was kept. {when}" if report.kept_epoch == 0 else when
    return f"{when} {percent(shown.accuracy, 1)} of the training images were classified correctly."


def _reliability(report: Report) -> tuple[str, Drawing | None]:
    bins = [each for each in report.reliability if 0 <= each.confidence <= 1 and each.images]
    if not bins:
        return "", None
    x, y = share_axis("confidence", [0, 1]), share_axis("accuracy", [0, 1])
    drawing = draw_axes(x, y)
    across, up = x.place(LEFT, WIDTH - RIGHT), y.place(HEIGHT - BOTTOM, TOP)
    drawing.lines.append(Line("reference", [(across(0), up(0)), (across(1), up(1))]))
    most = max(each.images for each in bins)
    for each in bins:
        radius = round(3 + 8 * sqrt(each.images / most), 1)
        drawing.dots.append(Dot("bin", across(each.confidence), up(each.accuracy), radius))
    apart = percent(report.expected_calibration_error)
    said = (
        f"On average the two are {apart} apart. Large dots stand for many images; on the dashed line the two are equal."
    )
    return said, drawing


def _classes(report: Report) -> tuple[str, Drawing | None]:
    recalls = recall_by_class(report)
    (worst, low), *_, (best, high) = recalls
    images = dict(zip(report.classes, map(sum, report.confusion), strict=True))
    rows = [
        Row(label, recall, _interval(recall, images[label]), report.classes[label].human_accuracy)
        for label, recall in recalls[:MAX_ROWS]
    ]
    shown = "" if len(recalls) <= MAX_ROWS else f" Of {len(recalls)} classes, the {MAX_ROWS} with the lowest are shown."
    people = " Diamonds: people." if any(row.other is not None for row in rows) else ""
    said = f"From {worst}, {percent(low, 1)}, to {best}, {percent(high, 1)}.{shown}{people}"
    return said, draw_rows("recall", rows)


def _interval(recall: float, images: int) -> tuple[float, float] | None:
    if not 1 <= images < MAX_NUMBER:
        return None
    low, high = wilson_interval(round(recall * images), images)
    return float(low), float(high)


def _corruptions(report: Report) -> tuple[str, Drawing | None]:
    robustness = report.robustness
    if robustness is None:
        return "", None
    kinds = sorted(robustness.corruptions.items(), key=lambda kind: kind[1].mean)
    means = [(figures.mean, name) for name, figures in kinds]
    (low, worst), (high, best) = means[0], means[-1]
    shown = kinds[:MAX_LINES]
    most = max(len(figures.accuracy) for _, figures in shown)
    x = Axis("strength (0: untouched)", 0, max(1, most), step=1)
    lines = [
        Series(name, f"line-{number % 6}", list(enumerate([robustness.accuracy, *figures.accuracy])))
        for number, (name, figures) in enumerate(shown)
    ]
    mean = percent(robustness.corruption_accuracy, 1)
    said = f"On average {mean}: from {percent(low, 1)} for {worst} to {percent(high, 1)} for {best}."
    return said, draw_series(x, share_axis("accuracy", [0, 1]), lines, NAMES_WIDTH)


def _photos(report: Report) -> tuple[str, Drawing | None]:
    robustness = report.robustness
    if robustness is None:
        return "", None
    rows = [Row(f"{each.width}×{each.height}, {each.file}", each.accuracy) for each in robustness.photos[:MAX_ROWS]]
    mean, untouched = percent(robustness.photo_accuracy, 1), percent(robustness.accuracy, 1)
    said = f"On average {mean}; not enlarged: {untouched}."
    return said, draw_rows("accuracy", rows, Row("not enlarged", robustness.accuracy))


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    first = report.mistakes[0]
    return (
        f"The first shows {first.label}, predicted {first.called} with a confidence of {percent(first.confidence, 1)}."
    )


PLOTS: dict[str, tuple[str, Callable[[Report], tuple[str, Drawing | None]]]] = {
    "loss": ("Loss, epoch by epoch", _loss),
    "accuracy": ("Accuracy, epoch by epoch", _accuracy),
    "reliability": ("Accuracy against confidence", _reliability),
    "classes": ("Recall of each class, with its 95 % interval", _classes),
    "corruptions": ("Accuracy under our own corruptions, which are not CIFAR-10-C", _corruptions),
    "photos": ("Accuracy when the 32×32 pixels of test images are enlarged to the sizes of photos", _photos),
}
PICTURES: dict[str, tuple[str, Callable[[Report], str]]] = {
    "mistakes.png": ("Pictures of the most confident mistakes", _mistakes),
    "corruptions.png": ("One image under each corruption, at each strength", lambda _: ""),
}
