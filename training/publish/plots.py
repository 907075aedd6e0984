"""Every picture of a report, drawn so that it can be read at about 800 pixels' width.

Blue is the network, orange people, red a mistake, green validation images; corruptions have colours of their own.
"""

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed or looked for

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from model_store.os_errors import naming
from model_store.report import EpochReport
from model_store.wilson import wilson_interval
from training.data.cifar10 import HUMAN_SOURCE, human_accuracy
from training.evaluate.accuracy import Evaluation, Mistake
from training.evaluate.corruptions import CORRUPTIONS
from training.evaluate.robustness import PHOTO_FILES, PHOTO_SIZES, Robustness
from training.publish.fonts import find_fonts

NAMES = (
    "curves.png",
    "confusion.png",
    "reliability.png",
    "classes.png",
    "mistakes.png",
    "corruptions.png",
    "photos.png",
)
NETWORK, PEOPLE, MISTAKE, VAL, GREY = "#1f6fb2", "#d9791a", "#b3261e", "#2a8f6a", "#8a8f98"
# Okabe and Ito's colours, the yellow darkened, which the colour-blind can tell apart; markers, for axes and for text,
# say the same again.
MARKERS = (
    ("#000000", "o", "●"),
    ("#d55e00", "s", "■"),
    ("#009e73", "^", "▲"),
    ("#cc79a7", "D", "◆"),
    ("#0072b2", "v", "▼"),
    ("#b8860b", "P", "✚"),
)
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "grid.color": "#e4e6ea",
    "legend.frameon": False,
    "font.size": 10,
    "text.parse_math": False,  # a label may hold dollar signs
    "figure.constrained_layout.use": True,
}
DPI = 110
MAX_DRAWN_CLASSES = 40  # in one picture
MAX_LISTED_NUMBERS = 20
LEGEND = "class n: the nth class in evaluation.json; no installed font has the characters of its name"


def draw(
    folder: Path, evaluation: Evaluation, history: Sequence[EpochReport], robustness: Robustness | None = None
) -> None:
    """Draw every picture there are figures for, as PNG files, into a folder that exists."""
    families, missing = find_fonts("".join(evaluation.labels))
    legend = LEGEND if missing else ""
    evaluation = _number_classes(evaluation, missing)
    with plt.rc_context({**STYLE, "font.family": families}):
        _save(_confusion(evaluation), folder / "confusion.png", legend)
        _save(_reliability(evaluation), folder / "reliability.png")
        _save(_classes(evaluation), folder / "classes.png", legend)
        if history:
            _save(_curves(history), folder / "curves.png")
        if evaluation.mistakes:
            _save(_mistakes(evaluation), folder / "mistakes.png", legend)
        if robustness:
            _save(_corruptions(robustness, len(evaluation.labels)), folder / "corruptions.png")
            _save(_photos(robustness), folder / "photos.png")


def _number_classes(evaluation: Evaluation, missing: set[str]) -> Evaluation:
    """Replace the names that hold a missing character by their numbers, and list these on stderr."""
    numbers = {
        label: f"class {number}" for number, label in enumerate(evaluation.labels, 1) if not missing.isdisjoint(label)
    }
    if not numbers:
        return evaluation
    shown = [f"{number} is {label}" for label, number in list(numbers.items())[:MAX_LISTED_NUMBERS]]
    more = f" and {len(numbers) - len(shown)} more" if len(numbers) > len(shown) else ""
    print(
        f"no installed font has the characters of {len(numbers)} of {len(evaluation.labels)} class names, so the plots "
        f"number them: {', '.join(shown)}{more}; install a font for them, such as one of Noto Sans",
        file=sys.stderr,
    )
    mistakes = tuple(
        replace(
            mistake,
            label=numbers.get(mistake.label, mistake.label),
            called=numbers.get(mistake.called, mistake.called),
        )
        for mistake in evaluation.mistakes
    )
    labels = tuple(numbers.get(label, label) for label in evaluation.labels)
    return replace(evaluation, labels=labels, mistakes=mistakes)


def _save(figure: Figure, path: Path, legend: str = "") -> None:
    if legend:
        figure.supxlabel(legend, fontsize=9, color=GREY)
    with naming(path):
        figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.12)
    plt.close(figure)


def _confusion(evaluation: Evaluation) -> Figure:
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(7.3, 6.6))
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # the root lets rare mistakes be seen
    for row, column in np.ndindex(*counts.shape) if len(counts) <= 20 else ():
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    names = [_short(label) for label in evaluation.labels] if len(counts) <= MAX_DRAWN_CLASSES else []
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set(xlabel="called", ylabel="is", title=f"What {evaluation.images:,} images were called")
    return figure


def _reliability(evaluation: Evaluation) -> Figure:
    confidence, accuracy, count = (np.array(column) for column in zip(*evaluation.reliability, strict=True))
    figure, axes = plt.subplots(figsize=(5.6, 5.4))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
    sizes = 15 + 300 * count / count.sum()
    axes.scatter(confidence, accuracy, s=sizes, color=NETWORK, label="bins, area by images", zorder=3, clip_on=False)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.set_title(f"Reliability: calibration error {evaluation.expected_calibration_error:.1%}")
    axes.legend(loc="upper left")
    return figure


def _curves(history: Sequence[EpochReport]) -> Figure:
    figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(9, 3.6))
    epochs = [record.epoch for record in history]
    distilled = history[0].agreement is not None
    accuracy = [record.agreement if distilled else record.accuracy for record in history]
    accuracy_label = "training images" + (", agreement with teachers" if distilled else "")
    losses.plot(epochs, [record.loss for record in history], color=NETWORK, marker=".", label="training images")
    accuracies.plot(epochs, accuracy, color=NETWORK, marker=".", label=accuracy_label)
    if history[0].val_accuracy is not None:
        val_loss, val_accuracy = zip(*((record.val_loss, record.val_accuracy) for record in history), strict=True)
        losses.plot(epochs, val_loss, color=VAL, marker=".", label="validation images")
        accuracies.plot(epochs, val_accuracy, color=VAL, marker=".", label="validation images")
    kept = next((record.epoch for record in history if record.kept), None)
    for axes, title in ((losses, "Loss"), (accuracies, "Accuracy")):
        if kept is not None:
            axes.axvline(kept, color=GREY, linestyle="--", zorder=1, label=f"kept: epoch {kept}")
        axes.set(xlabel="epoch", title=title)
        axes.legend()
    return figure


def _classes(evaluation: Evaluation) -> Figure:
    """A row for each class, best recall first, with people's accuracy beside it where that is known."""
    recall, human = np.array(evaluation.recall_by_class), human_accuracy(evaluation.labels)
    order = np.argsort(-recall, kind="stable")[-MAX_DRAWN_CLASSES:]
    names = [evaluation.labels[index] for index in order]
    figure, axes = plt.subplots(figsize=(8, 1.7 + 0.36 * len(order)))
    low, high = wilson_interval(np.diag(evaluation.confusion)[order], evaluation.confusion.sum(1)[order])
    _rows(axes, names, recall[order], low, high, "● network")
    if human:
        people = np.array(human)[order]
        axes.scatter(people, range(len(order)), facecolor="none", edgecolor=PEOPLE, linewidth=2, marker="D", zorder=4)
        left, right = axes.get_xlim()
        axes.set_xlim(min(left, people.min() - 0.01), max(right, people.max() + 0.01))
        _column(axes, 1.27, "◇ people", people, PEOPLE)
    measure = "recall" if len(order) == len(recall) else f"recall, the {MAX_DRAWN_CLASSES} lowest of {len(recall)}"
    axes.set_xlabel(f"{measure}; lines: 95% intervals" + (f"\npeople: {HUMAN_SOURCE}" if human else ""))
    title = f"Worst class: {evaluation.worst_class}, {100 * evaluation.class_gap:.1f} points below the best"
    axes.set_title(f"{title if evaluation.class_gap else 'Every class alike'}\n")
    return figure


def _mistakes(evaluation: Evaluation) -> Figure:
    """A grid on one axes, in pixels: an axes for each image would take longer to lay out than all else to draw."""
    mistakes, across, side, width, height = evaluation.mistakes, 8, 128, 140, 184
    rows = -(-len(mistakes) // across)
    grid = np.full((rows * height, across * width, 3), 255, np.uint8)
    figure, axes = plt.subplots(figsize=(across * width / DPI, rows * height / DPI + 0.4))
    for number, mistake in enumerate(mistakes):
        top, left = height * (number // across), width * (number % across)
        enlarged = Image.fromarray(mistake.pixels).resize((side, side), Image.Resampling.BICUBIC)
        grid[top : top + side, left : left + side] = np.asarray(enlarged)
        _caption(axes, left + side / 2, top + side + 5, mistake)
    axes.imshow(grid)
    axes.axis("off")
    total = evaluation.images - int(np.trace(evaluation.confusion))
    axes.set_title(
        f"The {len(mistakes)} most confident of {total:,} mistakes: what it is and, in red, what it was called"
    )
    return figure


def _caption(axes: Axes, x: float, y: float, mistake: Mistake) -> None:
    axes.text(x, y, _short(mistake.label, 12), ha="center", va="top", fontsize=9)
    called = f"{_short(mistake.called, 12)} {mistake.confidence:.0%}"
    axes.text(x, y + 17, called, ha="center", va="top", fontsize=9, color=MISTAKE)


def _corruptions(robustness: Robustness, classes: int) -> Figure:
    figure, (axes, examples) = plt.subplots(1, 2, figsize=(11, 4.9))
    for right, (colour, marker, _) in zip(robustness.corrupted, MARKERS, strict=True):
        axes.plot(range(6), [robustness.accuracy, *right.mean(1)], color=colour, marker=marker)
    axes.axhline(1 / classes, color=GREY, linestyle=":")
    axes.text(0, 1 / classes + 0.01, "guessing", color=GREY, fontsize=9)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set(xlabel="strength (0: untouched)", ylabel="accuracy", ylim=(0, 1), xticks=range(6))
    axes.set_title(f"Accuracy under corruptions: mean {robustness.corruption_accuracy:.1%}")
    _examples(examples, robustness)
    return figure


def _examples(axes: Axes, robustness: Robustness) -> None:
    """One image under every corruption, a row each, at every strength; the rows' names explain the lines, too."""
    example, gap = robustness.example[None], 2
    rows = [[example[0], *(kind.apply(example, value)[0] for value in kind.strengths)] for kind in CORRUPTIONS]
    cell = len(example[0]) + gap
    margins = ((0, gap), (0, gap), (0, 0))
    mosaic = np.vstack([np.hstack([np.pad(image, margins, constant_values=255) for image in row]) for row in rows])
    axes.imshow(mosaic[:-gap, :-gap])
    middles = [cell // 2 - gap + cell * number for number in range(6)]
    axes.set_xticks(middles, [str(number) for number in range(6)])
    means = robustness.corrupted.mean((1, 2))
    names = [
        f"{sign} {kind.name}\n{mean:.1%}" for kind, mean, (_, _, sign) in zip(CORRUPTIONS, means, MARKERS, strict=True)
    ]
    axes.set_yticks(middles, names)
    for label, (colour, _, _) in zip(axes.get_yticklabels(), MARKERS, strict=True):
        label.set_color(colour)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="strength", title="The first image; means of the five strengths")


def _photos(robustness: Robustness) -> Figure:
    """A row for each size and kind of file, beside the same images as they are."""
    names = [f"{width}×{height}, {file}" for width, height in PHOTO_SIZES for file in PHOTO_FILES]
    right = robustness.photos.reshape(len(names), -1).astype(np.float64)
    accuracy, reach = right.mean(1), 1.96 * (right - robustness.untouched).std(1) / np.sqrt(robustness.images)
    figure, axes = plt.subplots(figsize=(8, 1.7 + 0.36 * len(names)))
    _rows(axes, names, accuracy, accuracy - reach, accuracy + reach, "accuracy")
    axes.axvline(robustness.accuracy, color=GREY, linestyle="--", zorder=1)
    side = "right" if robustness.accuracy > np.mean(axes.get_xlim()) else "left"  # away from the axes' end
    axes.text(robustness.accuracy, -0.85, f" not enlarged {robustness.accuracy:.1%} ", color=GREY, ha=side, va="center")
    axes.set_title(f"32×32 pixels enlarged to photo sizes: mean accuracy {robustness.photo_accuracy:.1%}\n")
    axes.set_xlabel(
        f"accuracy on the same {robustness.images:,} images; lines: 95% intervals of the distance to the dashed line"
    )
    return figure


def _rows(
    axes: Axes,
    names: Sequence[str],
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    head: str,
) -> None:
    """A dot with its interval in every row, first name on top, and the figures in a column on the right."""
    places = np.arange(len(names))
    axes.hlines(places, low, high, color=NETWORK, alpha=0.35, linewidth=4)
    axes.scatter(values, places, color=NETWORK, s=46, zorder=3)
    axes.set_yticks(places, [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(max(0, float(low.min()) - 0.01), min(1, float(high.max()) + 0.01))
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    _column(axes, 1.12, head, values, NETWORK)


def _column(axes: Axes, x: float, head: str, values: NDArray[np.float64], colour: str) -> None:
    """Figures outside the axes, level with its rows; x as a share of its width."""
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "color": colour}
    axes.text(x, -0.85, head, fontweight="bold", **place)
    for row, value in enumerate(values):
        axes.text(x, row, f"{value:.1%}", **place)


def _short(text: str, length: int = 20) -> str:
    if _width(text) <= length:
        return text
    while _width(text) >= length:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Return the width in Latin letters: East Asian characters are twice as wide, and accents have none."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else not unicodedata.combining(sign) for sign in text)
