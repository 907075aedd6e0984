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
from training.publish.import_preprocessing import as_preprocessing
from training.publish.keras_files.archive import read_model_file
from training.publish.keras_files.network import read_keras_json, read_keras_weights

KERAS2 = Path(__file__).parents[1] / "keras2"  # made by keras2/make.py
AS_THE_NOTEBOOK = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
NOTEBOOK = json.loads((KERAS2 / "keras-2.12.0/notebook.json").read_text())
NORMED = json.loads((KERAS2 / "keras-2.15.0/normed.json").read_text())
RESIDUAL = json.loads((KERAS2 / "keras-2.12.0/residual.json").read_text())
WEIGHTS = (KERAS2 / "keras-2.12.0/notebook.h5").read_bytes()
KERNEL = "conv2d/conv2d/kernel:0"


def read(document):
    return read_keras_json(json.dumps(document).encode())


def parse(document):
    return read(document).architecture


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
    read = read_keras_json((KERAS2 / architecture).read_bytes())
    assert architecture.startswith(f"keras-{read.version}/")
    found = read_keras_weights((KERAS2 / weights).read_bytes(), read)
    check(read, found, AS_THE_NOTEBOOK, (KERAS2 / weights).with_name(Path(weights).name.split(".")[0] + ".npz"))


def check(read, found, preprocessing, outputs):
    with np.load(outputs) as file:
        images, expected = file["images"], file["outputs"]
    labels = tuple(map(str, range(read.architecture.classes)))
    # As "probabilities", so that nothing is done after the last layer.
    network = Network(read.architecture, found.weights, labels, preprocessing, "probabilities")
    np.testing.assert_allclose(served(network, images), expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(softmax(expected), axis=0).max() > 1e-3  # the images can be told apart at all


@pytest.mark.parametrize("version", ["2.12.0", "2.15.0"])
def test_a_whole_model_of_keras_2_gives_what_it_gave(version):
    path = KERAS2 / f"keras-{version}/nested.keras"
    file = read_model_file(path.read_bytes())
    read = read_keras_json(file.document, file.version)
    found = read_keras_weights(file.weights, read)
    assert read.version == version
    assert read.left_out == ("random_flip (RandomFlip)", "spatial_dropout2d (SpatialDropout2D)")
    assert [call.name for call in read.scaling] == ["normalization"]
    check(read, found, as_preprocessing(found.scaling, 32, 32), path.with_suffix(".npz"))


def test_nested_models_of_keras_2_are_read_by_name():
    folder = KERAS2 / "keras-2.12.0"
    read = read_keras_json((folder / "nested.json").read_bytes())
    found = read_keras_weights((folder / "nested.h5").read_bytes(), read)
    assert not found.by_order
    check(read, found, as_preprocessing(found.scaling, 32, 32), folder / "nested.npz")


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
        (with_model(config=[]), "the network's input is None, it must be"),
        (with_model(config=[7]), "a layer is not an object with a class_name and a named config: 7"),
        (with_entry(1, class_name="Lambda"), "layer 'conv2d' is a Lambda, which is custom code"),
        (with_entry(1, class_name="Sequential"), "layer 'conv2d' is a Sequential, which is custom"),
        (with_entry(1, registered_name="ours>Conv2D"), "layer 'conv2d' is a ours>Conv2D, which is custom code"),
        (with_entry(1, module="os", class_name="system"), "layer 'conv2d' is a os.system, which is custom code"),
        (with_entry(1, class_name="LSTM"), "layer 'conv2d' is a LSTM, which is not served yet"),
        (with_config("conv2d", name="a b"), "a layer is named 'a b'; name it with at most 200 ASCII letters"),
        (with_config("dense", activation="hard_sigmoid"), "has the activation 'hard_sigmoid' of Keras 2, 0.2 x + 0.5"),
        (with_config("conv2d", name="\ud800"), "a layer is named"),
        (with_config("conv2d", filters=10**9), "layer 'conv2d' (Conv2D): attribute 'filters' is '1000000000'"),
        (with_config("conv2d", filters=60_000), "layer 'conv2d' has an output of (32, 32, 60000), over the limit"),
        (with_config("conv2d", data_format="channels_first"), "attribute 'data_format' is 'channels_first'"),
        (with_config("conv2d", unheard_of=1), "attribute 'unheard_of' is '1'"),
        (with_config("dense", activation="glu"), "attribute 'activation' is 'glu'"),
        (with_config("dense", activation={"class_name": "f"}), "attribute 'activation'"),
        (with_config("dropout", rate="much"), "layer 'dropout' (Dropout) has rate much, it must be a number"),
        (
            with_config("conv2d_input", batch_input_shape=[None, 8, 28, 1]),
            "(InputLayer): attribute 'batch_shape.1' is '8'",
        ),
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
        (edited(lambda file: file.__setitem__("_layer_checkpoint_dependencies/x/vars/0", [1.0])), "has no kernel of"),
        (edited(lambda file: file.__setitem__("_layer_checkpoint_dependencies/\n/vars/0", [1.0])), "the architecture"),
    ],
    ids=[
        "no HDF5", "missing", "other layer", "other weight", "extra", "at the top", "twice", "shape", "type", "NaN",
        "soft link", "external link", "linked group", "Keras 2.12's own", "a line in a name",
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(content, message):
    with pytest.raises(ModelError) as caught:
        read_keras_weights(content, read(NOTEBOOK))
    assert message in str(caught.value)


def test_an_optimizers_state_is_left_out():
    def as_whole_model(file):
        for name in list(file):
            file.move(name, f"model_weights/{name}")
        file["optimizer_weights/RMSprop/conv2d/kernel/rms:0"] = np.zeros(3)

    received, expected = (
        read_keras_weights(data, read(NOTEBOOK)).weights for data in (edited(as_whole_model), WEIGHTS)
    )
    for layer, arrays in expected.items():
        for weight, array in arrays.items():
            np.testing.assert_array_equal(received[layer][weight], array)


def test_all_layers_that_are_not_served_are_named_at_once():
    def spoil(document):
        entries = document["config"]["layers"]
        entries[1].update(class_name="Lambda")
        for entry in entries[2:]:
            entry["class_name"] = "LSTM"

    with pytest.raises(ModelError) as caught:
        read(changed(spoil))
    lines = str(caught.value).splitlines()
    assert lines[0] == "18 of its layers cannot be served:"
    assert "pass --mean, --std and --channel-order" in lines[1]
    assert (len(lines), lines[-1]) == (12, "  and 8 more")


def test_a_layer_behind_one_that_cannot_be_read_is_named_too():
    document = changed(lambda document: document["config"]["layers"][-1].update(class_name="LSTM"), RESIDUAL)
    document["config"]["layers"][1]["inbound_nodes"] = []
    with pytest.raises(ModelError, match=r"(?s)is called 0 times.*is a LSTM"):
        read(document)


def scaled(*entries, shape=(None, 32, 32, 3)):
    """A network whose pixels these layers scale."""
    images = {"class_name": "InputLayer", "config": {"name": "images", "batch_shape": list(shape)}}
    last = {"class_name": "Dense", "config": {"name": "dense", "units": 3}}
    flat = {"class_name": "Flatten", "config": {"name": "flatten"}}
    return {
        "class_name": "Sequential",
        "keras_version": "3.0.0",
        "config": {"name": "net", "layers": [images, *entries, flat, last]},
    }


def rescaling(index, scale=2.0):
    return {"class_name": "Rescaling", "config": {"name": f"r{index}", "scale": scale, "offset": 0.0}}


def normalization(mean, variance):
    return {
        "class_name": "Normalization",
        "config": {"name": "n", "axis": -1, "mean": mean, "variance": variance, "invert": False},
    }


def test_layers_of_one_name_get_names_of_their_own():
    read = parse(scaled(*({"class_name": "ReLU", "config": {"name": "same"}} for _ in range(900))))
    assert len({node.layer.name for node in read.nodes}) == 903


def test_a_long_chain_of_scaling_layers_is_taken_off():
    assert len(read(scaled(*(rescaling(index) for index in range(9_000)))).scaling) == 9_000


def test_a_number_of_channels_that_is_no_integer_is_no_reason_to_fail():
    assert parse(scaled(rescaling(0), shape=(None, 32, 32, 3.0))).input == (32, 32, 3)


def test_a_network_of_idle_layers_is_refused():
    idle = {"class_name": "RandomFlip", "config": {"name": "flip"}, "inbound_nodes": []}
    document = {"class_name": "Functional", "config": {"name": "net", "layers": [idle]}}
    document["config"] |= {"input_layers": [["flip", 0, 0]], "output_layers": [["flip", 0, 0]]}
    with pytest.raises(ModelError, match="none of its layers computes anything"):
        read(document)


def without_weights(document):
    """Read the scaling of a network, with weights of zeros for its Dense."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((32 * 32 * 3, 3), "float32")
        file["layers/dense/vars/1"] = np.zeros(3, "float32")
    return read_keras_weights(buffer.getvalue(), read(document)).scaling


def test_a_normalization_that_cannot_be_computed_is_refused():
    with pytest.raises(ModelError, match=r"layer 'n' \(Normalization\) has a variance below zero"):
        without_weights(scaled(normalization([1.0, 2.0, 3.0], [1.0, -1.0, 1.0])))


def test_statistics_that_keras_wrote_as_an_array_are_read():
    mean = {"class_name": "__numpy__", "config": {"value": [1.0, 2.0, 3.0], "dtype": "float32"}}
    scaling = without_weights(scaled(normalization(mean, [4.0, 4.0, 4.0])))
    np.testing.assert_allclose([scaling.scale, scaling.offset], [[0.5] * 3, [-0.5, -1.0, -1.5]])


def test_what_a_message_quotes_is_short_and_in_one_line():
    for kind in ("\x1b[2J\nerror: all fine", "x" * 10_000):
        with pytest.raises(ModelError) as caught:
            read(scaled({"class_name": kind, "config": {"name": "odd"}}))
        assert str(caught.value).isprintable() and len(str(caught.value)) < 300
    with pytest.raises(ModelError) as caught:
        read(scaled({"class_name": "ReLU", "config": {"name": "x" * 10_000}}))
    assert "at most 200" in str(caught.value) and len(str(caught.value)) < 300


def test_slashes_of_names_become_dots():
    names = [node.layer.name for node in parse(with_config("conv2d", name="Conv/1")).nodes]
    assert names[1] == "Conv.1"


def renamed(file):
    """Rename layers as another session of Keras would number them."""
    names = [name.decode() if isinstance(name, bytes) else name for name in file.attrs["layer_names"]]
    for name in names:
        weights = [
            str(weight, "ascii") if isinstance(weight, bytes) else weight for weight in file[name].attrs["weight_names"]
        ]
        file.move(name, f"{name}_new")
        for weight in weights:
            file.move(f"{name}_new/{weight}", f"{name}_new/{weight.replace(name, name + '_new')}")
        file[f"{name}_new"].attrs["weight_names"] = [weight.replace(name, name + "_new") for weight in weights]
    file.attrs["layer_names"] = [f"{name}_new" for name in names]


def test_layers_of_other_names_are_matched_in_order():
    found = read_keras_weights(edited(renamed), read(NOTEBOOK))
    expected = read_keras_weights(WEIGHTS, read(NOTEBOOK))
    assert (found.by_order, expected.by_order) == (True, False)
    for layer, arrays in expected.weights.items():
        np.testing.assert_array_equal(found.weights[layer]["kernel"], arrays["kernel"])


def test_a_group_in_the_place_of_a_weight_is_refused():
    def edit(file):
        renamed(file)
        file["dense_new"].attrs["weight_names"] = ["dense_new"]

    with pytest.raises(ModelError, match="has no kernel of layer"):
        read_keras_weights(edited(edit), read(NOTEBOOK))


def test_layers_of_other_names_and_shapes_are_not_matched():
    document = changed(lambda document: config(document, "conv2d_2").update(filters=5))
    with pytest.raises(ModelError, match="the weights file has no kernel of layer 'conv2d'"):
        read_keras_weights(edited(renamed), read(document))
