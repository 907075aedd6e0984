"""Robustness is measured on the right images, through the service's decoder and classifier."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from model_store.manifest import UNNORMALISED
from tests.model_store.images.policies import resized
from tests.training import linear
from training.data.dataset import Images
from training.evaluate import robustness
from training.evaluate.accuracy import predict_probabilities
from training.evaluate.cifar10_c import CIFAR10_C
from training.evaluate.corruptions import CORRUPTIONS
from training.evaluate.robustness import (
    PHOTO_FILES,
    PHOTO_SIZES,
    Robustness,
    make_photos,
    measure_robustness,
    take_evenly,
)

COUNT = 12


@pytest.fixture(scope="module")
def classifier():
    return linear.classifier()


@pytest.fixture(scope="module")
def images():
    return linear.images(COUNT)


@pytest.fixture(scope="module")
def shown():
    return list[tuple[str, float]]()


@pytest.fixture(scope="module")
def measured(classifier, images, shown):
    return measure_robustness(classifier, images, lambda what, share: shown.append((what, share)))


def test_every_corruption_and_photo_is_measured_on_every_image(measured):
    assert measured.untouched.shape == (COUNT,)
    assert measured.corrupted.shape == (len(CORRUPTIONS), 5, COUNT)
    assert measured.cifar10_c.shape == (len(CIFAR10_C), 5, COUNT)
    assert measured.photos.shape == (len(PHOTO_SIZES), len(PHOTO_FILES), COUNT)


def test_predictions_are_those_of_the_classifier(measured, classifier, images):
    kind, level = 2, 4
    damaged = CORRUPTIONS[kind].apply(images.pixels, CORRUPTIONS[kind].strengths[level])
    right = predict_probabilities(classifier, damaged).argmax(1) == images.labels
    assert measured.corrupted[kind, level].tolist() == right.tolist()
    assert 0 < measured.accuracy < 1
    noisy = CIFAR10_C[0].apply(images.pixels, 5)
    right = predict_probabilities(classifier, noisy).argmax(1) == images.labels
    assert measured.cifar10_c[0, 4].tolist() == right.tolist()


def test_measuring_again_gives_the_same(measured, classifier, images):
    again = measure_robustness(classifier, images)
    assert again.report() == measured.report()
    assert np.array_equal(again.photos, measured.photos)


def test_progress_only_grows_and_names_everything(measured, shown):
    shares = [share for _, share in shown]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] < 1
    sizes = {f"{width}×{height} px" for width, height in PHOTO_SIZES}
    published = {f"CIFAR-10-C's {corruption.name}" for corruption in CIFAR10_C}
    assert {what for what, _ in shown} == {corruption.name for corruption in CORRUPTIONS} | published | sizes


def test_photos_have_the_size_and_type_they_are_named_after_and_go_through_the_services_decoder(monkeypatch):
    sent, policy = [], resized(filter="box", fit="pad")

    def decode(data, preprocessing):
        with Image.open(io.BytesIO(data)) as image:
            sent.append((image.size, image.format, preprocessing))
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(robustness, "decode", decode)
    assert make_photos(linear.PATTERNS[0], (64, 48), policy).shape == (len(PHOTO_FILES), 32, 32, 3)
    assert sent == [((64, 48), file.split()[0], policy) for file in PHOTO_FILES]


def test_a_photo_of_a_smooth_image_comes_back_nearly_as_it_was():
    for size in PHOTO_SIZES:
        decoded = make_photos(linear.PATTERNS[3], size, UNNORMALISED)
        assert decoded.dtype == np.uint8
        assert np.abs(decoded.astype(int) - linear.PATTERNS[3]).mean() < 3


@pytest.mark.parametrize(("count", "left"), [(1, 1), (10, 10), (11, 6), (20, 10), (21, 7)])
def test_a_sample_is_spread_evenly_over_a_sorted_set(count, left):
    images = Images(np.zeros((count, 32, 32, 3), np.uint8), np.arange(count, dtype=np.int32))
    labels = take_evenly(images, 10).labels
    assert len(labels) == left and labels[0] == 0
    assert len(set(np.diff(labels))) <= 1
    assert count - labels[-1] <= -(-count // 10)


def robustness_of(untouched, corrupted, photos, cifar10_c=(True, True)):
    """The hits on two images, alike for every corruption and every photo unless an array says otherwise."""
    return Robustness(
        np.array(untouched, np.bool_),
        np.array(corrupted, np.bool_) & np.ones((len(CORRUPTIONS), 5, 1), np.bool_),
        np.array(cifar10_c, np.bool_) & np.ones((len(CIFAR10_C), 5, 1), np.bool_),
        np.array(photos, np.bool_) & np.ones((len(PHOTO_SIZES), len(PHOTO_FILES), 1), np.bool_),
        linear.PATTERNS[0],
    )


def test_figures_are_means_and_errors_count_images_not_predictions():
    report = robustness_of([True, True], [True, False], [True, True], [False, True]).report()
    assert report.images == 2 and report.accuracy == 1
    assert report.corruption_accuracy == 0.5
    assert report.corruption_standard_error == pytest.approx(0.5 / np.sqrt(2), abs=1e-4)
    assert report.cifar10_c_accuracy == 0.5
    assert report.cifar10_c_standard_error == pytest.approx(0.5 / np.sqrt(2), abs=1e-4)
    assert report.cifar10_c_corruptions["fog"].accuracy == (0.5,) * 5
    assert report.photo_accuracy == 1
    assert report.photo_difference == report.photo_difference_standard_error == 0
    assert report.corruptions["blur"].accuracy == (0.5,) * 5
    assert len(report.photos) == len(PHOTO_SIZES) * len(PHOTO_FILES)


def test_the_report_is_json_and_does_not_pass_for_another_benchmark(measured):
    document = json.loads(measured.report().model_dump_json())
    assert measured.summary().items() <= document.items()
    assert "not CIFAR-10-C" in document["corruptions_note"]
    assert "frost" not in document["cifar10_c_corruptions"] and "frost" in document["cifar10_c_note"]
    for corruption in CORRUPTIONS:
        row = document["corruptions"][corruption.name]
        assert row["strengths"] == list(corruption.strengths)
        assert row["mean"] == pytest.approx(np.mean(row["accuracy"]), abs=1e-4)


def test_the_table_names_the_worst_corruption():
    corrupted, cifar10_c = (np.ones((len(kinds), 5, 2), np.bool_) for kinds in (CORRUPTIONS, CIFAR10_C))
    corrupted[3] = cifar10_c[7] = False
    table = robustness_of([True, True], corrupted, [True, False], cifar10_c).table()
    assert f"worst: {CIFAR10_C[7].name}, 0.0%" in table and "92.86%" in table
    assert f"worst: {CORRUPTIONS[3].name}, 0.0%" in table
    assert "83.33%" in table and "50.00%" in table
