"""Short runs on the small data set of `data_folder`, and patches that keep them short."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from training.__main__ import main
from training.data import cifar10
from training.data.load import load_dataset
from training.evaluate import robustness, speed
from training.fit import loop, start
from training.fit.run.directory import Run
from training.fit.sources import read_source
from training.publish import fitting
from training.recipes import RECIPES

VAL_IMAGES = 20
BATCH_SIZE = 64


def train(data: Path, out: Path, *options: str, recipe: str = "notebook", epochs: int = 2) -> int:
    """Run the job `train`. Returns its exit code."""
    base = ["train", "--recipe", recipe, "--data", str(data), "--out", str(out)]
    return main([*base, "--epochs", str(epochs), "--batch-size", str(BATCH_SIZE), *options])


def interrupt_training(
    data: Path, out: Path, after: int, recipe: str = "notebook", epochs: int = 2, teachers: Sequence[Path] = ()
) -> Run:
    """Begin the run that `train` would, and interrupt it at the end of the epoch `after`."""
    dataset, run = load_dataset(data), Run(out)
    settings = dataclasses.replace(RECIPES[recipe], epochs=epochs).with_batch_size(BATCH_SIZE)
    sources = [read_source(folder) for folder in teachers]
    run.start(start.new_info(recipe, settings, dataset, 0, False, None, sources))

    def interrupt(record: dict[str, float]) -> None:
        if record["epoch"] == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(run, *start.split_images(run, dataset), teachers=sources, on_epoch=interrupt)
    return run


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Read every array in a run's weights, by its path."""
    arrays = {}
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def assert_same_weights(run: Path, expected: Path) -> None:
    """Equal up to the order in which several threads add."""
    received, arrays = read_arrays(run), read_arrays(expected)
    assert received.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(received[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@contextmanager
def narrow_recipes(*names: str, widths: tuple[int, int, int] = (8, 8, 8)) -> Iterator[None]:
    """Let recipes train networks so narrow that an epoch takes a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            network = dataclasses.replace(RECIPES[name].network, widths=widths)
            patch.setitem(RECIPES, name, dataclasses.replace(RECIPES[name], network=network))
        yield


@contextmanager
def few_val_images() -> Iterator[None]:
    """Let the last 20 of the 200 training images stand for the last 5,000, and suffice for every fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "VAL_IMAGES", VAL_IMAGES)
        for name in ("MIN_FOR_TEMPERATURE", "MIN_FOR_VERDICTS", "MIN_FOR_INT8"):
            patch.setattr(fitting, name, VAL_IMAGES)
        yield


@contextmanager
def short_measurements() -> Iterator[None]:
    """Measure robustness on four images, and speed for a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "MAX_IMAGES", 4)
        patch.setattr(speed, "ROUND_SECONDS", 0.01)
        yield
