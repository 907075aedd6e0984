"""`python -m training import` from files to a version that loads, and its errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from model_store.network.architecture import parse_architecture
from model_store.store import Store
from model_store.version import load
from tests.model_store.network.keras_models import as_network, chain, keras_values, random_images, randomised
from training.__main__ import main
from training.data.cifar10 import LABELS
from training.errors import TrainingError
from training.fit import networks
from training.publish.import_keras import build_with_dropout, detect_output, read_labels
from training.recipes import Airbench, NotebookCNN

pytestmark = pytest.mark.slow

KERAS2 = Path(__file__).parent / "keras2"  # made by keras2/make.py
NOTEBOOK = KERAS2 / "keras-2.12.0/notebook.json", KERAS2 / "keras-2.12.0/notebook.h5"
NORMED = KERAS2 / "keras-2.15.0/normed.json", KERAS2 / "keras-2.15.0/normed.whole.h5"


def run(files, store, *options, labels=LABELS):
    architecture, weights = map(str, files)
    files_and_store = [
        "--architecture",
        architecture,
        "--weights",
        weights,
        "--store",
        str(store),
        "--create",
        "--name",
        "old",
    ]
    return main(["import", *files_and_store, "--labels", *labels, *options])


@pytest.fixture(scope="module")
def imported(data_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    assert run(NOTEBOOK, root, "--data", str(data_folder)) == 0
    return Store(root).folder("old", 1)


def test_an_imported_network_is_a_whole_version(imported):
    loaded = load(imported, precision="float32")
    assert (loaded.manifest.labels, loaded.manifest.output) == (LABELS, "probabilities")
    assert loaded.manifest.preprocessing.std == (1, 1, 1)
    assert loaded.manifest.metrics["test"]["images"] == 40
    assert "report/evaluation.json" in loaded.manifest.files
    training = loaded.manifest.training
    assert (training["recipe"], training["saved_by_keras"]) == ("imported", "2.12.0")
    assert training["files"]["weights"]["name"] == "notebook.h5"
    with np.load(KERAS2 / "keras-2.12.0/notebook.npz") as file:
        received = loaded.classifier.predict(file["images"]).probabilities
        np.testing.assert_allclose(received, file["outputs"], rtol=1e-4, atol=1e-6)


def test_keras_opens_the_version_and_gives_what_keras_2_gave(imported):
    import keras

    model = keras.models.model_from_json((imported / "architecture.json").read_text())
    model.load_weights(imported / "model.weights.h5")
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.25, 0.25, 0.5]
    with np.load(KERAS2 / "keras-2.12.0/notebook.npz") as file:
        received = model.predict(file["images"] / np.float32(255), verbose=0)
        np.testing.assert_allclose(received, file["outputs"], rtol=1e-4, atol=1e-6)


def test_layers_without_effect_at_inference_are_left_out_except_dropout():
    import keras

    stack = [keras.layers.RandomFlip(), keras.layers.Normalization(), keras.layers.Conv2D(4, 3)]
    stack += [
        keras.layers.GaussianNoise(0.1),
        keras.layers.Dropout(0.25),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    model = randomised(chain(*stack))
    network = as_network(model, "logits")
    rebuilt = build_with_dropout(network.architecture, network.weights)
    kinds = [type(layer).__name__ for layer in rebuilt.layers]
    assert kinds == ["InputLayer", "Normalization", "Conv2D", "Dropout", "Flatten", "Dense"]
    images = random_images(2)
    np.testing.assert_allclose(keras_values(rebuilt, images), keras_values(model, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("last", "output"),
    [([], "logits"), (["Softmax"], "probabilities"), (["Reshape"], "logits"), (["ReLU"], None), (["LeakyReLU"], None)],
    ids=str,
)
def test_the_last_layer_tells_logits_from_probabilities(last, output):
    import keras

    end = [getattr(keras.layers, kind)(*([(4,)] if kind == "Reshape" else []), name="end") for kind in last]
    model = chain(keras.layers.Flatten(), keras.layers.Dense(4), *end)
    architecture = parse_architecture(model.to_json())
    if output:
        assert detect_output(architecture) == output
    else:
        with pytest.raises(TrainingError, match="neither logits nor their softmax"):
            detect_output(architecture)


def test_other_labels_are_imported_without_an_evaluation(data_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("sea lion\nsea\nsky\n\n")
    options = ["--mean", "0.5", "0.5", "0.5", "--data", str(data_folder)]
    assert run(NORMED, tmp_path / "store", *options, labels=["labels.txt"]) == 0
    assert "not evaluated: the labels are not those of" in capsys.readouterr().err
    manifest = load(tmp_path / "store/old/1").manifest
    assert (manifest.labels, manifest.output) == (("sea lion", "sea", "sky"), "logits")
    assert manifest.preprocessing.mean == (0.5, 0.5, 0.5)
    assert "accuracy" not in manifest.metrics["test"]
    assert not any(name.startswith("report/") for name in manifest.files)
    assert main(["versions", "--store", str(tmp_path / "store")]) == 0
    assert "imported" in capsys.readouterr().out


def test_labels_are_composed_from_the_command_line_and_from_a_file(tmp_path):
    decomposed, composed = "caf\u0065\u0301", "caf\u00e9"
    (tmp_path / "labels.txt").write_text(f"{decomposed}\nsea\n", encoding="utf-8")
    assert read_labels([decomposed, "sea"]) == read_labels([str(tmp_path / "labels.txt")]) == (composed, "sea")
    with pytest.raises(TrainingError, match="was given 2 times"):
        read_labels([decomposed, composed])


def test_without_data_the_job_says_what_was_left_out(tmp_path, capsys):
    absent = tmp_path / "absent"
    assert run(NOTEBOOK, tmp_path, "--data", str(absent)) == 0
    assert f"not evaluated: {absent} does not exist" in capsys.readouterr().err
    assert "accuracy" not in load(tmp_path / "old/1").manifest.metrics["test"]


@pytest.mark.parametrize(
    ("network", "output"),
    [(NotebookCNN(), "probabilities"), (Airbench((8, 16, 16), "silu", 0.6, convolutions=3), "logits")],
    ids=["notebook", "airbench"],
)
def test_what_a_run_of_this_project_saved_is_imported(tmp_path, network, output):
    model = networks.build(network, 10, np.random.default_rng(0).random((64, 32, 32, 3), "float32"), 0)
    (tmp_path / "net.json").write_text(model.to_json())
    model.save_weights(tmp_path / "net.weights.h5")
    assert run((tmp_path / "net.json", tmp_path / "net.weights.h5"), tmp_path, "--data", str(tmp_path / "absent")) == 0
    manifest = load(tmp_path / "old/1").manifest
    assert manifest.output == output
    assert manifest.metrics["test"]["parameters"] == model.count_params()


def ending_in(activation):
    document = json.loads(NOTEBOOK[0].read_text())
    document["config"]["layers"][-1]["config"]["activation"] = activation
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": LABELS[:9]}, "the network has 10 outputs, 9 labels were given"),
        ({"labels": [*LABELS[:9], "cat"]}, "the label 'cat' was given 2 times"),
        ({"labels": [*LABELS[:9], " "]}, "'' is not a label"),
        ({"labels": [*LABELS[:9], "a\x1b[0m"]}, "is not a label; a label has 1 to 64 printable characters"),
        ({"labels": ["nowhere.txt"]}, "nowhere.txt cannot be read: No such file"),
        ({"labels": ["one.txt"]}, "1 labels were given; a network has 2 to 1,000"),
        ({"labels": ["binary.txt"]}, "binary.txt is not text in UTF-8"),
        ({"options": ["--std", "0", "1", "1"]}, "--std above 0; received"),
        ({"options": ["--mean", "nan", "0", "0"]}, "take three finite numbers each"),
        ({"options": ["--mean", "125.3", "123", "113.9"]}, "0 to 255: --mean 0.4914 0.4824 0.4467\n"),
        ({"options": ["--mean", "0.5", "-0.5", "0.5"]}, "each number from 0 to 1; received 0.5 -0.5 0.5; pass that"),
        ({"options": ["--std", "51", "51", "51"]}, "0 to 255: --std 0.2 0.2 0.2\n"),
        ({"options": ["--std", "0.2", "0.6", "0.2"]}, "up to 0.5, or exactly 1; received 0.2 0.6 0.2; pass"),
        ({"architecture": b"{"}, "net.json cannot be imported: it is not JSON"),
        ({"architecture": b" " * 4_000_001}, "net.json has more than 4,000,000 bytes"),
        ({"architecture": ending_in("sigmoid")}, "ends in 'activation_5' (Activation), which gives neither"),
        ({"weights": b"PK"}, "net.h5 cannot be imported: the weights cannot be read as an HDF5 file"),
        ({"weights": NORMED[1].read_bytes()}, "net.h5 cannot be imported: kernel of layer 'conv2d' is float32"),
    ],
)  # fmt: skip
def test_import_explains_what_is_wrong(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "net.json", tmp_path / "net.h5"
    files[0].write_bytes(options.get("architecture", NOTEBOOK[0].read_bytes()))
    files[1].write_bytes(options.get("weights", NOTEBOOK[1].read_bytes()))
    (tmp_path / "one.txt").write_text("cat\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    assert run(files, tmp_path, *options.get("options", []), labels=options.get("labels", LABELS)) == 1
    assert message in capsys.readouterr().err
    assert Store(tmp_path).versions("old") == []
