"""Hostile bytes -> uint8 (32, 32, 3): what is accepted, every limit on an image, and how a `Resize` is carried out.

Knows neither HTTP nor the network, nor who sent the bytes. An upload goes one way: recognise it by its bytes, walk its
container without decoding (leaving out what pixels do not depend on), let Pillow read the header, check the limits,
and only then decode the first frame. Colour profiles are not applied: pixels are taken as they are stored, as those of
CIFAR-10 were.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from model_store.errors import ImageError, UnsupportedImage, UnusableImage
from model_store.manifest import Resize

SIDE = 32
MAX_PIXELS = 40_000_000
MAX_SIDE = 65_535  # a longer side is no photo, and the resampling table grows with it
MAX_FRAMES = 1_000
MAX_PIECES = 100_000  # segments, chunks, blocks, tiles: each costs microseconds of Python; encoders write a few hundred
MAX_SCANS = 50  # passes of a progressive JPEG: encoders write about ten, and each visits every pixel for a few bytes
MAX_RUN_LENGTH_PIXELS = 2_500_000  # Pillow decodes a run-length BMP in Python
MAX_TAGS = 500  # of a TIFF: libtiff may write a line to stderr about each, past any logger
MAX_TILE_SIDE = 4_096  # of a TIFF: a tile is decoded whole, however small the image it belongs to
TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "zstd")

# Pillow says through `warnings` what it thinks of odd metadata. The words are the file's, so they belong in no log, and
# Python remembers every distinct text for ever. A filter, because `catch_warnings` does not work in several threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# There is no per-image way to say this. By default every AVIF starts a thread for each core of the host, whatever the
# container's quota; the service already decodes several images at once.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def decode(data: bytes, resize: Resize) -> NDArray[np.uint8]:
    """Decode an image file of any accepted type into the network's input: uint8 (32, 32, 3) RGB, C order, read-only.

    The first frame, turned upright by its EXIF orientation, with transparency laid over white, resized by `resize`.
    An RGB image that is already 32×32 comes out bit for bit. 16-bit grey is scaled to 8 bits (its tRNS colour is
    ignored); 32-bit and float grey states no range, so its darkest pixel becomes 0 and its lightest 255.

    Raises:
        UnsupportedImage: the bytes are of no type in `ACCEPTED`.
        UnusableImage: over a limit, cut short or damaged.
    """
    name = _recognise(data)
    try:
        return _decode(_TYPES[name], data, resize)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("image is too large") from None
    except Exception:  # noqa: BLE001 - Pillow answers hostile bytes with anything from struct.error to MemoryError
        message = f"the {name} file ends early or is damaged; send the original again, or save it anew as JPEG or PNG"
        raise UnusableImage(message) from None


def _decode(kind: "_Type", data: bytes, resize: Resize) -> NDArray[np.uint8]:
    container = kind.walk(data)
    image = kind.open(io.BytesIO(container.data))
    _check_limits(image, getattr(image, "n_frames", 1) if container.frames is None else container.frames)
    _check_coding(image)
    image.draft(None, (resize.jpeg_margin * SIDE, resize.jpeg_margin * SIDE))
    small = _rgb(_resized(_averageable(image), resize))
    # Turning 32×32 pixels gives what turning the whole image would, up to rounding, at none of the cost.
    upright = _turned(_padded(small), _orientation(container.exif or image.info.get("exif", b"")))
    return np.frombuffer(upright.tobytes(), np.uint8).reshape(SIDE, SIDE, 3)


def _recognise(data: bytes) -> str:
    """The name of the type the bytes are of, which must be in `ACCEPTED`."""
    start = data[:1024]
    name = next((name for name, kind in _TYPES.items() if kind.signature.match(start)), None)
    if name in ACCEPTED:
        return name
    reason = "this server was built without it" if name else _remedy(start)
    accepted = ", ".join(ACCEPTED)
    raise UnsupportedImage(f"{name or f'{len(data)} bytes'} cannot be read: {reason}; accepted types are {accepted}")


def _remedy(start: bytes) -> str:
    matches = (remedy for pattern, remedy in _REMEDIES if pattern.match(start))
    return next(matches, "they begin like no image type known here; export the image as JPEG or PNG")


def _check_limits(image: ImageFile.ImageFile, frames: int) -> None:
    """Before any pixel is decoded: Pillow has read the header only."""
    _check_size(*image.size)
    if frames > MAX_FRAMES:
        raise UnusableImage(f"image has more than {MAX_FRAMES} frames ({frames} counted); send one frame of it")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise _too_large(f"image is {width}×{height} px")


def _check_coding(image: ImageFile.ImageFile) -> None:
    """Refuse the codings that cost far more than their pixels."""
    pixels, compression = image.width * image.height, image.info.get("compression")
    if any(tile.codec_name == "bmp_rle" for tile in image.tile) and pixels > MAX_RUN_LENGTH_PIXELS:
        limit = f"the limit of a run-length BMP is {MAX_RUN_LENGTH_PIXELS} pixels"
        raise UnusableImage(f"image is {image.width}×{image.height} px, {limit}; save it as PNG")
    # The rest are rare, and libtiff writes a line to stderr for every damaged row of a fax.
    if image.format == "TIFF" and compression not in TIFF_COMPRESSIONS:
        raise UnusableImage(f"TIFF is compressed as {compression}, accepted are {TIFF_COMPRESSIONS}; save it as PNG")


def _too_large(what: str) -> UnusableImage:
    limit = f"{MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} px a side"
    return UnusableImage(f"{what}, the limit is {limit}; resize it before uploading")


def _averageable(image: Image.Image) -> Image.Image:
    """The image in a mode whose values may be averaged: no palette indices, bits or inks. Decodes the pixels."""
    if image.mode in ("LA", "RGBA", "F") or image.mode.startswith("I"):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _resized(image: Image.Image, resize: Resize) -> Image.Image:
    """At most 32×32, and exactly that unless the policy is to pad."""
    (width, height), size, box = image.size, (SIDE, SIDE), (0, 0, *image.size)
    if resize.fit == "pad":
        longest = max(width, height)
        size = max(1, round(SIDE * width / longest)), max(1, round(SIDE * height / longest))
    elif resize.fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = left, top, left + side, top + side
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling[resize.filter.upper()], box)


def _rgb(image: Image.Image) -> Image.Image:
    """A small averageable image as RGB: transparency over white, more than 8 bits scaled to 8."""
    if image.mode in ("LA", "RGBA"):
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, (0, 0), image)
        return white
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    return image.convert("RGB")


def _eight_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) uint16 by its full range, int32 and float32 by the range they use; NaN and infinities count as 0."""
    if grey.dtype.itemsize == 2:
        return np.rint(grey.astype(np.float64) / 257).astype(np.uint8)
    with np.errstate(invalid="ignore"):
        values = np.where(np.isfinite(grey), grey, 0).astype(np.float64)
    low, high = values.min(), values.max()
    scaled: NDArray[np.float64] = (values - low) / ((high - low) or 1) * 255
    return np.rint(scaled).astype(np.uint8)


def _padded(image: Image.Image) -> Image.Image:
    if image.size == (SIDE, SIDE):
        return image
    black = Image.new("RGB", (SIDE, SIDE))
    black.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return black


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Container(NamedTuple):
    """What a walk found: the bytes to decode, the frames (None: Pillow counts them in opening), the EXIF block."""

    data: bytes
    frames: int | None = None
    exif: bytes = b""


_Piece = tuple[int, int, int]  # what it is (its marker, its name as a number), where it starts, where it ends


def _bounded(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    for number, piece in enumerate(pieces):
        if number == MAX_PIECES:
            raise UnusableImage(f"image file is cut into more than {MAX_PIECES} pieces; save it anew as JPEG or PNG")
        yield piece


_JPEG_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_JPEG_PIXELS = {*range(0xC0, 0xD0), 0xDB, 0xDD, 0xE0, 0xEE} - {0xC8}  # frame, tables; JFIF and Adobe tell the colours


def _walk_jpeg(data: bytes) -> _Container:
    """Without comments and application data: Pillow joins EXIF segments in time quadratic in their number."""
    kept, exif = [data[:2]], b""
    for marker, start, end in _bounded(_jpeg_segments(data)):
        if marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
            exif = exif or data[start + 4 : end]
        elif marker in _JPEG_PIXELS or marker == 0xDA:
            kept.append(data[start:end])
    if any(islice(_JPEG_SCAN.finditer(kept[-1]), MAX_SCANS, None)):
        raise UnusableImage(f"JPEG has more than {MAX_SCANS} scans; save it anew as a baseline JPEG")
    return _Container(b"".join(kept), 1, exif)


def _jpeg_segments(data: bytes) -> Iterator[_Piece]:
    """Up to the first scan, which is one piece with all that follows it."""
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        marker, start = found[1][0], found.start()
        if marker == 0xDA:
            yield marker, start, len(data)
            return
        alone = 0xD0 <= marker <= 0xD9 or marker == 0x01
        length = 0 if alone else int.from_bytes(data[start + 2 : start + 4], "big")
        if length < 2 and not alone:  # Pillow would read on elsewhere than we do
            return
        at = start + 2 + length
        yield marker, start, at


_PNG_PIXELS = {int.from_bytes(name, "big") for name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")}
_PNG_EXIF, _PNG_ANIMATION = int.from_bytes(b"eXIf", "big"), int.from_bytes(b"acTL", "big")


def _walk_png(data: bytes) -> _Container:
    """Only what makes pixels: text and profiles inflate a thousandfold, and a large honest one makes Pillow refuse."""
    if data.startswith(b"IHDR", 12) and len(data) >= 24:  # Pillow says nothing of the size when what follows is missing
        _check_size(*struct.unpack_from(">II", data, 16))
    kept, frames, exif = [data[:8]], 1, b""
    for name, start, end in _bounded(_png_chunks(data)):
        if name in _PNG_PIXELS:
            kept.append(data[start:end])
        elif name == _PNG_EXIF:
            exif = data[start + 8 : end - 4]
        elif name == _PNG_ANIMATION:
            frames = int.from_bytes(data[start + 8 : start + 12], "big")
    return _Container(b"".join(kept), frames, exif)


def _png_chunks(data: bytes) -> Iterator[_Piece]:
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">II", data, at)
        yield name, at, at + 12 + length
        at += 12 + length


def _walk_gif(data: bytes) -> _Container:
    return _Container(data, sum(introducer == 0x2C for introducer, _, _ in _bounded(_gif_blocks(data))))


def _gif_blocks(data: bytes) -> Iterator[_Piece]:
    """Images (0x2C), extensions (0x21) and, as 0, the data blocks of both."""
    with suppress(IndexError):  # the file ends; Pillow says whether that matters
        at = 13 + _gif_palette(data[10])
        while (introducer := data[at]) in (0x2C, 0x21):
            start, at = at, at + (11 + _gif_palette(data[at + 9]) if introducer == 0x2C else 2)
            yield introducer, start, at
            while size := data[at]:
                yield 0, at, at + 1 + size
                at += 1 + size
            at += 1


def _gif_palette(flags: int) -> int:
    """Length in bytes of the palette that follows."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_Tag = tuple[int, int, int, int]  # its number, type, count, and its value if that is one SHORT or LONG


def _walk_tiff(data: bytes) -> _Container:
    frames = 0
    for frames, tags in enumerate(islice(_tiff_pages(data), MAX_FRAMES + 1), 1):
        if frames == 1:
            _check_tiff(list(islice(tags, MAX_TAGS + 1)))
    return _Container(data, frames)


def _check_tiff(tags: list[_Tag]) -> None:
    if len(tags) > MAX_TAGS:
        raise UnusableImage(f"TIFF has more than {MAX_TAGS} tags; save it anew as PNG")
    for tag, kind, count, value in tags:
        if tag in (273, 324) and count > MAX_PIECES:
            raise UnusableImage(f"TIFF is cut into {count} strips or tiles, the limit is {MAX_PIECES}; save it as PNG")
        if tag in (322, 323) and (kind not in (3, 4) or value > MAX_TILE_SIDE):
            raise UnusableImage(f"TIFF has tiles of {value} px a side, the limit is {MAX_TILE_SIDE}; save it as PNG")


def _tiff_pages(tiff: bytes) -> Iterator[Iterator[_Tag]]:
    """The tags of each page. A chain that leaves the file just ends; one that bites its tail does not."""
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
    big = tiff[2:3] == b"+"
    codes = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    pointer, number, entry = (struct.Struct((">" if order == "big" else "<") + code) for code in codes)
    with suppress(struct.error, OverflowError):
        (at,) = pointer.unpack_from(tiff, 8 if big else 4)
        while at:
            (tags,) = number.unpack_from(tiff, at)
            first, at = at + number.size, at + number.size + tags * entry.size
            whole = memoryview(tiff)[first : min(at, len(tiff) - (len(tiff) - first) % entry.size)]
            yield (
                (tag, kind, count, int.from_bytes(value[: 2 if kind == 3 else 4], order))
                for tag, kind, count, value in entry.iter_unpack(whole)
            )
            (at,) = pointer.unpack_from(tiff, at)


def _orientation(exif: bytes) -> int:
    """EXIF tag 274: how to turn the image upright, 1 (not at all) where the block is absent or broken."""
    if not exif:
        return 1
    tags = next(_tiff_pages(exif.removeprefix(b"Exif\0\0")), ())
    return next((value for tag, _, _, value in tags if tag == 274), 1)


class _Type(NamedTuple):
    """A type of image: how its bytes begin, how they are walked and opened, which part of Pillow may be missing."""

    signature: re.Pattern[bytes]
    open: Callable[[io.BytesIO], ImageFile.ImageFile]
    feature: str | None
    walk: Callable[[bytes], _Container] = _Container


# The classes rather than `Image.open`, whose own size check comes first, warns, and cannot be set for one image.
_TYPES = {
    "JPEG": _Type(re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile, "jpg", _walk_jpeg),
    "PNG": _Type(re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, "zlib", _walk_png),
    "WEBP": _Type(re.compile(rb"(?s)RIFF.{4}WEBP"), WebPImagePlugin.WebPImageFile, "webp"),
    "GIF": _Type(re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile, None, _walk_gif),
    "BMP": _Type(re.compile(rb"(?s)BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"), BmpImagePlugin.BmpImageFile, None),
    "AVIF": _Type(
        re.compile(rb"(?s).{4}ftyp(?:avi[fs]|m[is]f1(?=.{0,60}avi[fs]))"), AvifImagePlugin.AvifImageFile, "avif"
    ),
    "TIFF": _Type(re.compile(rb"II[*+]\0|MM\0\*"), TiffImagePlugin.TiffImageFile, "libtiff", _walk_tiff),
}
ACCEPTED = tuple(name for name, kind in _TYPES.items() if kind.feature is None or features.check(kind.feature))

_REMEDIES = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (rb"$", "there is nothing in it; choose a file"),
        (rb"(?s).{4}ftyp(?:he[iv][cmsx]|m[is]f1)", "this is a HEIC photo, as iPhones make; export it as JPEG"),
        (rb"(?s).{4}ftyp", "this is a film; send one frame of it as JPEG"),
        (rb"(?s)\0\0\0\x0cJXL |\xff\x0a", "this is a JPEG XL image; export it as JPEG"),
        (rb"(?s)\0\0\0\x0cjP  |\xff\x4f\xff\x51", "this is a JPEG 2000 image; export it as JPEG"),
        (rb"8BPS", "this is a Photoshop document; export it as JPEG or PNG"),
        (rb"%PDF", "this is a PDF document; export the picture in it as JPEG or PNG"),
        (rb"PK\x03\x04|\x1f\x8b", "this is an archive; unpack it and send the image in it"),
        (rb"(?is)\s*<(?:!doctype html|html)", "this is a web page, not an image; download the image itself"),
        (rb"(?is)(?:\xef\xbb\xbf)?\s*<.*?svg", "this is an SVG drawing; export it as PNG"),
        (rb"(?s)\s*[\[{]\s*[\[{\"\d\]}]", "this is JSON; send the bytes of the image file themselves"),
        (rb"data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR", "this is base64 text; send the bytes it encodes"),
    )
)
