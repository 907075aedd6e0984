"""Structure of image files, read without decoding pixels: segments, frames, EXIF, and limits on each.

Each walk drops the parts that pixels do not depend on and rejects files that would take excessive time to decode. Pure
Python on bytes, without Pillow.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Literal, NamedTuple

from model_store.errors import UnusableImage

MAX_PIXELS = 40_000_000
MAX_SIDE = 65_535  # no photo has a longer side, and the resampling table grows with it
MAX_FRAMES = 1_000
MAX_PIECES = 100_000  # segments, chunks, blocks, tiles: each takes microseconds of Python; encoders write a few hundred
MAX_SCANS = 50  # passes of a progressive JPEG: encoders write about ten, and each visits every pixel for a few bytes
JPEG_READ_AHEAD = 8  # bytes: libjpeg fills a register of 64 bits before it decodes the last of them
MAX_TAGS = 500  # of a TIFF: libtiff may write a line to stderr about each, past any logger
MAX_TILE_SIDE = 4_096  # of a TIFF: a tile is decoded whole, however small the image it belongs to


def check_size(width: int, height: int) -> None:
    """Reject images with more pixels than a photo."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise too_large(f"image is {width}×{height} px")


def check_frames(frames: int) -> None:
    """Reject animations with too many frames."""
    if frames > MAX_FRAMES:
        raise UnusableImage(f"image has more than {MAX_FRAMES} frames ({frames} counted); send one frame of it")


def too_large(subject: str) -> UnusableImage:
    """Build the error that gives the limits on size; `subject` opens its text."""
    limit = f"{MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} px a side"
    return UnusableImage(f"{subject}, the limit is {limit}; resize it before uploading")


class Structure(NamedTuple):
    """Result of a walk: bytes to decode, number of frames (None if Pillow counts them on opening), EXIF block."""

    data: bytes
    frames: int | None = None
    exif: bytes = b""
    opening_bytes: int = 0  # of pixels that are allocated when Pillow opens the file


_Piece = tuple[int, int, int]  # marker or name as a number, start, end


def _bounded(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    for number, piece in enumerate(pieces):
        if number == MAX_PIECES:
            raise UnusableImage(f"image file is cut into more than {MAX_PIECES} pieces; export it as JPEG or PNG")
        yield piece


_JPEG_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_JPEG_PIXELS = {*range(0xC0, 0xD0), 0xDB, 0xDD, 0xE0, 0xEE} - {0xC8}  # frame, tables; JFIF and Adobe define the colours

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = (0xC2, 0xCA)
_JPEG_AS_TEXT = re.compile(rb"(?s)\xff\xd8\xff(?:\xe0\x10JFIF|\xe1.{0,2}Exif(?!\0))")
_AS_TEXT = "lost bytes on its way because it was sent as text; send it as binary (curl: --data-binary, not -d)"


def walk_jpeg(data: bytes) -> Structure:
    """Drop comments and application data: Pillow joins EXIF segments in time quadratic in their number."""
    if _JPEG_AS_TEXT.match(data):
        raise UnusableImage(f"this JPEG {_AS_TEXT}")
    segments, exif = [data[:2]], b""
    for marker, start, end in _bounded(_jpeg_segments(data)):
        if marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
            exif = exif or data[start + 4 : end]
        elif marker in _JPEG_PIXELS or marker == 0xDA:
            _check_jpeg_frame(marker, data[start + 4 : start + 5])
            segments.append(data[start:end])
    if any(islice(_JPEG_SCAN.finditer(segments[-1]), MAX_SCANS, None)):
        raise UnusableImage(f"JPEG has more than {MAX_SCANS} scans; export it as a baseline JPEG")
    if b"\xff\xd9" not in segments[-1]:
        segments[-1] = segments[-1].removesuffix(b"\xff") + _jpeg_end(segments)
    return Structure(b"".join(segments), 1, exif)


def _jpeg_end(segments: list[bytes]) -> bytes:
    """Complete a JPEG without an end marker, if no more than a few bytes can be missing.

    libjpeg fills in whatever is missing before an end marker, even half an image. So a JPEG of one pass gets no
    marker but a few bytes, which its decoder reads ahead: if more is missing, it still runs out of data. A
    progressive one gets the marker if its last pass has begun: the end of that is fine detail.
    """
    frame = next((segment for segment in segments if segment[1] in _JPEG_PROGRESSIVE), None)
    if frame is None:
        return bytes(JPEG_READ_AHEAD)
    passes = list(_jpeg_final_passes(segments[-1]))
    complete = all(
        any(component in components and first == 0 for components, first, _ in passes)
        and any(component in components and last == 63 for components, _, last in passes)
        for component in frame[10::3]
    )
    return b"\xff\xd9" if complete else b""


def _jpeg_final_passes(scans: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield components, first and last coefficient of each pass that leaves no bits of them for a later one."""
    for match in _JPEG_SCAN.finditer(scans):
        start = match.end()
        end = start + 2 * scans[start - 1]
        if scans[end + 2 : end + 3] and scans[end + 2] & 15 == 0:
            yield scans[start:end:2], scans[end], scans[end + 1]


def _check_jpeg_frame(marker: int, precision: bytes) -> None:
    if marker in _JPEG_FRAMES and precision not in (b"\x08", b""):
        bits = precision[0]
        raise UnusableImage(f"JPEG has {bits} bits per channel, only 8 can be read; export it as an 8-bit JPEG or PNG")


def _jpeg_segments(data: bytes) -> Iterator[_Piece]:
    """Yield the segments; the first scan and everything after it are one piece."""
    at = 2
    while match := _JPEG_MARKER.search(data, at):
        marker, start = match[1][0], match.start()
        if marker == 0xDA:
            yield marker, start, len(data)
            return
        has_length = not (0xD0 <= marker <= 0xD9 or marker == 0x01)
        length = int.from_bytes(data[start + 2 : start + 4], "big") if has_length else 0
        if length < 2 and has_length:  # invalid: Pillow would continue at another offset
            return
        at = start + 2 + length
        yield marker, start, at


_PNG_PIXELS = {int.from_bytes(name, "big") for name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")}
_PNG_EXIF, _PNG_ANIMATION = int.from_bytes(b"eXIf", "big"), int.from_bytes(b"acTL", "big")


def walk_png(data: bytes) -> Structure:
    """Keep only chunks that pixels depend on: text and profiles can inflate a thousandfold or make Pillow fail."""
    if data.startswith(b"IHDR", 12) and len(data) >= 24:  # Pillow does not report the size of a file truncated here
        check_size(*struct.unpack_from(">II", data, 16))
    if data.startswith(b"CgBI", 12):
        message = (
            "this PNG is in Apple's private format, as Xcode makes for apps; send the original, or save it as JPEG"
        )
        raise UnusableImage(message)
    chunks, frames, exif = [data[:8]], 1, b""
    for name, start, end in _bounded(_png_chunks(data)):
        if name in _PNG_PIXELS:
            chunks.append(data[start:end])
        elif name == _PNG_EXIF:
            exif = data[start + 8 : end - 4]
        elif name == _PNG_ANIMATION:
            frames = int.from_bytes(data[start + 8 : start + 12], "big")
    return Structure(b"".join(chunks), frames, exif)


def _png_chunks(data: bytes) -> Iterator[_Piece]:
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">II", data, at)
        yield name, at, at + 12 + length
        at += 12 + length


# By the type of the first chunk: positions of width and height in bits of its content, their length, what is added.
_WEBP_CANVAS = {b"VP8X": (32, 56, 24, 1), b"VP8L": (8, 22, 14, 1), b"VP8 ": (48, 64, 14, 0)}


def walk_webp(data: bytes) -> Structure:
    """Check the size before Pillow opens the file, which allocates two canvases of 4 bytes a pixel."""
    if (kind := data[12:16]) not in _WEBP_CANVAS:
        return Structure(data)
    bits, (*positions, length, added) = int.from_bytes(data[20:30], "little"), _WEBP_CANVAS[kind]
    width, height = ((bits >> position) % (1 << length) + added for position in positions)
    check_size(width, height)
    return Structure(data, opening_bytes=8 * width * height)


def walk_gif(data: bytes) -> Structure:
    """Count the frames."""
    return Structure(data, sum(introducer == 0x2C for introducer, _, _ in _bounded(_gif_blocks(data))))


def _gif_blocks(data: bytes) -> Iterator[_Piece]:
    """Yield images (0x2C), extensions (0x21) and, as 0, the data blocks of both."""
    with suppress(IndexError):  # end of the file; Pillow decides whether that is an error
        at = 13 + _gif_palette(data[10])
        while (introducer := data[at]) in (0x2C, 0x21):
            start, at = at, at + (11 + _gif_palette(data[at + 9]) if introducer == 0x2C else 2)
            yield introducer, start, at
            while size := data[at]:
                yield 0, at, at + 1 + size
                at += 1 + size
            at += 1


def _gif_palette(flags: int) -> int:
    """Length of a palette in bytes, from the flags before it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_Tag = tuple[int, int, int, int]  # number, type, count, and the value if it is one SHORT or LONG


def walk_tiff(data: bytes) -> Structure:
    """Count the pages and check the tags of the first."""
    frames = 0
    for frames, tags in enumerate(islice(_tiff_pages(data), MAX_FRAMES + 1), 1):
        if frames == 1:
            _check_tiff(list(islice(tags, MAX_TAGS + 1)))
    return Structure(data, frames)


def _check_tiff(tags: list[_Tag]) -> None:
    if len(tags) > MAX_TAGS:
        raise UnusableImage(f"TIFF has more than {MAX_TAGS} tags; export it as PNG")
    for tag, kind, count, value in tags:
        if tag in (273, 324) and count > MAX_PIECES:
            raise UnusableImage(f"TIFF is cut into {count} strips or tiles, the limit is {MAX_PIECES}; save it as PNG")
        if tag in (322, 323) and (kind not in (3, 4) or value > MAX_TILE_SIDE):
            raise UnusableImage(f"TIFF has tiles of {value} px a side, the limit is {MAX_TILE_SIDE}; save it as PNG")


def _tiff_pages(tiff: bytes) -> Iterator[Iterator[_Tag]]:
    """Yield the tags of each page. A chain of pages ends where it leaves the file; callers must limit cyclic chains."""
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


def orientation(exif: bytes) -> int:
    """Return the EXIF orientation (tag 274), or 1 (upright) if the block is absent or damaged."""
    if not exif:
        return 1
    tags = next(_tiff_pages(exif.removeprefix(b"Exif\0\0")), ())
    return next((value for tag, _, _, value in tags if tag == 274), 1)


def remedy(start: bytes) -> str:
    """Return advice on a file that is not of an accepted type, by its first bytes."""
    matches = (remedy for pattern, remedy in _REMEDIES if pattern.match(start))
    return next(matches, "their first bytes match no known image type; export the image as JPEG or PNG")


HEIC = rb"(?s).{4}ftyp(?:he[iv][cmsx]|m[is]f1)"  # of files that are not AVIF

_REMEDIES = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (rb"$", "the file is empty; choose another"),
        (rb"MM\0\+", "this is a big-endian BigTIFF; save it as PNG, or as a TIFF of less than 4 GB"),
        (rb"\x89PNG", f"this PNG {_AS_TEXT}"),
        (rb"\xef\xbf\xbd(?:PNG|\xef\xbf\xbd)", "these are an image's bytes decoded as text; send the bytes themselves"),
        (rb"P[1-7Ff]\s", "this is a PBM, PGM, PPM, PAM or PFM image; convert it to PNG"),
        (rb"\0\0[\1\2]\0", "this is a Windows icon or cursor; export it as PNG"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "this is a PostScript drawing; export it as PNG"),
        (rb"qoif|DDS |icns|v/1\x01|#\?RA", "this is a QOI, DDS, ICNS, OpenEXR or HDR image; convert it to PNG"),
        (rb"(?s)FUJIFILMCCD-RAW|.{4}ftypcrx", "this is a camera's raw file; export it as JPEG"),
        (HEIC, "this is a HEIC photo, as iPhones make; export it as JPEG"),
        (rb"(?s).{4}ftyp", "this is a video; send one frame of it as JPEG"),
        (
            rb"\x89PNG",
            "this is a PNG whose line breaks were changed on its way; send it with curl -F or --data-binary, not -d",
        ),
        (rb"(?s)\0\0\0\x0cJXL |\xff\x0a", "this is a JPEG XL image; export it as JPEG"),
        (rb"(?s)\0\0\0\x0cjP  |\xff\x4f\xff\x51", "this is a JPEG 2000 image; export it as JPEG"),
        (rb"8BPS", "this is a Photoshop document; export it as JPEG or PNG"),
        (rb"%PDF", "this is a PDF document; export the picture in it as JPEG or PNG"),
        (rb"PK\x03\x04|\x1f\x8b", "this is an archive; unpack it and send the image in it"),
        (rb"(?is)\s*<(?:!doctype html|html)", "this is a web page, not an image; download the image itself"),
        (rb"(?is)(?:\xef\xbb\xbf)?\s*<.*?svg", "this is an SVG drawing; export it as PNG"),
        (rb"(?s)\s*[\[{]\s*[\[{\"\d\]}]", "this is JSON; send the bytes of the image file themselves"),
        (rb"data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR", "this is base64 text; send the decoded bytes"),
    )
)
