"""Ask Keras what the files that are imported answer, to compare the network read from them."""

import io
import json
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from training.publish.keras_files.archive import CONFIG, HDF5, METADATA, VARIABLES, ModelFile

ORIGINAL_IMAGES = 64
UNUSED = "_initializer", "_regularizer", "_constraint", "build_config", "compile_config"


@dataclass(frozen=True)
class Original:
    """The content of a whole model's file, b"" if there are two files, and its parts."""

    model: bytes
    parts: ModelFile


class NotLoaded(Exception):
    """Keras cannot load the files. The text is its reason, in one line."""


def original_outputs(original: Original, images: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Compute the outputs (N, K) of the network in the files, for images (N, H, W, C) as it takes them.

    Only for files that `keras_files` has read: their layers are Keras's own. Keras gets them in its safe mode, without
    their optimizer, loss, metrics, assets, initializers, regularizers and constraints.

    Args:
        batch: images computed at once.

    Raises:
        NotLoaded: this Keras cannot load or run them, such as operations saved by Keras 2.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, about the optimizer that is passed over
            model = _load(original, Path(folder))
            outputs: NDArray[np.float32] = np.asarray(model.predict(images, batch_size=batch, verbose=0), np.float32)
            return outputs
    except Exception as error:  # noqa: BLE001 -- Keras raises errors of every kind for files of other releases
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotLoaded(text[:200]) from None


def _load(original: Original, folder: Path) -> keras.Model:
    parts = original.parts
    document = json.dumps(json.loads(parts.document, object_hook=_without_training))
    if original.model.startswith(HDF5):
        path = folder / "model.h5"
        path.write_bytes(original.model)
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = document
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    if original.model:
        path = folder / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(CONFIG, document)
            archive.writestr(METADATA, json.dumps({"keras_version": parts.version}))
            archive.writestr(VARIABLES, parts.weights)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    model = keras.models.model_from_json(document)
    with h5py.File(io.BytesIO(parts.weights), "r") as file:
        by_name = "model_weights" in file or any(key.startswith("layer_names") for key in file.attrs)
    path = folder / ("model.h5" if by_name else "model.weights.h5")  # by its suffix, Keras chooses the reader
    path.write_bytes(parts.weights)
    model.load_weights(path)
    return model


def _without_training(entry: dict[str, Any]) -> dict[str, Any]:
    """Leave out what no answer depends on: it may hold custom code, or shapes that take any memory."""
    return {key: value for key, value in entry.items() if not key.endswith(UNUSED)}
