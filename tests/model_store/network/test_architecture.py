"""Stock architectures are served; every other document is refused with the layer and the value received."""

import copy
import json

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from model_store.errors import ModelError
from model_store.network import architecture
from model_store.network.architecture import Architecture, parse_architecture
from model_store.network.layers import LAYERS
from tests.model_store.network.keras_models import chain


def functional():
    """A real model with a branch that joins again."""
    keras.utils.clear_session()
    inputs = keras.Input((32, 32, 3), name="images")
    x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    y = layers.Conv2D(4, 1, activation="silu", name="second")(x)
    x = layers.Add(name="join")([x, y])
    x = layers.Dropout(0.1, name="drop")(layers.MaxPooling2D(2, name="pool")(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D(name="mean")(x)))


def sequential():
    keras.utils.clear_session()
    return chain(layers.Conv2D(4, 3, name="first"), layers.Flatten(name="flat"), layers.Dense(3, name="head"))


FUNCTIONAL = json.loads(functional().to_json())
SEQUENTIAL = json.loads(sequential().to_json())


def parse(document) -> Architecture:
    return parse_architecture(json.dumps(document))


def changed(edit, document=FUNCTIONAL):
    copied = copy.deepcopy(document)
    edit(copied)
    return copied


def entry(document, name):
    return next(item for item in document["config"]["layers"] if item["config"]["name"] == name)


def with_config(name, /, **attributes):
    return changed(lambda document: entry(document, name)["config"].update(attributes))


def with_entry(name, /, **keys):
    return changed(lambda document: entry(document, name).update(keys))


def tensor(name, node=0, index=0):
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "", "keras_history": [name, node, index]},
    }


def reading(name, *sources, **kwargs):
    return with_entry(name, inbound_nodes=[{"args": [tensor(source) for source in sources], "kwargs": kwargs}])


def moved(name, place):
    def move(document):
        items = document["config"]["layers"]
        item = entry(document, name)
        items.remove(item)
        items.insert(place, item)

    return changed(move)


def added(item):
    return changed(lambda document: document["config"]["layers"].insert(3, item))


def of(*stack):
    """The document of a real Sequential model."""
    return json.loads(chain(*stack).to_json())


@keras.saving.register_keras_serializable(package="ours")
class Doubled(layers.Layer):
    def call(self, inputs):
        return inputs * 2


@keras.saving.register_keras_serializable(package="ours")
class Conv2D(layers.Conv2D):
    """Named as a layer that is served, and not that layer."""


def two_inputs():
    inputs = [keras.Input((32, 32, 3), name=name) for name in ("left", "right")]
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Add()(inputs))))


def two_outputs():
    inputs = keras.Input((32, 32, 3))
    flat = layers.Flatten()(inputs)
    return keras.Model(inputs, [layers.Dense(2)(flat), layers.Dense(2)(flat)])


def called_twice():
    inputs = keras.Input((32, 32, 3))
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    return keras.Model(inputs, layers.Flatten()(twice(twice(inputs))))


def nested():
    return of(keras.Sequential([layers.Conv2D(2, 3)], name="inner"), layers.Flatten())


def vector_of(layer, class_name=None, **attributes):
    """A vector of 3,072 values read by a layer with other attributes, or of another class."""
    document = of(layers.Flatten(), layer)
    item = entry(document, layer.name)
    item["config"].update(attributes)
    item["class_name"] = class_name or item["class_name"]
    return document


def joined(axis, strides=1):
    """Two images 32×32×3, one of them perhaps smaller by then, concatenated."""
    inputs = keras.Input((32, 32, 3))
    y = layers.Conv2D(3, 1, name="other")(inputs)
    model = keras.Model(inputs, layers.Flatten()(layers.Concatenate(axis, name="join")([inputs, y])))
    model.get_layer("other").strides = (strides, strides)
    return model


def real(build):
    return json.loads(build().to_json())


def test_what_keras_writes_for_a_functional_model_is_admitted():
    parsed = parse(FUNCTIONAL)
    names = [node.layer.name for node in parsed.nodes]
    assert names == ["images", "first", "norm", "second", "join", "pool", "drop", "mean", "head"]
    assert {node.layer.name: node.inputs for node in parsed.nodes}["join"] == ("norm", "second")
    assert {node.layer.name: node.shape for node in parsed.nodes}["pool"] == (16, 16, 4)
    assert parsed.classes == 10
    assert parsed.parameters == functional().count_params()
    assert parsed.multiply_adds == 32 * 32 * 4 * (27 + 4) + 4 * 10


def test_what_keras_writes_for_a_sequential_model_is_admitted():
    parsed = parse(SEQUENTIAL)
    assert [node.inputs for node in parsed.nodes] == [(), (parsed.nodes[0].layer.name,), ("first",), ("flat",)]
    assert [node.shape for node in parsed.nodes] == [(32, 32, 3), (30, 30, 4), (3600,), (3,)]
    assert parsed.parameters == sequential().count_params()


def test_bytes_are_read_as_text_is():
    assert parse_architecture(json.dumps(SEQUENTIAL).encode()) == parse(SEQUENTIAL)


@pytest.mark.parametrize(
    "stack",
    [
        pytest.param([layers.Conv2D(2, 3, trainable=False), layers.Flatten()], id="frozen"),
        pytest.param([layers.Conv2D(2, 3, kernel_regularizer="l2"), layers.Flatten()], id="regularised"),
        pytest.param([layers.Conv2D(2, 3, kernel_constraint="max_norm"), layers.Flatten()], id="constrained"),
        pytest.param([layers.BatchNormalization(axis=3), layers.Flatten()], id="last axis by number"),
        pytest.param([layers.BatchNormalization(momentum=0.6), layers.Flatten()], id="momentum"),
        pytest.param([layers.Dropout(0.3, noise_shape=(1, 1, 3)), layers.Flatten()], id="dropout noise"),
        pytest.param([layers.Flatten(dtype="float32")], id="dtype by name"),
        pytest.param([layers.RandomFlip("vertical"), layers.Flatten()], id="augmentation"),
        pytest.param([layers.Dense(4), layers.Flatten()], id="dense on every pixel"),
    ],
)
def test_what_only_matters_in_training_is_admitted(stack):
    assert parse(of(*stack)).nodes[-1].shape[0] > 0


REFUSED = {
    "Lambda": (lambda: with_entry("pool", class_name="Lambda"), ["'pool'", "Lambda", "not served"]),
    "LSTM": (lambda: of(layers.Reshape((32, 96)), layers.LSTM(4, name="rows")), ["'rows'", "LSTM", "not served"]),
    "transposed": (
        lambda: of(layers.Conv2DTranspose(3, 3, name="wide"), layers.Flatten()),
        ["'wide'", "Conv2DTranspose", "Activation"],
    ),
    "relu below zero": (
        lambda: vector_of(layers.ReLU(name="clip"), max_value=-1),
        ["'clip'", "max_value", "-1"],
    ),
    "prelu axes": (lambda: vector_of(layers.PReLU(name="slope"), shared_axes=[2]), ["'slope'", "shared_axes [2]"]),
    "softmax axis": (lambda: of(layers.Softmax(1, name="rows"), layers.Flatten()), ["'rows'", "axis 1"]),
    "normalization axis": (
        lambda: of(layers.Normalization((1, 3), name="norm"), layers.Flatten()),
        ["'norm'", "axis [1, 3]"],
    ),
    "normalization inverted": (
        lambda: of(layers.Normalization(invert=True, name="norm"), layers.Flatten()),
        ["'norm'", "invert", "True"],
    ),
    "normalization of other channels": (
        lambda: vector_of(layers.Normalization(mean=[0.0], variance=[1.0], name="norm"), mean=[0.0, 1.0]),
        ["'norm'", "2 values of mean for 3072 channels"],
    ),
    "mean without variance": (
        lambda: vector_of(layers.Normalization(mean=[0.0], variance=[1.0], name="norm"), variance=None),
        ["'norm'", "mean and variance"],
    ),
    "negative variance": (
        lambda: vector_of(layers.Normalization(mean=[0.0], variance=[1.0], name="norm"), variance=[-1.0]),
        ["'norm'", "variance"],
    ),
    "reshape to rows": (
        lambda: vector_of(layers.Reshape((32, 96), name="rows")),
        ["'rows'", "Reshape", "[32, 96]"],
    ),
    "reshape to another size": (lambda: vector_of(layers.Reshape((-1,), name="map"), target_shape=[7, -1]), ["'map'"]),
    "concatenation axis": (lambda: real(lambda: joined(axis=1)), ["'join'", "axis 1"]),
    "concatenation of unequal sides": (lambda: real(lambda: joined(strides=2, axis=-1)), ["'join'", "same height"]),
    "difference of one": (
        lambda: vector_of(layers.Identity(name="less"), class_name="Subtract"),
        ["'less'", "two inputs, not 1"],
    ),
    "registered": (lambda: of(Doubled(name="mine"), layers.Flatten()), ["'mine'", "Doubled"]),
    "registered under a served name": (lambda: of(Conv2D(4, 3, name="mine"), layers.Flatten()), ["'mine'"]),
    "nested model": (nested, ["'inner'", "Sequential"]),
    "class name is a list": (lambda: with_entry("pool", class_name=["Add"]), ["'pool'", "Add"]),
    "module": (lambda: with_entry("pool", module="os"), ["'pool'", "os"]),
    "dilation": (lambda: with_config("first", dilation_rate=[0, 2]), ["'first'", "dilation_rate", "0"]),
    "dilation and strides": (
        lambda: with_config("first", dilation_rate=[2, 2], strides=[2, 2]),
        ["'first'", "dilation_rate", "strides"],
    ),
    "depthwise strides": (
        lambda: of(layers.DepthwiseConv2D(3, (1, 2), name="deep"), layers.Flatten()),
        ["'deep'", "equal strides"],
    ),
    "groups": (lambda: with_config("first", groups=3), ["'first'", "3 groups", "4 filters"]),
    "channels first": (lambda: with_config("pool", data_format="channels_first"), ["'pool'", "channels_first"]),
    "global channels first": (lambda: with_config("mean", data_format="channels_first"), ["'mean'", "data_format"]),
    "keepdims": (lambda: with_config("mean", keepdims="all"), ["'mean'", "keepdims", "all"]),
    "renorm": (lambda: with_config("norm", renorm=True), ["'norm'", "renorm", "True"]),
    "batch norm axis": (lambda: with_config("norm", axis=1), ["'norm'", "axis 1"]),
    "epsilon": (lambda: with_config("norm", epsilon=0), ["'norm'", "epsilon", "0"]),
    "unknown attribute": (lambda: with_config("first", padding_mode="wrap"), ["'first'", "padding_mode", "wrap"]),
    "padding": (lambda: with_config("first", padding="causal"), ["'first'", "padding", "causal"]),
    "mixed policy": (
        lambda: of(layers.Conv2D(2, 3, dtype="mixed_bfloat16", name="half")),
        ["'half'", "mixed_bfloat16"],
    ),
    "float64": (lambda: with_config("head", dtype="float64"), ["'head'", "dtype", "float64"]),
    "quantised": (lambda: with_config("head", quantization_config={"bits": 4}), ["'head'", "quantization_config"]),
    "activation": (lambda: with_config("second", activation="glu"), ["'second'", "activation", "glu"]),
    "activation object": (
        lambda: with_config("second", activation={"class_name": "function", "config": "mish"}),
        ["'second'", "activation", "mish"],
    ),
    "scale of other channels": (
        lambda: of(layers.Rescaling([1.0, 2.0], name="scale")),
        ["'scale'", "2 values of scale for 3 channels"],
    ),
    "scale over float32": (lambda: of(layers.Rescaling(1e300, name="scale"), layers.Flatten()), ["'scale'", "1e+300"]),
    "no name": (lambda: with_config("pool", name=None), ["layer None", "'name'"]),
    "no filters": (lambda: with_config("first", filters=0), ["'first'", "filters", "0"]),
    "1e9 filters": (lambda: with_config("first", filters=10**9), ["'first'", "filters", "1000000000"]),
    "kernel": (lambda: with_config("first", kernel_size=[1000, 1000]), ["'first'", "kernel_size", "1000"]),
    "window over input": (
        lambda: with_config("first", kernel_size=[40, 40], padding="valid"),
        ["'first'", "(40, 40)", "(32, 32)"],
    ),
    "too many values": (lambda: with_config("first", filters=60_000), ["'first'", "(32, 32, 60000)", "16,000,000"]),
    "pool on vector": (
        lambda: changed(lambda document: document["config"]["layers"].append(entry(FUNCTIONAL, "pool")), SEQUENTIAL),
        ["'pool'", "(3,)"],
    ),
    "keras history node": (
        lambda: with_entry("norm", inbound_nodes=[{"args": [tensor("first", 1)], "kwargs": {}}]),
        ["'norm'", "['first', 1, 0]"],
    ),
    "keras history tensor": (
        lambda: with_entry("norm", inbound_nodes=[{"args": [tensor("first", 0, 1)], "kwargs": {}}]),
        ["'norm'", "['first', 0, 1]"],
    ),
    "constant argument": (lambda: with_entry("norm", inbound_nodes=[{"args": [3], "kwargs": {}}]), ["'norm'", "3"]),
    "training mode": (lambda: reading("norm", "first", training=True), ["'norm'", "called"]),
    "not called": (lambda: with_entry("norm", inbound_nodes=[]), ["'norm'", "0 times"]),
    "called twice": (lambda: real(called_twice), ["'twice'", "2 times"]),
    "two tensors for one": (lambda: reading("norm", "first", "images"), ["'norm'", "one input, not 2"]),
    "unequal sum": (lambda: reading("join", "norm", "images"), ["'join'", "(32, 32, 3)"]),
    "sum of one": (lambda: reading("join", "norm"), ["'join'", "two or more"]),
    "no such layer": (lambda: reading("norm", "ghost"), ["'norm'", "'ghost'"]),
    "reads itself": (lambda: reading("norm", "norm"), ["'norm'"]),
    "cycle": (lambda: reading("norm", "join"), ["'norm'", "'join'", "before"]),
    "out of order": (lambda: moved("norm", 3), ["'norm'", "before"]),
    "dead branch": (lambda: reading("pool", "norm"), ["'join'", "nothing reads"]),
    "same name": (lambda: added(entry(FUNCTIONAL, "first")), ["'first'", "two layers"]),
    "second input layer": (
        lambda: added(
            {**entry(FUNCTIONAL, "images"), "config": {**entry(FUNCTIONAL, "images")["config"], "name": "x"}}
        ),
        ["'x'", "exactly one InputLayer"],
    ),
    "two inputs": (lambda: real(two_inputs), ["one input", "left", "right"]),
    "two outputs": (lambda: real(two_outputs), ["one output", "output_layers"]),
    "output is not last": (lambda: changed(lambda d: d["config"].update(output_layers=["mean", 0, 0])), ["'mean'"]),
    "input is not first": (lambda: changed(lambda d: d["config"].update(input_layers=["norm", 0, 0])), ["'norm'"]),
    "input side": (lambda: with_config("images", batch_shape=[None, 8, 32, 3]), ["'images'", "batch_shape", "8"]),
    "input channels": (lambda: with_config("images", batch_shape=[None, 32, 32, 2]), ["'images'", "batch_shape", "2"]),
    "input rank": (lambda: with_config("images", batch_shape=[None, 3072]), ["'images'", "batch_shape"]),
    "fixed batch": (lambda: with_config("images", batch_shape=[8, 32, 32, 3]), ["'images'", "batch_shape", "8"]),
    "output is an image": (lambda: of(layers.Conv2D(10, 3)), ["(30, 30, 10)", "one number per class"]),
    "no input layer": (lambda: changed(lambda d: d["config"]["layers"].pop(0), SEQUENTIAL), ["no InputLayer"]),
    "no layers": (lambda: changed(lambda d: d["config"].update(layers=[])), ["2 to 1,000"]),
    "layers is no list": (lambda: changed(lambda d: d["config"].update(layers="many")), ["2 to 1,000"]),
    "layer is no object": (lambda: changed(lambda d: d["config"]["layers"].append("Dense")), ["Dense", "config"]),
    "subclassed model": (lambda: changed(lambda d: d.update(class_name="MyModel")), ["'MyModel'"]),
    "list": (lambda: [FUNCTIONAL], ["not the JSON"]),
    "null": (lambda: None, ["not the JSON"]),
}


@pytest.mark.parametrize(("build", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_and_says_which_layer_and_what_was_found(build, words):
    with pytest.raises(ModelError) as refusal:
        parse(build())
    assert [word for word in words if word not in str(refusal.value)] == []


def dense_chain(units, count):
    dense = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}
    stack = [{**dense, "config": {"name": f"dense_{i}", "units": units}} for i in range(count)]
    return changed(lambda document: document["config"]["layers"].extend(stack), SEQUENTIAL)


def convolution_chain(count):
    item = copy.deepcopy(entry(SEQUENTIAL, "first"))
    item["config"].update(filters=512, padding="same", kernel_size=[5, 5])
    stack = [{**item, "config": {**item["config"], "name": f"convolution_{i}"}} for i in range(count)]
    return changed(lambda document: document["config"]["layers"].__setitem__(slice(1, 2), stack), SEQUENTIAL)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(lambda: dense_chain(8, 1000), "2 to 1,000 layers", id="layers"),
        pytest.param(lambda: dense_chain(20_000, 2), "weights, the limit is 100,000,000", id="parameters"),
        pytest.param(lambda: convolution_chain(4), "multiply-adds, the limit is 20,000,000,000", id="multiply-adds"),
    ],
)
def test_refuses_a_model_that_is_too_large(document, words):
    with pytest.raises(ModelError) as refusal:
        parse(document())
    assert words in str(refusal.value)


def square_network(side, filters, channels=3):
    keras.utils.clear_session()
    stack = [layers.Conv2D(filters, 3, padding="same"), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((side, side, channels)), *stack])


@pytest.mark.parametrize("shape", [(16, 16, 1), (256, 16, 3), (224, 224, 3)])
def test_the_input_is_the_architectures_own(shape):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input(shape), layers.GlobalMaxPooling2D(), layers.Dense(2)])
    assert parse_architecture(model.to_json()).input == shape


@pytest.mark.parametrize(
    ("side", "filters", "batch"), [(32, 64, 64), (96, 16, 64), (224, 64, 8), (224, 256, 2), (32, 8_000, 4)]
)
def test_fewer_images_are_computed_at_once_the_larger_the_network(side, filters, batch):
    parsed = parse_architecture(square_network(side, filters).to_json())
    assert parsed.max_batch == batch
    assert batch * side * side * filters <= architecture.MAX_BATCH_ELEMENTS
    assert batch * parsed.multiply_adds <= architecture.MAX_BATCH_MULTIPLY_ADDS


def test_as_many_layers_as_are_allowed_are_admitted():
    assert len(parse(dense_chain(2, architecture.MAX_LAYERS - len(SEQUENTIAL["config"]["layers"]))).nodes) == 1000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("weights", id="words"),
        pytest.param(b"\x89HDF\r\n\x1a\n", id="HDF5"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param("[" * 100_000, id="deep and unfinished"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="deep"),
        pytest.param("9" * 5_000, id="huge number"),
        pytest.param(" " * 4_000_001, id="too many bytes"),
    ],
)
def test_refuses_what_is_not_the_json_of_a_model(text):
    with pytest.raises(ModelError, match="architecture"):
        parse_architecture(text)


def nested_lists(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("place", ["name", "filters", "kernel_initializer", "surprise", "class_name", "layer", "call"])
def test_depth_that_json_allows_is_no_surprise_later(place):
    text = json.dumps(
        {
            "name": with_config("first", name="HERE"),
            "filters": with_config("first", filters="HERE"),
            "kernel_initializer": with_config("first", kernel_initializer="HERE"),
            "surprise": with_config("first", surprise="HERE"),
            "class_name": with_entry("first", class_name="HERE"),
            "layer": changed(lambda document: document["config"]["layers"].append("HERE")),
            "call": reading("norm", "first", mask="HERE"),
        }[place]
    )
    outcomes = {outcome(text.replace('"HERE"', nested_lists(depth))) for depth in range(0, 1100, 3)}
    assert outcomes <= {"admitted", "refused"}


def outcome(text):
    try:
        parse_architecture(text)
    except ModelError:
        return "refused"
    return "admitted"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(sorted(LAYERS)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
real_keys = st.sampled_from(["class_name", "config", "layers", "name", "module", "inbound_nodes", "args", "kwargs"])
documents = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(real_keys, inner, max_size=6),
    max_leaves=20,
)


@settings(deadline=None, max_examples=200)
@given(documents)
def test_any_json_is_admitted_or_refused(document):
    assert outcome(json.dumps(document)) in ("admitted", "refused")


@settings(deadline=None, max_examples=200)
@given(st.text() | st.binary())
def test_any_text_or_bytes_are_refused(text):
    assert outcome(text) == "refused"


def paths(value, here=()):
    """Every place in a document."""
    yield here
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*here, key))


PLACES = {"Functional": list(paths(FUNCTIONAL))[1:], "Sequential": list(paths(SEQUENTIAL))[1:]}
DONORS = [FUNCTIONAL["config"]["layers"], FUNCTIONAL["config"]["layers"][1], "first", ["first", 0, 0], -1, 2**70]


@st.composite
def mutated(draw):
    """A real architecture with a few places deleted, replaced, doubled or swapped for another part of a model."""
    kind = draw(st.sampled_from(["Functional", "Sequential"]))
    document = copy.deepcopy(FUNCTIONAL if kind == "Functional" else SEQUENTIAL)
    for *above, key in draw(st.lists(st.sampled_from(PLACES[kind]), min_size=1, max_size=4)):
        parent = document
        try:
            for step in above:
                parent = parent[step]
            parent[key]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
        if isinstance(parent, str):
            continue
        match draw(st.sampled_from(["delete", "replace", "graft", "double"])):
            case "delete":
                del parent[key]
            case "replace":
                parent[key] = draw(values)
            case "graft":
                parent[key] = copy.deepcopy(draw(st.sampled_from(DONORS)))
            case "double" if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
    return document


@settings(deadline=None, max_examples=400)
@given(mutated())
def test_any_change_of_a_real_architecture_is_admitted_or_refused(document):
    assert outcome(json.dumps(document)) in ("admitted", "refused")
