"""What an upload becomes, and that nothing an upload contains does harm."""

import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import BmpImagePlugin, Image, ImageFile, ImageOps, features

import model_store.images.decode
from model_store.errors import ImageError, OutOfMemory, UnsupportedImage, UnusableImage
from model_store.images import formats
from model_store.images.decode import ACCEPTED, decode, read_header, resize_pixels
from tests.model_store.images.policies import SIDE, resized, sized

POLICY = resized(filter="bicubic", jpeg_margin=4)
WHITE = (255, 255, 255)
IMPORTS = "from model_store.images.decode import *; from model_store.manifest import UNNORMALISED"
PNG = b"\x89PNG\r\n\x1a\n"
fuzzing = settings(deadline=None, max_examples=150)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width, height, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(width=96, height=64, seed=0):
    """Smooth enough for lossy types to keep it."""
    return Image.fromarray(noise(6, 4, seed=seed)).resize((width, height), Image.Resampling.BICUBIC)


def flat(mode, colour, size=(40, 40)):
    return Image.new(mode, size, colour)


def chunk(name, data=b""):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width, height):
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def tiff(tags, tail=b""):
    """A little-endian TIFF of one page; `None` as a value stands for the offset of `tail`."""
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = (struct.pack("<HHII", tag, kind, n, offset if v is None else v) for tag, kind, n, v in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + tail


def after_jpeg_start(jpeg, segment):
    return jpeg[:2] + segment + jpeg[2:]


def error_of(data, policy=POLICY):
    with pytest.raises(ImageError) as caught:
        decode(data, policy)
    return caught.value


FILES = {kind: encode(photo(), kind) for kind in ACCEPTED}
ANIMATED = [kind for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF") if kind in ACCEPTED]
TIFF_ONLY = pytest.mark.skipif("TIFF" not in ACCEPTED, reason="this Pillow has no TIFF")


# --- what is accepted


def test_accepts_what_this_pillow_has():
    optional = {kind for kind, feature in (("AVIF", "avif"), ("TIFF", "libtiff")) if features.check(feature)}
    assert set(ACCEPTED) == {"JPEG", "PNG", "WEBP", "GIF", "BMP"} | optional


@pytest.mark.parametrize("kind", ACCEPTED)
def test_decodes_every_accepted_type(kind):
    pixels = decode(FILES[kind], POLICY)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((SIDE, SIDE, 3), np.uint8, True)
    expected = np.asarray(photo().resize((SIDE, SIDE)), dtype=int)
    assert np.abs(pixels - expected).mean() < 6  # lossy types and GIF's palette


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_cifar_png_comes_out_bit_for_bit(fit):
    pixels = noise(SIDE, SIDE)
    assert np.array_equal(decode(encode(Image.fromarray(pixels), "PNG"), resized(fit=fit)), pixels)


LOSSLESS = {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}


@pytest.mark.parametrize("kind", [kind for kind in LOSSLESS if kind in ACCEPTED])
def test_opaque_rgba_comes_out_bit_for_bit(kind):
    pixels = noise(SIDE, SIDE)
    data = encode(Image.fromarray(pixels).convert("RGBA"), kind, **LOSSLESS[kind])
    assert np.array_equal(decode(data, POLICY), pixels)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"", "the file is empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "HEIC.*export it as JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(50), "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(50), "video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "archive"),
        (b"\n<!DOCTYPE html><svg>", "web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', "SVG"),
        (b'{"image": "abc"}', "JSON"),
        (b"iVBORw0KGgoAAAANSUhEUg", "base64"),
        (b"BMW is not a bitmap, and this is text", "no known image type"),
        (b"P6\n1 1\n255\nabc", "PPM.*convert it to PNG"),
        (b"P4U", "no known image type"),
        (PNG.replace(b"\r", b"").replace(b"\n", b"") + b"IHDR", "PNG lost bytes.*sent as text.*--data-binary"),
        (PNG.replace(b"\r\n", b"\n"), "PNG lost bytes"),
        (PNG.decode(errors="replace").encode(), "decoded as text"),
        (b"\xff\xd8\xff\xe0".decode(errors="replace").encode(), "decoded as text"),
        (b"MM\0+\0\x08\0\0" + bytes(8), "big-endian BigTIFF.*save it as PNG"),
        (b"\0\0\1\0\1\0", "icon"),
        (b"%!PS-Adobe-3.0", "PostScript"),
        (b"qoif" + bytes(10), "QOI"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_types_are_refused_with_a_remedy(data, hint):
    with pytest.raises(UnsupportedImage, match=f"(?s){hint}.*accepted types are JPEG, PNG"):
        decode(data, POLICY)


def test_twelve_bit_jpeg_is_refused_by_its_depth():
    data = FILES["JPEG"].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")
    assert "JPEG has 12 bits per channel, only 8 can be read; export it as an 8-bit JPEG" in str(error_of(data))


def test_png_that_xcode_rewrote_is_refused_with_a_remedy():
    data = PNG + chunk(b"CgBI", b"\x50\0\x20\x06") + FILES["PNG"][8:]
    assert "Apple's private format" in str(error_of(data))


@pytest.mark.parametrize("options", [{}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}], ids=["JFIF", "EXIF"])
def test_jpeg_sent_as_text_is_refused_with_a_remedy(options):
    data = encode(photo(), "JPEG", **options)
    if options:  # as cameras write it, without JFIF
        data = data[:2] + data[20:]
    decode(data, POLICY)
    data = data.replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"")  # as `curl -d` does
    assert "JPEG lost bytes on its way because it was sent as text" in str(error_of(data))


def test_type_this_pillow_lacks_is_named(monkeypatch):
    monkeypatch.setattr(model_store.images.decode, "ACCEPTED", ("JPEG", "PNG"))
    with pytest.raises(UnsupportedImage, match="WEBP cannot be read: this server's Pillow cannot decode it"):
        decode(FILES["WEBP"], POLICY)


# --- modes


def with_alphas(alphas):
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return encode(image, "PNG", transparency=alphas)


MODES = {
    "1": (lambda: encode(flat("1", 1), "PNG"), WHITE),
    "1 tRNS": (lambda: encode(flat("1", 0), "PNG", transparency=0), WHITE),
    "L": (lambda: encode(flat("L", 120), "PNG"), (120, 120, 120)),
    "L tRNS": (lambda: encode(flat("L", 120), "PNG", transparency=120), WHITE),
    "L other tRNS": (lambda: encode(flat("L", 120), "PNG", transparency=119), (120, 120, 120)),
    "LA": (lambda: encode(flat("LA", (100, 51)), "PNG"), (224, 224, 224)),
    "P": (lambda: encode(flat("RGB", (10, 20, 30)).quantize(4), "PNG"), (10, 20, 30)),
    "P transparent": (lambda: with_alphas(1), WHITE),
    "P half transparent": (lambda: with_alphas(b"\xff\x33"), (206, 208, 210)),
    "P GIF": (lambda: encode(flat("RGB", (10, 20, 30)).quantize(4), "GIF"), (10, 20, 30)),
    "P BMP": (lambda: encode(flat("RGB", (10, 20, 30)).quantize(4), "BMP"), (10, 20, 30)),
    "RGB": (lambda: encode(flat("RGB", (10, 20, 30)), "PNG"), (10, 20, 30)),
    "RGB tRNS": (lambda: encode(flat("RGB", (10, 20, 30)), "PNG", transparency=(10, 20, 30)), WHITE),
    "RGBA": (lambda: encode(flat("RGBA", (10, 20, 30, 51)), "PNG"), (206, 208, 210)),
    "RGBA invisible": (lambda: encode(flat("RGBA", (10, 20, 30, 0)), "WEBP", lossless=True, exact=True), WHITE),
    "CMYK JPEG": (lambda: encode(flat("CMYK", (255, 0, 0, 0)), "JPEG", quality=95), (0, 255, 255)),
    "grey JPEG": (lambda: encode(flat("L", 120), "JPEG"), (120, 120, 120)),
    "I;16": (lambda: encode(flat("I;16", 100 * 257), "PNG"), (100, 100, 100)),
}
TIFF_MODES = {
    "PA": (lambda: encode(flat("RGBA", (10, 20, 30, 255)).convert("PA"), "TIFF"), None),
    "RGBA": (lambda: encode(flat("RGBA", (10, 20, 30, 51)), "TIFF"), (206, 208, 210)),
    "CMYK": (lambda: encode(flat("CMYK", (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    "YCbCr": (lambda: encode(flat("RGB", (200, 30, 30)).convert("YCbCr"), "TIFF"), (200, 30, 30)),
    "LAB": (lambda: encode(flat("RGB", (200, 30, 30)).convert("LAB"), "TIFF"), (200, 30, 30)),
    "I;16B": (lambda: encode(flat("I;16B", 100 * 257), "TIFF"), (100, 100, 100)),
}


@pytest.mark.parametrize(("make", "colour"), MODES.values(), ids=MODES)
def test_every_mode_becomes_rgb(make, colour):
    assert np.abs(decode(make(), POLICY).astype(int) - colour).max() <= 1


@TIFF_ONLY
@pytest.mark.parametrize(("make", "colour"), TIFF_MODES.values(), ids=TIFF_MODES)
def test_every_tiff_mode_becomes_rgb(make, colour):
    data = make()
    expected = colour or Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))
    assert np.abs(decode(data, POLICY).astype(int) - expected).max() <= 2


def test_alpha_is_laid_over_white():
    pixels = noise(SIDE, SIDE, 4)
    colour, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    expected = colour * alpha + 255 * (1 - alpha)
    assert np.abs(decode(encode(Image.fromarray(pixels), "PNG"), POLICY) - expected).max() <= 1


def test_invisible_colours_do_not_bleed_when_resized():
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)  # invisible black…
    pixels[:, 32:] = (*WHITE, 255)  # …beside visible white
    assert decode(encode(Image.fromarray(pixels), "PNG"), POLICY).min() >= 254


def test_sixteen_bits_are_scaled_and_rounded():
    wide = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)
    pixels = decode(encode(Image.fromarray(wide), "PNG"), POLICY)
    assert np.array_equal(pixels, np.repeat(np.rint(wide / 257)[..., None], 3, axis=2))


@TIFF_ONLY
@pytest.mark.parametrize(("dtype", "low", "high"), [("int32", -7000, 90_000), ("float32", -0.5, 1.5)])
def test_grey_without_a_range_uses_the_range_it_has(dtype, low, high):
    ramp = np.tile(np.linspace(low, high, SIDE), (SIDE, 1)).astype(dtype)
    pixels = decode(encode(Image.fromarray(ramp), "TIFF"), POLICY)
    assert np.abs(pixels[0, :, 0] - np.linspace(0, 255, SIDE)).max() <= 0.6


@TIFF_ONLY
def test_grey_without_numbers_is_black_there():
    values = np.full((SIDE, SIDE), 1, dtype=np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels = decode(encode(Image.fromarray(values), "TIFF"), POLICY)
    assert (pixels[0, :3] == 0).all()
    assert (pixels[1:] == 255).all()


@pytest.mark.parametrize("kind", ANIMATED)
def test_only_the_first_frame_counts(kind):
    red, blue = flat("RGB", (255, 0, 0)), flat("RGB", (0, 0, 255))
    pixels = decode(encode(red, kind, save_all=True, append_images=[blue, blue]), POLICY).astype(int)
    assert np.abs(pixels - (255, 0, 0)).max() <= 4


# --- orientation


def oriented(kind, image, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return encode(image, kind, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [kind for kind in ("PNG", "WEBP", "JPEG", "TIFF", "AVIF") if kind in ACCEPTED])
def test_orientation_is_applied(kind, orientation):
    data = oriented(kind, photo(96, 64), orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    expected = np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(decode(data, POLICY) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_orientation_comes_with_any_fit(fit, orientation):
    data = oriented("PNG", photo(96, 48), orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected = decode(encode(upright, "PNG"), resized(fit=fit)).astype(int)
    assert np.abs(decode(data, resized(fit=fit)) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_orientation_comes_with_an_input_that_is_not_square(fit, orientation):
    wide = sized(40, 64, resize=resized(fit=fit).resize)
    # So that opposite sides lose or get as much: a crop of 80×50 or 48×30, or black bars of 4 rows.
    data = oriented("PNG", photo(96, 50 if fit == "crop" and orientation < 5 else 48), orientation)
    upright = encode(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), "PNG")
    difference = decode(data, wide).astype(int) - decode(upright, wide)
    assert difference.shape == (40, 64, 3) and np.abs(difference).max() <= 1


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_orientation_is_read_in_either_byte_order(byte_order):
    mark, code = (b"II", "<") if byte_order == "little" else (b"MM", ">")
    block = mark + struct.pack(code + "HIHHHIHHI", 42, 8, 1, 274, 3, 1, 3, 0, 0)
    pixels = noise(SIDE, SIDE)
    data = encode(Image.fromarray(pixels), "PNG", exif=block)
    assert np.array_equal(decode(data, POLICY), pixels[::-1, ::-1])


def test_first_exif_block_counts():
    blocks = [b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 274, 3, 1, turn) for turn in (3, 1)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block for block in blocks)
    decoded = decode(after_jpeg_start(FILES["JPEG"], segments), POLICY)
    assert np.array_equal(decoded, decode(FILES["JPEG"], POLICY)[::-1, ::-1])


@fuzzing
@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_broken_exif_never_fails_an_image(block, start):
    exif = b"Exif\0\0" + start + block
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    pixels, plain = decode(after_jpeg_start(FILES["JPEG"], segment), POLICY), decode(FILES["JPEG"], POLICY)
    turned = [plain[::a, ::b] for a in (1, -1) for b in (1, -1)]
    assert any(np.array_equal(pixels, other) for t in turned for other in (t, t.swapaxes(0, 1)))


# --- resizing


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 64), (224, 224), (256, 16)])
def test_an_image_of_the_inputs_size_is_returned_bit_for_bit(height, width):
    pixels, grey = noise(width, height), noise(width, height, channels=1)
    data = encode(Image.fromarray(pixels), "PNG")
    assert np.array_equal(decode(data, sized(height, width)), pixels)
    assert np.array_equal(resize_pixels(pixels, sized(height, width)), pixels)
    flipped = decode(data, sized(height, width, channel_order="BGR"))
    assert np.array_equal(flipped, pixels[..., ::-1]) and flipped.flags.c_contiguous
    assert np.array_equal(decode(encode(Image.fromarray(grey), "PNG"), sized(height, width, 1)), grey[..., None])
    luma = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    assert np.array_equal(decode(data, sized(height, width, 1)), luma)


def test_pixels_are_resized_like_a_file_that_holds_them():
    pixels = noise(32, 32)
    for preprocessing in (sized(96, 64), sized(224, 224, channel_order="BGR"), sized(28, 28, 1)):
        file = encode(Image.fromarray(pixels), "PNG")
        assert np.array_equal(resize_pixels(pixels, preprocessing), decode(file, preprocessing))


@pytest.mark.parametrize(("side", "reduced"), [(32, True), (96, True), (160, False), (224, False)])
def test_a_jpeg_is_decoded_at_a_reduced_scale_only_if_it_keeps_the_margin_of_its_input(side, reduced):
    image = read_header(encode(photo(640, 480), "JPEG"))
    preprocessing = sized(side, side)
    assert image.is_reduced(preprocessing) == reduced
    full = image.peak_bytes(preprocessing)
    assert (full > 4 * 640 * 480) != reduced
    image.decode(preprocessing)
    assert (image.image.size < (640, 480)) == reduced


def test_the_memory_between_the_steps_of_resizing_counts():
    image = read_header(encode(flat("L", 7, (1, 65_535)), "PNG"))
    assert image.peak_bytes(sized(256, 256)) > 4 * 256 * 65_535


@pytest.mark.parametrize("name", ["box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_filter_is_the_policy_s(name):
    expected = photo().resize((SIDE, SIDE), Image.Resampling[name.upper()])
    assert np.array_equal(decode(encode(photo(), "PNG"), resized(filter=name)), np.asarray(expected))


@pytest.fixture
def bands():
    """96×32: red, green and blue thirds."""
    pixels = np.zeros((32, 96, 3), dtype=np.uint8)
    for channel in range(3):
        pixels[:, 32 * channel : 32 * channel + 32, channel] = 255
    return pixels


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_crop_keeps_the_centre_square(bands, turned):
    bands = bands.swapaxes(0, 1) if turned else bands
    pixels = decode(encode(Image.fromarray(bands), "PNG"), resized(fit="crop"))
    assert (pixels == (0, 255, 0)).all()


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_pad_adds_black_bars(bands, turned):
    bands = bands.swapaxes(0, 1) if turned else bands
    pixels = decode(encode(Image.fromarray(bands), "PNG"), resized(fit="pad", filter="box"))
    pixels = pixels.swapaxes(0, 1) if turned else pixels
    lit = pixels.any(axis=(1, 2))
    assert lit.nonzero()[0].tolist() == list(range(10, 21))  # 11 of 32 rows, a third
    assert (pixels[15, [2, 15, 29]] == np.eye(3) * 255).all()


def test_stretch_keeps_all_of_it(bands):
    pixels = decode(encode(Image.fromarray(bands), "PNG"), resized(fit="stretch", filter="box"))
    assert (pixels[:, [2, 15, 29]] == np.eye(3) * 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (31, 33), (33, 32)], ids=str)
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_any_shape_fits(size, fit):
    assert decode(encode(flat("RGB", (9, 8, 7), size), "PNG"), resized(fit=fit)).max() == 9


def test_big_jpeg_is_decoded_at_reduced_scale():
    data = encode(photo(640, 480), "JPEG")
    scaled = Image.open(io.BytesIO(data))
    scaled.draft(None, (128, 128))
    assert scaled.size == (320, 240)  # 1/4 would leave 120 px, less than 4 × 32
    full = Image.open(io.BytesIO(data)).resize((SIDE, SIDE))
    assert np.array_equal(
        decode(data, resized(filter="bicubic", jpeg_margin=4)), np.asarray(scaled.resize((SIDE, SIDE)))
    )
    assert np.array_equal(decode(data, resized(filter="bicubic", jpeg_margin=8)), np.asarray(full))


@pytest.mark.parametrize("margin", [1, 2, 4])
def test_reduced_scale_is_close_to_the_full_one(margin):
    data = encode(photo(1200, 900), "JPEG")
    reduced, full = (decode(data, resized(jpeg_margin=m)).astype(int) for m in (margin, 64))
    assert 0 < np.abs(reduced - full).mean() < 2.5


# --- limits


def webp_canvas(width, height):
    def three(number):
        return number.to_bytes(3, "little")

    frame = bytes(12) + three(100) + b"\0" + encode(flat("RGB", 0, (1, 1)), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X\x0a\0\0\0\x02\0\0\0" + three(width - 1) + three(height - 1) + b"ANIM\6\0\0\0" + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame + bytes(len(frame) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_jpeg_size(width, height):
    data = bytearray(encode(photo(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def with_webp_size(width, height, lossless):
    data = bytearray(encode(photo(), "WEBP", lossless=lossless))
    if lossless:
        data[21:25] = struct.pack("<I", width - 1 | height - 1 << 14)
    else:
        data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


BOMBS = {
    "PNG header alone": (png_header(50_000, 50_000), "50000×50000 px"),
    "PNG": (png_header(50_000, 50_000) + chunk(b"IDAT") + chunk(b"IEND"), "50000×50000 px"),
    "PNG too long": (png_header(70_000, 1) + chunk(b"IDAT") + chunk(b"IEND"), "70000×1 px"),
    "JPEG": (with_jpeg_size(60_000, 50_000), "60000×50000 px"),
    "GIF canvas": (FILES["GIF"][:6] + struct.pack("<HH", 9000, 9000) + FILES["GIF"][10:], "9000×9000 px"),
    "GIF frame": (b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<4HB", 0, 0, 60_000, 60_000, 0) + b"\2\0;", "too large"),
    "WEBP": (webp_canvas(9000, 9000), "9000×9000 px"),
    "WEBP beyond Pillow": (webp_canvas(16_383, 16_383), "16383×16383 px"),
    "WEBP beyond its decoder": (webp_canvas(1 << 24, 1 << 24), "16777216×16777216 px"),
    "WEBP without alpha": (with_webp_size(9_000, 8_000, lossless=False), "9000×8000 px"),
    "WEBP without loss": (with_webp_size(9_000, 8_000, lossless=True), "9000×8000 px"),
    "BMP": (b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 30_000, 30_000, 1, 24) + bytes(24), "30000×30000 px"),
    "TIFF": (tiff([(256, 4, 1, 30_000), (257, 4, 1, 30_000), (273, 4, 1, 8)]), "30000×30000 px"),
}


@pytest.fixture
def undecoded(monkeypatch):
    """Any attempt to decode pixels fails, with an error that names no limit."""

    def load(image):
        raise AssertionError(f"pixels of {image} were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize(("data", "size"), BOMBS.values(), ids=BOMBS)
@pytest.mark.usefixtures("undecoded")
def test_too_many_pixels_are_refused_undecoded(data, size):
    if data.startswith(b"II") and "TIFF" not in ACCEPTED:
        pytest.skip("this Pillow has no TIFF")
    with pytest.raises(UnusableImage, match=f"{size}.*40 megapixels.*resize it"):
        decode(data, POLICY)


@pytest.mark.parametrize("kind", ACCEPTED)
@pytest.mark.usefixtures("undecoded")
def test_pixel_limit_holds_for_every_type(kind, monkeypatch):
    monkeypatch.setattr(formats, "MAX_PIXELS", 96 * 64 - 1)
    assert "96×64 px" in str(error_of(FILES[kind]))


@pytest.mark.parametrize("kind", ACCEPTED)
def test_pixel_limit_is_inclusive(kind, monkeypatch):
    monkeypatch.setattr(formats, "MAX_PIXELS", 96 * 64)
    assert decode(FILES[kind], POLICY).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("kind", ANIMATED)
def test_frame_limit(kind, monkeypatch):
    data = encode(photo(), kind, save_all=True, append_images=[photo(seed=1), photo(seed=2)])
    monkeypatch.setattr(formats, "MAX_FRAMES", 3)
    decode(data, POLICY)
    monkeypatch.setattr(formats, "MAX_FRAMES", 2)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert "more than 2 frames" in str(error_of(data))


def test_long_animation_is_refused_for_its_frames():
    frame = b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2D\1\0"
    animation = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + frame * (formats.MAX_FRAMES + 1) + b";"
    assert f"more than {formats.MAX_FRAMES} frames" in str(error_of(animation))


@TIFF_ONLY
def test_tiff_pages_in_a_ring_are_not_counted_for_ever():
    page = encode(photo(), "TIFF")
    (first,) = struct.unpack_from("<I", page, 4)
    (tags,) = struct.unpack_from("<H", page, first)
    link = first + 2 + 12 * tags
    ring = page[:link] + page[4:8] + page[link + 4 :]
    assert "frames" in str(error_of(ring))


def repeated(piece, times=30):
    return piece * times


PIECES = {
    "JPEG": after_jpeg_start(FILES["JPEG"], repeated(b"\xff\xfe\0\2")),
    "PNG": FILES["PNG"][:33] + repeated(chunk(b"teSt")) + FILES["PNG"][33:],
    "GIF": FILES["GIF"][:-1] + b"!\xfe" + repeated(b"\1a") + b"\0;",
}


@pytest.mark.parametrize("data", PIECES.values(), ids=PIECES)
def test_files_in_too_many_pieces_are_refused(data, monkeypatch):
    decode(data, POLICY)
    monkeypatch.setattr(formats, "MAX_PIECES", 25)
    assert "more than 25 pieces" in str(error_of(data))


def test_progressive_jpeg_is_read_and_one_of_many_scans_refused():
    progressive = encode(photo(), "JPEG", progressive=True)
    assert np.array_equal(decode(progressive, POLICY), decode(encode(photo(), "JPEG"), POLICY))
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert "scans" in str(error_of(progressive[:-2] + last * formats.MAX_SCANS + progressive[-2:]))


def test_metadata_pillow_refuses_is_left_out():
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2_000_000)))
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2_000_000)))
    data = FILES["PNG"][:33] + text + profile + FILES["PNG"][33:]
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(data))
    assert np.array_equal(decode(data, POLICY), decode(FILES["PNG"], POLICY))


def test_jpeg_with_a_malformed_second_image_is_read_without_a_warning():
    segment = b"\xff\xe2\0\x0eMPF\0" + b"II*\0\xff\0\0\0"
    assert np.array_equal(decode(after_jpeg_start(FILES["JPEG"], segment), POLICY), decode(FILES["JPEG"], POLICY))


def test_jpeg_profile_pillow_refuses_is_left_out():
    data = after_jpeg_start(FILES["JPEG"], b"\xff\xe2\0\x0eICC_PROFILE\0")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))
    assert np.array_equal(decode(data, POLICY), decode(FILES["JPEG"], POLICY))


def test_jpeg_segment_shorter_than_its_own_length_is_refused():
    assert "damaged" in str(error_of(after_jpeg_start(FILES["JPEG"], b"\xff\xfe\0\0")))


@TIFF_ONLY
def test_what_pillow_thinks_of_metadata_is_not_printed():
    size = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    odd = tiff([*size, (282, 5, 2, None)], struct.pack("<4I", 1, 1, 1, 1))
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(odd))
    code = f"import sys; {IMPORTS}; decode(sys.stdin.buffer.read(), UNNORMALISED)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=odd, cwd=Path(__file__).parents[3], capture_output=True, check=True
    )
    assert done.stderr == b""


def printed_by_decoding(data):
    """Everything a fresh process writes to stdout and stderr when it is sent these bytes."""
    code = """
import sys
from model_store.errors import ImageError
from model_store.images.decode import *
from model_store.manifest import UNNORMALISED
try:
    decode(sys.stdin.buffer.read(), UNNORMALISED)
except ImageError:
    print("refused")
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        input=data,
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    ).stdout


@TIFF_ONLY
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_libtiff_does_not_print_about_damaged_strips(compression):
    data = bytearray(encode(photo(), "TIFF", compression=compression))
    tags = Image.open(io.BytesIO(data)).tag_v2
    middle = tags[273][0] + tags[279][0] // 2
    data[middle : middle + 200] = b"\x7f" * 200
    assert printed_by_decoding(bytes(data)) == b"refused\n"


@TIFF_ONLY
def test_pillow_does_not_log_about_damaged_tags():
    data = tiff([(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 65_535)])
    assert printed_by_decoding(data) == b"refused\n"


def test_junk_between_jpeg_segments_is_skipped():
    data = after_jpeg_start(FILES["JPEG"], b"\xff\0junk\xff\xff\xff")
    assert np.array_equal(decode(data, POLICY), decode(FILES["JPEG"], POLICY))


def run_length_bmp(width, height):
    """Every row one run of colour 1, which is (30, 20, 10)."""
    runs = b"".join(bytes([min(255, width - x), 1]) for x in range(0, width, 255)) + b"\0\0"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, BmpImagePlugin.BmpImageFile.RLE8, 0, 0, 0, 2, 0)
    return b"BM" + bytes(8) + struct.pack("<I", 62) + header + bytes(4) + b"\x0a\x14\x1e\0" + runs * height + b"\0\1"


def test_run_length_bmp_has_a_lower_limit():
    assert (decode(run_length_bmp(300, 40), POLICY) == (30, 20, 10)).all()
    assert "run-length BMP" in str(error_of(run_length_bmp(30_000, 100)))


def tiled(tile_width, tile_length, tiles=1, compression=1, kind=4):
    size = [(256, 4, 1, 32), (257, 4, 1, 32), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1), (277, 3, 1, 1)]
    tile = [(322, kind, 1, tile_width), (323, kind, 1, tile_length), (324, 4, tiles, None if tiles > 1 else 8)]
    return tiff(size + tile, bytes(4 * tiles) if tiles < 10_000 else b"")


TIFFS = {
    "giant tile": (tiled(60_000, 60_000), "tiles of 60000 px"),
    "tile of a type only libtiff reads": (tiled(16, 16, kind=17), "tiles"),
    "many tiles": (tiled(16, 16, tiles=formats.MAX_PIECES + 1), "strips or tiles"),
    "many tags": (tiff([(tag, 3, 1, 1) for tag in range(1, formats.MAX_TAGS + 2)]), "tags"),
    "fax": (tiled(16, 16, compression=4), "compressed as group4"),
}


@TIFF_ONLY
@pytest.mark.parametrize(("data", "cause"), TIFFS.values(), ids=TIFFS)
@pytest.mark.usefixtures("undecoded")
def test_costly_tiff_is_refused_undecoded(data, cause):
    with pytest.raises(UnusableImage, match=f"{cause}.*PNG"):
        decode(data, POLICY)


@TIFF_ONLY
@pytest.mark.parametrize("options", [{"big_tiff": True}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}], ids=str)
def test_kinds_of_tiff_are_read(options):
    expected = decode(encode(photo(), "PNG"), POLICY).astype(int)
    assert np.abs(decode(encode(photo(), "TIFF", **options), POLICY) - expected).mean() < 3


# --- JPEGs without an end marker


@pytest.mark.parametrize("cut", [1, 2], ids=["half", "whole"])
@pytest.mark.parametrize("size", [(8, 8), (96, 64), (1200, 900)], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_jpeg_that_lacks_only_its_end_marker_is_read_in_full(cut, size, mode, progressive):
    data = encode(photo(*size).convert(mode), "JPEG", progressive=progressive)
    assert np.array_equal(decode(data[:-cut], POLICY), decode(data, POLICY))


@pytest.mark.parametrize("cut", [100, 1000, 10_000])
def test_baseline_jpeg_that_lacks_more_is_refused(cut):
    data = encode(Image.fromarray(noise(640, 480)), "JPEG")
    assert "ends early" in str(error_of(data[:-cut]))


def test_progressive_jpeg_is_read_once_its_last_pass_has_begun():
    data = encode(photo(640, 480), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    whole, early = decode(data, POLICY).astype(int), decode(data[: last + 10], POLICY)
    assert np.abs(early - whole).max() <= 2
    for end in (last, data.rindex(b"\xff\xda", 0, last), data.index(b"\xff\xda") + 200):
        assert "ends early" in str(error_of(data[:end]))


@fuzzing
@given(st.floats(0, 1), st.booleans())
def test_cut_jpeg_is_refused_or_looks_like_the_whole_one(share, progressive):
    data = encode(photo(320, 240), "JPEG", progressive=progressive)
    try:
        pixels = decode(data[: int(len(data) * share)], POLICY)
    except ImageError:
        return
    assert np.abs(pixels.astype(int) - decode(data, POLICY)).mean() < 1


# --- hostile bytes


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ACCEPTED)
def test_truncated_file_is_unusable(kind, share):
    data = encode(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(UnusableImage, match=f"the {kind} file ends early or is damaged; send the original"):
        decode(data[: int(len(data) * share)], POLICY)


def test_a_png_of_palette_indices_without_a_palette_is_unusable():
    header = PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 3, 0, 0, 0))
    data = header + chunk(b"IDAT", zlib.compress(bytes(33 * 32))) + chunk(b"IEND")
    with pytest.raises(UnusableImage, match="the PNG file ends early or is damaged"):
        read_header(data)


@fuzzing
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:30] for data in FILES.values())]))
def test_arbitrary_bytes_raise_nothing_but_image_errors(data, start):
    with pytest.raises(ImageError):
        decode(start + data, POLICY)


SAMPLES = [
    *FILES.values(),
    *(encode(photo(), kind, save_all=True, append_images=[photo(seed=1)]) for kind in ANIMATED),
    encode(photo(), "JPEG", progressive=True),
    encode(photo().convert("CMYK"), "JPEG"),
    encode(photo().quantize(), "PNG", transparency=3),
    oriented("PNG", photo().convert("LA"), 6),
]


@fuzzing
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    st.sampled_from([resized(), resized(fit="crop", jpeg_margin=1), resized(fit="pad", filter="lanczos")]),
    st.booleans(),
)
def test_damaged_files_raise_nothing_but_image_errors(data, damages, policy, in_the_header):
    damaged = bytearray(data)
    for place, new in damages:
        at = int(place * (min(len(data), 200) if in_the_header else len(data)))
        damaged[at : at + len(new)] = new
    try:
        pixels = decode(bytes(damaged), policy)
    except ImageError:
        return
    assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE, 3), np.uint8)


def test_threads_do_not_disturb_each_other():
    expected = [decode(data, POLICY) for data in SAMPLES]
    with ThreadPoolExecutor(8) as threads:
        decoded = list(threads.map(lambda data: decode(data, POLICY), SAMPLES * 8))
    assert all(np.array_equal(a, b) for a, b in zip(expected * 8, decoded, strict=True))
    assert any(not np.array_equal(a, b) for a, b in pairwise(expected))


FASTEST = {"WEBP": {"method": 0}, "AVIF": {"speed": 10}}
DECODE_WITH_LITTLE_MEMORY = """
import ctypes, resource, sys
from model_store.images.decode import decode
from model_store.manifest import UNNORMALISED

small, large = (open(path, "rb").read() for path in sys.argv[2:])
decode(small, UNNORMALISED)
ctypes.CDLL(None).malloc_trim(0)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    decode(large, UNNORMALISED)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
@pytest.mark.parametrize("room", [2_000_000, 12_000_000], ids=["2 MB", "12 MB"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {}), ("JPEG", {"progressive": True, "subsampling": 0})],
    ids=["PNG", "BMP", "TIFF", "WEBP", "JPEG"],
)
def test_a_lack_of_memory_is_not_taken_for_damage(tmp_path, kind, options, room):
    paths = tmp_path / "small", tmp_path / "large"
    for path, side in zip(paths, (32, 3_000), strict=True):
        path.write_bytes(encode(photo(side, side), kind, **options))
    command = [sys.executable, "-c", DECODE_WITH_LITTLE_MEMORY, str(room), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("OutOfMemory there is too little memory to decode"), result.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
@pytest.mark.parametrize("room", [110_000_000, 150_000_000], ids=["110 MB", "150 MB"])
@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_lack_of_memory_for_opening_a_file_is_not_taken_for_damage(tmp_path, kind, room):
    paths = tmp_path / "small", tmp_path / "large"
    for path, side in zip(paths, (32, 4_900), strict=True):  # two canvases of 96 MB each
        path.write_bytes(encode(flat("RGB", (9, 99, 199), (side, side)), kind, quality=10, **FASTEST[kind]))
    command = [sys.executable, "-c", DECODE_WITH_LITTLE_MEMORY, str(room), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("OutOfMemory there is too little memory to decode"), result.stdout


def test_damage_is_told_from_a_lack_of_memory():
    with pytest.raises(UnusableImage, match="ends early or is damaged"):
        decode(encode(photo(3_000, 3_000), "JPEG")[:20_000], POLICY)
    assert not issubclass(UnusableImage, OutOfMemory)


BYTES_PER_PIXEL = """
import sys
from model_store.images.decode import read_header
from model_store.manifest import UNNORMALISED

def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) * 1024

data = open(sys.argv[1], "rb").read()
before, _ = memory("VmRSS"), open("/proc/self/clear_refs", "w").write("5")
image = read_header(data)
estimated = image.peak_bytes(UNNORMALISED)
image.decode(UNNORMALISED)
print(memory("VmHWM") - before - 2 * len(data), estimated)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "RGB", {"transparency": (1, 2, 3)}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGBA", {}),
        ("AVIF", "RGB", {}),
        ("TIFF", "CMYK", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {"progressive": True}),
    ],
    ids=str,
)
def test_decoding_takes_no_more_memory_than_estimated(tmp_path, kind, mode, options):
    path = tmp_path / "image"
    path.write_bytes(encode(photo(2_000, 2_000).convert(mode), kind, **options))
    result = subprocess.run([sys.executable, "-c", BYTES_PER_PIXEL, str(path)], capture_output=True, text=True)
    taken, estimated = map(int, result.stdout.split())
    assert taken <= estimated + 4_000_000, result.stderr  # and a few megabytes of code and tables
