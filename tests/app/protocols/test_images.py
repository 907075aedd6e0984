"""Pixels and base64 in requests become the images that were sent, or an error that says what was received."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Problem
from app.protocols.images import (
    PIECE_CHARACTERS,
    decode_base64,
    flatten,
    number_types,
    pixels_from_fractions,
    pixels_from_integers,
    split_flat,
)
from tests.app.protocols.bodies import SHAPE, pixels


def test_every_8_bit_pixel_survives_as_a_number_from_0_to_1():
    levels = np.arange(3_072).astype(np.uint8)
    for fractions in ((levels / 255).tolist(), (levels / 255).astype(np.float32), (levels / np.float16(255)).tolist()):
        assert np.array_equal(pixels_from_fractions(fractions, SHAPE).reshape(-1), levels)
    assert np.array_equal(pixels_from_integers(levels.tolist(), SHAPE).reshape(-1), levels)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (255.0, "pixels from 0 to 255 were received; floating-point pixels must be from 0 to 1: divide them by 255"),
        (
            -2.1,
            "pixels from -2.1 to 0 were received; floating-point pixels must be from 0 to 1: undo the normalisation",
        ),
        (1.0001, "pixels from 0 to 1.0001 were received"),
        (float("nan"), "pixels that are NaN were received"),
        (float("inf"), "pixels from 0 to inf were received"),
    ],
)
def test_fractions_outside_0_to_1_are_refused_with_their_range(value, detail):
    with pytest.raises(Problem) as refusal:
        pixels_from_fractions(np.array([value] + [0.0] * 3_071, np.float32), SHAPE)
    assert detail in refusal.value.detail


@pytest.mark.parametrize(("value", "shown"), [(256, "0 to 256"), (-1, "-1 to 0"), (2**64 - 1, "0 to 1.845e+19")])
def test_whole_numbers_outside_0_to_255_are_refused_with_their_range(value, shown):
    with pytest.raises(Problem) as refusal:
        pixels_from_integers([value] + [0] * 3_071, SHAPE)
    assert f"pixels from {shown} were received; whole numbers must be from 0 to 255" in refusal.value.detail


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (pixels().reshape(-1).tolist(), "[3072]"),
        (pixels()[:31].tolist(), "[31, 32, 3]"),
        (pixels()[None].tolist(), "[1, 32, 32, 3]"),
        (pixels().transpose(2, 0, 1).tolist(), "[3, 32, 32]"),
        (pixels()[:, :, :1].tolist(), "[32, 32, 1]"),
        ([*pixels()[:31].tolist(), [[0]]], "[32, 32, 3] whose lists differ in length"),
        ([], "[0]"),
        (7, "[]"),
    ],
)
def test_a_tensor_of_another_shape_is_refused_with_both_shapes(value, shape):
    with pytest.raises(Problem) as refusal:
        flatten(value, SHAPE)
    assert refusal.value.detail == f"a tensor of shape {shape} was received; an image has the shape [32, 32, 3]"


@pytest.mark.parametrize(
    ("wrong", "shown"), [(True, "true"), (None, "null"), ("0.5", "the string '0.5'"), ({}, "an object")]
)
def test_what_is_not_a_number_is_no_pixel(wrong, shown):
    with pytest.raises(Problem) as refusal:
        number_types([0, 1.5, wrong])
    assert refusal.value.detail == f"a pixel is {shown}; send numbers"


def test_data_may_be_flat_or_nested_but_must_match_the_shape():
    two = np.stack([pixels(1), pixels(2)])
    flat = [image.reshape(-1).tolist() for image in two]
    assert split_flat(two.tolist(), 2, SHAPE) == split_flat(two.reshape(-1).tolist(), 2, SHAPE) == flat
    for data, detail in [
        (two.reshape(-1)[1:].tolist(), "data has 6,143 values, not 6,144 for 2 images of shape [32, 32, 3]"),
        (two[:1].tolist(), "data has 1 images, but the shape says 2"),
        ("AAAA", "data is the string 'AAAA'; send a list of numbers"),
    ]:
        with pytest.raises(Problem) as refusal:
            split_flat(data, 2, SHAPE)
        assert detail in refusal.value.detail


@given(st.binary(max_size=200), st.sampled_from([0, 1, 40]))
def test_base64_is_decoded_with_and_without_line_breaks(data, width):
    text = base64.b64encode(data).decode()
    lines = "\r\n".join(text[start : start + width] for start in range(0, len(text), width)) if width else text
    assert decode_base64(lines) == data


def test_long_base64_is_decoded_in_pieces():
    data = np.random.default_rng(0).bytes(PIECE_CHARACTERS + 1)
    assert decode_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (5, "the base64 of an image is the number 5; send a string"),
        ("abc", "'abc' is not base64"),
        ("a_-b", "is not base64"),
        ("Zm9v!", "is not base64"),
        ("data:image/png;base64,Zm9v", "leave out everything up to the comma of a data: URL"),
        ("ü" * 8, "is not base64"),
    ],
)
def test_what_is_not_base64_is_refused(text, detail):
    with pytest.raises(Problem) as refusal:
        decode_base64(text)
    assert detail in refusal.value.detail and len(refusal.value.detail) < 250
