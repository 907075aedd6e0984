"""`average`: made-up networks whose means are known."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from training.average import average

from model_store.manifest import Preprocessing
from training import data
from training.__main__ import main
from training.augment import augment
from training.fit import normalise
from training.recipes import Translate
from training.run import Run, RunInfo, read_source

pytestmark = pytest.mark.slow

PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture
def dataset(data_folder, monkeypatch):
    monkeypatch.setattr(data, "HELD_OUT", 20)
    return data.load(data_folder)


def finished(folder, dataset, scale, width=4, **changes):
    """A run whose convolution and last layer are `scale` everywhere."""
    keras.utils.clear_session()
    stack = [layers.Conv2D(width, 3, strides=4), layers.BatchNormalization(), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((32, 32, 3)), *stack, layers.Dense(10)])
    model.set_weights([np.full_like(value, scale) for value in model.get_weights()])
    values = {
        "recipe": "patient",
        "recipe_values": {"network": {"widths": [width]}},
        "labels": dataset.labels,
        "preprocessing": PREPROCESSING,
        "output": "logits",
        "seed": 0,
        "epochs": 0,
        "batch_size": 8,
        "hold_out": True,
        "started_from": None,
        "data_sha256": dataset.sha256,
        "images": 180,
        "environment": {},
    }
    run = Run(folder)
    run.start(RunInfo.model_validate(values | changes))
    model.save_weights(folder / "model.weights.h5")
    (folder / "architecture.json").write_text(model.to_json())
    return read_source(folder)


def opened(folder):
    model = keras.models.model_from_json((folder / "architecture.json").read_text())
    model.load_weights(folder / "model.weights.h5")
    return model


def test_weights_are_the_mean_by_shares_and_statistics_those_of_the_images(dataset, tmp_path):
    recipe_values = {"network": {}, "augmentation": {"pixels": 1, "cutout": 12}}
    sources = [
        finished(tmp_path / "a", dataset, 1.0),
        finished(tmp_path / "b", dataset, 4.0, recipe_values=recipe_values),
    ]
    average(Run(tmp_path / "mean"), sources, [2, 1], dataset)
    model = opened(tmp_path / "mean")
    convolution, norm = model.layers[:2]
    for weight in (*convolution.get_weights(), norm.gamma, norm.beta, *model.layers[-1].get_weights()):
        np.testing.assert_allclose(np.asarray(weight), 2.0, rtol=1e-6)
    augmented = augment(dataset.fitting.pixels, Translate(1, cutout=12), seed=0, epoch=0)
    seen = convolution(normalise(augmented, PREPROCESSING)).numpy()
    np.testing.assert_allclose(norm.moving_mean, seen.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var((0, 1, 2)), rtol=1e-3)
    assert norm.momentum == layers.BatchNormalization().momentum
    info = Run(tmp_path / "mean").require_finished().info
    assert info.started_from == "0.667 × patient + 0.333 × patient" and info.hold_out and info.images == 180


def test_every_image_counts_alike_in_the_statistics(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("training.average.BATCH", 179)  # of 180: in batches of that size the last image would be half
    sources = [finished(tmp_path / name, dataset, 1.0) for name in "ab"]
    average(Run(tmp_path / "mean"), sources, [1, 1], dataset)
    convolution, norm = opened(tmp_path / "mean").layers[:2]
    seen = convolution(normalise(dataset.fitting.pixels, PREPROCESSING)).numpy()
    np.testing.assert_allclose(norm.moving_mean, seen.mean((0, 1, 2)), rtol=1e-4)


def test_an_interrupted_one_leaves_no_run(dataset, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    sources = [finished(tmp_path / name, dataset, 1.0) for name in "ab"]
    monkeypatch.setattr(keras.Model, "save_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        average(Run(tmp_path / "mean"), sources, [1, 1], dataset)
    Run(tmp_path / "mean").require_free()


def test_a_full_disk_is_an_error_and_leaves_no_weights(dataset, data_folder, tmp_path, full_disk, capsys):
    for name in "ab":
        finished(tmp_path / name, dataset, 1.0, width=400)
    command = ["average", str(tmp_path / "a"), str(tmp_path / "b"), "--data", str(data_folder)]
    with full_disk():
        assert main([*command, "--out", str(tmp_path / "mean")]) == 1
    assert "File too large; see to its permissions and to free space" in capsys.readouterr().err
    assert list((tmp_path / "mean").iterdir()) == []


def test_it_has_seen_what_any_of_them_has_seen(dataset, tmp_path):
    sources = [finished(tmp_path / name, dataset, 1.0, hold_out=out) for name, out in (("a", True), ("b", False))]
    average(Run(tmp_path / "mean"), sources, [1, 1], dataset)
    info = Run(tmp_path / "mean").info
    assert not info.hold_out and info.images == 200


def test_a_mean_is_evaluated_and_published_as_any_run(dataset, data_folder, tmp_path, capsys):
    for name, scale in (("a", 0.5), ("b", 1.0)):
        finished(tmp_path / name, dataset, scale)
    names, given = [str(tmp_path / name) for name in "ab"], ["--data", str(data_folder)]
    mean = str(tmp_path / "mean")
    assert main(["average", *names, "--out", mean, *given]) == 0
    assert f"next: python -m training evaluate {mean}" in capsys.readouterr().out
    assert main(["evaluate", mean, *given]) == 0
    assert main(["compare", mean, *names]) == 0
    assert main(["average", *names, "--out", mean, *given]) == 1
    assert "already holds a run" in capsys.readouterr().err
    assert main(["publish", mean, "--store", str(tmp_path / "store"), *given]) == 0
    training = json.loads((tmp_path / "store/cifar10/1/manifest.json").read_text())["training"]
    assert training["recipe"] == "average" and training["recipe_values"]["shares"] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "shares", "said"),
    [
        ({}, [1], "2 networks and 1 shares"),
        ({}, [1, 0], "shares must be above 0 and have a finite sum, they are 1, 0"),
        ({}, [1e308, 1e308], "and have a finite sum, they are 1e+308, 1e+308"),
        ({}, [1, float("nan")], "shares must be above 0"),
        ({"width": 5}, [1, 1], "is another network than"),
        ({"output": "probabilities"}, [1, 1], "has other output than"),
        ({"labels": tuple("abcdefghij")}, [1, 1], "has other labels than"),
    ],
)
def test_what_has_no_mean_is_refused(dataset, data_folder, tmp_path, capsys, changes, shares, said):
    finished(tmp_path / "a", dataset, 1.0)
    finished(tmp_path / "b", dataset, 1.0, **changes)
    sources = [str(tmp_path / "a"), str(tmp_path / "b"), "--shares", *map(str, shares)]
    assert main(["average", *sources, "--out", str(tmp_path / "mean"), "--data", str(data_folder)]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_one_network_or_other_data_make_none(dataset, data_folder, tmp_path, capsys):
    labels = (*dataset.labels[:-1], "lorry")
    for name in "ab":
        finished(tmp_path / name, dataset, 1.0, labels=labels)
    arguments = ["--out", str(tmp_path / "mean"), "--data", str(data_folder)]
    assert main(["average", str(tmp_path / "a"), *arguments]) == 1
    assert "1 networks and 1 shares; give at least two" in capsys.readouterr().err
    assert main(["average", str(tmp_path / "a"), str(tmp_path / "b"), *arguments]) == 1
    assert "label 10 is 'lorry' there and 'truck' here; pass its --data" in capsys.readouterr().err
