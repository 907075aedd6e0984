"""Made-up images and answers; that the shipped network's own stream raises no alarm is tested where CIFAR-10 is."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_store.classifier import Predictions
from model_store.drift import (
    FEATURES,
    MIN_DRIFT_IMAGES,
    bin_counts_by_feature,
    bin_indices,
    bins_of,
    chance,
    compare_with_reference,
    count_bins,
    count_reference,
    psi,
    split_by_feature,
    status_of,
)
from model_store.manifest import Verdicts
from model_store.novelty import verdict

LABELS = tuple("abcdefghij")
VERDICTS = Verdicts(novelty_above=0.95, confidence_below=0.8, scores=(-10.0, 0.0))
COUNTS = arrays(np.int64, 8, elements=st.integers(0, 10_000)).filter(lambda counts: counts.sum() > 0)


def photos(n, seed=0):
    """Smooth blotches of many brightnesses, a little rough: (N, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-60, 60, (n, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
    return np.clip(rng.normal(120, 40, (n, 1, 1, 3)) + coarse + rng.normal(0, 4, (n, 32, 32, 3)), 0, 255).astype(
        np.uint8
    )


def answers(n, seed=0, one_class=None):
    rng = np.random.default_rng(seed)
    best, confidence = rng.integers(0, 10, n), 1 - rng.beta(0.5, 4, n)
    if one_class is not None:
        best[:] = one_class
    probabilities = np.repeat((1 - confidence)[:, None] / 9, 10, axis=1)
    probabilities[np.arange(n), best] = confidence
    return Predictions(probabilities.astype(np.float32), rejected=rng.random(n) > 0.95)


def counted(images, predictions):
    return count_bins(bin_indices(images, predictions.probabilities, predictions.rejected, VERDICTS), 10)


REFERENCE = count_reference(photos(5_000), answers(5_000), VERDICTS)


def statuses(images, predictions):
    comparisons = compare_with_reference(REFERENCE, counted(images, predictions), LABELS)
    return {feature: comparison.status for feature, comparison in comparisons.items()}


def blurred(images):
    near = [np.roll(images, (down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return np.mean(near, axis=0).astype(np.uint8)


def test_every_image_is_counted_once_for_each_feature():
    counts = split_by_feature(counted(photos(37), answers(37)), 10)
    assert {feature: (len(bins), bins.sum()) for feature, bins in counts.items()} == {
        feature: (bins, 37) for feature, bins in bin_counts_by_feature(10).items()
    }


def test_counts_of_batches_add_up_to_those_of_the_whole():
    images, predictions = photos(50), answers(50)
    parts = (slice(0, 1), slice(1, 17), slice(17, 50))
    added = sum(
        counted(images[part], Predictions(predictions.probabilities[part], rejected=predictions.rejected[part]))
        for part in parts
    )
    np.testing.assert_array_equal(added, counted(images, predictions))


@pytest.mark.parametrize(("level", "bin_"), [(0, 0), (15, 0), (17, 1), (128, 8), (255, 15)])
def test_brightness_is_the_mean_luma_in_sixteenths(level, bin_):
    counts = split_by_feature(counted(np.full((1, 32, 32, 3), level, np.uint8), answers(1)), 10)
    assert counts["brightness"].argmax() == bin_


def test_green_is_brighter_than_red_and_red_than_blue():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    for channel in range(3):
        images[channel, ..., channel] = 255
    places = [split_by_feature(counted(image[None], answers(1)), 10)["brightness"].argmax() for image in images]
    assert places == [4, 9, 1]  # 0.299, 0.587 and 0.114 of 16


def test_brightness_follows_the_channel_order_and_grey_is_its_own_luma():
    blue = np.zeros((1, 48, 64, 3), np.uint8)
    blue[..., 2] = 255
    probabilities, rejected = answers(1).probabilities, np.zeros(1, np.bool_)

    def brightness(images, order="RGB"):
        bins = bin_indices(images, probabilities, rejected, VERDICTS, order)
        return split_by_feature(count_bins(bins, 10), 10)["brightness"].argmax()

    assert brightness(blue) == brightness(blue[..., ::-1], "BGR") == 1
    assert brightness(blue, "BGR") == 4
    assert brightness(np.full((1, 28, 28, 1), 200, np.uint8)) == 12


def test_a_flat_image_is_least_sharp_and_a_chessboard_sharpest():
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    images = np.stack([np.full_like(board, 90), board])
    counts = split_by_feature(counted(images, answers(2)), 10)["sharpness"]
    assert counts[0] == counts[-1] == 1


def test_verdicts_are_counted_as_they_are_given():
    predictions = answers(500)
    verdicts = [
        verdict(confidence, rejected, VERDICTS)
        for confidence, rejected in zip(
            predictions.probabilities.max(1).tolist(), predictions.rejected.tolist(), strict=True
        )
    ]
    counts = split_by_feature(counted(photos(500), predictions), 10)["verdict"]
    assert [verdicts.count(name) for name in bins_of("verdict", LABELS)] == counts.tolist()


def test_bins_are_labels_or_one_edge_more_than_there_are_bins():
    for feature, size in bin_counts_by_feature(10).items():
        assert len(bins_of(feature, LABELS)) == size + (feature not in ("class", "verdict"))
    assert bins_of("brightness", LABELS)[:3] == (0, 16, 32)
    assert bins_of("sharpness", LABELS)[:3] == (1, 1.41, 2)


@given(COUNTS, COUNTS)
def test_psi_is_finite_never_negative_and_next_to_nothing_for_the_same_counts(reference, recent):
    assert 0 <= psi(reference, recent) < 100
    assert psi(reference + 50, reference + 50) < 0.001


def test_psi_of_known_shares():
    """0.3 ln 4 + 0.3 ln 1.6 = 0.5569 for shares of 0.5, 0.5 and 0.8, 0.2."""
    assert psi(np.array([50_000, 50_000]), np.array([80_000, 20_000])) == pytest.approx(
        0.3 * np.log(0.8 / 0.5) + 0.3 * np.log(0.5 / 0.2), rel=1e-3
    )


def test_no_image_has_no_drift():
    assert psi(np.array([5, 0, 3]), np.array([0, 0, 0])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("bins", "images"), [(3, 500), (10, 500), (16, 2_000)])
def test_chance_is_what_one_sample_of_a_thousand_exceeds(bins, images):
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.full(bins, 5))
    indexes = [psi(rng.multinomial(5_000, shares), rng.multinomial(images, shares)) for _ in range(4_000)]
    above = float(np.mean(np.array(indexes) > chance(bins, 5_000, images)))
    assert above < 0.003
    assert np.mean(indexes) == pytest.approx((bins - 1) * (1 / 5_000 + 1 / images), rel=0.1)


@pytest.mark.parametrize(
    ("index", "bins", "images", "expected"),
    [
        (9.0, 10, MIN_DRIFT_IMAGES - 1, "too_few_images"),
        (0.09, 10, MIN_DRIFT_IMAGES, "ok"),
        (0.11, 10, MIN_DRIFT_IMAGES, "watch"),
        (0.26, 10, MIN_DRIFT_IMAGES, "drifted"),
        (0.3, 100, MIN_DRIFT_IMAGES, "ok"),  # of so many bins this is chance
        (0.3, 100, 10_000, "drifted"),
    ],
)
def test_an_alarm_is_for_what_is_large_and_no_chance(index, bins, images, expected):
    assert status_of(index, bins, 5_000, images) == expected


def test_an_unchanged_stream_raises_no_alarm():
    for seed in range(1, 6):
        assert set(statuses(photos(600, seed), answers(600, seed)).values()) == {"ok"}


def test_a_few_images_raise_no_alarm_whatever_they_are():
    assert set(statuses(photos(499) // 4, answers(499, one_class=3)).values()) == {"too_few_images"}


@pytest.mark.parametrize(
    ("change", "feature"), [(lambda images: images // 3, "brightness"), (blurred, "sharpness")], ids=["dark", "blurred"]
)
def test_changed_images_raise_their_feature(change, feature):
    status_by_feature = statuses(change(photos(600, 1)), answers(600, 1))
    assert status_by_feature[feature] == "drifted"
    assert {status_by_feature[other] for other in ("class", "confidence", "verdict")} == {"ok"}


def test_changed_answers_raise_their_feature():
    by_feature_status = statuses(photos(600, 1), answers(600, 1, one_class=3))
    assert {feature for feature, status in by_feature_status.items() if status != "ok"} == {"class"}
    predictions = answers(600, 1)
    by_feature_status = statuses(photos(600, 1), replace(predictions, rejected=np.arange(600) % 2 == 0))
    assert {feature for feature, status in by_feature_status.items() if status != "ok"} == {"verdict"}


needs_data = pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA names no folder with CIFAR-10")


@pytest.mark.data
@needs_data
def test_cifar10s_held_out_images_in_any_order_raise_no_alarm_and_darkened_or_blurred_do():
    from training.data.load import load_dataset

    images = load_dataset(Path(os.environ["CIFAR10_DATA"])).val.pixels
    predictions = answers(len(images))
    reference = count_reference(images, predictions, VERDICTS)
    some = np.random.default_rng(2).permutation(len(images))[:600]
    part = Predictions(predictions.probabilities[some], rejected=predictions.rejected[some])

    def raised(shown):
        comparisons = compare_with_reference(reference, counted(shown, part), LABELS)
        return {feature for feature in FEATURES if comparisons[feature].status != "ok"}

    assert raised(images[some]) == set()
    assert "brightness" in raised(images[some] // 2)
    assert raised(blurred(images[some])) == {"sharpness"}
