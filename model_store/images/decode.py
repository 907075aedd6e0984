"""Decode untrusted image files to uint8 pixels of the size that a network takes.

In order: recognise the type by its first bytes, walk the file's structure without decoding (dropping the parts that
pixels do not depend on), let Pillow read the header, check the limits, and only then decode the first frame and resize
it. Colour profiles are not applied: pixels are used as stored, as CIFAR-10's were.
"""

import ctypes
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

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
    _imaging,
    features,
)

from model_store.errors import ImageError, OutOfMemory, UnsupportedImage, UnusableImage
from model_store.images.formats import (
    Structure,
    check_frames,
    check_size,
    orientation,
    remedy,
    too_large,
    walk_gif,
    walk_jpeg,
    walk_png,
    walk_tiff,
    walk_webp,
)
from model_store.images.pixels import averageable, can_read_planes, to_rgb
from model_store.manifest import Preprocessing, Resize

HEADER_BYTES = 100_000_000  # for opening a file, besides pixels that some types allocate then
MAX_RUN_LENGTH_PIXELS = 2_500_000  # Pillow decodes a run-length BMP in Python
TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "zstd")

# Pillow's warnings about odd metadata quote the file, which must not reach the logs, and Python keeps every distinct
# warning for ever. This is a global filter because `catch_warnings` is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Pillow logs an error for some damaged files, which their senders are told anyway.
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("PIL").propagate = False

# libtiff writes a line to stderr, in between the JSON log, for every damaged strip. Its error handler is one pointer a
# process; Pillow only resets the one for warnings. A Pillow with libtiff built in does not export the function.
with suppress(OSError, AttributeError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)

# By default every AVIF starts one thread per core of the host, ignoring the container's quota, although the service
# already decodes several images at once. Pillow has no option per image.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def decode(data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode an image file of any accepted type into the network's input: uint8 `preprocessing.shape`, read-only.

    Takes the first frame, rotates it by its EXIF orientation, blends transparency with white and resizes it. For a
    network of one channel, colours become their luma; an RGB or grey image of the input's size is otherwise returned
    bit for bit, in the network's channel order. 12- and 16-bit grey is scaled to 8 bits; signed, 32-bit and float
    grey has no defined range, so its darkest pixel becomes 0 and its lightest 255.

    Raises:
        UnsupportedImage: the bytes are of no type in `ACCEPTED`.
        UnusableImage: over a limit, truncated or damaged.
        OutOfMemory: memory ran out.
    """
    return read_header(data).decode(preprocessing)


def read_header(data: bytes) -> "Encoded":
    """Run every check of `decode`, but decode no pixels. Time and memory depend on the file's bytes, not its pixels.

    Raises:
        UnsupportedImage: the bytes are of no type in `ACCEPTED`.
        UnusableImage: over a limit, or visibly damaged.
    """
    name = _recognise(data)
    image_type = _TYPES[name]
    with _refusing(name):
        structure = image_type.walk(data)
    with _refusing(name, HEADER_BYTES + structure.opening_bytes):
        image = image_type.open(io.BytesIO(structure.data))
        check_size(*image.size)
        check_frames(getattr(image, "n_frames", 1) if structure.frames is None else structure.frames)
        _check_coding(image)
        if image.mode == "P" and image.palette is None:
            raise ValueError("the palette is missing")
    return Encoded(name, image, structure.exif)


@dataclass(frozen=True)
class Encoded:
    """An image within every limit; `decode` may be called once."""

    type: str
    image: ImageFile.ImageFile
    exif: bytes

    @property
    def pixels(self) -> int:
        """Number of pixels to decode."""
        return self.image.width * self.image.height

    def stretched_pixels(self, preprocessing: Preprocessing) -> int:
        """Upper estimate of the pixels between the two steps of resizing, of which the first makes all rows as long.

        They are more than the file's if its rows become longer.
        """
        return max(preprocessing.shape) * self.image.height

    def is_reduced(self, preprocessing: Preprocessing) -> bool:
        """Tell a JPEG that is decoded at half its size or less."""
        return self.type == "JPEG" and min(self.image.size) >= 2 * _decoded_side(preprocessing)

    def peak_bytes(self, preprocessing: Preprocessing) -> int:
        """Upper estimate of the memory that `decode` takes beside the file's bytes."""
        return self._decoded_bytes(preprocessing) + 4 * self.stretched_pixels(preprocessing)

    def _decoded_bytes(self, preprocessing: Preprocessing) -> int:
        if self.type == "JPEG":  # a progressive one keeps all coefficients, even if it is decoded at a reduced scale
            coefficients = 8 if self.image.info.get("progressive") else 0
            return self.pixels * (coefficients + (1 if self.is_reduced(preprocessing) else 4))
        if self.type in _DECODER_BYTES:
            return self.pixels * _DECODER_BYTES[self.type]
        mode = self.image.mode
        stored = self.pixels * (1 if mode in ("1", "L", "P") else 4)
        if mode in ("LA", "RGBA"):
            return stored + 5 * self.pixels  # resized with the colours multiplied by alpha
        if self.image.has_transparency_data:
            return stored + 9 * self.pixels  # the same, after conversion
        return stored + (1 if mode in ("L", "RGB", "F") or mode.startswith("I") else 5) * self.pixels

    def decode(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Decode the pixels, with the result of the module's `decode`.

        Raises:
            UnusableImage: truncated or damaged.
            OutOfMemory: memory ran out.
        """
        with _refusing(self.type, self.peak_bytes(preprocessing)):
            side = _decoded_side(preprocessing)
            self.image.draft(None, (side, side))
            image = averageable(self.image)
            self.image.load()  # some metadata follows the pixels
            return _pixels(image, preprocessing, orientation(self.exif or self.image.info.get("exif", b"")))


def resize_pixels(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize RGB pixels (H, W, 3) to the network's input, as `decode` does with a file that holds them."""
    return _pixels(Image.fromarray(pixels), preprocessing)


def _decoded_side(preprocessing: Preprocessing) -> int:
    """Least side in pixels of a JPEG that is decoded at a reduced scale."""
    return preprocessing.resize.jpeg_margin * max(preprocessing.height, preprocessing.width)


def _pixels(image: Image.Image, preprocessing: Preprocessing, orientation: int = 1) -> NDArray[np.uint8]:
    size, turn = (preprocessing.width, preprocessing.height), _TURNS.get(orientation)
    if orientation in _SIDEWAYS:
        size = size[::-1]
    small = _padded(to_rgb(_resized(image, size, preprocessing.resize)), size)
    # Turning the resized pixels equals turning the whole image, up to rounding, and costs almost nothing.
    upright = small if turn is None else small.transpose(turn)
    mode: str = preprocessing.channel_order
    if preprocessing.shape[2] == 1:
        upright, mode = upright.convert("L"), "L"
    return np.frombuffer(upright.tobytes("raw", mode), np.uint8).reshape(preprocessing.shape)


# Pillow's words for layouts that it cannot read. They quote numbers of the file, never its texts.
_UNSUPPORTED = re.compile(
    r"Unsupported BMP|unknown (?:pixel|raw) mode|unknown data organization|cannot handle|invalid palette"
)


@contextmanager
def _refusing(name: str, size: int = HEADER_BYTES) -> Iterator[None]:
    """Turn every error that Pillow raises on damaged bytes, from struct.error to OSError, into `UnusableImage`.

    The decoders of WebP and JPEG report a lack of memory as damage. So an error while not even `size` bytes can be
    allocated is taken for a lack of memory.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise _out_of_memory(name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large("image is too large") from None
    except Exception as error:  # noqa: BLE001 - see above
        if not _can_allocate(size):
            raise _out_of_memory(name) from None
        if _UNSUPPORTED.match(str(error)):
            message = f"the {name} file stores its pixels in a rare way ({error}); export it as JPEG or as an 8-bit PNG"
        else:
            message = f"the {name} file ends early or is damaged; send the original again, or export it as JPEG or PNG"
        raise UnusableImage(message) from None


def _out_of_memory(name: str) -> OutOfMemory:
    return OutOfMemory(f"there is too little memory to decode the {name} file; try again, or resize the image")


def _can_allocate(size: int) -> bool:
    try:
        np.empty(size, np.uint8)  # address space only: no page is touched
    except MemoryError:
        return False
    return True


def _recognise(data: bytes) -> str:
    start = data[:1024]
    name = next((name for name, image_type in _TYPES.items() if image_type.signature.match(start)), None)
    if name in ACCEPTED:
        return name
    reason = "this server's Pillow cannot decode it" if name else remedy(start)
    accepted = ", ".join(ACCEPTED)
    raise UnsupportedImage(f"{name or f'{len(data)} bytes'} cannot be read: {reason}; accepted types are {accepted}")


def _check_coding(image: ImageFile.ImageFile) -> None:
    """Reject codings that take far longer than their number of pixels suggests."""
    pixels, compression = image.width * image.height, image.info.get("compression")
    if any(tile.codec_name == "bmp_rle" for tile in image.tile) and pixels > MAX_RUN_LENGTH_PIXELS:
        limit = f"the limit of a run-length BMP is {MAX_RUN_LENGTH_PIXELS} pixels"
        raise UnusableImage(f"image is {image.width}×{image.height} px, {limit}; save it as PNG")
    if image.format == "TIFF" and compression not in TIFF_COMPRESSIONS:  # others are rare, and faxes show no objects
        raise UnusableImage(f"TIFF is compressed as {compression}, accepted are {TIFF_COMPRESSIONS}; save it as PNG")
    if image.format == "TIFF" and not can_read_planes(image):
        message = "TIFF stores each channel apart, which is read for RGB, RGBA and CMYK of 8 bits; save it as PNG"
        raise UnusableImage(message)


def _resized(image: Image.Image, target: tuple[int, int], resize: Resize) -> Image.Image:
    """Resize to the target's width and height, or to fit inside it before padding."""
    (width, height), size, box = image.size, target, (0, 0, *image.size)
    scales = width / target[0], height / target[1]
    if resize.fit == "pad":
        size = max(1, round(width / max(scales))), max(1, round(height / max(scales)))
    elif resize.fit == "crop":
        cropped = max(1, round(target[0] * min(scales))), max(1, round(target[1] * min(scales)))
        left, top = (width - cropped[0]) // 2, (height - cropped[1]) // 2
        box = left, top, left + cropped[0], top + cropped[1]
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling[resize.filter.upper()], box)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    black = Image.new("RGB", size)
    black.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return black


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = range(5, 9)  # width and height change places


class _Type(NamedTuple):
    """An image type: its first bytes, functions to open and walk it, and the optional Pillow feature it needs."""

    signature: re.Pattern[bytes]
    open: Callable[[io.BytesIO], ImageFile.ImageFile]
    feature: str | None
    walk: Callable[[bytes], Structure] = Structure


# Pillow's classes, not `Image.open`: its size check runs first, warns, and cannot be set per image.
_TYPES = {
    "JPEG": _Type(re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile, "jpg", walk_jpeg),
    "PNG": _Type(re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, "zlib", walk_png),
    "WEBP": _Type(re.compile(rb"(?s)RIFF.{4}WEBP"), WebPImagePlugin.WebPImageFile, "webp", walk_webp),
    "GIF": _Type(re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile, None, walk_gif),
    "BMP": _Type(re.compile(rb"(?s)BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"), BmpImagePlugin.BmpImageFile, None),
    "AVIF": _Type(
        re.compile(rb"(?s).{4}ftyp(?:avi[fs]|m[is]f1(?=.{0,60}avi[fs]))"), AvifImagePlugin.AvifImageFile, "avif"
    ),
    "TIFF": _Type(re.compile(rb"II[*+]\0|MM\0\*"), TiffImagePlugin.TiffImageFile, "libtiff", walk_tiff),
}
_DECODER_BYTES = {"WEBP": 17, "AVIF": 9}  # bytes per pixel of decoders that hold pixels of their own, as measured
ACCEPTED = tuple(
    name for name, image_type in _TYPES.items() if image_type.feature is None or features.check(image_type.feature)
)
