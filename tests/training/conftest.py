"""A small synthetic data set in CIFAR-10's binary format: ten flat colours with noise, which a network can learn."""

import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import narrow_recipes, short_measurements, train
from training.__main__ import main
from training.data.cifar10 import TEST_BATCH, TRAIN_BATCHES

RECORDS = 40


def write_batch(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (np.arange(RECORDS) % 10).astype(np.uint8)
    colours = np.random.default_rng(99).integers(0, 200, (10, 3))[labels]
    planes = (colours[:, :, None] + rng.integers(0, 55, (RECORDS, 3, 1024))).astype(np.uint8)
    path.write_bytes(np.concatenate([labels[:, None], planes.reshape(RECORDS, -1)], axis=1).tobytes())


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "cifar-10-batches-bin"
    folder.mkdir()
    for seed, name in enumerate((*TRAIN_BATCHES, TEST_BATCH)):
        write_batch(folder / name, seed)
    return folder.parent


@pytest.fixture
def full_disk():
    """Inside `with full_disk():` no file grows beyond a kilobyte. Whole tests cannot run in it: pytest writes files."""

    @contextmanager
    def limited():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="module")
def short_reports():
    """Measure robustness on four images, and speed for a moment."""
    with short_measurements():
        yield


@pytest.fixture(scope="session")
def notebook_run(data_folder, tmp_path_factory) -> Path:
    """A finished run of `notebook`, to be copied before it is changed."""
    folder = tmp_path_factory.mktemp("runs") / "notebook"
    assert train(data_folder, folder) == 0
    return folder


@pytest.fixture(scope="session")
def published(data_folder, notebook_run, tmp_path_factory) -> Path:
    """A store with that run as cifar10/1, to be copied before it is changed."""
    store = tmp_path_factory.mktemp("published")
    with short_measurements():
        publish = ["publish", str(notebook_run), "--name", "cifar10", "--store", str(store)]
        assert main([*publish, "--data", str(data_folder)]) == 0
    return store


@pytest.fixture(scope="session")
def teacher(data_folder, tmp_path_factory) -> Path:
    """A finished run of `teacher` on a narrow network."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    with narrow_recipes("teacher"):
        assert train(data_folder, folder, recipe="teacher") == 0
    return folder


@pytest.fixture(scope="module")
def narrow():
    """Narrow networks for the recipes of teaching."""
    with narrow_recipes("teacher", "small"):
        yield
