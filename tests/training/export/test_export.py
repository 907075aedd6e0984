"""Every format gives the served probabilities, or is not written."""

import dataclasses
import functools
import re
import sys
import zipfile
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import onnx
import onnx.reference
import pytest
from keras import layers

from model_store.classifier import Classifier
from model_store.network.layers import LAYERS, ActivationName, Identity
from tests.model_store.network.inert_layers import inert
from tests.model_store.network.keras_models import as_network, chain, keras_values, random_images, randomised, softmax
from training.__main__ import main
from training.errors import TrainingError
from training.export import keras_export, onnx_export
from training.export.export import compare_with_served, export, writer_and_reader
from training.export.formats import CONTRACT, FORMATS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PIXELS = random_images(5)
IMAGES = PIXELS / np.float32(255)
ACTIVATIONS = get_args(ActivationName)
OUT = {name: f"net{format_.suffixes[0]}" for name, format_ in FORMATS.items()}
every_format = pytest.mark.parametrize("name", FORMATS)


def joined(*branches):
    """Six logits to which every branch, a stack of layers on 16×16×6, gives the mean of its six channels."""
    inputs = keras.Input((32, 32, 3))
    start = layers.Conv2D(6, 2, strides=2)(inputs)
    parts = []
    for branch in branches:
        x = start
        for layer in branch:
            x = layer(x)
        parts.append(layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x)
    return keras.Model(inputs, layers.Rescaling(0.4)(layers.Add()(parts)))


def windows():
    """Among them kernels shorter than their stride along one side, where "same" pads the other side only."""
    kernels = [(1, 2), (2, 1), (3, 1), (3, 2), ((3, 1), (1, 2)), ((1, 3), (4, 2)), (3, 4)]
    branches = [[layers.Conv2D(6, *kernel, padding)] for kernel in kernels for padding in ("same", "valid")]
    pools = [(2, 2), (3, 1), (3, 2), ((3, 1), (2, 3))]
    kinds = [
        (kind, padding) for kind in (layers.MaxPooling2D, layers.AveragePooling2D) for padding in ("same", "valid")
    ]
    branches += [[kind(*pool, padding)] for kind, padding in kinds for pool in pools]
    return joined(*branches, [layers.GlobalMaxPooling2D()])


def elementwise():
    branches = []
    for number, (one, other) in enumerate(zip(ACTIVATIONS, reversed(ACTIVATIONS), strict=True)):
        norms = [layers.BatchNormalization(center=number % 2 == 0, scale=number % 4 < 2) for _ in range(2)]
        image = [
            layers.Conv2D(6, 4, strides=4, activation=one, use_bias=number > 2),
            norms[0],
            layers.Activation(other),
        ]
        branches.append([*image, layers.Flatten(), norms[1], layers.Dense(6, activation=one, use_bias=number > 2)])
    branches.append([layers.Dropout(0.5), layers.Rescaling(-2.5, 0.75), layers.Flatten(), layers.Dense(6)])
    branches += [[layers.ReLU(top, slope)] for top in (None, 6.0) for slope in (0.0, 0.3)]
    branches += [[layers.ReLU(1.0, 0.1, threshold=0.25)], [layers.LeakyReLU()], [layers.ELU(0.5)], [layers.Softmax()]]
    branches += [[layers.PReLU()], [layers.PReLU(shared_axes=[1, 2])], [layers.Normalization()]]
    branches.append([layers.Normalization(mean=[0.1] * 6, variance=range(1, 7)), layers.Rescaling([0.5] * 6, 0.1)])
    return joined(*branches)


def convolutions():
    """Of single channels, of groups, dilated, and on shapes that other layers give."""
    branches = [
        [layers.DepthwiseConv2D(3, 2, "same", activation="relu6")],
        [layers.DepthwiseConv2D(1, 2, "same")],
        [layers.DepthwiseConv2D(3, dilation_rate=(1, 2), use_bias=False)],
        [layers.DepthwiseConv2D(2, depth_multiplier=2), layers.Conv2D(6, 3, groups=2)],
        [layers.SeparableConv2D(6, 3, 2, "same", depth_multiplier=2, activation="relu")],
        [layers.Conv2D(6, 3, padding="same", dilation_rate=2)],
        [layers.ZeroPadding2D(((0, 1), (2, 0))), layers.Conv2D(6, 3, 2)],
        [layers.Reshape((8, 32, 6)), layers.Conv2D(6, 3)],
        [layers.GlobalAveragePooling2D(keepdims=True), layers.Dense(6, activation="hard_silu"), layers.Reshape((6,))],
        [layers.GlobalMaxPooling2D(keepdims=True)],
    ]
    return joined(*branches)


def merges():
    inputs = keras.Input((32, 32, 3))
    x, y = (layers.Conv2D(6, 2, strides=2)(inputs) for _ in range(2))
    vector = layers.Dense(6, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    pixel = layers.Reshape((1, 1, 6))(vector)
    parts = [layers.Multiply()([x, vector]), layers.Subtract()([x, y]), layers.Average()([x, y, pixel])]
    parts += [layers.Maximum()([x, pixel]), layers.Minimum()([x, y]), layers.Multiply()([pixel, y])]
    images = layers.Concatenate()([layers.Add()(parts), x])
    ends = [layers.GlobalAveragePooling2D()(images), vector]
    return keras.Model(inputs, layers.Dense(6)(layers.Concatenate()(ends)))


def ending_in_probabilities():
    start = [inert(kind) for kind, layer in LAYERS.items() if issubclass(layer, Identity)]
    head = [layers.GlobalMaxPooling2D(), layers.Dropout(0.5), layers.Dense(4, use_bias=False)]
    return chain(*start, layers.Conv2D(8, 3, activation="relu"), *head, layers.Activation("softmax"))


NETWORKS = (windows, elementwise, convolutions, merges, ending_in_probabilities)


@functools.cache
def network_and_probabilities(build):
    """A network with random weights, and the probabilities Keras gives for PIXELS."""
    keras.utils.clear_session()
    model = randomised(build())
    values = keras_values(model, PIXELS)
    if build is ending_in_probabilities:
        return as_network(model), values
    return as_network(model, "logits", 2.5), softmax(values / 2.5)


@pytest.fixture(scope="module")
def small():
    return network_and_probabilities(ending_in_probabilities)[0]


def test_these_networks_have_every_layer_that_is_served():
    nodes = [node for build in NETWORKS for node in network_and_probabilities(build)[0].architecture.nodes]
    assert {type(node.layer).__name__ for node in nodes} == LAYERS.keys()


@every_format
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_an_exported_network_equals_keras(build, name, tmp_path):
    network, expected = network_and_probabilities(build)
    write, open_written = writer_and_reader(name)
    write(network, tmp_path / OUT[name])
    infer = open_written(tmp_path / OUT[name])
    assert compare_with_served(network, infer) < 1e-5
    for count in (1, 5):
        received = infer(IMAGES[:count])
        assert received.dtype == np.float32
        assert np.abs(received - expected[:count]).max() < 1e-5


@every_format
def test_the_shipped_version_is_exported_from_the_command_line(name, tmp_path, capsys):
    version = ROOT / "model_store/models/cifar10-small/2"
    out = tmp_path / "new" / OUT[name]
    assert main(["export", str(version), "--format", name, "--out", str(out)]) == 0
    assert f"written {out}; it agrees" in capsys.readouterr().out
    assert {path.name for path in out.parent.iterdir()} == {path.name for path in FORMATS[name].files(out)}


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@every_format
def test_the_documents_line_opens_it(name, small, tmp_path, monkeypatch):
    lines = re.findall(r"^    (\S.+)$", (ROOT / "docs/export.md").read_text(encoding="utf-8"), re.MULTILINE)
    line = dict(zip(FORMATS, lines, strict=True))[name]
    packages = {"ort": "onnxruntime", "ov": "openvino", "tf": "tensorflow", "keras": "keras"}
    scope = {short: pytest.importorskip(package) for short, package in packages.items() if f"{short}." in line}
    monkeypatch.chdir(tmp_path)
    export(small, name, Path(OUT[name]))
    probabilities = np.asarray(eval(line, scope | {"images": IMAGES}))
    assert np.allclose(probabilities, served(small), atol=0.02)  # bfloat16 where OpenVINO chooses it


def served(network):
    return Classifier(network, precision="float32").predict(PIXELS).probabilities


def test_onnx_means_the_same_to_its_reference_implementation():
    for build in NETWORKS[:-1]:
        network, expected = network_and_probabilities(build)
        model = onnx_export.build_onnx(network)
        received = onnx.reference.ReferenceEvaluator(model).run(None, {"images": IMAGES[:1]})[0]
        assert np.abs(received - expected[:1]).max() < 1e-5


def test_an_onnx_file_asks_for_no_newer_runtime_than_it_needs(small):
    model = onnx_export.build_onnx(small)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 14)]
    assert model.ir_version == 7


def test_a_keras_file_holds_stock_layers_only(small, tmp_path):
    export(small, "keras", tmp_path / "net.keras")
    config = zipfile.ZipFile(tmp_path / "net.keras").read("config.json").decode()
    assert set(re.findall(r'"registered_name": ("\w+"|null)', config)) == {'"Functional"', "null"}
    modules = {"keras", "keras.layers", "keras.initializers", "keras.src.models.functional"}
    assert set(re.findall(r'"module": "([\w.]+)"', config)) <= modules


@every_format
def test_out_must_have_the_formats_ending(name, small, tmp_path):
    wrong = "net.onnx" if name != "onnx" else "net"
    with pytest.raises(TrainingError, match=re.escape(str(FORMATS[name]))):
        export(small, name, tmp_path / wrong)
    assert not list(tmp_path.iterdir())


@every_format
def test_nothing_is_written_over(name, small, tmp_path):
    there = FORMATS[name].files(tmp_path / OUT[name])[-1]
    there.write_text("mine")
    with pytest.raises(TrainingError, match=f"{there.name} exists already"):
        export(small, name, tmp_path / OUT[name])
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_a_directory_may_have_a_dot_in_its_name():
    assert FORMATS["saved_model"].files(Path("a/net.v1")) == [Path("a/net.v1")]
    assert FORMATS["openvino"].files(Path("a/net.v1.xml")) == [Path("a/net.v1.xml"), Path("a/net.v1.bin")]


def test_a_network_whose_numbers_differ_is_not_left_behind(small, tmp_path):
    not_a_number = {name: np.full_like(array, np.nan) for name, array in small.weights["dense"].items()}
    broken = dataclasses.replace(small, weights=small.weights | {"dense": not_a_number})
    with pytest.raises(TrainingError, match="differ by nan"):
        export(broken, "openvino", tmp_path / "net.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows + np.float32(2e-4), "differ by"),
        (lambda rows: rows * np.float32("nan"), "differ by nan"),
        (lambda rows: rows.astype(np.float64), "float64"),
        (lambda rows: rows[:, :3], r"\(64, 3\)"),
    ],
    ids=["over the tolerance", "nan", "another type", "a class less"],
)
def test_a_reader_is_held_to_the_contract(small, change, message):
    def infer(images):
        pixels = np.rint(images * 255).astype(np.uint8)
        return change(Classifier(small, precision="float32").predict(pixels).probabilities)

    with pytest.raises(TrainingError, match=message):
        compare_with_served(small, infer)


def test_a_folder_that_cannot_be_written_is_an_error_of_the_job(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        export(small, "openvino", tmp_path / "file" / "net.xml")


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_an_error_of_the_job_and_leaves_nothing(name, small, tmp_path, full_disk):
    with full_disk(), pytest.raises(TrainingError, match="cannot be written"):
        export(small, name, tmp_path / OUT[name])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_remedy(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "training.export.onnx_export")
    monkeypatch.delattr("training.export.onnx_export")
    with pytest.raises(TrainingError, match=r"onnx.*requirements/training.txt|requirements/training.txt.*onnx"):
        export(small, "onnx", tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["saved_model", "litert"])
def test_tensorflows_formats_need_its_backend(name, small, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_export.keras.backend, "backend", lambda: "jax")
    with pytest.raises(TrainingError, match="KERAS_BACKEND=tensorflow"):
        export(small, name, tmp_path / OUT[name])


def test_help_states_the_contract(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert CONTRACT in shown
    assert all(f"{name}: {format_}" in shown for name, format_ in FORMATS.items())


def test_every_format_is_documented_and_no_other_is():
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(FORMATS)
    assert " ".join(CONTRACT.split()) in " ".join(text.replace("`", "").split())
