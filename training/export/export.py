"""A served network in another server's format, read back and compared before it appears under its name.

Owns what every format promises, which files it has and what `--out` may be. How a format is written and read stands
here for OpenVINO, in `onnx_export` and in `keras_export` for the others, which are imported when they are asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from model_store.classifier import Classifier
from model_store.network.layers import INPUT_SHAPE
from model_store.network.model import Network
from model_store.network.openvino import build_float_network
from training.errors import TrainingError

CONTRACT = (
    "In every format: images (N, 32, 32, 3) in, float32 in 0..1, channels last, any N; probabilities (N, K) out, "
    "float32, in the order of the manifest's labels. Normalisation, temperature and softmax are inside."
)
COMPARED = 64
TOLERANCE = 1e-4  # of any probability, from the served network's in float32

Infer: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # images in 0..1 → probabilities
Write: TypeAlias = Callable[[Network, Path], None]
Open: TypeAlias = Callable[[Path], Infer]


@dataclass(frozen=True)
class Format:
    """What a format is called and the endings of its files, the one that `--out` names first; "" is a directory."""

    title: str
    suffixes: tuple[str, ...]

    def __str__(self) -> str:
        return " and ".join(f"NAME{suffix}" for suffix in self.suffixes) if self.suffixes[0] else "a directory"

    def files(self, out: Path) -> list[Path]:
        """What is written for an `out`."""
        stem = out.name.removesuffix(self.suffixes[0])
        return [out.with_name(stem + suffix) for suffix in self.suffixes]


FORMATS = {
    "openvino": Format("OpenVINO IR", (".xml", ".bin")),
    "onnx": Format("ONNX", (".onnx",)),
    "saved_model": Format("a TensorFlow SavedModel", ("",)),
    "keras": Format("Keras 3", (".keras",)),
    "litert": Format("LiteRT (TensorFlow Lite)", (".tflite",)),
}


def export(network: Network, name: str, out: Path) -> float:
    """Write the network in the format `name`, one of FORMATS, so that `out` is either whole and compared or not there.

    Returns the largest difference of any probability from the served network, in float32, on 64 random images.

    Raises:
        TrainingError: `out` has another format's ending or exists, a package is missing, nothing can be written there,
            or what was written gives other answers.
    """
    _check_out(name, out)
    write, open_written = writer_and_reader(name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            written = Path(folder, out.name)
            write(network, written)
            difference = compare(network, open_written(written))
            for path in reversed(FORMATS[name].files(written)):  # the file that names the others appears last
                path.rename(out.with_name(path.name))
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {error}") from None
    return difference


def compare(network: Network, infer: Infer) -> float:
    """The largest difference of any of `infer`'s probabilities from the served network's, in float32.

    Raises:
        TrainingError: it is over the tolerance, or what comes out is not (N, K) float32 for an N of 1 and of 63.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (COMPARED, *INPUT_SHAPE), dtype=np.uint8)
    served = Classifier(network, precision="float32").predict(pixels).probabilities
    images = pixels.astype(np.float32) / np.float32(255)
    written = np.concatenate([infer(images[:1]), infer(images[1:])])
    if written.dtype != served.dtype or written.shape != served.shape:
        raise TrainingError(f"what was written gives {written.dtype} {written.shape}, not float32 {served.shape}")
    difference = float(np.abs(written - served).max())
    if not difference <= TOLERANCE:
        raise TrainingError(f"what was written gives probabilities that differ by {difference}, more than {TOLERANCE}")
    return difference


def _check_out(name: str, out: Path) -> None:
    chosen, endings = FORMATS[name], {suffix for form in FORMATS.values() for suffix in form.suffixes}
    ending = out.suffix if out.suffix in endings else ""  # a directory may have any name but a file's of another format
    if ending != chosen.suffixes[0]:
        raise TrainingError(f"{chosen.title} is written as {chosen}; --out is {out}")
    for path in chosen.files(out):
        if path.exists():
            raise TrainingError(f"{path} exists already; remove it or choose another --out")


def writer_and_reader(name: str) -> tuple[Write, Open]:
    """What writes a format unchecked, and what opens its file as whoever receives it does.

    Raises:
        TrainingError: a package that the format needs is missing.
    """
    try:
        match name:
            case "onnx":
                from training.export import onnx_export

                return onnx_export.write_onnx, open_openvino
            case "saved_model" | "keras" | "litert":
                from training.export import keras_export

                return keras_export.FORMATS[name]
            case _:
                return write_openvino, open_openvino
    except ImportError as error:
        raise TrainingError(f"--format {name} needs requirements/training.txt installed: {error}") from None


def write_openvino(network: Network, path: Path) -> None:
    """Write OpenVINO IR in float32, `path` and the .bin beside it."""
    model = build_float_network(network)
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"{error}; see to its permissions and to free space") from None


def open_openvino(path: Path) -> Infer:
    """OpenVINO's own reader of its IR and of ONNX, computing in float32."""
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled(images)["probabilities"]
