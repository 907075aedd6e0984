"""The corruptions are CIFAR-10-C's: its parameters, its order of operations, and damage that fits its severities."""

import numpy as np
import pytest

from tests.training.linear import PATTERNS
from training.evaluate.cifar10_c import CIFAR10_C, SEED, SEVERITIES
from training.evaluate.filters import gaussian_matrix, transform, truncate

PUBLISHED = {  # make_cifar_c.py in hendrycks/robustness, ImageNet-C/create_c, at ca36008
    "gaussian noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot noise": (500, 250, 100, 75, 50),
    "impulse noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom blur": (1.06, 1.11, 1.16, 1.21, 1.26),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic transform": tuple(
        tuple(pytest.approx(32 * share) for share in shares)
        for shares in ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "JPEG compression": (80, 65, 58, 50, 40),
}
BY_NAME = {corruption.name: corruption for corruption in CIFAR10_C}
# The distance does not rise in every step of these, on CIFAR-10's images either, or on these for pixelate. Elastic
# transform's falls: its severities move the whole image less and its parts more.
UNEVEN = {"glass blur", "motion blur", "elastic transform", "pixelate"}
IMAGES = PATTERNS.repeat(4, 0)


def distance(name, severity, images=IMAGES):
    return float(np.abs(BY_NAME[name].apply(images, severity).astype(float) - images).mean())


def test_names_and_parameters_are_the_published_ones():
    assert {corruption.name: corruption.parameters for corruption in CIFAR10_C} == PUBLISHED


@pytest.mark.parametrize("name", BY_NAME)
def test_images_keep_their_shape_and_type_and_are_not_written_to(name):
    before = IMAGES.copy()
    corrupted = BY_NAME[name].apply(IMAGES, 5)
    assert corrupted.shape == IMAGES.shape and corrupted.dtype == np.uint8
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("name", BY_NAME)
def test_images_are_corrupted_alike_at_every_call(name):
    assert np.array_equal(BY_NAME[name].apply(IMAGES, 3), BY_NAME[name].apply(IMAGES, 3))


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - UNEVEN))
def test_the_distance_to_the_original_grows_with_severity(name):
    distances = [distance(name, severity) for severity in SEVERITIES]
    assert distances[0] > 0
    assert distances == sorted(set(distances))


@pytest.mark.parametrize("name", ["glass blur", "motion blur", "pixelate"])
def test_the_last_severity_is_worse_than_the_first(name):
    assert distance(name, 5) > distance(name, 1) > 0


def test_random_corruptions_differ_between_images_and_batches(monkeypatch):
    monkeypatch.setattr("training.evaluate.cifar10_c.BATCH", 2)
    alike = np.repeat(IMAGES[:1], 4, 0)
    for name in ("gaussian noise", "glass blur", "motion blur", "snow", "fog", "elastic transform"):
        assert len({image.tobytes() for image in BY_NAME[name].apply(alike, 5)}) == 4, name


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_published_moments(severity):
    grey = np.full((20, 32, 32, 3), 127, np.uint8)
    level = 127 / 255
    for name, deviation in (
        ("gaussian noise", PUBLISHED["gaussian noise"][severity - 1]),
        ("shot noise", np.sqrt(level / PUBLISHED["shot noise"][severity - 1])),
    ):
        noise = BY_NAME[name].apply(grey, severity) / 255 - level
        assert noise.std() == pytest.approx(deviation, rel=0.02), name
        assert noise.mean() == pytest.approx(-0.5 / 255, abs=0.001), name  # truncated, not rounded
    impulses = BY_NAME["impulse noise"].apply(grey, severity)
    assert set(np.unique(impulses)) == {0, 127, 255}
    assert (impulses != 127).mean() == pytest.approx(PUBLISHED["impulse noise"][severity - 1], rel=0.1)


@pytest.mark.parametrize("severity", [2, 5])
def test_glass_blur_is_the_published_loop(severity):
    images = IMAGES[:3]
    deviation, _, iterations = PUBLISHED["glass blur"][severity - 1]
    smooth = gaussian_matrix(deviation, int(4 * deviation + 0.5), "edge")
    expected = truncate(transform(images / 255, smooth))
    rng = np.random.default_rng((SEED, severity, 0))
    for _ in range(iterations):
        offsets = rng.integers(-1, 1, (2, len(images), 30, 30))
        for image, row, column in np.ndindex(len(images), 30, 30):
            y, x = 31 - row, 31 - column
            down, right = offsets[:, image, y - 2, x - 2]
            expected[image, y, x] = expected[image, y + down, x + right]
    expected = (np.clip(transform(expected, smooth), 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(BY_NAME["glass blur"].apply(images, severity), expected)


def test_brightness_keeps_hue_and_saturation():
    image = np.full((1, 32, 32, 3), (100, 50, 0), np.uint8)
    assert BY_NAME["brightness"].apply(image, 2)[0, 0, 0].tolist() == [125, 62, 0]  # 100 + 25.5, and its half
    assert BY_NAME["brightness"].apply(np.zeros_like(image), 2)[0, 0, 0].tolist() == [25, 25, 25]


def test_contrast_is_lost_around_each_channels_mean():
    corrupted = BY_NAME["contrast"].apply(IMAGES, 5).astype(float)
    assert np.allclose(corrupted.mean((1, 2)), IMAGES.mean((1, 2)) - 0.5, atol=0.1)
    assert np.allclose(corrupted.std((1, 2)), 0.15 * IMAGES.std((1, 2)), rtol=0.05)


@pytest.mark.parametrize("name", ["defocus blur", "glass blur", "motion blur", "zoom blur", "elastic transform"])
def test_blurs_and_shifts_leave_a_flat_image_as_it_is(name):
    flat = np.full((4, 32, 32, 3), (30, 130, 230), np.uint8)
    for severity in SEVERITIES:
        assert np.abs(BY_NAME[name].apply(flat, severity).astype(int) - flat).max() <= 1  # truncated
