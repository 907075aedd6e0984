"""Alpha, transparent colours, polarity and bit depth: the decisions of docs/reliability.md, on files made here."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model_store.errors import UnusableImage
from model_store.images.decode import ACCEPTED, decode
from model_store.manifest import UNNORMALISED
from tests.model_store.images.policies import SIDE

WHITE = (255, 255, 255)
RGB = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
LARGE = np.random.default_rng(1).integers(0, 65536, (48, 80), dtype=np.uint16)  # of no size that resizing leaves alone
TIFF_ONLY = pytest.mark.skipif("TIFF" not in ACCEPTED, reason="this Pillow has no TIFF")


def decoded(data):
    return decode(data, UNNORMALISED)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(values):
    return np.repeat(np.asarray(values)[..., None], 3, axis=2)


# --- alpha


def bmp(alpha, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)):
    """Version 4, 32 bits a pixel, bottom row first."""
    pixels = np.dstack([RGB[::-1, :, ::-1], np.full((SIDE, SIDE), alpha, np.uint8)]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", *masks) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels


def test_bmp_whose_alpha_is_zero_everywhere_is_opaque():
    assert np.array_equal(decoded(bmp(0)), RGB)


def test_bmp_with_alpha_is_laid_over_white():
    assert np.abs(decoded(bmp(51)) - (RGB * 0.2 + 255 * 0.8)).max() <= 1


def test_bmp_without_an_alpha_mask_ignores_the_fourth_byte():
    assert np.array_equal(decoded(bmp(7, masks=(0xFF0000, 0xFF00, 0xFF, 0))), RGB)


@pytest.mark.parametrize("alpha", [0, 0x8000])
def test_one_bit_of_alpha_beside_fifteen_of_colour_is_ignored(alpha):
    pixels = np.full((SIDE, SIDE), 31 << 10 | alpha, "<u2").tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 16, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0x7C00, 0x3E0, 0x1F, 0x8000) + b"BGRs" + bytes(48)
    data = b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels
    assert (decoded(data) == (255, 0, 0)).all()


def test_bmp_with_masks_pillow_lacks_is_refused_as_rare_not_as_damaged():
    with pytest.raises(UnusableImage, match=r"BMP file stores its pixels in a rare way.*bitfields.*export it as JPEG"):
        decoded(bmp(0, masks=(0xFF00, 0xFF, 0xFF0000, 0)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_invisible_image_of_a_type_with_declared_alpha_is_white(kind):
    invisible = Image.fromarray(np.dstack([RGB, np.zeros((SIDE, SIDE), np.uint8)]))
    assert (
        decoded(encode(invisible, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))) == WHITE
    ).all()


# --- TIFF


def tiff(pixels, bits, photometric=1, order="<", **tags):
    """A TIFF of one strip. `tags` are named t and their number, of type SHORT; bits are those of each channel."""
    rows = pixels if isinstance(pixels, bytes) else pixels.tobytes()
    channels = len(bits)
    entries = {256: SIDE, 257: SIDE, 259: 1, 262: photometric, 277: channels, 278: SIDE}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    if isinstance(pixels, np.ndarray):
        entries |= {256: pixels.shape[1], 257: pixels.shape[0], 278: pixels.shape[0]}
    after = 8 + 2 + 12 * (len(entries) + 3) + 4
    wide = struct.pack(f"{order}{channels}H", *bits)
    planes = channels if entries.get(284) == 2 else 1
    size, start = len(rows) // planes, after + len(wide) + 8 * planes
    offsets = struct.pack(f"{order}{planes}I", *(start + size * plane for plane in range(planes)))
    sizes = struct.pack(f"{order}{planes}I", *[size] * planes)
    directory = {tag: struct.pack(f"{order}HHIHxx", tag, 3, 1, value) for tag, value in entries.items()}
    directory[258] = (
        struct.pack(f"{order}HHI", 258, 3, channels) + wide.ljust(4, b"\0")
        if channels < 3
        else struct.pack(f"{order}HHII", 258, 3, channels, after)
    )
    for tag, values, place in ((273, offsets, after + len(wide)), (279, sizes, after + len(wide) + 4 * planes)):
        directory[tag] = struct.pack(f"{order}HHI", tag, 4, planes) + (
            values if planes == 1 else struct.pack(f"{order}I", place)
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(directory))
    return head + b"".join(directory[tag] for tag in sorted(directory)) + bytes(4) + wide + offsets + sizes + rows


RGBA = np.dstack([RGB, np.full((SIDE, SIDE), 51, np.uint8)])


@TIFF_ONLY
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey_tiff_of_either_byte_order_is_resized_alike(order):
    expected = decoded(encode(Image.fromarray(LARGE), "PNG"))
    assert np.array_equal(decoded(tiff(LARGE.astype(f"{order}u2"), [16], order=order)), expected)


@TIFF_ONLY
def test_sixteen_bit_grey_tiff_whose_white_is_zero_is_inverted():
    expected = decoded(tiff(LARGE, [16]))
    assert np.abs(decoded(tiff(65_535 - LARGE, [16], photometric=0)).astype(int) - expected).max() <= 1


@TIFF_ONLY
def test_float_tiff_whose_white_is_zero_is_inverted():
    values = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
    assert np.array_equal(decoded(tiff(values, [32], 0, t339=3)), decoded(tiff(values[:, ::-1], [32], 1, t339=3)))


@TIFF_ONLY
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1])
def test_few_bits_of_either_polarity_use_the_full_range(bits, photometric):
    values = np.random.default_rng(2).integers(0, 2**bits, (SIDE, SIDE))
    shifts = np.arange(bits)[::-1]
    rows = np.packbits((values[..., None] >> shifts & 1).reshape(SIDE, -1).astype(np.uint8), axis=1).tobytes()
    white = 2**bits - 1
    expected = grey((values if photometric else white - values) * 255 // white)
    assert np.array_equal(decoded(tiff(rows, [bits], photometric)), expected)


@TIFF_ONLY
def test_twelve_bits_use_the_full_range():
    values = np.random.default_rng(3).integers(0, 4096, (SIDE, SIDE // 2, 2))
    first, second = values[..., 0], values[..., 1]
    rows = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8)
    expected = grey(np.rint(values.reshape(SIDE, SIDE) * (255 / 4095)))
    assert np.abs(decoded(tiff(rows.tobytes(), [12])) - expected).max() <= 1


@TIFF_ONLY
def test_signed_bytes_are_read_as_unsigned_ones_as_other_decoders_do():
    assert np.array_equal(decoded(tiff(RGB[..., 0].copy(), [8], t339=2)), grey(RGB[..., 0]))


@TIFF_ONLY
def test_signed_sixteen_bits_use_the_range_in_use():
    values = np.tile(np.linspace(-300, 700, SIDE).astype(np.int16), (SIDE, 1))
    assert np.abs(decoded(tiff(values, [16], t339=2))[0, :, 0] - np.linspace(0, 255, SIDE)).max() <= 1


@TIFF_ONLY
def test_associated_alpha_is_already_multiplied():
    premultiplied = np.dstack([RGB // 5, RGBA[..., 3]])
    assert np.abs(decoded(tiff(premultiplied, [8] * 4, 2, t338=1)) - (RGB // 5 + 204.0)).max() <= 4


@TIFF_ONLY
def test_grey_with_associated_alpha_is_already_multiplied():
    premultiplied = np.dstack([RGB[..., 0] // 5, RGBA[..., 3]])
    expected = grey(RGB[..., 0] // 5 + 204.0)
    assert np.abs(decoded(tiff(premultiplied, [8] * 2, 1, t338=1)) - expected).max() <= 4


@TIFF_ONLY
def test_unassociated_alpha_is_laid_over_white():
    assert np.abs(decoded(tiff(RGBA, [8] * 4, 2, t338=2)) - (RGB * 0.2 + 204)).max() <= 1


@TIFF_ONLY
@pytest.mark.parametrize("alpha", [0, 51])
def test_fourth_channel_declared_as_no_alpha_is_ignored(alpha):
    pixels = np.dstack([RGB, np.full((SIDE, SIDE), alpha, np.uint8)])
    assert np.array_equal(decoded(tiff(pixels, [8] * 4, 2, t338=0)), RGB)


@TIFF_ONLY
def test_undeclared_fourth_channel_that_is_zero_everywhere_is_no_alpha():
    pixels = np.dstack([RGB, np.zeros((SIDE, SIDE), np.uint8)])
    assert np.array_equal(decoded(tiff(pixels, [8] * 4, 2)), RGB)
    assert (decoded(tiff(pixels, [8] * 4, 2, t338=2)) == WHITE).all()


@TIFF_ONLY
def test_planes_are_read_where_pillow_keeps_them_apart_and_refused_elsewhere():
    assert np.array_equal(decoded(tiff(RGB.transpose(2, 0, 1).tobytes(), [8] * 3, 2, t284=2)), RGB)
    deep = (RGB.astype(np.uint16) * 257).transpose(2, 0, 1).tobytes()
    two = RGB[..., :2].transpose(2, 0, 1).tobytes()
    reversed_bits = tiff(RGB.transpose(2, 0, 1).tobytes(), [8] * 3, 2, t284=2, t266=2)
    for data in (tiff(deep, [16] * 3, 2, t284=2), tiff(two, [8] * 2, 1, t284=2, t338=1), reversed_bits):
        with pytest.raises(UnusableImage, match=r"TIFF stores each channel apart.*save it as PNG"):
            decoded(data)


@TIFF_ONLY
def test_compressed_planes_of_sixteen_bits_are_read():
    deep = (RGB.astype(np.uint16) * 257).transpose(2, 0, 1)
    strips = [zlib.compress(plane.tobytes()) for plane in deep]
    size = max(map(len, strips))
    strips = b"".join(strip.ljust(size, b"\0") for strip in strips)
    assert np.array_equal(decoded(tiff(strips, [16] * 3, 2, t284=2, t259=8)), RGB)


@TIFF_ONLY
def test_tiff_of_a_layout_pillow_lacks_is_refused_as_rare_not_as_damaged():
    with pytest.raises(UnusableImage, match=r"rare way \(unknown pixel mode\); export it as JPEG"):
        decoded(tiff(np.zeros((SIDE, SIDE)), [64], t339=3))


# --- PNG


def png(values, bits, colour_type, *chunks):
    """Unfiltered PNG of (SIDE, SIDE[, channels]) values of up to 16 bits."""
    values = np.asarray(values).reshape(SIDE, -1)
    shifts = np.arange(bits)[::-1]
    rows = np.packbits((values[..., None] >> shifts & 1).reshape(SIDE, -1).astype(np.uint8), axis=1)
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour_type, 0, 0, 0)
    whole = ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in whole
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey_of_any_depth_becomes_white(bits):
    values = np.random.default_rng(4).integers(0, 2**bits, (SIDE, SIDE))
    seen = np.rint(values * (255 / (2**bits - 1)))
    colour = int(values[3, 3]) if bits != 1 else 0
    expected = grey(np.where(values == colour, 255, seen))
    assert np.array_equal(decoded(png(values, bits, 0, (b"tRNS", struct.pack(">H", colour)))), expected)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_only_the_low_bits_of_a_transparent_grey_count(bits):
    values = np.random.default_rng(4).integers(0, 2**bits, (SIDE, SIDE))
    plain, odd = (png(values, bits, 0, (b"tRNS", struct.pack(">H", colour))) for colour in (2, 2 + 2**bits))
    assert np.array_equal(decoded(odd), decoded(plain))


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_colour_of_either_depth_becomes_white(bits):
    values = RGB.astype(np.uint16) if bits == 8 else RGB.astype(np.uint16) << 8 | 7
    expected = RGB.copy()
    expected[3, 3] = WHITE
    chunk = (b"tRNS", struct.pack(">3H", *(int(channel) for channel in values[3, 3])))
    assert np.array_equal(decoded(png(values, bits, 2, chunk)), expected)


def test_index_beyond_the_palette_is_black():
    values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 4
    pixels = decoded(png(values, 8, 3, (b"PLTE", bytes([200, 100, 50] * 2))))
    assert (pixels[values < 2] == (200, 100, 50)).all()
    assert (pixels[values > 1] == 0).all()


def test_gamma_and_background_of_a_png_are_ignored():
    chunks = (b"gAMA", struct.pack(">I", 100_000)), (b"bKGD", struct.pack(">3H", 255, 0, 0))
    assert np.array_equal(decoded(png(RGB, 8, 2, *chunks)), RGB)


# --- JPEG


def test_cmyk_jpeg_is_inverted_with_or_without_adobe_s_marker():
    data = encode(Image.fromarray(RGB).resize((64, 64)).convert("CMYK"), "JPEG")
    start = data.index(b"\xff\xee")
    bare = data[:start] + data[start + 2 + data[start + 3] :]
    assert np.array_equal(decoded(bare), decoded(data))
