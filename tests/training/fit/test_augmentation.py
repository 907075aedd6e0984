import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.fit.augmentation import affine, alternating_flip, augment, cutout, translate, translate_on_device
from training.recipes import RECIPES, Affine, Translate


def pixels(n=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


AUGMENTATIONS = {name: recipe.augmentation for name, recipe in RECIPES.items() if recipe.augmentation}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_epoch_depends_on_seed_and_number_alone(name):
    augmentation, images = AUGMENTATIONS[name], pixels()
    once = augment(images, augmentation, seed=1, epoch=2)
    assert np.array_equal(once, augment(images, augmentation, seed=1, epoch=2))
    assert not np.array_equal(once, augment(images, augmentation, seed=1, epoch=3))
    assert not np.array_equal(once, augment(images, augmentation, seed=2, epoch=2))
    assert once.dtype == np.uint8 and once.shape == images.shape
    assert np.array_equal(images, pixels())


def test_two_epochs_show_each_image_both_ways_once():
    images = pixels(64)
    even, odd = (alternating_flip(images, 0, epoch) for epoch in (0, 1))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(even, odd, strict=True)]
    as_is = [np.array_equal(a, b) for a, b in zip(even, images, strict=True)]
    assert all(mirrored) and 0 < sum(as_is) < 64


@pytest.mark.parametrize("epoch", [0, 1])
def test_which_way_an_image_is_shown_says_nothing_of_its_shift(epoch):
    images = np.zeros((2_000, 32, 32, 3), np.uint8)
    images[:, :, 20] = 200  # a line, 11 of 31 to the right of it
    shown = augment(images, Translate(pixels=4), seed=3, epoch=epoch)
    line = shown[:, 16, :, 0].argmax(1)
    mirrored = line < 16
    shifts = np.where(mirrored, line - 11, line - 20)
    assert set(shifts[mirrored]) == set(shifts[~mirrored]) == set(range(-4, 5))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1_000))
def test_translation_is_a_window_of_the_reflected_image(reach, seed):
    images = pixels(4, seed)
    shifted = translate(images, np.random.default_rng(seed), reach)
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    offsets = np.random.default_rng(seed).integers(0, 2 * reach + 1, size=(4, 2))
    for i, (dy, dx) in enumerate(offsets):
        assert np.array_equal(shifted[i], padded[i, dy : dy + 32, dx : dx + 32])


def test_cutout_greys_a_square_and_nothing_else():
    images = np.zeros((50, 32, 32, 3), np.uint8)
    cut = cutout(images, np.random.default_rng(0), 12)
    assert set(np.unique(cut)) == {0, 120}
    assert (cut[..., 0] == 120).sum((1, 2)).max() == 144


def test_affine_without_any_reach_is_the_identity():
    images = pixels()
    assert np.array_equal(affine(images, np.random.default_rng(0), Affine(0, 0, 0, mirror=False)), images)


class Fixed:
    """A generator whose every draw is the upper end of its range."""

    def uniform(self, low, high, size):
        return np.full(size, high)

    def random(self, n):
        return np.ones(n)


def test_affine_turns_by_its_angle():
    images = pixels()
    turned = affine(images, Fixed(), Affine(rotation=90, shift=0, zoom=0, mirror=False))
    assert np.array_equal(turned, np.rot90(images, -1, (1, 2))) or np.array_equal(turned, np.rot90(images, 1, (1, 2)))


def test_affine_shifts_by_its_share_and_repeats_the_border():
    images = pixels()
    shifted = affine(images, Fixed(), Affine(rotation=0, shift=0.25, zoom=0, mirror=False))
    assert np.array_equal(shifted[:, :24, :24], images[:, 8:, 8:])
    assert np.array_equal(shifted[:, 30, 30], images[:, 31, 31])


def test_every_recipe_says_how_it_augments():
    assert isinstance(RECIPES["fast"].augmentation, Translate)
    assert RECIPES["notebook-augmented"].augmentation == Affine(rotation=40, shift=0.2, zoom=0.2, mirror=True)


@pytest.mark.parametrize("augmentation", [Translate(pixels=2), Translate(pixels=4, cutout=12)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_device_shows_the_same_views(augmentation, epoch):
    images = pixels(64)
    assert np.array_equal(translate_on_device(images, augmentation, 7, epoch), augment(images, augmentation, 7, epoch))
