"""`Classifier.predict` gives every image its own row, whatever comes with it, and refuses what is not an image."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.classifier import Classifier, choose_precision
from model_store.errors import ModelError
from model_store.network.architecture import MAX_BATCH
from tests.model_store.network.keras_models import random_images, tiny_model

IMAGES = random_images(32, seed=4)
BATCH_MATES = 1e-5  # how much of a float32 probability may depend on the other images of the batch


@cache
def classifier(engine="openvino") -> Classifier:
    return Classifier(tiny_model().network(), engine, "float32")


@cache
def alone() -> np.ndarray:
    """Each image's probabilities, predicted by itself."""
    return np.concatenate([classifier().predict(image[None]).probabilities for image in IMAGES])


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_answers_as_keras_does(tiny, engine):
    answer = Classifier(tiny.network(), engine, "float32").predict(tiny.images).probabilities
    np.testing.assert_allclose(answer, tiny.probabilities, atol=1e-5)


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize("count", [0, 1, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH - 1])
def test_every_image_has_a_row_that_sums_to_one(engine, count):
    images = np.resize(IMAGES, (count, 32, 32, 3))
    rows = classifier(engine).predict(images).probabilities
    assert rows.shape == (count, 3)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, np.resize(alone(), (count, 3)), atol=BATCH_MATES)


def test_images_tell_apart():
    assert np.ptp(alone(), axis=0).max() > 100 * BATCH_MATES


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, len(IMAGES) - 1), max_size=MAX_BATCH + 10))
def test_an_answer_does_not_depend_on_its_batch_mates(chosen):
    rows = classifier().predict(IMAGES[chosen]).probabilities
    np.testing.assert_allclose(rows, alone()[chosen], atol=BATCH_MATES)


def test_an_answer_is_not_overwritten_by_the_next():
    first = classifier().predict(IMAGES[:4]).probabilities
    copied = first.copy()
    classifier().predict(IMAGES[4:8])
    np.testing.assert_array_equal(first, copied)


def test_a_view_that_is_not_contiguous_is_read_right():
    rows = classifier().predict(np.ascontiguousarray(IMAGES[:, :, ::-1])[:, :, ::-1]).probabilities
    np.testing.assert_allclose(rows, alone(), atol=BATCH_MATES)


def test_callers_in_several_threads_each_get_their_own_rows():
    batches = [[(7 * caller + i) % len(IMAGES) for i in range(1 + caller % 5)] for caller in range(60)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda chosen: classifier().predict(IMAGES[chosen]).probabilities, batches))
    for chosen, rows in zip(batches, answers, strict=True):
        np.testing.assert_allclose(rows, alone()[chosen], atol=BATCH_MATES)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(IMAGES[0], id="one image without a batch"),
        pytest.param(IMAGES[:, :31], id="31 rows"),
        pytest.param(IMAGES[..., :1], id="grey"),
        pytest.param(IMAGES.transpose(0, 3, 1, 2), id="channels first"),
        pytest.param(IMAGES.astype(np.float32), id="float32"),
        pytest.param(IMAGES.astype(np.int8), id="int8"),
        pytest.param(np.uint8(3), id="a number"),
    ],
)
def test_what_is_not_a_batch_of_images_is_the_callers_mistake(images):
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 32, 32, 3\), not "):
        classifier().predict(images)


@pytest.mark.parametrize("labels", [(), ("a", "b"), ("a", "b", "c", "d")], ids=len)
def test_as_many_labels_as_outputs_are_needed(tiny, labels):
    with pytest.raises(ModelError, match=f"3 outputs but there are {len(labels)} labels"):
        tiny.network(labels=labels)


def test_float32_is_to_be_had_everywhere(tiny):
    assert [choose_precision(engine, "float32") for engine in ("openvino", "tensorflow")] == ["float32", "float32"]
    assert Classifier(tiny.network(), precision="float32").precision == "float32"


def test_bfloat16_is_what_auto_takes_where_there_is_any(tiny):
    chosen = Classifier(tiny.network()).precision
    if chosen == "bfloat16":
        assert Classifier(tiny.network(), precision="bfloat16").precision == "bfloat16"
    else:
        with pytest.raises(ModelError, match="no bfloat16 instructions"):
            Classifier(tiny.network(), precision="bfloat16")


def test_int8_is_what_auto_takes_where_the_version_allows(tiny, monkeypatch):
    without = choose_precision("openvino", "auto")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert choose_precision("openvino", "auto", True) == "int8"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert choose_precision("openvino", "auto", True) == without
    assert choose_precision("openvino", "int8", True) == "int8"
    assert choose_precision("tensorflow", "auto", True) == "float32"
    with pytest.raises(ModelError, match=r"no quantization\.npz"):
        Classifier(tiny.network(), precision="int8")


def test_a_precision_that_a_version_was_not_verified_in_is_not_used(tiny):
    assert choose_precision("openvino", "auto", True, frozenset({"float32"})) == "float32"
    assert Classifier(tiny.network(precisions=frozenset({"float32"}))).precision == "float32"
    with pytest.raises(ModelError, match="not served in int8, which changes its answers too much"):
        choose_precision("openvino", "int8", True, frozenset({"float32"}))


def test_the_tensorflow_engine_computes_in_float32_only(tiny):
    assert Classifier(tiny.network(), "tensorflow").precision == "float32"
    with pytest.raises(ModelError, match="computes in float32"):
        Classifier(tiny.network(), "tensorflow", "bfloat16")
