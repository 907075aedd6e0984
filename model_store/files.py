"""Names of a version's files, and reading them with a check against the manifest's SHA-256."""

import hashlib
from pathlib import Path

from model_store.errors import ModelError
from model_store.manifest import File

MANIFEST, ARCHITECTURE, WEIGHTS, GOLDEN = "manifest.json", "architecture.json", "model.weights.h5", "golden.npz"
QUANTIZATION, NOVELTY = "quantization.npz", "novelty.npz"
REQUIRED = (ARCHITECTURE, WEIGHTS, GOLDEN)
MAX_FILE_BYTES = 500_000_000


def read_checked(path: Path, expected: File) -> bytes:
    """Read a file and compare it with its size and SHA-256 in the manifest.

    Raises:
        ModelError: it is missing, altered or too large.
    """
    if expected.size > MAX_FILE_BYTES:
        raise ModelError(f"{path} has {expected.size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
    try:
        with path.open("rb") as file:
            content = file.read(expected.size + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; publish the version again") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if len(content) != expected.size or sha256 != expected.sha256:
        raise ModelError(
            f"{path} is not the file that was published: its SHA-256 begins {sha256[:12]}, "
            f"the manifest says {expected.sha256[:12]}; publish the version again"
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
