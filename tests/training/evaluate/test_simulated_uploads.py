"""Simulated uploads: size, encoding and content of the files that stand for people's photos."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluate.simulated_uploads import add_detail, encode, enlarge, fill_frame, stretch, surround

ORIGINAL = Image.open(Path(__file__).parents[3] / "docs" / "cat.png").convert("RGB")
FRAMES = [(256, 192), (192, 256), (342, 192)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def reopened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, in levels."""
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


def power_by_band(image: Image.Image) -> tuple[float, float]:
    """Spectral power (without the mean) up to and above 16 cycles an image, the most that 32 pixels hold."""
    grey = np.asarray(image.convert("L"), np.float64)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size, 1 / size) for size in grey.shape), indexing="ij"))
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    return float(power[frequency <= 16].sum()), float(power[frequency > 24].sum())


def test_png_is_lossless_and_a_lower_jpeg_quality_loses_more():
    assert difference(reopened(encode(ORIGINAL, None)), ORIGINAL) == 0
    assert reopened(encode(ORIGINAL, None)).format == "PNG"
    good, poor = (reopened(encode(ORIGINAL, quality)) for quality in (90, 30))
    assert good.format == poor.format == "JPEG"
    assert 0 < difference(good, ORIGINAL) < difference(poor, ORIGINAL)


def test_nearest_enlargement_is_undone_by_averaging():
    large = enlarge(ORIGINAL, rng(), 128, Image.Resampling.NEAREST)
    assert large.size == (128, 128)
    assert difference(large.reduce(4), ORIGINAL) == 0


def test_detail_is_added_above_what_32_pixels_hold_and_nowhere_else():
    smooth = enlarge(ORIGINAL, rng(), 256, Image.Resampling.LANCZOS)
    coarse, fine = power_by_band(smooth)
    coarse_with_detail, fine_with_detail = power_by_band(add_detail(ORIGINAL, rng(), 256))
    assert fine_with_detail > 10 * fine
    assert coarse_with_detail == pytest.approx(coarse, rel=0.1)


def test_detail_depends_on_the_generator_alone():
    assert difference(add_detail(ORIGINAL, rng(1), 128), add_detail(ORIGINAL, rng(1), 128)) == 0
    assert difference(add_detail(ORIGINAL, rng(1), 128), add_detail(ORIGINAL, rng(2), 128)) > 1


@pytest.mark.parametrize("size", FRAMES, ids=str)
@pytest.mark.parametrize("background", ["reflected", "plain", "blurred"])
def test_a_surrounded_subject_is_in_the_middle_of_its_frame(size, background):
    framed, side = surround(ORIGINAL, rng(), size, centred=True, background=background), min(size)
    left, top = ((length - side) // 2 for length in size)
    assert framed.size == size
    subject = ORIGINAL.resize((side, side), Image.Resampling.LANCZOS)
    assert difference(framed.crop((left, top, left + side, top + side)), subject) == 0


def test_a_subject_that_is_not_centred_moves_with_the_generator():
    frames = [surround(ORIGINAL, rng(seed), (256, 192), centred=False) for seed in (1, 2)]
    assert difference(*frames) > 1


@pytest.mark.parametrize("size", FRAMES, ids=str)
def test_a_filling_subject_loses_what_is_outside_the_frame(size):
    side = max(size)
    left, top = ((side - length) // 2 for length in size)
    whole = ORIGINAL.resize((side, side), Image.Resampling.LANCZOS)
    expected = whole.crop((left, top, left + size[0], top + size[1]))
    assert difference(fill_frame(ORIGINAL, rng(), size), expected) == 0


@pytest.mark.parametrize("size", FRAMES, ids=str)
def test_a_drawn_out_image_is_undone_by_squeezing_it(size):
    stretched = stretch(ORIGINAL, rng(), size)
    assert stretched.size == size
    assert difference(stretched.resize((32, 32), Image.Resampling.LANCZOS), ORIGINAL) < 3
