"""Every dialect gives the network that the Keras which wrote it computed; what is not served is refused in words."""

import contextlib
import copy
import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import ModelError
from model_store.manifest import Preprocessing
from model_store.network.model import Network
from tests.model_store.network.keras_models import served, softmax
from training.publish.keras_files import read_keras_json, read_keras_weights

KERAS2 = Path(__file__).parent / "keras2"  # made by keras2/make.py
AS_THE_NOTEBOOK = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
NOTEBOOK = json.loads((KERAS2 / "keras-2.12.0/notebook.json").read_text())
NORMED = json.loads((KERAS2 / "keras-2.15.0/normed.json").read_text())
RESIDUAL = json.loads((KERAS2 / "keras-2.12.0/residual.json").read_text())
WEIGHTS = (KERAS2 / "keras-2.12.0/notebook.h5").read_bytes()
KERNEL = "conv2d/conv2d/kernel:0"


def parse(document):
    return read_keras_json(json.dumps(document).encode())[0]


def changed(edit, document=NOTEBOOK):
    copied = copy.deepcopy(document)
    edit(copied)
    return copied


def config(document, name):
    return next(entry["config"] for entry in document["config"]["layers"] if entry["config"].get("name") == name)


def with_config(name, /, document=NOTEBOOK, **attributes):
    return changed(lambda copied: config(copied, name).update(attributes), document)


def with_entry(index, /, document=NOTEBOOK, **keys):
    return changed(lambda copied: copied["config"]["layers"][index].update(keys), document)


def with_model(**keys):
    return changed(lambda document: document.update(keys))


def without_input_layer(document):
    del document["config"]["layers"][0]


def with_shape_beside_the_layers(document):
    del document["config"]["layers"][0]
    document["config"]["build_input_shape"] = document["config"]["layers"][0]["config"].pop("batch_input_shape")


def edited(edit) -> bytes:
    """The real weights after an edit by h5py."""
    buffer = io.BytesIO(WEIGHTS)
    with h5py.File(buffer, "r+") as file:
        edit(file)
    return buffer.getvalue()


def replaced(path, value):
    def edit(file):
        del file[path]
        file[path] = value

    return edit


@pytest.mark.parametrize(
    ("architecture", "weights"),
    [
        ("keras-2.1.6/normed.json", "keras-2.1.6/normed.h5"),
        ("keras-2.12.0/notebook.json", "keras-2.12.0/notebook.h5"),
        ("keras-2.15.0/notebook.json", "keras-2.12.0/notebook.h5"),
        ("keras-2.12.0/normed.json", "keras-2.15.0/normed.whole.h5"),
        ("keras-2.15.0/normed.json", "keras-2.15.0/normed.whole.h5"),
        ("keras-2.12.0/residual.json", "keras-2.15.0/residual.weights.h5"),
        ("keras-2.15.0/residual.json", "keras-2.15.0/residual.weights.h5"),
    ],
)
def test_the_network_gives_what_keras_2_gave(architecture, weights):
    parsed, version = read_keras_json((KERAS2 / architecture).read_bytes())
    assert architecture.startswith(f"keras-{version}/")
    arrays = read_keras_weights((KERAS2 / weights).read_bytes(), parsed)
    with np.load((KERAS2 / weights).with_name(Path(weights).name.split(".")[0] + ".npz")) as file:
        images, expected = file["images"], file["outputs"]
    labels = tuple(map(str, range(parsed.classes)))
    # As "probabilities", so that nothing is done after the last layer.
    received = served(Network(parsed, arrays, labels, AS_THE_NOTEBOOK, "probabilities"), images)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(softmax(expected), axis=0).max() > 1e-3  # the images can be told apart at all


@pytest.mark.parametrize(
    ("document", "original"),
    [
        (with_model(backend="jax"), NOTEBOOK),
        (json.dumps(NOTEBOOK), NOTEBOOK),
        (with_entry(1, module="tf_keras.layers", registered_name="Conv2D"), NOTEBOOK),
        (with_entry(1, module="keras.src.layers.convolutional.conv2d", registered_name=None), NOTEBOOK),
        (with_config("conv2d_input", batch_input_shape=[64, 32, 32, 3]), NOTEBOOK),
        (with_config("dense", dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}), NOTEBOOK),
        (with_config("dense", activation=None), NOTEBOOK),
        (with_config("dense", kernel_initializer={"class_name": "Lambda", "config": {"code": "…"}}), NOTEBOOK),
        (changed(lambda document: config(document, "conv2d").pop("groups")), NOTEBOOK),
        (with_entry(2, NORMED, class_name="BatchNormalizationV1"), NORMED),
        (with_config("batch_normalization", NORMED, axis=-1), with_config("batch_normalization", NORMED, axis=[-1])),
        (with_config("re_lu", RESIDUAL, negative_slope=0), RESIDUAL),
        (changed(lambda document: document.update(class_name="Model"), RESIDUAL), RESIDUAL),
    ],
    ids=[
        "jax", "quoted twice", "tf_keras", "keras.src", "fixed batch", "mixed policy", "no activation", "initializer",
        "before groups", "TensorFlow 1", "axis as list", "slope as int", "Model",
    ],
)  # fmt: skip
def test_dialects_of_one_network_are_one_network(document, original):
    assert parse(document) == parse(original)


@pytest.mark.parametrize("edit", [without_input_layer, with_shape_beside_the_layers])
def test_an_input_layer_is_made_where_a_dialect_has_none(edit):
    first, *rest = parse(changed(edit)).nodes
    assert (type(first.layer).__name__, first.shape) == ("InputLayer", (32, 32, 3))
    assert [node.layer for node in rest] == [node.layer for node in parse(NOTEBOOK).nodes[1:]]


def test_old_names_of_functions_are_todays():
    for old, new in {"swish": "silu", "softmax_v2": "softmax", "gelu": "gelu"}.items():
        assert parse(with_config("dense", activation=old)).nodes[-5].layer.activation == new


def test_the_notebooks_full_size_has_its_parameters():
    def widen(document):
        for entry in document["config"]["layers"]:
            sizes = {("filters", 3): 32, ("filters", 4): 64, ("units", 7): 512}
            entry["config"].update({key: sizes.get((key, value), value) for key, value in _numbers(entry["config"])})

    assert parse(changed(widen)).parameters == 1_676_842


def _numbers(values):
    return [(key, value) for key, value in values.items() if isinstance(value, int)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "it is not JSON"),
        (["Sequential"], "it is JSON, but not an object"),
        ({"class_name": "Sequential"}, "it describes a 'Sequential'; only Sequential and functional models"),
        (with_model(class_name="Bidirectional"), "it describes a 'Bidirectional'"),
        (with_model(backend="theano"), "it was saved on 'theano', where some layers compute other numbers"),
        (with_model(config=[]), "2 to 1,000 layers"),
        (with_model(config=[7]), "a layer is not an object with a class_name and a named config: 7"),
        (with_entry(1, class_name="Lambda"), "layer 'conv2d' is a Lambda, which cannot be imported"),
        (with_entry(1, class_name="Sequential"), "layer 'conv2d' is a Sequential, which cannot be imported"),
        (with_entry(1, registered_name="ours>Conv2D"), "layer 'conv2d' is a ours>Conv2D, which cannot"),
        (with_entry(1, module="os", class_name="system"), "layer 'conv2d' is a os.system, which cannot be imported"),
        (with_config("conv2d", name="a/b"), "a layer is named 'a/b'; name it with ASCII letters"),
        (with_config("conv2d", name="\ud800"), "a layer is named"),
        (with_config("conv2d", filters=10**9), "layer 'conv2d' (Conv2D): attribute 'filters' is '1000000000'"),
        (with_config("conv2d", filters=60_000), "layer 'conv2d' has an output of (32, 32, 60000), over the limit"),
        (with_config("conv2d", data_format="channels_first"), "attribute 'data_format' is 'channels_first'"),
        (with_config("conv2d", unheard_of=1), "attribute 'unheard_of' is '1'"),
        (with_config("dense", activation="glu"), "attribute 'activation' is 'glu'"),
        (with_config("dense", activation={"class_name": "f"}), "attribute 'activation'"),
        (with_config("dropout", rate="much"), "layer 'dropout' (Dropout) has rate much, it must be a number"),
        (with_config("re_lu", RESIDUAL, max_value=6), "layer 're_lu' (ReLU) has max_value 6; only None is served"),
        (with_config("conv2d_input", batch_input_shape=[None, 8, 28, 1]), "input is [None, 8, 28, 1], it must be"),
        (changed(lambda document: [without_input_layer(document), without_input_layer(document)]), "input is None"),
        (with_entry(1, RESIDUAL, inbound_nodes=[[["input_1", 0, 0, {"mask": "x"}]]]), "arguments other than tensors"),
        (with_entry(1, RESIDUAL, inbound_nodes=[[["input_1"]]]), "must be called once"),
        (with_entry(1, RESIDUAL, inbound_nodes=[[["add", 0, 0, {}]]]), "reads 'add', which does not come before it"),
    ],
)
def test_what_is_not_served_is_refused_in_words(document, message):
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(ModelError) as caught:
        read_keras_json(text.encode())
    assert message in str(caught.value)


def test_deep_nesting_is_refused():
    with pytest.raises(ModelError):
        read_keras_json(b'{"a":' * 100_000)
    with pytest.raises(ModelError):
        read_keras_json(b"[" * 900 + b"]" * 900)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_name", "config"]), inner),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([NOTEBOOK, NORMED, RESIDUAL]), st.randoms(use_true_random=False), JSON)
def test_whatever_stands_anywhere_in_a_document_nothing_else_is_raised(document, random, value):
    copied = copy.deepcopy(document)
    place = copied
    while True:
        key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not (isinstance(place[key], dict | list) and place[key]) or random.random() < 0.2:
            break
        place = place[key]
    place[key] = value
    with contextlib.suppress(ModelError):
        parse(copied)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04", "cannot be read as an HDF5 file"),
        (edited(lambda file: file.__delitem__(KERNEL)), "has no kernel of layer 'conv2d'"),
        (edited(lambda file: file.move("dense", "dense_7")), "has no kernel of layer 'dense'"),
        (edited(lambda file: file.move(KERNEL, "dense_7/gamma:0")), "has no kernel of layer 'conv2d'"),
        (edited(lambda file: file.__setitem__("dense_7/dense_7/bias:0", [1.0])), "'bias' of layer 'dense_7', which"),
        (edited(lambda file: file.__setitem__("loose", [1.0])), "which the architecture lacks"),
        (edited(lambda file: file.__setitem__("conv2d/again/kernel:0", [1.0])), "kernel of layer 'conv2d' twice"),
        (edited(replaced(KERNEL, np.zeros((3, 3, 3, 4), "float32"))), "'conv2d' is float32 (3, 3, 3, 4)"),
        (edited(replaced(KERNEL, np.zeros((3, 3, 3, 3)))), "kernel of layer 'conv2d' is float64"),
        (edited(replaced(KERNEL, np.full((3, 3, 3, 3), np.nan, "float32"))), "not finite"),
        (edited(replaced(KERNEL, h5py.SoftLink("/conv2d_1"))), "is a soft or external link"),
        (edited(replaced(KERNEL, h5py.ExternalLink("/etc/hosts", "/"))), "is a soft or external link"),
        (edited(replaced("conv2d", h5py.ExternalLink("/etc/hosts", "/"))), "is a soft or external link"),
        (edited(lambda file: file.__setitem__("_layer_checkpoint_dependencies/x/vars/0", [1.0])), "as only Keras 2.12"),
    ],
    ids=[
        "no HDF5", "missing", "other layer", "other weight", "extra", "at the top", "twice", "shape", "type", "NaN",
        "soft link", "external link", "linked group", "Keras 2.12's own",
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(content, message):
    with pytest.raises(ModelError) as caught:
        read_keras_weights(content, parse(NOTEBOOK))
    assert message in str(caught.value)


def test_an_optimizers_state_is_left_out():
    def as_whole_model(file):
        for name in list(file):
            file.move(name, f"model_weights/{name}")
        file["optimizer_weights/RMSprop/conv2d/kernel/rms:0"] = np.zeros(3)

    received, expected = (read_keras_weights(data, parse(NOTEBOOK)) for data in (edited(as_whole_model), WEIGHTS))
    for layer, arrays in expected.items():
        for weight, array in arrays.items():
            np.testing.assert_array_equal(received[layer][weight], array)
