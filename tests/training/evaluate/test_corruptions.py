"""That a corruption does what its name says, does nothing at no strength, and is the same at every call."""

import numpy as np
import pytest

from tests.training.linear import PATTERNS
from training.evaluate.corruptions import CORRUPTIONS

BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}
NOTHING = {"gaussian noise": 0, "blur": 0, "brightness": 0, "contrast": 1, "pixelation": 32}  # JPEG always costs
IMAGES = np.clip(PATTERNS + np.random.default_rng(0).normal(0, 8, PATTERNS.shape), 0, 255).astype(np.uint8)


def damage(corruption, strength):
    return float(((corruption.apply(IMAGES, strength).astype(float) - IMAGES) ** 2).mean())


@pytest.mark.parametrize("name", NOTHING)
def test_no_strength_changes_nothing(name):
    assert np.array_equal(BY_NAME[name].apply(IMAGES, NOTHING[name]), IMAGES)


@pytest.mark.parametrize("name", BY_NAME)
def test_damage_grows_with_strength(name):
    damages = [damage(BY_NAME[name], strength) for strength in BY_NAME[name].strengths]
    assert damages[0] > 0
    assert damages == sorted(set(damages)), "every strength must do more than the one before"


@pytest.mark.parametrize("name", BY_NAME)
def test_images_keep_their_shape_and_type_and_are_not_written_to(name):
    before = IMAGES.copy()
    damaged = BY_NAME[name].apply(IMAGES, BY_NAME[name].strengths[-1])
    assert damaged.shape == IMAGES.shape and damaged.dtype == np.uint8
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_image_is_damaged_alike_at_every_call_and_in_any_company(name):
    corruption = BY_NAME[name]
    strength = corruption.strengths[2]
    whole = corruption.apply(IMAGES, strength)
    assert np.array_equal(corruption.apply(IMAGES, strength), whole)
    assert np.array_equal(corruption.apply(IMAGES[:3], strength), whole[:3])


def test_noise_has_the_deviation_it_states_and_differs_from_image_to_image():
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    for strength in BY_NAME["gaussian noise"].strengths:
        noise = BY_NAME["gaussian noise"].apply(grey, strength).astype(float) - 128
        assert noise.std() == pytest.approx(strength, rel=0.02)
        assert abs(noise.mean()) < 0.3
    assert not np.array_equal(noise[0], noise[1])


def test_brightness_goes_both_ways_by_the_levels_it_states():
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    levels, counts = np.unique(BY_NAME["brightness"].apply(grey, 24)[:, 0, 0, 0], return_counts=True)
    assert levels.tolist() == [104, 152]
    assert counts.min() > 10


def test_contrast_keeps_the_mean_and_the_share_it_states():
    before, after = IMAGES[0].astype(float), BY_NAME["contrast"].apply(IMAGES[:1], 0.5)[0].astype(float)
    assert after.mean() == pytest.approx(before.mean(), abs=0.5)
    assert after.std() == pytest.approx(before.std() / 2, rel=0.02)


def test_pixelation_leaves_so_many_colours_a_row():
    blocks = BY_NAME["pixelation"].apply(IMAGES, 16)
    assert np.array_equal(blocks[:, ::2, ::2], blocks[:, 1::2, 1::2])
