"""Compare our decoding of a folder's image files with ImageMagick's: `python -m benchmarks.decoders FOLDER`.

Needs ImageMagick's `convert`. Prints every file on which the two differ, then counts; docs/reliability.md has
the results.
"""

import argparse
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model_store.errors import ImageError, UnsupportedImage
from model_store.images.decode import decode
from model_store.manifest import UNNORMALISED, Resize

# No JPEG at reduced scale, which the other decoder does not know.
PREPROCESSING = UNNORMALISED.model_copy(update={"resize": Resize(jpeg_margin=64)})
MAX_DIFFERENCE = 3  # of 255, mean of the 32×32 pixels: lossy types are decoded with other rounding
TIMEOUT_SECONDS = 30
PNG_COLOURS = (b"gAMA", b"cHRM", b"iCCP", b"sRGB")  # not applied by us


def main() -> None:
    """Compare every file below the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    counts: Counter[str] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        result, detail = compare(path.read_bytes(), decode_with_imagemagick)
        counts[result] += 1
        if result in ("differ", "only ImageMagick", "only ours"):
            print(f"{result}: {path.relative_to(folder)} {detail}")
    print(*(f"{result}: {count}" for result, count in counts.most_common()), sep="\n")


def compare(data: bytes, decode_elsewhere: Callable[[bytes], bytes | None]) -> tuple[str, str]:
    """Return the result for one file and what was refused or by how much the two differ.

    `decode_elsewhere` returns a PNG of what it decoded, or None.
    """
    try:
        ours, refusal = decode(data, PREPROCESSING), ""
    except UnsupportedImage as error:
        return "no accepted type", str(error)
    except ImageError as error:
        ours, refusal = None, str(error)
    theirs = decode_elsewhere(data)
    if ours is None or theirs is None:
        return ("neither" if theirs is None else "only ImageMagick", refusal) if ours is None else ("only ours", "")
    difference = np.abs(ours.astype(int) - decode(theirs, PREPROCESSING)).mean()
    return "agree" if difference <= MAX_DIFFERENCE else "differ", f"by {difference:.1f}"


def decode_with_imagemagick(data: bytes) -> bytes | None:
    """Decode the first frame, upright, to an 8-bit RGBA PNG, or None if ImageMagick refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target.png"
        source.write_bytes(without_colours(data))
        options = ["-coalesce", "-auto-orient", "-strip", "-colorspace", "sRGB", "-depth", "8"]
        command = ["convert", f"{type_of(data)}:{source}[0]", *options, f"PNG32:{target}"]
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)  # 1 for mere warnings, too
        return target.read_bytes() if target.exists() else None


def type_of(data: bytes) -> str:
    """ImageMagick's name of the type: the file has no name to recognise it by."""
    starts = {
        b"\xff\xd8": "JPEG",
        b"\x89P": "PNG",
        b"RI": "WEBP",
        b"GI": "GIF",
        b"BM": "BMP",
        b"II": "TIFF",
        b"MM": "TIFF",
    }
    return starts.get(data[:2], "AVIF")


def without_colours(data: bytes) -> bytes:
    """Drop the chunks of a PNG that define its colours; other types stay as they are."""
    if not data.startswith(b"\x89PNG"):
        return data
    kept, at = data[:8], 8
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kept += b"" if data[at + 4 : at + 8] in PNG_COLOURS else data[at:end]
        at = end
    return kept


if __name__ == "__main__":
    main()
