"""A report holds every picture that has figures, and none of another evaluation."""

import dataclasses
import json

import pytest
from PIL import Image

from model_store.report import read_report
from tests.training import linear
from training.evaluate.accuracy import evaluate
from training.evaluate.robustness import measure_robustness
from training.publish import plots
from training.publish.report import read_history, write_report

HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 1 / (epoch + 1), "kept": epoch == 2} for epoch in (1, 2, 3)
]


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(linear.classifier(), linear.images(100))


@pytest.fixture(scope="module")
def robustness():
    return measure_robustness(linear.classifier(), linear.images(5))


@pytest.fixture(scope="module")
def full(tmp_path_factory, evaluation, robustness):
    """A version whose report has everything."""
    folder = tmp_path_factory.mktemp("version")
    write_report(folder / "report", evaluation, HISTORY, robustness)
    return folder


def written(folder):
    return {path.name for path in folder.glob("*.png")}


def test_a_full_report_has_every_picture_at_a_readable_size(full):
    assert written(full / "report") == set(plots.NAMES)
    for name in plots.NAMES:
        with Image.open(full / "report" / name) as picture:
            assert picture.format == "PNG" and 550 <= picture.width <= 1400 and picture.height >= 350


def test_the_document_holds_the_figures_of_every_picture(full, evaluation, robustness):
    report = read_report((full / "report/evaluation.json").read_bytes())
    assert report.robustness == robustness.report()
    assert report.model_copy(update={"robustness": None, "history": ()}) == evaluation.report()
    assert json.loads((full / "report/evaluation.json").read_text())["history"] == HISTORY


def test_a_version_keeps_its_learning_curves_in_its_report(full, tmp_path):
    assert read_history(full) == HISTORY
    assert read_history(tmp_path) == []


DISTILLED = [{"agreement": 0.5, "loss": 2.5, "epoch": 1, "seconds": 1.5, "watched_loss": 2.0, "watched_accuracy": 0.25}]
DIVERGED = [{"accuracy": 0.1, "loss": float("nan"), "epoch": 1, "seconds": 1.5}]


@pytest.mark.parametrize("history", [DISTILLED, DIVERGED], ids=["distilled", "diverged"])
def test_a_history_is_published_record_for_record(tmp_path, evaluation, history):
    write_report(tmp_path / "report", evaluation, history)
    assert repr(read_history(tmp_path)) == repr(history)  # NaN is not equal to itself
    assert "curves.png" in written(tmp_path / "report")


def test_what_is_not_known_is_not_drawn_and_what_is_stale_goes(tmp_path, evaluation):
    for name in (*plots.NAMES, "notes.png"):
        (tmp_path / name).touch()
    write_report(tmp_path, dataclasses.replace(evaluation, mistakes=()), [])
    assert written(tmp_path) == {"confusion.png", "reliability.png", "classes.png", "notes.png"}
    assert "history" not in (tmp_path / "evaluation.json").read_text()


def test_labels_of_any_length_and_with_dollar_signs_can_be_drawn(tmp_path):
    labels = ("$x_1$ and $y", "a very long label indeed, longer than any picture is wide", *map(str, range(8)))
    write_report(tmp_path, evaluate(linear.classifier(labels), linear.images(40)), [])
    assert "mistakes.png" in written(tmp_path)
