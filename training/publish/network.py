"""The network of a run, of a version or of two files, through the reader that the service uses."""

from pathlib import Path
from typing import Literal

from model_store.errors import ModelError
from model_store.files import ARCHITECTURE, MANIFEST, WEIGHTS
from model_store.manifest import Preprocessing, Resize, read_manifest
from model_store.network.architecture import parse_architecture
from model_store.network.model import Network
from model_store.network.weights import read_weights
from model_store.version import read_network, verify
from training.errors import TrainingError
from training.fit.run.directory import Run
from training.fit.sources import check_version


def network_from_folder(folder: Path) -> Network:
    """Read the network of a run or of a version.

    Raises:
        TrainingError: the folder is neither, the run is not finished, or the service could not load its network.
        ModelError: a file of the version is missing or altered.
    """
    if Run(folder).begun:
        return network_from_run(Run(folder))
    check_version(folder)
    manifest = read_manifest(folder / MANIFEST)
    return read_network(manifest, verify(folder, manifest))


def network_from_run(run: Run) -> Network:
    """Read the network of a finished run.

    Raises:
        TrainingError: the run is not finished, or the service could not load its network.
    """
    info = run.require_finished().info
    # The resize policy has no part in training: take today's, not the one at the run's start.
    preprocessing = info.preprocessing.model_copy(update={"resize": Resize()})
    return network_from_files(run.folder, info.labels, preprocessing, info.output)


def network_from_files(
    folder: Path, labels: tuple[str, ...], preprocessing: Preprocessing, output: Literal["logits", "probabilities"]
) -> Network:
    """Read the network of the two files in a folder.

    Raises:
        TrainingError: the service could not load it.
    """
    try:
        architecture = parse_architecture((folder / ARCHITECTURE).read_bytes())
        weights = read_weights((folder / WEIGHTS).read_bytes(), architecture)
        return Network(architecture, weights, labels, preprocessing, output)
    except ModelError as error:
        raise TrainingError(f"the service cannot load {folder}: {error}") from None
