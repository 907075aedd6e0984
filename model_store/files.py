"""Names and size limits of a version's files, and reading them with a check against the manifest's SHA-256."""

import hashlib
from pathlib import Path

from model_store.errors import FileError
from model_store.manifest import File
from model_store.reading import MAX_JSON_BYTES, read_regular

MANIFEST, ARCHITECTURE, WEIGHTS, GOLDEN = "manifest.json", "architecture.json", "model.weights.h5", "golden.npz"
QUANTIZATION, NOVELTY = "quantization.npz", "novelty.npz"
REQUIRED = (ARCHITECTURE, WEIGHTS, GOLDEN)
MAX_FILE_BYTES = 500_000_000  # of weights: 100 million float32, the most a network may have, and their names
MAX_REPORT_BYTES = 16_000_000  # of any other file, such as a plot; the largest published one has 0.8 MB
MAX_BYTES = {
    ARCHITECTURE: MAX_JSON_BYTES,
    WEIGHTS: MAX_FILE_BYTES,
    GOLDEN: 16_000_000,  # 5,000 images; 16 are published
    QUANTIZATION: 4_000_000,
    NOVELTY: 70_000_000,  # 4,096 channels squared, in float32
}
MAX_VERSION_BYTES = 1_000_000_000  # of all files: reading and hashing them takes a few seconds


def check_sizes(folder: Path, files: dict[str, File]) -> None:
    """Check the sizes that a manifest lists, before any file is read.

    Raises:
        FileError: a file, or all together, are over the limit.
    """
    for name, file in files.items():
        if file.size > (limit := MAX_BYTES.get(name, MAX_REPORT_BYTES)):
            raise FileError(folder / name, f" has {file.size:,} bytes, the limit is {limit:,}")
    if (size := sum(file.size for file in files.values())) > MAX_VERSION_BYTES:
        raise FileError(folder / MANIFEST, f" lists {size:,} bytes of files, the limit is {MAX_VERSION_BYTES:,}")


def read_checked(folder: Path, name: str, expected: File) -> bytes:
    """Read a version's file and compare it with its size and SHA-256 in the manifest.

    Raises:
        FileError: it is missing, altered, too large, not a regular file, or outside the folder.
    """
    path = folder / name
    content = read_regular(path, MAX_BYTES.get(name, MAX_REPORT_BYTES), folder)
    sha256 = hashlib.sha256(content).hexdigest() if len(content) == expected.size else None
    if sha256 != expected.sha256:
        received = f"it has {len(content):,} bytes" if sha256 is None else f"its SHA-256 begins {sha256[:12]}"
        recorded = f"{expected.size:,}" if sha256 is None else expected.sha256[:12]
        raise FileError(
            path,
            f" is not the file that was published: {received}, the manifest says {recorded}; publish the version again",
        )
    return content


def hash_files(folder: Path) -> dict[str, File]:
    """Return size and SHA-256 of every file of a version except the manifest, by relative path."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            files[name] = File(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return files
