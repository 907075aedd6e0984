"""Images a second of a known network by `Classifier` and by Keras: `python -m benchmarks.networks MobileNetV2`.

The weights are random, which costs the same time. Every engine uses all cores; they compute in turns.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.harness.machine import describe
from benchmarks.harness.tables import table
from model_store.classifier import Classifier, PrecisionChoice
from model_store.manifest import Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.model import Network
from model_store.network.processor import has_bfloat16
from model_store.network.weights import read_weights
from training.evaluate.quantization import quantize

Infer: TypeAlias = Callable[[NDArray[np.uint8]], Any]
BATCHES = (1, 32)
ROUNDS = 5
ROUND_SECONDS = 2.0  # for each engine and batch size


def main() -> None:
    """Measure one network of `keras.applications`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="MobileNetV2", help="a name in keras.applications")
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(describe())
    build = getattr(keras.applications, arguments.network)
    model = build(weights=None, input_shape=(arguments.side, arguments.side, 3))
    network = as_network(model)
    print(f"{arguments.network} at {arguments.side}, {network.architecture.multiply_adds / 1e6:,.0f} M multiply-adds\n")
    speeds = measure(engines(model, network), network.architecture.input, arguments.rounds)
    names = dict.fromkeys(name for name, _ in speeds)
    print(table([{"images/s": name} | {f"batch {batch}": speeds[name, batch] for batch in BATCHES} for name in names]))


def as_network(model: keras.Model) -> Network:
    """Read the network from the files that Keras writes, as the service does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.weights.h5")
        model.save_weights(path)
        architecture = parse_architecture(model.to_json())
        weights = read_weights(path.read_bytes(), architecture)
    labels = tuple(map(str, range(architecture.classes)))
    height, width, channels = architecture.input
    centred = Preprocessing(mean=(0.5,) * channels, std=(0.5,) * channels, height=height, width=width)
    return Network(architecture, weights, labels, centred, "probabilities")


def engines(model: keras.Model, network: Network) -> dict[str, Infer]:
    """Return each way to compute the model, from uint8 images."""

    @tf.function(input_signature=[tf.TensorSpec((None, *network.architecture.input), tf.float32)])  # type: ignore[untyped-decorator]
    def function(images: Any) -> Any:
        return model(images, training=False)

    def normalise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(images * np.float32(1 / 127.5) - 1, np.float32)

    sample = random_images(32, network.architecture.input)
    precisions: tuple[PrecisionChoice, ...] = ("float32", "bfloat16") if has_bfloat16() else ("float32",)
    classifiers = {name: Classifier(network, precision=name) for name in precisions}
    return {
        "model.predict": lambda images: model.predict(normalise(images), batch_size=len(images), verbose=0),
        "tf.function": lambda images: function(normalise(images)).numpy(),
        **{f"Classifier, {name}": classifier.predict for name, classifier in classifiers.items()},
        "Classifier, int8": Classifier(quantize(network, sample), precision="int8").predict,
    }


def measure(engines: dict[str, Infer], shape: tuple[int, ...], rounds: int) -> dict[tuple[str, int], float]:
    """Return images a second by engine and batch size, medians over rounds in which all take turns."""
    seconds: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in engines for batch in BATCHES}
    for _ in range(rounds):
        for (name, batch), measured in seconds.items():
            measured.append(seconds_per_call(engines[name], random_images(batch, shape)))
    return {(name, batch): batch / median(measured) for (name, batch), measured in seconds.items()}


def seconds_per_call(infer: Infer, images: NDArray[np.uint8]) -> float:
    """Call for `ROUND_SECONDS`, after one call that is not counted."""
    infer(images)
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < ROUND_SECONDS or not calls:
        infer(images)
        calls += 1
    return elapsed / calls


def random_images(count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw images (count, H, W, C) of noise, the same at every call."""
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


if __name__ == "__main__":
    main()
