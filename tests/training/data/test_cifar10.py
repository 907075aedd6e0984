import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from training.data import cifar10
from training.data.fetch import CIFAR10
from training.data.load import load_dataset
from training.errors import TrainingError

ROOT = Path(__file__).parents[3]
real = pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA does not name the real data")


def test_records_become_channels_last_images(data_folder):
    images = load_dataset(data_folder).trainval
    raw = np.fromfile(data_folder / "cifar-10-batches-bin" / "data_batch_1.bin", np.uint8)
    assert images.pixels.shape == (200, 32, 32, 3)
    assert images.labels[:3].tolist() == [0, 1, 2]
    assert images.pixels[0, 2, 5].tolist() == [raw[1 + channel * 1024 + 2 * 32 + 5] for channel in range(3)]


def test_the_sha256_is_of_the_training_batches_in_order(data_folder):
    batches = [
        (data_folder / "cifar-10-batches-bin" / f"data_batch_{number}.bin").read_bytes() for number in range(1, 6)
    ]
    assert load_dataset(data_folder).sha256 == hashlib.sha256(b"".join(batches)).hexdigest()


def test_the_batches_own_folder_is_accepted_too(data_folder):
    assert len(load_dataset(data_folder / "cifar-10-batches-bin").test) == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "data_batch_1.bin does not exist; run `.*python -m training fetch`"),
        (b"12345", "not a whole number"),
        (b"", "0 bytes"),
    ],
    ids=["missing", "cut", "empty"],
)
def test_a_bad_batch_is_named(tmp_path, content, message):
    name = "test_batch.bin" if content is None else "data_batch_1.bin"
    (tmp_path / name).write_bytes(content or b"")
    with pytest.raises(TrainingError, match=message):
        _ = load_dataset(tmp_path).trainval


def test_labels_of_another_data_set_are_refused(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes([77]) + bytes(3072))
    with pytest.raises(TrainingError, match="label 77"):
        _ = load_dataset(tmp_path).trainval


@pytest.mark.data
@real
def test_val_is_the_last_5000_images_and_train_the_others():
    dataset = load_dataset(Path(os.environ["CIFAR10_DATA"]))
    trainval, train, val = dataset.trainval, dataset.train, dataset.val
    assert (len(trainval), len(train), len(val)) == (50_000, 45_000, 5_000)
    assert np.array_equal(np.concatenate([train.labels, val.labels]), trainval.labels)
    assert np.array_equal(val.pixels, trainval.pixels[45_000:])


@pytest.mark.data
@real
@pytest.mark.parametrize("version", ["cifar10/8", "cifar10-small/2"])
def test_the_shipped_models_were_trained_on_the_published_batches(version):
    manifest = json.loads((ROOT / "model_store" / "models" / version / "manifest.json").read_text())
    assert load_dataset(Path(os.environ["CIFAR10_DATA"])).sha256 == manifest["training"]["data_sha256"]


@pytest.mark.data
@real
def test_stated_mean_and_deviation_are_those_of_the_training_images():
    pixels = load_dataset(Path(os.environ["CIFAR10_DATA"])).trainval.pixels
    values = np.arange(256) / 255
    for channel in range(3):
        shares = np.bincount(pixels[..., channel].ravel(), minlength=256) / pixels[..., channel].size
        mean = (shares * values).sum()
        assert mean == pytest.approx(cifar10.MEAN[channel], abs=1e-4)
        assert (shares * (values - mean) ** 2).sum() ** 0.5 == pytest.approx(cifar10.STD[channel], abs=1e-4)


def test_the_six_batches_that_are_read_are_those_that_are_fetched():
    assert set(CIFAR10.batches) == {*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH}
