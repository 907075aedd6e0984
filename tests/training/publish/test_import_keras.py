"""`python -m training import` from files to a version that loads, and its errors."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812

from model_store.network.architecture import parse_architecture
from model_store.network.processor import has_bfloat16
from model_store.store import Store
from model_store.version import load
from tests.model_store.network.keras_models import as_network, chain, keras_values, random_images, randomised
from tests.training import linear
from training.__main__ import main
from training.data.cifar10 import LABELS, TEST_BATCH
from training.errors import TrainingError
from training.fit import networks
from training.publish.compare_with_keras import TOLERANCES
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


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_a_network_whose_answers_change_in_bfloat16_is_served_in_float32(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "bfloat16", 1e-9)
    assert run(NOTEBOOK, tmp_path, "--data", str(tmp_path / "absent")) == 0
    assert "it is not served in bfloat16" in capsys.readouterr().out
    loaded = load(Store(tmp_path).folder("old", 1))
    assert loaded.manifest.golden_tolerance.keys() == {"float32", "int8"}
    assert loaded.manifest.metrics["differences_from_keras"].keys() == {"float32"}
    assert loaded.classifier.precision == "float32"


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
        ({"options": ["--mean", "nan", "0", "0"]}, "--mean and --std take finite numbers"),
        ({"options": ["--mean", "0", "0"]}, "--mean has 2 numbers, but the network's images have 3 channels"),
        ({"options": ["--preprocess-input", "tf", "--std", "1"]}, "says --mean, --std and --channel-order at once"),
        ({"architecture": b"PK"}, "net.json cannot be imported: it is a whole model, not JSON; import it by itself"),
        ({"options": ["--mean", "125.3", "123", "113.9"]}, "0 to 255: --mean 0.4914 0.4824 0.4467\n"),
        ({"options": ["--mean", "0.5", "-0.5", "0.5"]}, "each number from 0 to 1; received 0.5 -0.5 0.5; pass that"),
        ({"options": ["--std", "51", "51", "51"]}, "0 to 255: --std 0.2 0.2 0.2\n"),
        ({"options": ["--std", "0.2", "0.6", "0.2"]}, "up to 0.5, or exactly 1; received 0.2 0.6 0.2; pass"),
        ({"architecture": b"{"}, "net.json cannot be imported: it is not JSON"),
        ({"architecture": b" " * 4_000_001}, "net.json has more than 4,000,000 bytes"),
        ({"architecture": ending_in("sigmoid")}, "ends in 'activation_5' (Activation), which gives neither"),
        ({"weights": b"PK"}, "net.h5 cannot be imported: the zip cannot be read (File is not a zip file)"),
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


def run_whole(path, store, *options, labels=("a", "b", "c")):
    base = ["import", str(path), "--labels", *labels, "--store", str(store), "--create", "--name", "whole"]
    return main([*base, *options])


def nested_model():
    """A network as people transfer-learn it, and saved after fit(): models in models, and augmentation."""
    base = keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(4, 3, strides=2), L.BatchNormalization()], name="base")
    images = keras.Input((32, 32, 3))
    x = L.Rescaling(1 / 127.5, offset=-1)(L.RandomRotation(0.1)(images))
    x = L.GlobalAveragePooling2D()(base(x, training=False))
    model = keras.Model(images, L.Dense(3, activation="softmax")(L.Dropout(0.2)(x)))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 3, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_whole_nested_model_gives_what_keras_gives_for_it(tmp_path, capsys, suffix):
    model = nested_model()
    model.save(tmp_path / f"model.{suffix}")
    assert run_whole(tmp_path / f"model.{suffix}", tmp_path, "--data", str(tmp_path / "absent")) == 0
    out, errors = capsys.readouterr()
    assert "mean 0.5 0.5 0.5, std 0.5 0.5 0.5, from its own layers rescaling" in out
    assert "left out, without effect at inference: random_rotation" in out
    assert "compared with Keras on the file itself: probabilities differ by up to" in out
    assert "no layer of the network scales the pixels" not in errors
    images = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    served = load(tmp_path / "whole/1", precision="float32").classifier.predict(images).probabilities
    np.testing.assert_allclose(served, model.predict(images.astype("float32"), verbose=0), atol=1e-5)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_keras_gets_nothing_that_the_network_does_not_compute_with(tmp_path, capsys, suffix):
    """Custom code in an initializer, and a shape that would take 1.2 TB, are no part of the comparison."""
    model = keras.Sequential([keras.Input((32, 32, 3)), L.Flatten(), L.Dense(3, name="dense")])
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    code = {"module": "builtins", "class_name": "function", "config": "code", "registered_name": "function"}
    spoil = {
        "config": {"kernel_initializer": code, "bias_regularizer": code},
        "build_config": {"input_shape": [None, 10**11]},
    }

    def spoiled(text):
        document = json.loads(text)
        dense = document["config"]["layers"][-1]
        dense["config"] |= spoil["config"]
        dense["build_config"] = spoil["build_config"]
        return json.dumps(document)

    if suffix == "h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = spoiled(file.attrs["model_config"])
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members |= {"config.json": spoiled(members["config.json"]), "assets/large": bytes(10_000)}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    assert run_whole(path, tmp_path, "--data", str(tmp_path / "absent")) == 0
    assert "compared with Keras on the file itself: probabilities differ by up to" in capsys.readouterr().out


def test_a_network_that_gives_no_numbers_is_refused(tmp_path, capsys):
    model = keras.Sequential([keras.Input((32, 32, 3)), L.Flatten(), L.Dense(3)])
    model.layers[-1].set_weights([np.full((3072, 3), 3e38, "float32"), np.zeros(3, "float32")])
    model.save(tmp_path / "huge.keras")
    assert run_whole(tmp_path / "huge.keras", tmp_path, "--data", str(tmp_path / "absent")) == 1
    assert "answers are not finite for some images" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scaling_model(tmp_path_factory):
    """A classifier of the patterns that scales pixels itself; fed with pixel / 255, it calls all images the same."""
    dense = L.Dense(10)
    model = keras.Sequential([keras.Input((32, 32, 3)), L.Rescaling(1 / 255, name="scaling"), L.Flatten(), dense])
    with h5py.File(io.BytesIO(linear.weights())) as file:
        dense.set_weights([file["layers/dense/vars/0"][()], np.eye(10)[0] * 0.05])
    path = tmp_path_factory.mktemp("scaling") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patterns")
    images = linear.images(200)
    planes = images.pixels.transpose(0, 3, 1, 2).reshape(200, -1)
    (folder / TEST_BATCH).write_bytes(np.column_stack([images.labels.astype(np.uint8), planes]).tobytes())
    return folder


@pytest.mark.parametrize(
    ("options", "accurate"),
    [([], True), (["--preprocess-input", "raw"], True), (["--mean", "0", "--std", "1"], False)],
    ids=["nothing said", "said rightly", "said wrongly"],
)
def test_a_network_that_scales_pixels_itself_keeps_its_accuracy(
    scaling_model, patterns, tmp_path, capsys, options, accurate
):
    images = linear.images(200)
    logits = keras.saving.load_model(scaling_model).predict(images.pixels.astype("float32"), verbose=0)
    own = float((logits.argmax(1) == images.labels).mean())
    assert own > 0.5
    data = ["--data", str(patterns), "--no-report"]
    assert run_whole(scaling_model, tmp_path, *data, *options, labels=LABELS) == 0
    errors = capsys.readouterr().err
    received = load(tmp_path / "whole/1").manifest.metrics["test"]["accuracy"]
    if accurate:
        assert received == pytest.approx(own, abs=0.005)
        assert "warning" not in errors
    else:
        assert received < 0.2
        assert "begins with scaling (Rescaling), which scales its input itself: with --mean and --std" in errors


def test_statistics_that_do_not_fit_the_pixels_are_doubted(tmp_path, capsys):
    model = keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(4, 3), L.BatchNormalization()])
    model.add(L.GlobalAveragePooling2D())
    model.add(L.Dense(3))
    convolved = model.layers[0](np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")).numpy()
    gamma, beta, *_ = model.layers[1].get_weights()
    model.layers[1].set_weights([gamma, beta, convolved.mean((0, 1, 2)), convolved.var((0, 1, 2))])
    model.save(tmp_path / "raw.keras")
    absent = ["--data", str(tmp_path / "absent")]
    assert run_whole(tmp_path / "raw.keras", tmp_path / "doubted", *absent) == 0
    errors = capsys.readouterr().err
    assert "no layer of the network scales the pixels, so it gets pixel / 255" in errors
    assert "(BatchNormalization) gets values whose variance is" in errors
    assert run_whole(tmp_path / "raw.keras", tmp_path / "said", *absent, "--preprocess-input", "raw") == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("constant", [False, True])
def test_layers_matched_in_order_need_keras_to_agree_on_different_answers(tmp_path, capsys, constant):
    keras.utils.clear_session()
    stack = [L.Conv2D(4, 3, padding="same"), L.Conv2D(4, 3, padding="same"), L.GlobalAveragePooling2D(), L.Dense(3)]
    model = keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(4, 1), *stack])
    model.layers[-1].set_weights([weight * (not constant) for weight in model.layers[-1].get_weights()])
    model.save(tmp_path / "model.h5")
    document = json.loads(model.to_json())
    for entry in document["config"]["layers"][1:]:
        entry["config"]["name"] += "_of_another_session"
    (tmp_path / "model.json").write_text(json.dumps(document))
    files = tmp_path / "model.json", tmp_path / "model.h5"
    code = run(files, tmp_path / "store", "--data", str(tmp_path / "absent"), labels=("a", "b", "c"))
    out, errors = capsys.readouterr()
    if constant:
        assert code == 1 and "answers the same for every image, so that their order cannot be confirmed" in errors
    else:
        assert code == 0 and "matched in order, which Keras's own answers confirm" in out


def test_a_whole_model_and_two_files_exclude_each_other(tmp_path, capsys):
    assert run_whole("whole.keras", tmp_path, "--architecture", "net.json") == 1
    assert main(["import", "--labels", "a", "b", "--store", str(tmp_path)]) == 1
    assert main(["import", "--weights", "net.h5", "--labels", "a", "b", "--store", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert errors.count("pass either a whole MODEL (.keras or .h5), or --architecture with --weights") == 2
    assert errors.count("--architecture and --weights go together") == 1


def transfer_learned(build, side, scaling=()):
    """A network of `keras.applications` under a new head, with statistics and answers that differ between images."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    base = build(include_top=False, input_shape=(side, side, 3), weights=None)
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3)).repeat(side // 8, 1).repeat(side // 8, 2)
    pixels = images.astype("float32")
    for layer in scaling:
        pixels = layer(pixels)
    norms = [layer for layer in base.layers if isinstance(layer, L.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    features = base(pixels, training=True).numpy().mean((1, 2))
    dense = L.Dense(3, activation="softmax")
    head = [L.GlobalAveragePooling2D(), L.Dropout(0.2), dense]
    model = keras.Sequential([keras.Input((side, side, 3)), L.RandomFlip(), *scaling, base, *head])
    kernel, bias = dense.get_weights()
    dense.set_weights([0.1 * kernel / features.std(0).mean(), bias])  # moderate enough for bfloat16
    return model


@pytest.mark.parametrize(
    ("name", "side", "scaling", "suffix"),
    [("MobileNetV2", 96, [L.Rescaling(1 / 127.5, offset=-1)], "keras"), ("MobileNetV3Small", 64, [], "h5")],
    ids=["MobileNetV2", "MobileNetV3Small"],
)
def test_a_transfer_learned_network_gives_what_keras_gives_for_it(tmp_path, capsys, name, side, scaling, suffix):
    model = transfer_learned(getattr(keras.applications, name), side, scaling)
    model.save(tmp_path / f"model.{suffix}")
    assert run_whole(tmp_path / f"model.{suffix}", tmp_path, "--data", str(tmp_path / "absent")) == 0
    assert f"its images: {side}×{side}, RGB" in capsys.readouterr().out
    images = np.random.default_rng(1).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    expected = model.predict(images.astype("float32"), verbose=0)
    assert np.ptp(expected, axis=0).max() > 0.01
    served = load(tmp_path / "whole/1", precision="float32").classifier.predict(images).probabilities
    np.testing.assert_allclose(served, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "order"),
    [
        ("2.12.0/mobile.whole.h5", "RGB"),
        ("2.15.0/mobile.keras", "RGB"),
        ("2.15.0/caffe.whole.h5", "BGR"),  # preprocess_input of ResNet50
    ],
)
def test_layers_of_keras_2s_applications_give_what_it_gave(tmp_path, capsys, file, order):
    path = KERAS2 / f"keras-{file}"
    assert run_whole(path, tmp_path, "--data", str(tmp_path / "absent")) == 0
    assert f"its images: 32×32, {order}" in capsys.readouterr().out
    with np.load(path.with_name(f"{path.name.partition('.')[0]}.npz")) as saved:
        images = saved["images"][..., ::-1] if order == "BGR" else saved["images"]
        assert np.ptp(saved["outputs"], axis=0).max() > 0.02
        served = load(tmp_path / "whole/1", precision="float32").classifier.predict(images).probabilities
        np.testing.assert_allclose(served, saved["outputs"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("version", ["2.12.0", "2.15.0"])
def test_a_whole_model_of_keras_2_is_imported(tmp_path, capsys, version):
    path = KERAS2 / f"keras-{version}/nested.keras"
    assert run_whole(path, tmp_path, "--data", str(tmp_path / "absent")) == 0
    assert load(tmp_path / "whole/1").manifest.training["saved_by_keras"] == version
    assert "compared with Keras on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lambda", "layer 'lambda' is a keras.layers.Lambda, which is custom code"),
        ("folder", "is a folder, such as a SavedModel; load it with Keras and save it as a file"),
        ("twice", "'base' (Sequential) is called 2 times"),
    ],
)
def test_a_whole_model_that_cannot_be_served_is_refused_in_words(tmp_path, capsys, name, message):
    path = tmp_path / f"{name}.keras"
    images = keras.Input((32, 32, 3))
    x = images
    if name == "folder":
        path.mkdir()
    elif name == "lambda":
        x = L.Lambda(lambda values: values / 255, name="lambda")(images)
    else:
        base = keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(3, 3, padding="same")], name="base")
        x = base(base(images))
    if name != "folder":
        keras.Model(images, L.Dense(3)(L.GlobalAveragePooling2D()(x))).save(path)
    assert run_whole(path, tmp_path / "store", "--data", str(tmp_path / "absent")) == 1
    errors = capsys.readouterr().err
    assert message in errors and "it is not JSON" not in errors
