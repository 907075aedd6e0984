"""The pictures and JSON of an evaluation: confusion matrix, reliability diagram, learning curves."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed or looked for

import numpy as np
from matplotlib import pyplot as plt

from training.evaluate import Evaluation


def write_report(folder: Path, evaluation: Evaluation, history: list[dict[str, float]]) -> None:
    """Write `evaluation.json`, `confusion.png`, `reliability.png` and, for a run, `curves.png` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(evaluation.document(), indent=1) + "\n")
    _confusion(evaluation, folder / "confusion.png")
    _reliability(evaluation, folder / "reliability.png")
    if history:
        _curves(history, folder / "curves.png")


def _confusion(evaluation: Evaluation, path: Path) -> None:
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(7, 6.4), layout="constrained")
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # the root lets rare mistakes be seen
    for row, column in np.ndindex(*counts.shape) if len(counts) <= 20 else ():
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(evaluation.labels))
    axes.set_xticks(ticks, evaluation.labels, rotation=45, ha="right")
    axes.set_yticks(ticks, evaluation.labels)
    axes.set(xlabel="called", ylabel="is", title=f"Confusion of {evaluation.images:,} images")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _reliability(evaluation: Evaluation, path: Path) -> None:
    confidence, accuracy, count = (np.array(column) for column in zip(*evaluation.reliability, strict=True))
    figure, axes = plt.subplots(figsize=(5.4, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect calibration")
    axes.scatter(confidence, accuracy, s=15 + 300 * count / count.sum(), label="bins, area by images", zorder=3)
    error = evaluation.expected_calibration_error
    axes.set(
        xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03), title=f"Reliability, ECE {error:.2%}"
    )
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _curves(history: list[dict[str, float]], path: Path) -> None:
    epochs = [record["epoch"] for record in history]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, key in zip(panels, ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [record[key] for record in history], marker=".", label="training images")
        if f"watched_{key}" in history[0]:
            axes.plot(epochs, [record[f"watched_{key}"] for record in history], marker=".", label="watched images")
        axes.set(xlabel="epoch", ylabel=key)
        axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
