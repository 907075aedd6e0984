"""Image files of every accepted type, sound and damaged."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from model_store.images.decode import ACCEPTED
from tests.app.service import ROOT
from tests.fuzz.mutation import EXTREMES, mutated

SAMPLES = sorted((ROOT / "app/page/samples").glob("*.png"))
PNG = b"\x89PNG\r\n\x1a\n"
# type -> modes and Pillow's options
VARIANTS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "JPEG": [("L", {}), ("RGB", {}), ("RGB", {"progressive": True}), ("CMYK", {}), ("RGB", {"subsampling": 0})],
    "PNG": [(mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [("P", {"transparency": 1}), ("RGB", {"transparency": (1, 2, 3)}), ("RGB", {"save_all": True})],
    "WEBP": [("RGB", {}), ("RGBA", {}), ("RGBA", {"lossless": True}), ("RGB", {"save_all": True})],
    "GIF": [("L", {}), ("P", {}), ("P", {"interlace": 0}), ("P", {"transparency": 1}), ("P", {"save_all": True})],
    "BMP": [(mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")],
    "AVIF": [("RGB", {"speed": 10}), ("RGBA", {"speed": 10}), ("RGB", {"speed": 10, "save_all": True})],
    "TIFF": [(mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")]
    + [("RGB", {"compression": name}) for name in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "zstd")]
    + [("L", {"compression": "tiff_lzw", "tiffinfo": {317: 2}}), ("RGB", {"save_all": True, "big_tiff": True})],
}


def encode(kind: str, mode: str, size: tuple[int, int], seed: int, options: dict[str, object]) -> bytes:
    """A picture of random patches, or every third time a photograph; two frames where the options save all."""
    more = {"append_images": [_picture(mode, size, seed + 1)]} if "save_all" in options else {}
    buffer = io.BytesIO()
    _picture(mode, size, seed).save(buffer, kind, **options, **more)
    return buffer.getvalue()


def _picture(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    if seed % 3 == 0:
        image = Image.open(SAMPLES[seed % len(SAMPLES)]).convert("RGB").resize(size)
    else:
        patches = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        image = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
    match mode:
        case "P":
            return image.quantize(64)
        case "I;16":
            return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        case "I" | "F":
            return image.convert("L").convert(mode)
    return image.convert(mode)


@st.composite
def sound_images(draw, kinds: tuple[str, ...] = ACCEPTED) -> bytes:
    """A file that some program could have written."""
    kind = draw(st.sampled_from(kinds))
    mode, options = draw(st.sampled_from(VARIANTS[kind]))
    size = draw(
        st.sampled_from([(32, 32), (1, 1), (300, 3), (96, 64), (640, 480)]) | st.tuples(*[st.integers(1, 99)] * 2)
    )
    return encode(kind, mode, size, draw(st.integers(0, 9)), options)


@st.composite
def damaged_images(draw, kinds: tuple[str, ...] = ACCEPTED) -> bytes:
    """A file with changed bytes, or two halves of different files; half of all PNGs get right checksums."""
    data = draw(sound_images(kinds))
    if draw(st.integers(0, 9)) == 0:
        other = draw(sound_images(kinds))
        data = data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]
    data = draw(mutated(data, EXTREMES))
    return with_checksums(data) if data.startswith(PNG) and draw(st.booleans()) else data


def with_checksums(png: bytes) -> bytes:
    """The PNG with the right checksum for each chunk, so that a decoder looks at what is in them."""
    result, at = [png[:8]], 8
    while at + 12 <= len(png):
        end = at + 8 + struct.unpack(">I", png[at : at + 4])[0]
        result += [png[at:end], struct.pack(">I", zlib.crc32(png[at + 4 : end]))]
        at = end + 4
    return b"".join([*result, png[at:]])


uploads = st.one_of(sound_images(), damaged_images(), st.binary(max_size=300))
