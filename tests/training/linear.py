"""A network without training: each class has a smooth pattern, and an image is called what it looks most like."""

import io
import json

import h5py
import numpy as np
from PIL import Image

from model_store.classifier import Classifier
from model_store.manifest import Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.model import Network
from model_store.network.weights import read_weights
from training.data.cifar10 import LABELS
from training.data.dataset import Images

PATTERNS = np.stack(
    [
        np.asarray(Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC))
        for coarse in np.random.default_rng(5).integers(40, 216, (10, 8, 8, 3), dtype=np.uint8)
    ]
)


def classifier(labels: tuple[str, ...] = LABELS) -> Classifier:
    layers = {
        "InputLayer": {"batch_shape": [None, 32, 32, 3]},
        "Flatten": {},
        "Dense": {"units": 10, "use_bias": False},
    }
    entries = [
        {"module": "keras.layers", "class_name": kind, "config": {"name": kind.lower(), **config}}
        for kind, config in layers.items()
    ]
    architecture = parse_architecture(json.dumps({"class_name": "Sequential", "config": {"layers": entries}}).encode())
    flat = PATTERNS.reshape(10, -1).astype(np.float32) - PATTERNS.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
    file = io.BytesIO()
    with h5py.File(file, "w") as weights:
        weights["layers/dense/vars/0"] = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).T
    preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
    network = Network(
        architecture, read_weights(file.getvalue(), architecture), labels, preprocessing, "logits", temperature=0.5
    )
    return Classifier(network, precision="float32")


def images(count: int, noise: float = 150) -> Images:
    """Every pattern in turn, with noise; a third of them are mistaken."""
    labels = np.arange(count, dtype=np.int32) % 10
    noisy = PATTERNS[labels] * 0.15 + 110 + np.random.default_rng(6).normal(0, noise, (count, 32, 32, 3))
    return Images(np.clip(noisy, 0, 255).astype(np.uint8), labels)
