"""Load one published version: check its files, compile its network, replay its golden images."""

from dataclasses import dataclass
from pathlib import Path

from model_store.classifier import Classifier, EngineName, PrecisionChoice
from model_store.command_line import python_command
from model_store.errors import FileError
from model_store.files import (
    ARCHITECTURE,
    GOLDEN,
    MANIFEST,
    NOVELTY,
    QUANTIZATION,
    REQUIRED,
    WEIGHTS,
    check_sizes,
    read_checked,
)
from model_store.golden import read_golden, replay
from model_store.manifest import Manifest, read_manifest
from model_store.network.architecture import parse_architecture
from model_store.network.gaussian import read_gaussian
from model_store.network.model import Network
from model_store.network.quantization import read_ranges
from model_store.network.weights import read_weights

PARSED = (*REQUIRED, QUANTIZATION, NOVELTY)  # the files that `load` parses; it only hashes the others


@dataclass(frozen=True)
class Loaded:
    """A verified version, ready to predict."""

    manifest: Manifest
    classifier: Classifier
    golden_difference: float  # largest difference between a golden and a served probability
    folder: Path

    def read(self, name: str) -> bytes:
        """Read a file listed in the manifest, such as a plot of the report.

        The file is read and hashed again. Reports are rarely requested, and keeping them would cost each process
        1.5 MB for ever; hashing takes a millisecond and detects changes since `load`.

        Raises:
            ModelError: the file was removed or altered since `load`.
        """
        return read_checked(self.folder, name, self.manifest.files[name])


def load(
    folder: Path,
    engine: EngineName = "openvino",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
    wide_threads: int | None = None,
) -> Loaded:
    """Verify a version's files, compile its network and replay its golden images.

    The last four arguments are passed to `Classifier`.

    Raises:
        ModelError: the folder is another version's, a file is missing or altered, the network cannot be served, or the
            golden images give other probabilities.
    """
    manifest = read_placed_manifest(folder)
    files = verify(folder, manifest)
    network = read_network(manifest, files)
    classifier = Classifier(network, engine, precision, threads, wide_threads)
    return Loaded(
        manifest,
        classifier,
        replay(manifest, classifier, read_golden(files[GOLDEN], manifest.preprocessing.shape)),
        folder,
    )


def read_placed_manifest(folder: Path) -> Manifest:
    """Read the manifest of `{name}/{version}/`, which must be that version's.

    A copied or restored folder would otherwise answer under another version's number.

    Raises:
        FileError: the manifest cannot be read, or is another version's.
    """
    manifest, (*_, name, version) = read_manifest(folder / MANIFEST), folder.absolute().parts
    if (manifest.name, str(manifest.version)) != (name, version):
        raise FileError(
            folder / MANIFEST,
            f" is that of {manifest.name}/{manifest.version}, but its folder is {name}/{version}; move the folder "
            f"back, or publish it as the next version with `{python_command('training publish')}`",
        )
    return manifest


def verify(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Compare every file of a version with its SHA-256; return the contents that `load` parses, by file name.

    Raises:
        ModelError: a file is missing, altered or too large; the text names it.
    """
    if absent := [name for name in REQUIRED if name not in manifest.files]:
        raise FileError(folder / MANIFEST, f" does not list {absent[0]}; the version is not complete")
    check_sizes(folder, manifest.files)
    contents = {}
    for name, expected in manifest.files.items():
        content = read_checked(folder, name, expected)
        if name in PARSED:
            contents[name] = content
    return contents


def read_network(manifest: Manifest, files: dict[str, bytes]) -> Network:
    """Parse a version's network from the contents of its files, as `verify` returns them."""
    architecture = parse_architecture(files[ARCHITECTURE])
    return Network(
        architecture,
        read_weights(files[WEIGHTS], architecture),
        manifest.labels,
        manifest.preprocessing,
        manifest.output,
        manifest.temperature,
        read_ranges(files[QUANTIZATION], architecture) if QUANTIZATION in files else None,
        manifest.verdicts,
        frozenset(manifest.golden_tolerance),
        read_gaussian(files[NOVELTY], architecture) if NOVELTY in files else None,
    )
