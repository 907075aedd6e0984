"""Ask Keras what the files that are imported answer, to compare the network read from them."""

import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from training.publish.keras_files.archive import HDF5

ORIGINAL_IMAGES = 64


@dataclass(frozen=True)
class Original:
    """The content of the files: a whole model, or an architecture (JSON) and weights."""

    model: bytes | None
    architecture: bytes
    weights: bytes


class NotLoaded(Exception):
    """Keras cannot load the files. The text is its reason, in one line."""


def original_outputs(original: Original, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the outputs (N, K) of the network in the files, for images (N, H, W, C) as it takes them.

    Only for files that `keras_files` has read: their layers are Keras's own. Keras gets them in its safe mode, without
    their optimizer, loss and metrics.

    Raises:
        NotLoaded: this Keras cannot load or run them, such as operations saved by Keras 2.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, about the optimizer that is passed over
            model = _load(original, Path(folder))
            outputs: NDArray[np.float32] = np.asarray(model.predict(images, batch_size=32, verbose=0), np.float32)
            return outputs
    except Exception as error:  # noqa: BLE001 -- Keras raises errors of every kind for files of other releases
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotLoaded(text[:200]) from None


def _load(original: Original, folder: Path) -> keras.Model:
    if original.model:
        path = folder / ("model.h5" if original.model.startswith(HDF5) else "model.keras")
        path.write_bytes(original.model)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    model = keras.models.model_from_json(original.architecture.decode())
    with h5py.File(io.BytesIO(original.weights), "r") as file:
        by_name = "model_weights" in file or any(key.startswith("layer_names") for key in file.attrs)
    path = folder / ("model.h5" if by_name else "model.weights.h5")  # by its suffix, Keras chooses the reader
    path.write_bytes(original.weights)
    model.load_weights(path)
    return model
