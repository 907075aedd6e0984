"""A served network in another server's format, read back and compared before it appears under its name.

A format's writer and reader are in its own module, which is imported when that format is asked for.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from model_store.classifier import Classifier
from model_store.network.model import Network
from model_store.os_errors import explain
from training.errors import TrainingError
from training.export.formats import FORMATS, Predict

TEST_IMAGES = 64
TOLERANCE = 1e-4  # of any probability, from the served network's in float32

Write: TypeAlias = Callable[[Network, Path], None]
Open: TypeAlias = Callable[[Path], Predict]


def export(network: Network, name: str, out: Path) -> float:
    """Write the network in the format `name`, one of FORMATS, so that `out` is either whole and compared or not there.

    Returns the largest difference of any probability from the served network, in float32, on 64 random images.

    Raises:
        TrainingError: `out` has another format's suffix or exists, a package is missing, nothing can be written there,
            or the written network gives other probabilities.
    """
    _check_out(name, out)
    write, open_written = writer_and_reader(name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            written = Path(folder, out.name)
            write(network, written)
            difference = compare_with_served(network, open_written(written))
            for path in reversed(FORMATS[name].files(written)):  # the file that names the others appears last
                path.rename(out.with_name(path.name))
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {explain(error, FORMATS[name].title)}") from None
    return difference


def _check_out(name: str, out: Path) -> None:
    format_, suffixes = FORMATS[name], {suffix for form in FORMATS.values() for suffix in form.suffixes}
    suffix = out.suffix if out.suffix in suffixes else ""  # a directory's name may have a dot, but no format's suffix
    if suffix != format_.suffixes[0]:
        raise TrainingError(f"{format_.title} is written as {format_}; --out is {out}")
    for path in format_.files(out):
        if path.exists():
            raise TrainingError(f"{path} exists already; remove it or choose another --out")


def writer_and_reader(name: str) -> tuple[Write, Open]:
    """Return the function that writes a format unchecked, and the one that opens it as its receiver does.

    Raises:
        TrainingError: a package that the format needs is missing.
    """
    try:
        match name:
            case "openvino":
                from training.export import openvino_export

                return openvino_export.write_openvino, openvino_export.open_openvino
            case "onnx":
                from training.export import onnx_export, openvino_export

                return onnx_export.write_onnx, openvino_export.open_openvino
            case "saved_model":
                from training.export import keras_export

                return keras_export.write_saved_model, keras_export.open_saved_model
            case "keras":
                from training.export import keras_export

                return keras_export.write_keras, keras_export.open_keras
            case "litert":
                from training.export import keras_export

                return keras_export.write_litert, keras_export.open_litert
    except ImportError as error:
        raise TrainingError(f"--format {name} needs requirements/training.txt installed: {error}") from None
    raise KeyError(name)


def compare_with_served(network: Network, predict: Predict) -> float:
    """Return the largest difference of any of `predict`'s probabilities from the served network's, in float32.

    Raises:
        TrainingError: it is over the tolerance, or the output is not (N, K) float32 for an N of 1 and of 63.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (TEST_IMAGES, *network.architecture.input), dtype=np.uint8)
    served = Classifier(network, precision="float32").predict(pixels).probabilities
    images = pixels.astype(np.float32) / np.float32(255)
    exported = np.concatenate([predict(images[:1]), predict(images[1:])])
    if exported.dtype != served.dtype or exported.shape != served.shape:
        raise TrainingError(f"the written network gives {exported.dtype} {exported.shape}, not float32 {served.shape}")
    difference = float(np.abs(exported - served).max())
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"the written network gives probabilities that differ by {difference}, more than {TOLERANCE}"
        )
    return difference
