"""Mistakes, classes and people: what an evaluation says beyond its overall figures."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training import linear
from training.data.cifar10 import LABELS, human_accuracy
from training.data.dataset import Images
from training.evaluate.accuracy import calibration_error, confident_mistakes, evaluate, reliability_bins

OTHERS = tuple(f"thing {number}" for number in range(10))


@pytest.fixture(scope="module")
def images():
    return linear.images(200)


@pytest.fixture(scope="module")
def evaluation(images):
    return evaluate(linear.classifier(), images)


def test_mistakes_are_the_most_confident_ones_most_confident_first(evaluation, images):
    probabilities = linear.classifier().predict(images.pixels).probabilities
    wrong = probabilities.argmax(1) != images.labels
    expected = sorted(probabilities.max(1)[wrong], reverse=True)[:32]
    assert len(evaluation.mistakes) == 32 < wrong.sum()
    assert [mistake.confidence for mistake in evaluation.mistakes] == pytest.approx(expected)


def test_a_mistake_says_which_image_what_it_is_and_what_it_was_called(evaluation, images):
    for mistake in evaluation.mistakes:
        assert mistake.label == LABELS[images.labels[mistake.index]] != mistake.called
        assert np.array_equal(mistake.pixels, images.pixels[mistake.index])


def test_there_may_be_no_mistakes_and_fewer_than_were_asked_for():
    images = Images(np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 1], np.int32))
    right, half = np.eye(2, dtype=np.float32), np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    assert confident_mistakes(right, images, ("a", "b")) == ()
    (only,) = confident_mistakes(half, images, ("a", "b"))
    assert (only.index, only.label, only.called, only.confidence) == (1, "b", "a", pytest.approx(0.8))


def test_calibration_error_is_the_weighted_gap():
    rows = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], np.float32)
    labels = np.array([0, 1, 0, 1], np.int32)
    assert calibration_error(reliability_bins(rows, labels)) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4, abs=1e-6)


def test_the_worst_class_is_named_with_its_distance_to_the_best(evaluation):
    recalls = dict(zip(LABELS, evaluation.recall_by_class, strict=True))
    worst = min(recalls, key=recalls.__getitem__)
    assert evaluation.worst_class == evaluation.summary()["worst_class"] == worst
    assert evaluation.summary()["worst_class_recall"] == pytest.approx(recalls[worst], abs=1e-4)
    assert evaluation.report().class_gap == pytest.approx(max(recalls.values()) - recalls[worst], abs=1e-4)
    assert f"worst class: {worst}" in evaluation.table()


def test_no_class_is_the_worst_where_all_are_alike(evaluation):
    alike = replace(evaluation, recall_by_class=(1.0,) * 10)
    assert "worst class" in evaluation.table() and "worst class" not in alike.table()


def test_people_stand_beside_the_network_where_the_labels_are_cifar10s(evaluation):
    classes = evaluation.report().classes
    assert classes["cat"].human_accuracy == 0.915 and classes["horse"].human_accuracy == 0.979
    assert "people" in evaluation.table() and "91.5%" in evaluation.table()
    assert "Peterson" in evaluation.report().human_source


@pytest.mark.parametrize("labels", [OTHERS, LABELS[::-1], LABELS[:9]], ids=["others", "another order", "fewer"])
def test_people_are_left_out_where_the_labels_are_not_cifar10s(labels):
    assert human_accuracy(labels) is None


def test_an_evaluation_with_other_labels_says_nothing_of_people(images):
    other = evaluate(linear.classifier(OTHERS), images)
    assert "people" not in other.table()
    assert other.report().human_source is None
    assert other.report().classes["thing 1"].model_fields_set == {"precision", "recall"}


def test_accuracies_stand_with_their_number_of_images_and_interval(evaluation):
    lines = evaluation.table().splitlines()
    for name in ("accuracy   ", "worst class"):
        (line,) = [line for line in lines if line.startswith(name)]
        assert " of " in line and "(95% interval" in line
