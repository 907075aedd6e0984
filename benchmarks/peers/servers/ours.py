"""Our decoder and classifier, for peers that show the cost of the server alone."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store.images.decode import decode as decode_image
from model_store.version import Loaded
from model_store.version import load as load_version

PROCESSES, THREADS = (int(os.environ[name]) for name in ("PROCESSES", "THREADS"))


def load() -> Loaded:
    """Load the version at $MODEL_FOLDER, compiled for $THREADS threads."""
    return load_version(Path(os.environ["MODEL_FOLDER"]), "openvino", os.environ["PRECISION"], THREADS)


def decode(data: bytes, loaded: Loaded) -> NDArray[np.uint8]:
    """Decode an image to the network's input (32, 32, 3)."""
    return decode_image(data, loaded.manifest.preprocessing)
