"""Published versions whose networks take other images than 32×32 RGB."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from model_store.store import Store
from tests.model_store.network.keras_models import randomised
from training.__main__ import main

NAME = "cifar10"
LABELS = "circle", "square", "star"


@dataclass(frozen=True)
class Input:
    """Height, width and channels of a network's input, and options of `import` that go with it."""

    shape: tuple[int, int, int]
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + "".join(self.options)

    def random_image(self, seed: int = 0) -> np.ndarray:
        """Random RGB pixels of this size, mostly red so that the order of channels matters, or grey ones (H, W, 1)."""
        pixels = np.random.default_rng(seed).integers(0, 256, self.shape, dtype=np.uint8)
        return pixels // np.array([1, 2, 8], np.uint8) if self.shape[2] == 3 else pixels


INPUTS = (
    Input((96, 96, 3)),
    Input((224, 224, 3), ("--channel-order", "BGR", "--mean", ".41", ".46", ".48", "--std", ".2", ".3", ".25")),
    Input((28, 28, 1), ("--mean", ".5", "--std", ".5")),
    Input((48, 64, 3), ("--mean", ".5", "--std", ".5")),
)


def write_network(folder: Path, shape: tuple[int, int, int]) -> list[str]:
    """Write a small network's two files; return the options of `import` for them."""
    keras.utils.clear_session()
    stack = [layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"), layers.MaxPooling2D()]
    model = keras.Sequential([keras.Input(shape), *stack, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    randomised(model)
    (folder / "net.json").write_text(model.to_json())
    model.save_weights(folder / "net.weights.h5")
    return ["--architecture", str(folder / "net.json"), "--weights", str(folder / "net.weights.h5")]


def publish(folder: Path, given: Input, *options: str) -> Path:
    """Import a small network into a store in the folder; return its version's folder."""
    files = write_network(folder, given.shape)
    target = ["--name", NAME, "--store", str(folder / "store"), "--create", "--labels", *LABELS]
    data = [] if "--data" in options else ["--data", str(folder / "no data")]
    assert main(["import", *files, *target, *data, *given.options, *options]) == 0
    return Store(folder / "store").folder(NAME, 1)
