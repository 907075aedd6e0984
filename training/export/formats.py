"""The formats that a network is exported to, by name, with what every format promises."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

CONTRACT = (
    "In every format the input is images (N, H, W, C) of the network's size and channel order, 32×32 RGB unless the "
    "manifest's preprocessing says otherwise, float32 in 0..1, any N, and the output probabilities (N, K), float32, in "
    "the order of the manifest's labels. The file includes normalisation, temperature and softmax, but not "
    "resizing."
)

Predict: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # from images in 0..1 to probabilities


@dataclass(frozen=True)
class ExportFormat:
    """A format's title and the suffixes of its files, the one that `--out` names first; "" is a directory."""

    title: str
    suffixes: tuple[str, ...]

    def __str__(self) -> str:
        return " and ".join(f"NAME{suffix}" for suffix in self.suffixes) if self.suffixes[0] else "a directory"

    def files(self, out: Path) -> list[Path]:
        """Return the paths that are written for an `out`."""
        stem = out.name.removesuffix(self.suffixes[0])
        return [out.with_name(stem + suffix) for suffix in self.suffixes]


FORMATS = {
    "openvino": ExportFormat("OpenVINO IR", (".xml", ".bin")),
    "onnx": ExportFormat("ONNX", (".onnx",)),
    "saved_model": ExportFormat("a TensorFlow SavedModel", ("",)),
    "keras": ExportFormat("Keras 3", (".keras",)),
    "litert": ExportFormat("LiteRT (TensorFlow Lite)", (".tflite",)),
}
