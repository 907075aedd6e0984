"""The comparison with a second decoder."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import decoders

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


def encode(kind, pixels=PIXELS):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


NEGATIVE = encode("PNG", ~PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF"])
def test_types_go_by_imagemagick_s_names(kind):
    assert decoders.type_of(encode(kind)) == kind


def test_colour_chunks_are_dropped():
    png = encode("PNG")
    chunk = b"\0\0\0\4gAMA" + bytes(8)
    assert decoders.without_colours(png[:33] + chunk + png[33:]) == png


@pytest.mark.parametrize(
    ("data", "theirs", "result"),
    [
        (encode("BMP"), encode("PNG"), "agree"),
        (encode("BMP"), NEGATIVE, "differ"),
        (encode("BMP"), None, "only ours"),
        (encode("BMP")[:60], NEGATIVE, "only ImageMagick"),
        (encode("BMP")[:60], None, "neither"),
        (b"text", None, "no accepted type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_two_decoders_are_compared(data, theirs, result):
    assert decoders.compare(data, lambda _: theirs)[0] == result
