"""Simulate uploads: turn 32×32 originals into image files of other sizes and frames, with or without fine detail.

An enlarged image holds no detail that its original lacks; `add_detail` adds noise with the spectrum of natural images
instead. docs/experiments/resizing.md compares the resize policies on these uploads.

Every simulation takes an RGB image of 32×32 pixels and a random generator, and returns an RGB image.
"""

import io
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from model_store.images.decode import decode
from model_store.manifest import Preprocessing

SIDE = 32  # of an original
DETAIL_SEED = 0
UPLOAD_SIZES = ((256, 256), (320, 240), (240, 320), (426, 240))  # width and height


def encode(image: Image.Image, quality: int | None) -> bytes:
    """Encode as a JPEG of that quality, or without one as a PNG (uncompressed: the fastest, and lossless)."""
    file = io.BytesIO()
    if quality is None:
        image.save(file, "PNG", compress_level=0)
    else:
        image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def enlarge(original: Image.Image, _: Generator, side: int, resampling: Image.Resampling) -> Image.Image:
    """Enlarge to a square of `side` pixels."""
    return original.resize((side, side), resampling)


def add_detail(original: Image.Image, rng: Generator, side: int) -> Image.Image:
    """Enlarge, and add grey noise above the original's finest octave, in each octave as strong as that one."""
    halved = original.resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
    coarse = np.asarray(halved.resize(original.size, Image.Resampling.BICUBIC), np.float32)
    strength = np.float32((np.asarray(original, np.float32) - coarse).std())
    smooth = np.asarray(original.resize((side, side), Image.Resampling.LANCZOS), np.float32)
    texture = np.roll(_detail(side), tuple(rng.integers(0, side, 2)), axis=(0, 1))
    return Image.fromarray(np.clip(smooth + strength * texture[..., None], 0, 255).astype(np.uint8))


@cache
def _detail(side: int) -> NDArray[np.float32]:
    """Noise (side, side) above the frequencies that 32 pixels hold: amplitude 1/f, standard deviation 1 per octave.

    Source of the spectrum: Field, "Relations between the statistics of natural images and the response properties of
    cortical cells", 1987.
    """
    spectrum = np.fft.rfft2(np.random.default_rng(DETAIL_SEED).standard_normal((side, side)))
    frequency = np.hypot(np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side))
    spectrum *= np.where(frequency > SIDE / 2, 1 / np.maximum(frequency, 1), 0)
    noise = np.fft.irfft2(spectrum, s=(side, side))
    detail: NDArray[np.float32] = (noise / noise.std() * np.sqrt(np.log2(side / SIDE))).astype(np.float32)
    return detail


def surround(
    original: Image.Image, rng: Generator, size: tuple[int, int], centred: bool, background: str = "reflected"
) -> Image.Image:
    """Make the original as high (or wide) as the frame and fill the rest of the frame with surroundings."""
    (width, height), side = size, min(size)
    subject = original.resize((side, side), Image.Resampling.LANCZOS)
    left, top = (extra // 2 if centred else int(rng.integers(0, extra + 1)) for extra in (width - side, height - side))
    if background == "plain":
        rim = np.asarray(original)[[0, -1]].mean(axis=(0, 1))
        frame = Image.new("RGB", size, (round(rim[0]), round(rim[1]), round(rim[2])))
    else:
        beyond = ((top, height - side - top), (left, width - side - left), (0, 0))
        mode = "reflect" if background == "reflected" else "edge"
        frame = Image.fromarray(np.pad(np.asarray(subject), beyond, mode=mode))  # type: ignore[call-overload]
        frame = frame if background == "reflected" else frame.filter(ImageFilter.GaussianBlur(8))
    frame.paste(subject, (left, top))
    return frame


def fill_frame(original: Image.Image, _: Generator, size: tuple[int, int]) -> Image.Image:
    """Fill the frame and keep proportions: parts of the original outside the frame are cut off."""
    (width, height), side = size, max(size)
    left, top = (side - width) // 2, (side - height) // 2
    whole = original.resize((side, side), Image.Resampling.LANCZOS)
    return whole.crop((left, top, left + width, top + height))


def stretch(original: Image.Image, _: Generator, size: tuple[int, int]) -> Image.Image:
    """Stretch the original to the frame, as if it had been squeezed from there into its square."""
    return original.resize(size, Image.Resampling.LANCZOS)


def as_uploads(pixels: NDArray[np.uint8], preprocessing: Preprocessing, seed: int) -> NDArray[np.uint8]:
    """Turn each image (N, 32, 32, 3) into a random upload, and decode it as the service does.

    A quarter each are square, 4:3, 3:4 and 16:9. Squares are enlarged with fine detail, the others have surroundings.
    A quarter are PNGs, the rest JPEGs of quality 60 to 95.
    """
    rng = np.random.default_rng(seed)
    return np.stack([decode(_draw_upload(Image.fromarray(image), rng), preprocessing) for image in pixels])


def _draw_upload(original: Image.Image, rng: Generator) -> bytes:
    width, height = UPLOAD_SIZES[rng.integers(len(UPLOAD_SIZES))]
    square = width == height
    upload = add_detail(original, rng, width) if square else surround(original, rng, (width, height), centred=False)
    return encode(upload, None if rng.random() < 0.25 else int(rng.integers(60, 96)))
