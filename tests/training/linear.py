"""A network without training: each class has a smooth pattern, and an image is called what it looks most like."""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from model_store.classifier import Classifier
from model_store.files import ARCHITECTURE, GOLDEN, WEIGHTS
from model_store.golden import Golden, write_golden
from model_store.manifest import Manifest, Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.model import Network
from model_store.network.weights import read_weights
from model_store.store import Store
from training.data.cifar10 import LABELS
from training.data.dataset import Images

PREPROCESSING, TEMPERATURE = Preprocessing(mean=(0.5, 0.5, 0.5), std=(1, 1, 1)), 0.5
PATTERNS = np.stack(
    [
        np.asarray(Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC))
        for coarse in np.random.default_rng(5).integers(40, 216, (10, 8, 8, 3), dtype=np.uint8)
    ]
)


def architecture() -> bytes:
    """The network's `architecture.json`."""
    layers = {
        "InputLayer": {"batch_shape": [None, 32, 32, 3]},
        "Flatten": {},
        "Dense": {"units": 10, "use_bias": False},
    }
    entries = [
        {"module": "keras.layers", "class_name": kind, "config": {"name": kind.lower(), **config}}
        for kind, config in layers.items()
    ]
    model = {"module": "keras", "class_name": "Sequential", "config": {"name": "linear", "layers": entries}}
    return json.dumps(model).encode()


def weights(confused: int = 0) -> bytes:
    """The network's `model.weights.h5`; it takes the first classes for each other."""
    flat = PATTERNS.reshape(10, -1).astype(np.float32) - PATTERNS.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
    flat[:confused] = np.roll(flat[:confused], 1, axis=0)
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["layers/dense/vars/0"] = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).T
    return file.getvalue()


def network(labels: tuple[str, ...] = LABELS, confused: int = 0) -> Network:
    parsed = parse_architecture(architecture())
    return Network(
        parsed, read_weights(weights(confused), parsed), labels, PREPROCESSING, "logits", temperature=TEMPERATURE
    )


def classifier(labels: tuple[str, ...] = LABELS, confused: int = 0) -> Classifier:
    return Classifier(network(labels, confused), precision="float32")


def publish(store: Store, name: str, confused: int = 0, labels: tuple[str, ...] = LABELS, **fields: Any) -> int:
    """Publish the network without the checks of the jobs; `fields` are those of the manifest. Returns the version."""
    golden = images(8).pixels

    def write(folder: Path, version: int) -> Manifest:
        (folder / ARCHITECTURE).write_bytes(architecture())
        (folder / WEIGHTS).write_bytes(weights(confused))
        write_golden(Golden(golden, classifier(labels, confused).predict(golden).probabilities), folder / GOLDEN)
        return Manifest(
            name=name,
            version=version,
            created="2026-11-29T00:00:00+00:00",
            labels=labels,
            preprocessing=PREPROCESSING,
            output="logits",
            temperature=TEMPERATURE,
            golden_tolerance={"float32": 1e-3, "bfloat16": 0.1},
            files={},
            **fields,
        )

    return store.publish(name, write)


def images(count: int, noise: float = 150) -> Images:
    """Every pattern in turn, with noise; a third of them are mistaken."""
    labels = np.arange(count, dtype=np.int32) % 10
    noisy = PATTERNS[labels] * 0.15 + 110 + np.random.default_rng(6).normal(0, noise, (count, 32, 32, 3))
    return Images(np.clip(noisy, 0, 255).astype(np.uint8), labels)
