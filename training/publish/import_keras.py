"""Import a network trained elsewhere, from the files that Keras saved, as the next version in a store.

Owns how a network that has been read becomes Keras 3's two files, and its labels. `keras_files` knows the dialects,
`import_preprocessing.py` what happens to the pixels, `candidate.py` checks the network before anything is visible.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from model_store.errors import ModelError
from model_store.files import ARCHITECTURE, WEIGHTS
from model_store.network.architecture import Architecture
from model_store.network.layers import Identity
from model_store.network.model import Network
from model_store.network.weights import Weights
from model_store.os_errors import naming, reason, remedy
from model_store.reading import MAX_JSON_BYTES
from training.data.dataset import MAX_LABEL_LENGTH, Dataset, as_inputs, compose, is_label
from training.errors import TrainingError
from training.evaluate.robustness import ShowProgress, show_nothing
from training.fit.loop import write_weights
from training.publish.candidate import Candidate, publish_candidate
from training.publish.compare_with_keras import COMPARED_IMAGES, TOLERANCES, as_probabilities, keras_probabilities
from training.publish.compiled import CompiledNetwork
from training.publish.import_preprocessing import (
    Before,
    as_preprocessing,
    doubt_span,
    doubt_statistics,
    scaling_before,
)
from training.publish.isolation import run_isolated
from training.publish.keras_files.archive import HDF5, MAX_MODEL_BYTES, ModelFile, read_model_file
from training.publish.keras_files.graph import shown
from training.publish.keras_files.network import KerasArchitecture, KerasWeights, read_keras_json, read_keras_weights
from training.publish.keras_files.scaling import Scaling
from training.publish.network import network_from_files
from training.publish.original import ORIGINAL_IMAGES, NotLoaded, Original, original_outputs
from training.publish.target import Target

MAX_LABELS_BYTES = 1_000_000
MAX_LINE = 1_000  # characters of an error


@dataclass(frozen=True)
class SavedNetwork:
    """A network read from its files, the files' content, and their names and hashes."""

    read: KerasArchitecture
    found: KerasWeights
    original: Original
    origin: dict[str, Any]

    @property
    def architecture(self) -> Architecture:
        """The network as it will be served."""
        return self.read.architecture

    @property
    def own_scaling(self) -> tuple[str, ...]:
        """The layers by which the network scales its input itself, "name (Class)" each."""
        return tuple(f"{call.name} ({call.kind})" for call in self.read.scaling)


def publish_import(
    saved: SavedNetwork,
    labels: tuple[str, ...],
    before: Before | None,
    target: Target,
    dataset: Dataset | None,
    show: ShowProgress = show_nothing,
) -> int:
    """Publish an imported network. Returns the version.

    Args:
        before: what was done with the pixels before the network in training; None if nothing is said about it.
        dataset: its test images are used to compare with Keras, generated ones without it; the network is evaluated on
            them if the labels are the same in the same order.
        show: as in `publish_run`.

    Raises:
        TrainingError: the number of labels is not that of the outputs, the network ends in neither logits nor softmax,
            the service would give other probabilities than Keras, or the network must not replace the version in
            service.
    """
    if len(labels) != saved.architecture.classes:
        raise TrainingError(
            f"the network has {saved.architecture.classes} outputs, {len(labels)} labels were given; "
            "name one for each output, in the order of the outputs"
        )
    output = detect_output(saved.architecture)
    height, width, channels = saved.architecture.input
    first = scaling_before(before, saved.own_scaling, channels)
    scaling = first.then(saved.found.scaling)
    preprocessing = as_preprocessing(scaling, height, width)
    doubts = [doubt_span(scaling, saved.own_scaling, before)]
    target.check_same_labels(labels)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        model = write_files(saved, folder)
        network = network_from_files(folder, labels, preprocessing, output)
        pixels = dataset.test.pixels if dataset else generate_images(COMPARED_IMAGES, height, width)
        few = as_inputs(pixels[:ORIGINAL_IMAGES], preprocessing.model_copy(update={"channel_order": "RGB"}))
        doubts.append(doubt_statistics(model, saved.architecture, scaling.apply(few)))
        compared = compare_with_original(saved, network, folder, pixels[:ORIGINAL_IMAGES], first)
        record = {"doubts": [doubt for doubt in doubts if doubt], "compared_with_original": compared}
        candidate = Candidate(folder, CompiledNetwork(network), saved.origin | record)
        test = dataset.test if dataset and dataset.labels == labels else None
        return publish_candidate(candidate, target, pixels, test, show)


def compare_with_original(
    saved: SavedNetwork, network: Network, folder: Path, pixels: NDArray[np.uint8], first: Scaling
) -> float | str:
    """Compare the rebuilt network with the one that Keras itself loads from the files.

    Args:
        folder: the rebuilt network's two files.
        pixels: (N, H, W, 3), RGB.
        first: what is done with the pixels before the network in the files.

    Returns:
        the largest difference of a probability, or why Keras could not be asked.

    Raises:
        TrainingError: Keras's are not finite; they differ by more than float32 explains; or the layers were matched by
            their order, and Keras does not confirm it.
    """
    try:
        if saved.read.mixed:
            raise NotLoaded("it computes in 16 bits there, and in float32 here")
        inputs = as_inputs(pixels, network.preprocessing.model_copy(update={"channel_order": "RGB"}))
        outputs = original_outputs(saved.original, first.apply(inputs), network.architecture.max_batch)
    except NotLoaded as error:
        if saved.found.by_order:
            raise TrainingError(
                f"the two files name their layers differently, and Keras cannot confirm their order: {error}; save "
                "both files from the same model"
            ) from None
        return str(error)
    if not np.isfinite(outputs).all():
        raise TrainingError(
            "Keras's answers are not finite for some images; look at the weights, and at what scales the pixels"
        )
    expected = as_probabilities(outputs, network)
    received = keras_probabilities(folder, network, as_inputs(pixels, network.preprocessing))
    difference = float(np.abs(received - expected).max())
    if not difference <= TOLERANCES["float32"]:
        raise TrainingError(
            f"Keras gives other probabilities for the files than for the network read from them, by {difference:.4f}; "
            "the version is not published"
        )
    if saved.found.by_order and not np.ptp(expected, axis=0).max() > 10 * TOLERANCES["float32"]:
        raise TrainingError(
            "the two files name their layers differently, and the network answers the same for every image, so that "
            "their order cannot be confirmed; save both files from the same model"
        )
    return difference


def read_model(path: Path) -> SavedNetwork:
    """Read what `save()` wrote into one file, `.keras` or `.h5`.

    Raises:
        TrainingError: as `read_saved`.
    """
    if path.is_dir():
        raise TrainingError(
            f"{path} is a folder, such as a SavedModel; load it with Keras and save it as a file: "
            "model.save('model.keras')"
        )
    data = _read_bounded(path, MAX_MODEL_BYTES)
    with _importing(path):
        file = _take_apart(data)
        read = run_isolated(read_keras_json, file.document, file.version)
        found = run_isolated(read_keras_weights, file.weights, read)
    return _saved(read, found, Original(data, file), {"model": _describe(path, data)})


def _take_apart(data: bytes) -> ModelFile:
    """Read a zip here, as Python does that within limits, and HDF5 isolated, without copying its weights back."""
    if not data.startswith(HDF5):
        return read_model_file(data)
    return replace(run_isolated(lambda: replace(read_model_file(data), weights=b"")), weights=data)


def read_saved(architecture: Path, weights: Path) -> SavedNetwork:
    """Read what `to_json()` wrote into one file and `save_weights()` or `save()` into the other.

    Raises:
        TrainingError: a file cannot be read, is not served or does not match the other; the text names the file, the
            layer and the problem.
    """
    text, data = _read_bounded(architecture, MAX_JSON_BYTES), _read_bounded(weights, MAX_MODEL_BYTES)
    with _importing(architecture):
        if text.startswith((b"PK", HDF5)):
            raise ModelError(f"it is a whole model, not JSON; import it by itself: import {architecture} --labels …")
        read = run_isolated(read_keras_json, text)
    with _importing(weights):
        inner = read_model_file(data).weights if data.startswith(b"PK") else data
        found = run_isolated(read_keras_weights, inner, read)
    files = {"architecture": _describe(architecture, text), "weights": _describe(weights, data)}
    return _saved(read, found, Original(b"", ModelFile(text, inner, read.version)), files)


@contextmanager
def _importing(path: Path) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        lines = [shown(line, MAX_LINE) for line in str(error).splitlines()]
        raise TrainingError(f"{path} cannot be imported: " + "\n".join(lines)) from None


def _saved(read: KerasArchitecture, found: KerasWeights, original: Original, files: dict[str, Any]) -> SavedNetwork:
    own = [f"{call.name} ({call.kind})" for call in read.scaling]
    taken = {"own_scaling": own, "left_out": list(read.left_out), "matched_by_order": found.by_order}
    origin = {"recipe": "imported", "saved_by_keras": read.version, "files": files, **taken}
    return SavedNetwork(read, found, original, origin)


def detect_output(architecture: Architecture) -> Literal["logits", "probabilities"]:
    """Tell if the last layer gives probabilities, after softmax, or logits, without an activation.

    Raises:
        TrainingError: it gives neither.
    """
    activations = [getattr(node.layer, "activation", "linear") for node in architecture.nodes]
    if activations[-1] == "softmax":
        return "probabilities"
    if activations[-1] == "linear" and "softmax" not in activations:
        return "logits"
    last = architecture.nodes[-1].layer
    raise TrainingError(
        f"the network ends in {last.name!r} ({type(last).__name__}), which gives neither logits nor their softmax; "
        "end it in softmax or in a layer without activation"
    )


def write_files(saved: SavedNetwork, folder: Path) -> keras.Model:
    """Write `architecture.json` and `model.weights.h5` as a finished run has them, and return their model."""
    model = build_with_dropout(saved.architecture, saved.found.weights)
    write_weights(model, folder / WEIGHTS)
    with naming(folder / ARCHITECTURE):
        (folder / ARCHITECTURE).write_text(model.to_json(indent=2) + "\n", encoding="utf-8")
    return model


def build_with_dropout(architecture: Architecture, weights: Weights) -> keras.Model:
    """A float32 functional model of normalised images (N, H, W, C), its Dropout included, on any backend."""
    first, *rest = architecture.nodes
    images = keras.Input(architecture.input, name=first.layer.name)
    values = {first.layer.name: images}
    for node in rest:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.layer, Identity):
            values[node.layer.name] = inputs[0]
            continue
        config = node.layer.inference_config() | node.layer.training_config()
        layer = getattr(keras.layers, type(node.layer).__name__)(**config)
        values[node.layer.name] = layer(inputs if node.layer.takes_several_inputs else inputs[0])
        if arrays := weights.get(node.layer.name):
            layer.load_own_variables({str(index): array for index, array in enumerate(arrays.values())})
    return keras.Model(images, values[rest[-1].layer.name])


def read_labels(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the labels themselves or, for a single argument, the lines of the text file that it names, in NFC.

    Raises:
        TrainingError: they are not 2 to 1,000 distinct labels of 1 to 64 printable characters.
    """
    lines = arguments if len(arguments) > 1 else _lines(Path(arguments[0]))
    labels = tuple(compose(label.strip()) for label in lines)
    if not 2 <= len(labels) <= 1_000:
        raise TrainingError(f"{len(labels):,} labels were given; a network has 2 to 1,000, one for each output")
    if invalid := [label for label in labels if not is_label(label)]:
        raise TrainingError(
            f"{invalid[0][:80]!r} is not a label; a label has 1 to {MAX_LABEL_LENGTH} printable characters"
        )
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise TrainingError(
            f"the label {repeated[0]!r} was given {labels.count(repeated[0])} times; labels must be distinct"
        )
    return labels


def generate_images(count: int, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Generate blocks of flat colour (count, H, W, 3), always the same, to compare with Keras on without data."""
    blocks = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 8 // side for side in (height, width))
    return blocks[:, rows[:, None], columns]


def _lines(path: Path) -> list[str]:
    try:
        return _read_bounded(path, MAX_LABELS_BYTES).decode("utf-8-sig").strip().splitlines()
    except UnicodeDecodeError:
        raise TrainingError(f"{path} is not text in UTF-8; write one label a line") from None


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {reason(error)}; {remedy(error)}") from None
    if len(content) > limit:
        raise TrainingError(f"{path} has more than {limit:,} bytes, which is the limit")
    return content


def _describe(path: Path, content: bytes) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}
