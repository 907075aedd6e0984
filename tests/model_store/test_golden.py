"""A version whose golden images give other probabilities than recorded is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import ModelError
from model_store.files import GOLDEN, MANIFEST, hash_files
from model_store.golden import Golden, read_golden, write_golden
from model_store.version import load
from tests.model_store.network.keras_models import random_images


def rehash(folder):
    """Make the manifest agree with the files again, as whoever can write both would."""
    document = json.loads((folder / MANIFEST).read_text())
    document["files"] = {name: file.model_dump() for name, file in hash_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(document))


def golden_with(tiny, path, **arrays):
    np.savez(path, **{"images": tiny.images, "probabilities": tiny.probabilities, **arrays})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        pytest.param(lambda t: {"probabilities": t.probabilities[:, ::-1]}, "differ by", id="other classes"),
        pytest.param(lambda t: {"probabilities": t.probabilities + np.float32(2e-4)}, "differ by", id="a little off"),
        pytest.param(lambda t: {"probabilities": t.probabilities * np.float32("nan")}, "differ by nan", id="NaN"),
        pytest.param(lambda t: {"images": random_images(5, seed=9)}, "differ by", id="other images"),
        pytest.param(
            lambda t: {"probabilities": t.probabilities[:-1]}, r"\(4, 3\), the network gives", id="a row short"
        ),
        pytest.param(lambda t: {"probabilities": t.probabilities[0]}, r"\(3,\), the network gives", id="one row"),
        pytest.param(lambda t: {"probabilities": t.probabilities.astype(str)}, "not float32", id="text"),
        pytest.param(lambda t: {"probabilities": t.probabilities.astype("f8")}, "not float32", id="float64"),
        pytest.param(lambda t: {"images": t.images.astype("f4")}, "float32", id="float images"),
        pytest.param(lambda t: {"images": t.images[:0], "probabilities": t.probabilities[:0]}, r"\(0, 32", id="none"),
        pytest.param(lambda t: {"images": np.uint8(1)}, r"uint8 \(\)", id="a number"),
        pytest.param(lambda t: {"images": np.array([object()])}, "golden.npz cannot be read", id="pickles"),
    ],
)
def test_golden_examples_that_are_wrong_are_refused_though_their_hash_is_right(tiny, published, arrays, words):
    golden_with(tiny, published / GOLDEN, **arrays(tiny))
    rehash(published)
    with pytest.raises(ModelError, match=words):
        load(published, precision="float32")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x05\x06" + bytes(18), id="an empty archive"),
        pytest.param(b"PK\x03\x04", id="a broken archive"),
        pytest.param(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }", id="one array"
        ),
        pytest.param(b"\x80\x04K\x01.", id="a pickle"),
    ],
)
def test_what_holds_no_golden_examples_is_refused(content):
    with pytest.raises(ModelError, match=r"golden\.npz"):
        read_golden(content, (32, 32, 3))


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_golden_examples_are_read_or_refused(tiny, published_golden, data):
    content = bytearray(published_golden)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        golden = read_golden(bytes(content), (32, 32, 3))
    except ModelError:
        return
    assert golden.images.dtype == np.uint8
    assert golden.images.shape[1:] == (32, 32, 3)


@pytest.fixture(scope="module")
def published_golden(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / GOLDEN
    write_golden(Golden(tiny.images[:1], tiny.probabilities[:1]), path)
    return path.read_bytes()
