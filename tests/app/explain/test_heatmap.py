import io

import numpy as np
from PIL import Image

from app.explain.heatmap import OPACITY, PICTURE_SIDE, draw_heatmap, draw_overlay, draw_pixels

seen = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
corner = np.zeros((32, 32), np.float32)
corner[:8, :8] = 1


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image


def test_pixels_are_written_bit_for_bit():
    assert np.array_equal(np.asarray(opened(draw_pixels(seen))), seen)


def test_heat_is_transparent_where_nothing_matters_and_never_hides_what_does():
    heatmap = np.asarray(opened(draw_heatmap(corner, 32, 32)))
    assert heatmap.shape == (PICTURE_SIDE, PICTURE_SIDE, 4)
    assert heatmap[-1, -1, 3] == 0 and heatmap[..., 3].max() == int(255 * OPACITY)


def test_heat_grows_lighter_with_importance():
    ramp = np.linspace(0, 1, 32, dtype=np.float32)[None].repeat(32, 0)
    grey = np.asarray(opened(draw_heatmap(ramp, 32, 32)).convert("RGB").convert("L"))[PICTURE_SIDE // 2].astype(int)
    assert (np.diff(grey) >= 0).all() and grey[-1] - grey[0] > 150


def test_an_overlay_is_coloured_where_it_matters_and_grey_elsewhere():
    overlay = np.asarray(opened(draw_overlay(seen, corner))).astype(int)
    assert overlay.shape == (PICTURE_SIDE, PICTURE_SIDE, 3)
    assert (np.ptp(overlay[100:, 100:], axis=-1) == 0).all()
    assert (np.ptp(overlay[:48, :48], axis=-1) > 30).all()
    assert np.array_equal(overlay[100:, 100:], np.asarray(opened(draw_overlay(seen, 0 * corner)))[100:, 100:])


def test_pictures_keep_the_proportions_of_the_image_and_show_its_colours():
    bgr = np.zeros((48, 96, 3), np.uint8)
    bgr[..., 2] = 200
    red = np.asarray(opened(draw_pixels(bgr, "BGR")))
    assert red.shape == (48, 96, 3) and (red == (200, 0, 0)).all()
    assert opened(draw_heatmap(corner, 48, 96)).size == opened(draw_overlay(bgr, corner, "BGR")).size == (256, 128)
    assert np.asarray(opened(draw_pixels(np.full((28, 28, 1), 7, np.uint8)))).tolist() == [[7] * 28] * 28
