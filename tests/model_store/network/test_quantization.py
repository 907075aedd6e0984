import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from model_store.errors import ModelError
from model_store.network.architecture import parse_architecture
from model_store.network.quantization import quantizable, read_ranges, representable, write_ranges
from tests.model_store.network.keras_models import chain


@pytest.fixture(scope="module")
def architecture():
    stack = [
        layers.Conv2D(4, 3, name="first"),
        layers.Activation("relu", name="lit"),
        layers.Conv2D(4, 3),
        layers.Flatten(),
    ]
    return parse_architecture(chain(*stack, layers.Dense(3)).to_json())


def packed(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_what_convolutions_read_is_rounded_but_never_the_input(architecture):
    assert quantizable(architecture) == ("lit",)
    alone = chain(layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3))
    assert not quantizable(parse_architecture(alone.to_json()))


def test_what_only_depthwise_convolutions_read_is_not_rounded():
    stack = [layers.Conv2D(4, 3), layers.ReLU(name="deep"), layers.DepthwiseConv2D(3), layers.ReLU(name="wide")]
    stack += [layers.Conv2D(4, 3, groups=2), layers.ELU(), layers.SeparableConv2D(2, 3), layers.Flatten()]
    assert quantizable(parse_architecture(chain(*stack, layers.Dense(3)).to_json())) == ("wide",)


def test_what_is_written_is_read(architecture, tmp_path):
    write_ranges({"lit": (-0.25, 6.0)}, tmp_path / "quantization.npz")
    assert read_ranges((tmp_path / "quantization.npz").read_bytes(), architecture) == {"lit": (-0.25, 6.0)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 but no archive", "cannot be read"),
        (packed(layers=np.array(["lit"])), "cannot be read"),
        (packed(layers=np.array(["lit"], object), ranges=np.zeros((1, 2), np.float32)), "cannot be read"),
        (packed(layers=np.array(["lit"]), ranges=np.array([[-1, 1]], np.float64)), "float64"),
        (packed(layers=np.array(["lit"]), ranges=np.array([-1, 1], np.float32)), "not finite float32"),
        (packed(layers=np.array(["lit"]), ranges=np.array([[-1, np.inf]], np.float32)), "not finite float32"),
        (packed(layers=np.array(["lit"]), ranges=np.array([[1, 2]], np.float32)), "must span zero"),
        (packed(layers=np.array(["lit"]), ranges=np.array([[0, 0]], np.float32)), "must span zero"),
        (packed(layers=np.array(["first"]), ranges=np.array([[-1, 1]], np.float32)), "needs ranges for"),
        (packed(layers=np.array([], str), ranges=np.zeros((0, 2), np.float32)), "needs ranges for"),
        (packed(layers=np.array(["lit", "lit"]), ranges=np.array([[-1, 1]] * 2, np.float32)), "needs ranges for"),
    ],
)
def test_anything_else_is_refused(architecture, content, message):
    with pytest.raises(ModelError, match=message):
        read_ranges(content, architecture)


@given(st.floats(-100, 0), st.floats(0.001, 100))
def test_zero_is_one_of_the_256_values(low, high):
    bottom, top = representable(low, high)
    step = (top - bottom) / 255
    assert top - bottom == pytest.approx(high - low)
    assert bottom / step == pytest.approx(round(bottom / step), abs=1e-6)
    assert abs(bottom - low) <= step / 2 + 1e-9
