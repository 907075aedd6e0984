import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.fit.augmentation import (
    KERNELS,
    affine,
    alternating_flip,
    augment,
    cutout,
    mix,
    resample,
    resize_like_uploads,
    translate,
    translate_on_device,
)
from training.recipes import RECIPES, Affine, Mixing, Translate, Uploads


def pixels(n=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


AUGMENTATIONS = {name: recipe.augmentation for name, recipe in RECIPES.items() if recipe.augmentation}
AUGMENTATIONS["uploads"] = Translate(pixels=2, uploads=Uploads())


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


def uploads_of(images, **changes):
    nothing = {"share": 1.0, "zoom": 1.0, "narrowest": 1.0, "widest": 1.0, "compressed": 0.0}
    return resize_like_uploads(images, np.random.default_rng(0), Uploads(**nothing | changes))


def test_uploads_that_change_nothing_leave_images_as_they_are():
    assert np.abs(uploads_of(pixels(64)).astype(int) - pixels(64)).max() <= 1


def test_the_share_of_images_that_become_uploads_is_the_recipes():
    images = pixels(2_000)
    changed = (uploads_of(images, share=0.25, zoom=1.5) != images).any(axis=(1, 2, 3)).mean()
    assert 0.2 < changed < 0.3


RESAMPLING = ["BOX", "BILINEAR", "BICUBIC", "LANCZOS"]


@pytest.mark.parametrize("kernel", range(4), ids=RESAMPLING)
@pytest.mark.parametrize(("start", "length"), [(-0.5, 1.8), (0.21, 0.56)], ids=["squeezed", "stretched"])
def test_a_window_is_resampled_as_pillow_would(kernel, start, length):
    images = pixels(16)
    windows = np.tile([[start, 0.0]], (16, 1)), np.tile([[length, 1.0]], (16, 1))
    seen = resample(images, *windows, *KERNELS[kernel])
    reflected = np.pad(images, ((0, 0), (32, 32), (0, 0), (0, 0)), mode="symmetric")
    box = (0, 32 + 32 * start, 32, 32 + 32 * (start + length))
    method = Image.Resampling[RESAMPLING[kernel]]
    expected = [np.asarray(Image.fromarray(image).resize((32, 32), method, box=box)) for image in reflected]
    equal = np.abs(seen.astype(int) - np.stack(expected)) <= 1
    assert equal.mean() > 0.95  # a box whose edge falls on a pixel's centre may take either neighbour


def test_uploads_squeeze_one_axis_and_keep_a_flat_image_flat():
    stripes = np.zeros((200, 32, 32, 3), np.uint8)
    stripes[:, ::4], stripes[:, 1::4] = 255, 255  # rows, two on and two off
    seen = uploads_of(stripes, narrowest=1.8, widest=1.8).astype(int)
    along = np.abs(np.diff(seen, axis=2)).mean((1, 2, 3))
    assert (along < 1).all()  # whichever axis is squeezed, the rows stay rows
    across = np.abs(np.diff(seen, axis=1)).mean((1, 2, 3))
    assert len(np.unique(across > 0.9 * across.max())) == 2  # only some images have their rows squeezed


def test_compression_changes_no_pixel_much():
    images = np.repeat(np.repeat(pixels(20)[:, ::8, ::8], 8, 1), 8, 2)
    seen = uploads_of(images, compressed=1.0, quality=95)
    assert 0 < np.abs(seen.astype(int) - images).mean() < 60


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_a_mixed_image_holds_its_share_of_itself_and_of_the_one_before(method):
    images = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 32, 32, 3)).copy()
    mixed, own = mix(images, np.random.default_rng(0), Mixing(method))
    other = np.roll(np.arange(200), 1)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)), own * np.arange(200) + (1 - own) * other, atol=0.51)
    assert 0 <= own.min() < 0.3 and 0.9 < own.max() <= 1  # a rectangle may reach beyond the border
    if method == "cutmix":
        assert all(set(np.unique(image)) <= {index, other[index]} for index, image in enumerate(mixed))


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_images_outside_the_share_are_not_mixed(method):
    images = pixels(400)
    mixed, own = mix(images, np.random.default_rng(0), Mixing(method, share=0.5))
    whole = own == 1
    assert 0.4 < whole.mean() < 0.6 and np.array_equal(mixed[whole], images[whole])
