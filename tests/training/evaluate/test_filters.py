"""The filters obey the laws of their kind: identities, weights that sum to 1, borders, directions."""

import numpy as np
import pytest

from training.evaluate.filters import SIDE, gaussian_matrix, plasma, sample, smear, transform, truncate, zoom_matrix

IMAGES = np.random.default_rng(1).random((3, SIDE, SIDE, 3))


@pytest.mark.parametrize("border", ["edge", "symmetric"])
@pytest.mark.parametrize(("deviation", "radius"), [(0, 0), (0.4, 2), (6.4, 19)])
def test_a_gaussian_averages(deviation, radius, border):
    matrix = gaussian_matrix(deviation, radius, border)
    assert matrix.min() >= 0
    assert np.allclose(matrix.sum(1), 1)
    around = matrix[16, 8:25]
    assert np.allclose(around, around[::-1])


def test_no_deviation_and_no_zoom_are_identities():
    assert np.array_equal(gaussian_matrix(0, 0, "edge"), np.eye(SIDE))
    assert np.array_equal(zoom_matrix(1.0), np.eye(SIDE))


@pytest.mark.parametrize("factor", [1.01, 1.06, 1.25, 1.75, 2.25])
def test_a_zoom_of_a_ramp_is_a_flatter_ramp_inside_it(factor):
    ramp = zoom_matrix(factor) @ np.arange(SIDE)
    steps = np.diff(ramp)
    assert ramp.min() >= 0 and ramp.max() <= SIDE - 1
    assert np.allclose(steps, steps[0]) and steps[0] == pytest.approx(1 / factor, rel=0.05)


def test_a_transform_treats_rows_and_columns_alike():
    matrix = gaussian_matrix(1, 3, "edge")
    turned = transform(IMAGES.swapaxes(1, 2), matrix)
    assert np.allclose(turned, transform(IMAGES, matrix).swapaxes(1, 2))
    assert np.allclose(transform(IMAGES, matrix)[1, :, :, 2], matrix @ IMAGES[1, :, :, 2] @ matrix.T)


def test_truncation_keeps_whole_levels():
    levels = np.arange(256) / 255
    assert np.allclose(truncate(levels), levels, rtol=0, atol=1e-12)
    assert truncate(np.array([0.999])) * 255 == pytest.approx(254)


@pytest.mark.parametrize(("degrees", "down", "right"), [(0, 0, 1), (90, 1, 0), (-90, -1, 0), (180, 0, -1)])
def test_a_smear_reads_pixels_in_its_direction(degrees, down, right):
    dot = np.zeros((1, SIDE, SIDE, 1))
    dot[0, 16, 16] = 1
    smeared = smear(dot, 3, 2, np.array([degrees]))[0, :, :, 0]
    trail = [smeared[16 - step * down, 16 - step * right] for step in range(6)]
    assert trail == sorted(trail, reverse=True) and trail[0] > trail[3] > 0
    assert smeared[16 + down, 16 + right] == 0


def test_plasma_fills_its_range_and_is_smoother_with_a_higher_decay():
    rng = np.random.default_rng(0)
    rough, smooth = plasma(50, 1.75, rng), plasma(50, 3, rng)
    for noise in (rough, smooth):
        assert noise.shape == (50, SIDE, SIDE, 1)
        assert np.allclose(noise.min((1, 2)), 0) and np.allclose(noise.max((1, 2)), 1)
    assert np.abs(np.diff(rough, axis=1)).mean() > 1.5 * np.abs(np.diff(smooth, axis=1)).mean()


def test_sampling_at_pixels_gives_pixels_and_between_them_their_mean():
    places = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1) + np.zeros((3, 1, 1, 1))
    assert np.array_equal(sample(IMAGES, places, "reflect"), IMAGES)
    between = sample(IMAGES, places + np.array((0.5, 0)), "reflect")
    assert np.allclose(between[:, :, :-1], (IMAGES[:, :, :-1] + IMAGES[:, :, 1:]) / 2)


@pytest.mark.parametrize(("border", "column"), [("reflect", 1), ("symmetric", 0)])
def test_beyond_the_border_the_image_is_mirrored(border, column):
    places = (
        np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1) - np.array((1, 0)) + np.zeros((3, 1, 1, 1))
    )
    assert np.allclose(sample(IMAGES, places, border)[:, :, 0], IMAGES[:, :, column])
