import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.explain.saliency import MASK_COUNT, fit_saliency, hide, sample_masks
from app.settings import Settings
from app.versions.loading import choose
from tests.app.explain.deletion import RANDOM, SERVED, SOBEL, mean_areas
from training.data.load import load_dataset

masks = sample_masks()
PLACES = {
    "top left": (slice(0, 8), slice(0, 8)),
    "top right": (slice(0, 8), slice(24, 32)),
    "bottom left": (slice(24, 32), slice(0, 8)),
    "middle": (slice(12, 20), slice(12, 20)),
}


def test_masks_come_in_pairs_that_hide_each_other_and_half_of_the_image():
    assert masks.visible.shape == (MASK_COUNT, 32, 32) and masks.visible.dtype == np.float32
    assert np.abs(masks.visible[::2] + masks.visible[1::2] - 1).max() < 1e-6
    assert np.median(masks.visible, (1, 2)) == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_masks_and_another_gives_others():
    assert np.array_equal(sample_masks().visible, masks.visible)
    assert np.array_equal(sample_masks().solution, masks.solution)
    assert np.abs(sample_masks(seed=1).visible - masks.visible).max() > 0.9


@settings(deadline=None)
@given(arrays.arrays(np.uint8, (3,)))
def test_hiding_parts_of_one_flat_colour_changes_nothing(colour):
    flat = np.broadcast_to(colour, (32, 32, 3))
    assert np.array_equal(hide(flat, masks.visible[:4]), np.broadcast_to(flat, (4, 32, 32, 3)))


def test_visible_pixels_stay_and_hidden_ones_are_blurred():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    visible, hidden = hide(image, np.stack([np.ones((32, 32)), np.zeros((32, 32))]).astype(np.float32))
    assert np.array_equal(visible, image)
    assert hidden.std() < image.std() / 5 and hidden.mean() == pytest.approx(image.mean(), abs=3)


@pytest.mark.parametrize("shape", [(16, 16, 1), (28, 28, 1), (96, 64, 3), (224, 224, 3)], ids=str)
def test_masks_of_32_cells_cover_an_image_of_any_size(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    half = np.ones((1, 32, 32), np.float32)
    half[:, :, :16] = 0
    (copy,) = hide(image, half)
    middle, away = shape[1] // 2, max(1, shape[1] // 16)
    assert np.array_equal(copy[:, middle + away :], image[:, middle + away :])
    hidden = slice(0, middle - away)
    assert copy.shape == shape and copy[:, hidden].std() < image[:, hidden].std() / 3


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_map_peaks_where_the_network_looks(place):
    image = np.zeros((32, 32, 3), np.uint8)
    image[place] = 255

    def network(copies):
        return (copies[:, *place].mean((1, 2, 3)) / 255 * 0.9 + 0.05).astype(np.float32)

    saliency = fit_saliency(masks, network(image[None])[0], network(hide(image, masks.visible)))
    peak = np.zeros((32, 32), bool)
    peak.ravel()[saliency.argmax()] = True
    assert peak[place].any()
    assert saliency[place].mean() > 0.5 > 5 * np.median(saliency)


@settings(deadline=None)
@given(arrays.arrays(np.float32, (MASK_COUNT,), elements=st.floats(0, 1, width=32)), st.floats(0, 1, width=32))
def test_any_probabilities_give_a_map_from_0_to_1(hidden, unmasked):
    saliency = fit_saliency(masks, unmasked, hidden)
    assert saliency.shape == (32, 32) and saliency.dtype == np.float32
    assert saliency.min() >= 0 and saliency.max() in (0, 1)


def test_a_network_that_sees_nothing_gives_an_empty_map():
    assert not fit_saliency(masks, 0.25, np.full(MASK_COUNT, 0.25, np.float32)).any()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA does not name the real data")
@pytest.mark.timeout(600)
def test_deleting_by_the_map_loses_the_class_sooner_than_by_chance_or_edges():
    """On 64 held-out images that no choice was made on."""
    classifier = choose(Settings()).loaded.classifier
    images = load_dataset(Path(os.environ["CIFAR10_DATA"])).val.pixels[1000:1064]
    mean = mean_areas(lambda copies: classifier.predict(copies).probabilities, images)
    for kind in ("pixels", "regions"):
        assert mean[SERVED][kind] < mean[RANDOM][kind] - 0.15, kind
        assert mean[SERVED][kind] < mean[SOBEL][kind] - 0.05, kind
    assert mean[SERVED]["insertion"] > max(mean[RANDOM]["insertion"], mean[SOBEL]["insertion"]) + 0.05
