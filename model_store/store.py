"""Version directories: list, verify, load and publish them.

    {store}/{name}/{version}/    manifest.json architecture.json model.weights.h5 golden.npz report/
                                 and quantization.npz, where it may be served in int8,
                                 and novelty.npz, where novelty is by more than the energy
    {store}/{name}/ACTIVE        the version to serve, when it is not the highest

A directory is written beside its place and renamed into it, so a version that can be seen is complete; nothing in it
changes afterwards. Knows files and `Classifier`, not who asks.
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier, EngineName, PrecisionChoice
from model_store.errors import ModelError
from model_store.manifest import FILE_PATTERN, NAME_PATTERN, File, Manifest, read_manifest, write_manifest
from model_store.network.architecture import parse_architecture
from model_store.network.layers import INPUT_SHAPE
from model_store.network.model import Network
from model_store.network.quantization import read_ranges
from model_store.network.weights import read_weights
from model_store.novelty import read_gaussian

MANIFEST, ARCHITECTURE, WEIGHTS, GOLDEN = "manifest.json", "architecture.json", "model.weights.h5", "golden.npz"
QUANTIZATION, NOVELTY = "quantization.npz", "novelty.npz"
REQUIRED = (ARCHITECTURE, WEIGHTS, GOLDEN)
READ = (*REQUIRED, QUANTIZATION, NOVELTY)
MAX_FILE_BYTES = 500_000_000
VERSION_PATTERN = r"[1-9][0-9]{0,8}"


@dataclass(frozen=True)
class Golden:
    """Images and the probabilities they must give, computed by Keras in float32 when the version was published."""

    images: NDArray[np.uint8]  # (M, 32, 32, 3)
    probabilities: NDArray[np.float32]  # (M, K)


@dataclass(frozen=True)
class Loaded:
    """A version that has passed every check and is ready to answer."""

    manifest: Manifest
    classifier: Classifier
    golden_difference: float  # the largest between a golden probability and the one served
    folder: Path

    def read(self, name: str) -> bytes:
        """One of the files that the manifest lists, such as a plot of its report.

        Every file was hashed at load; this reads it again and compares again. Reports are looked at rarely, and to keep
        them would cost each process 1.5 MB for ever; a hash costs a millisecond and holds whatever has since been done
        to the folder.

        Raises:
            ModelError: the file has gone or was altered since.
        """
        return _read(self.folder / name, self.manifest.files[name])


@dataclass(frozen=True)
class Store:
    """A folder of models by name, each a folder of versions by number."""

    root: Path

    def names(self) -> list[str]:
        """The models in the store.

        Raises:
            ModelError: it cannot be read.
        """
        return sorted(name for name in _folders(self.root) if re.fullmatch(NAME_PATTERN, name))

    def versions(self, name: str) -> list[int]:
        """The published versions of a model, ascending.

        Raises:
            ModelError: they cannot be read.
        """
        return sorted(int(name) for name in _folders(self.root / name) if re.fullmatch(VERSION_PATTERN, name))

    def folder(self, name: str, version: int) -> Path:
        """Where a version lies."""
        return self.root / name / str(version)

    def choose(self, name: str, pinned: int | None = None) -> int:
        """The version that serves: the pinned one, else the one named in ACTIVE, else the highest.

        Raises:
            ModelError: there is no such version; the text says which there are.
        """
        check_name(name)
        versions = self.versions(name)
        if not versions:
            raise ModelError(f"{self.root} holds no version of {name!r}; publish one with `python -m training publish`")
        wanted = pinned or self._active(name) or versions[-1]
        if wanted not in versions:
            raise ModelError(f"{name!r} has no version {wanted}; the store holds {', '.join(map(str, versions))}")
        return wanted

    def _active(self, name: str) -> int | None:
        path = self.root / name / "ACTIVE"
        try:
            text = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be read: {error}; it must hold a version number") from None
        if not re.fullmatch(VERSION_PATTERN, text):
            raise ModelError(f"{path} must hold a version number, it holds {text[:40]!r}")
        return int(text)

    def publish(self, name: str, write: Callable[[Path, int], Manifest]) -> int:
        """Add the next version: `write(folder, version)` fills a new folder and returns its manifest without `files`.

        The folder becomes visible by one rename, after every file in it has been hashed and flushed to disk. When
        another job takes the number first, the next one is tried and `write` is called again.

        Raises:
            ModelError: the name is not one, `write` left out a required file, or wrote one that no manifest can list.
        """
        check_name(name)
        home = self.root / name
        home.mkdir(parents=True, exist_ok=True)
        while True:
            version = max(self.versions(name), default=0) + 1
            staging = Path(tempfile.mkdtemp(prefix=".incoming-", dir=home))
            try:
                manifest = write(staging, version)
                write_manifest(_completed(manifest, hash_files(staging)), staging / MANIFEST)
                _make_durable(staging)
                staging.rename(home / str(version))
                return version
            except OSError:
                if version not in self.versions(name):
                    raise
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def prune(self, name: str, keep: int) -> list[int]:
        """Remove all but the newest `keep` versions and the active one; returns those removed.

        Raises:
            ModelError: there is no such model, `keep` is less than one, or ACTIVE cannot be understood.
        """
        check_name(name)
        if keep < 1:
            raise ModelError(
                f"prune must keep at least 1 version, not {keep}; delete the model's folder to remove it all"
            )
        if name not in self.names():
            raise ModelError(f"{self.root} holds no model {name!r}; it holds {', '.join(self.names()) or 'nothing'}")
        active = self._active(name)
        doomed = [version for version in self.versions(name)[:-keep] if version != active]
        for version in doomed:
            # Renamed first: a removal that is interrupted must not leave half a version in sight.
            hidden = self.root / name / f".removed-{version}"
            self.folder(name, version).rename(hidden)
            shutil.rmtree(hidden)
        return doomed


def check_name(name: str) -> None:
    """Raises ModelError if no model can have that name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ModelError(f"{name[:80]!r} is not a model name; use lower-case letters, digits, dot, dash and underscore")


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, none if there is no such folder."""
    try:
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    except OSError as error:
        raise ModelError(
            f"{str(folder)[:200]} cannot be read: {error.strerror}; the service's user must be able to read it"
        ) from None


def load(
    folder: Path,
    engine: EngineName = "openvino",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
) -> Loaded:
    """Verify a version's files, compile its network and replay its golden images.

    The last three arguments are `Classifier`'s.

    Raises:
        ModelError: anything is missing, altered, not served, or gives other probabilities than it must.
    """
    manifest = read_manifest(folder / MANIFEST)
    files = verify(folder, manifest)
    network = read_network(manifest, files)
    classifier = Classifier(network, engine, precision, threads)
    return Loaded(manifest, classifier, replay(manifest, classifier, read_golden(files[GOLDEN])), folder)


def verify(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The contents of the files that `load` reads, after every file of the version has been compared with its SHA-256.

    Raises:
        ModelError: a file is missing, altered or too large; the text names it.
    """
    if absent := [name for name in REQUIRED if name not in manifest.files]:
        raise ModelError(f"{folder / MANIFEST} does not list {absent[0]}; the version is not complete")
    contents = {}
    for name, expected in manifest.files.items():
        content = _read(folder / name, expected)
        if name in READ:
            contents[name] = content
    return contents


def _read(path: Path, expected: File) -> bytes:
    if expected.size > MAX_FILE_BYTES:
        raise ModelError(f"{path} has {expected.size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
    try:
        with path.open("rb") as file:
            content = file.read(expected.size + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; publish the version again") from None
    received = hashlib.sha256(content).hexdigest()
    if len(content) != expected.size or received != expected.sha256:
        raise ModelError(
            f"{path} is not the file that was published: its SHA-256 begins {received[:12]}, "
            f"the manifest says {expected.sha256[:12]}; publish the version again"
        )
    return content


def read_network(manifest: Manifest, files: dict[str, bytes]) -> Network:
    """The network of a version from its files' contents, as `verify` gives them."""
    parsed = parse_architecture(files[ARCHITECTURE])
    return Network(
        parsed,
        read_weights(files[WEIGHTS], parsed),
        manifest.labels,
        manifest.preprocessing,
        manifest.output,
        manifest.temperature,
        read_ranges(files[QUANTIZATION], parsed) if QUANTIZATION in files else None,
        manifest.verdicts,
        read_gaussian(files[NOVELTY], parsed) if NOVELTY in files else None,
    )


def write_golden(golden: Golden, path: Path) -> None:
    """Write `golden.npz`."""
    np.savez_compressed(path, images=golden.images, probabilities=golden.probabilities)


def read_golden(content: bytes) -> Golden:
    """Read `golden.npz`; pickled objects are refused.

    Raises:
        ModelError: it does not hold the two arrays.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            golden = Golden(arrays["images"], arrays["probabilities"])
    except Exception as error:  # noqa: BLE001 there is no end to what NumPy and zipfile raise on damaged files
        raise ModelError(f"{GOLDEN} cannot be read: {error}") from None
    if golden.images.dtype != np.uint8 or golden.images.shape[1:] != INPUT_SHAPE or len(golden.images) == 0:
        raise ModelError(f"{GOLDEN} holds images {golden.images.dtype} {golden.images.shape}, not uint8 (M, 32, 32, 3)")
    if golden.probabilities.dtype != np.float32:
        raise ModelError(f"{GOLDEN} holds probabilities {golden.probabilities.dtype}, not float32")
    return golden


def replay(manifest: Manifest, classifier: Classifier, golden: Golden) -> float:
    """The largest difference between the golden probabilities and those the classifier gives.

    Raises:
        ModelError: it is over the manifest's tolerance for the classifier's precision.
    """
    served = classifier.predict(golden.images).probabilities
    if served.shape != golden.probabilities.shape:
        raise ModelError(f"{GOLDEN} has probabilities {golden.probabilities.shape}, the network gives {served.shape}")
    difference = float(np.abs(served - golden.probabilities).max())
    tolerance = manifest.golden_tolerance.get(classifier.precision)
    if tolerance is None or not difference <= tolerance:
        raise ModelError(
            f"the golden images give probabilities that differ by {difference:.5f}, the tolerance for "
            f"{classifier.precision} is {tolerance}; try CIFAR10_PRECISION=float32, or publish the version again"
        )
    return difference


def _completed(manifest: Manifest, files: dict[str, File]) -> Manifest:
    """The manifest with the files it lists, as strictly checked as when it is read."""
    if absent := [name for name in REQUIRED if name not in files]:
        raise ModelError(f"{absent[0]} was not written; a version needs {', '.join(REQUIRED)}")
    if wrong := [name for name in files if not re.fullmatch(FILE_PATTERN, name)]:
        raise ModelError(f"{wrong[0]!r} cannot be published; files are named in ASCII and at most one folder down")
    return manifest.model_copy(update={"files": files})


def hash_files(folder: Path) -> dict[str, File]:
    """Size and SHA-256 of every file in a version's folder but the manifest, by relative path."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            files[name] = File(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return files


def _make_durable(folder: Path) -> None:
    """World-readable, since the service runs as another user, and on disk before the rename shows it."""
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
