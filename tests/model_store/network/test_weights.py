"""Exactly the weights that the architecture needs come out of a file, and nothing from outside it."""

import io
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from model_store.errors import ModelError
from model_store.network import weights
from model_store.network.architecture import parse_architecture
from model_store.network.weights import read_weights
from tests.model_store.network.keras_models import chain, randomised, saved


def small_model():
    """Two layers of most kinds, so that the file numbers them, and a Dropout, which keeps random state."""
    stack = [
        layers.Conv2D(2, 3, strides=4, name="first"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.5),
        layers.Conv2D(3, 3, strides=2, use_bias=False, name="second"),
        layers.Dropout(0.5, seed=1),
        layers.Flatten(),
    ]
    return randomised(chain(*stack, layers.Dense(4, name="head")))


MODEL = small_model()
TEXT, CONTENT = saved(MODEL)
ARCHITECTURE = parse_architecture(TEXT)
KERNEL = "layers/conv2d/vars/0"


def edited(edit) -> bytes:
    """The real file after an edit by h5py."""
    buffer = io.BytesIO(CONTENT)
    with h5py.File(buffer, "r+") as file:
        edit(file)
    return buffer.getvalue()


def replaced(value, **options):
    def edit(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, data=value, **options)

    return edited(edit)


def kernel():
    return MODEL.get_layer("first").get_weights()[0]


def test_every_weight_comes_back_as_keras_has_it():
    received = read_weights(CONTENT, ARCHITECTURE)
    names = {layer.name: [weight.name for weight in layer.variables] for layer in MODEL.layers}
    assert {name: list(arrays) for name, arrays in received.items()} == {
        name: names[name] for name in ("first", "norm", "second", "head")
    }
    for name, arrays in received.items():
        for array, expected in zip(arrays.values(), MODEL.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == np.float32


@pytest.mark.parametrize("layer", ["dropout", "dropout_1", "random_flip", "random_color_jitter/random_hue"])
def test_random_state_is_passed_over(layer):
    """Some versions of Keras save it and some do not."""
    path, state = f"layers/{layer}/seed_generator/vars/0", np.array([1, 2], "uint32")
    content = edited(lambda file: file.require_dataset(path, data=state, shape=state.shape, dtype=state.dtype))
    assert read_weights(content, ARCHITECTURE).keys() == read_weights(CONTENT, ARCHITECTURE).keys()


def test_the_weights_of_rarer_layers_come_back_as_keras_has_them():
    stack = [
        layers.Normalization(),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.PReLU(shared_axes=[1, 2]),
        layers.SeparableConv2D(4, 3),
        layers.PReLU(),
        layers.RandomFlip(),
        layers.SpatialDropout2D(0.5),
    ]
    model = randomised(chain(*stack, layers.Flatten()))
    text, content = saved(model)
    received = read_weights(content, parse_architecture(text))
    for layer in model.layers:
        for weight in layer.weights:
            np.testing.assert_array_equal(received[layer.name][weight.name], weight.numpy())
    assert sum(map(len, received.values())) == sum(len(layer.weights) for layer in model.layers)


def test_a_counter_is_an_integer_and_other_weights_are_not():
    text, content = saved(chain(layers.Normalization(), layers.Flatten()))
    whole = io.BytesIO(content)
    with h5py.File(whole, "r+") as file:
        mean = file["layers/normalization/vars/0"]
        assert file["layers/normalization/vars/2"].dtype.kind == "i"
        del file["layers/normalization/vars/0"]
        file["layers/normalization/vars/0"] = np.zeros(mean.shape, np.int32)
    with pytest.raises(ModelError, match=r"mean of layer 'normalization.*' is int32"):
        read_weights(whole.getvalue(), parse_architecture(text))


def test_a_compressed_weight_is_read():
    received = read_weights(replaced(kernel(), compression="gzip", chunks=True, shuffle=True), ARCHITECTURE)
    np.testing.assert_array_equal(received["first"]["kernel"], kernel())


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"shuffle": True, "compression": 9}], ids=str)
def test_a_weight_in_several_chunks_is_read(options):
    received = read_weights(replaced(kernel(), chunks=(2, 2, 2, 1), **options), ARCHITECTURE)
    np.testing.assert_array_equal(received["first"]["kernel"], kernel())


def chunked(packed, **options):
    """The weights with one chunk of a kernel replaced by these bytes."""

    def edit(file):
        shape = file[KERNEL].shape
        del file[KERNEL]
        dataset = file.create_dataset(KERNEL, shape, "float32", chunks=shape, **options)
        dataset.id.write_direct_chunk((0,) * len(shape), packed)

    return edited(edit)


def large_chunks(file):
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape, "float32", maxshape=(None,) * 4, chunks=(shape[0] + 1, *shape[1:]))


CHUNKS = {
    "50 MB": (lambda: chunked(zlib.compress(bytes(5 * 10**7)), compression="gzip"), "does not unpack to its size"),
    "too few": (lambda: chunked(zlib.compress(bytes(8)), compression="gzip"), "does not unpack to its size"),
    "not compressed at all": (lambda: chunked(b"text", compression="gzip"), "HDF5"),
    "larger than the weight": (lambda: edited(large_chunks), "in chunks as Keras does not do"),
    "another compression": (lambda: replaced(kernel(), compression="lzf"), "in chunks as Keras does not do"),
}


@pytest.mark.parametrize(("content", "words"), CHUNKS.values(), ids=CHUNKS.keys())
def test_a_chunk_that_unpacks_to_another_size_is_refused(content, words):
    data = content()
    tracemalloc.start()
    with pytest.raises(ModelError, match=words):
        read_weights(data, ARCHITECTURE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def delete(path):
    return lambda: edited(lambda file: file.__delitem__(path))


def add(path, value):
    return lambda: edited(lambda file: file.create_dataset(path, data=value))


def link(path, target):
    def edit(file):
        if path in file:
            del file[path]
        file[path] = target

    return lambda: edited(edit)


def with_value(value):
    array = kernel()
    array[0, 0, 0, 0] = value
    return replaced(array)


def external_storage():
    def edit(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, shape=kernel().shape, dtype="float32", external=[("/etc/passwd", 0, 216)])

    return edited(edit)


def virtual():
    def edit(file):
        del file[KERNEL]
        layout = h5py.VirtualLayout(shape=kernel().shape, dtype="float32")
        layout[:] = h5py.VirtualSource("elsewhere.h5", "kernel", shape=kernel().shape)
        file.create_virtual_dataset(KERNEL, layout)

    return edited(edit)


def cycle():
    """A group that holds the one that holds it."""

    def edit(file):
        file["layers/conv2d/loop"] = file["layers"]

    return edited(edit)


def many_objects():
    """More groups than any network has weights."""

    def edit(file):
        for number in range(20_001):
            file.create_group(f"layers/{number}")

    return edited(edit)


REFUSED = {
    "missing": (delete(KERNEL), ["no kernel of layer 'first'"]),
    "missing layer": (delete("layers/dense"), ["no kernel of layer 'head'"]),
    "missing statistics": (delete("layers/batch_normalization/vars/3"), ["no moving_variance of layer 'norm'"]),
    "extra weight": (add("layers/conv2d/vars/2", np.zeros(2, "f4")), ["layers/conv2d/vars/2", "no layer"]),
    "extra layer": (add("layers/lstm/vars/0", np.zeros(2, "f4")), ["layers/lstm/vars/0"]),
    "extra beside the random state": (add("layers/dropout/vars/0", np.zeros(2, "f4")), ["layers/dropout/vars/0"]),
    "shape": (lambda: replaced(kernel()[:2]), ["kernel of layer 'first'", "(2, 3, 3, 2)", "(3, 3, 3, 2)"]),
    "transposed": (lambda: replaced(kernel().T), ["kernel of layer 'first'", "(2, 3, 3, 3)"]),
    "float64": (lambda: replaced(kernel().astype("f8")), ["kernel of layer 'first'", "float64"]),
    "float16": (lambda: replaced(kernel().astype("f2")), ["kernel of layer 'first'", "float16"]),
    "other byte order": (lambda: replaced(kernel().astype(">f4")), ["kernel of layer 'first'", ">f4"]),
    "text": (lambda: replaced("kernel"), ["kernel of layer 'first'"]),
    "a group in its place": (lambda: edited(lambda f: (f.pop(KERNEL), f.create_group(KERNEL))), ["no kernel"]),
    "NaN": (lambda: with_value(np.nan), ["kernel of layer 'first'", "not finite"]),
    "infinity": (lambda: with_value(-np.inf), ["kernel of layer 'first'", "not finite"]),
    "soft link": (link(KERNEL, h5py.SoftLink("/layers/conv2d/vars/1")), [KERNEL, "link"]),
    "dangling link": (link(KERNEL, h5py.SoftLink("/nowhere")), [KERNEL, "link"]),
    "extra soft link": (link("layers/more", h5py.SoftLink("/layers")), ["layers/more", "link"]),
    "external link": (link(KERNEL, h5py.ExternalLink("other.h5", "/kernel")), [KERNEL, "link"]),
    "external storage": (external_storage, ["kernel of layer 'first'", "outside the file"]),
    "virtual": (virtual, ["kernel of layer 'first'", "outside the file"]),
    "cycle": (cycle, ["layers/conv2d/loop'", "second path"]),
    "many objects": (many_objects, ["20,000 objects"]),
    "empty": (lambda: b"", ["HDF5"]),
    "not HDF5": (lambda: b"PK\x03\x04" + bytes(4000), ["HDF5"]),
    "an empty HDF5 file": (lambda: edited(lambda file: file.clear()), ["no kernel of layer 'first'"]),
    "half a file": (lambda: CONTENT[: len(CONTENT) // 2], ["HDF5"]),
    "its last byte missing": (lambda: CONTENT[:-1], ["HDF5"]),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_and_says_which_weight_and_why(content, words):
    with pytest.raises(ModelError) as refusal:
        read_weights(content(), ARCHITECTURE)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_weights_of_another_model_are_refused():
    other = parse_architecture(saved(chain(layers.Flatten(), layers.Dense(4, name="head")))[0])
    with pytest.raises(ModelError, match="kernel of layer 'head'"):
        read_weights(CONTENT, other)


def test_the_length_of_a_path_is_limited():
    with pytest.raises(ModelError, match="a path of more than 1,000 characters: 'layers/x"):
        read_weights(add("layers/" + "/".join(["x" * 250] * 4), [1.0])(), ARCHITECTURE)


def test_the_number_of_objects_is_limited(monkeypatch):
    monkeypatch.setattr(weights, "MAX_OBJECTS", 10)
    with pytest.raises(ModelError, match="more than 10 objects"):
        read_weights(CONTENT, ARCHITECTURE)


def read_or_refused(content):
    """Whether it was read; any exception but ModelError goes through."""
    try:
        received = read_weights(content, ARCHITECTURE)
    except ModelError:
        return False
    assert {name: {weight: array.shape for weight, array in arrays.items()} for name, arrays in received.items()} == (
        ARCHITECTURE.weight_shapes()
    )
    return True


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(content):
    assert not read_or_refused(content)
    assert not read_or_refused(CONTENT[:8] + content)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(CONTENT) - 1))
def test_a_truncated_file_is_refused(length):
    assert not read_or_refused(CONTENT[:length])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_read_whole_or_refused(changes):
    content = bytearray(CONTENT)
    for place, difference in changes:
        content[place] ^= difference
    read_or_refused(bytes(content))
