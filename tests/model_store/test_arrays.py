"""Arrays are read as NumPy writes them; what would unpack to more than it may is refused before it is unpacked."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.lib import format as npy

from model_store.arrays import read_arrays
from model_store.errors import ModelError

LIMIT = 1_000_000


def saved(save=np.savez, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def read(content, *names, limit=LIMIT):
    return read_arrays(content, "golden.npz", names, limit)


@given(
    arrays_of.arrays(st.sampled_from(["u1", "<f4", ">i8", "<U5", "?"]), arrays_of.array_shapes(min_dims=0, min_side=0)),
    st.booleans(),
    st.sampled_from([np.savez, np.savez_compressed]),
)
def test_any_array_is_read_as_numpy_wrote_it(array, transposed, save):
    array = array.T if transposed else array
    received = read(saved(save, a=array, b=np.array("layer")), "a", "b")
    assert received["a"].dtype == array.dtype
    np.testing.assert_array_equal(received["a"], array)
    assert str(received["b"]) == "layer"


def declaring(shape, dtype="|u1", body=b""):
    """A `.npy` file whose header says what it likes."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


def packed(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def lying(content, size):
    """The archive with another unpacked size in its one member's two headers."""
    local, central = content.index(b"PK\x03\x04") + 22, content.index(b"PK\x01\x02") + 24
    changed = bytearray(content)
    changed[local : local + 4] = changed[central : central + 4] = size.to_bytes(4, "little")
    return bytes(changed)


BOMB = packed([("a.npy", declaring((10**8,)) + bytes(10**8))])
REFUSED = {
    "a bomb": (BOMB, r"unpacks to 100,000,128 bytes, the limit is 1,000,000"),
    "a bomb that declares less": (lying(BOMB, 1_000), "cannot be read"),
    "a header that declares a petabyte": (packed([("a.npy", declaring((10**15,)))]), "does not fit its 0 bytes"),
    "a header that declares less": (packed([("a.npy", declaring((1,), body=b"12"))]), "does not fit its 2 bytes"),
    "sides below zero": (packed([("a.npy", declaring((-1, -2), body=b"12"))]), "does not fit"),
    "many elements of no size": (packed([("a.npy", declaring((10**15,), "<U0"))]), "cannot be read"),
    "a thousand sides": (packed([("a.npy", declaring((1,) * 1_000, body=b"1"))]), "does not fit"),
    "Python objects": (packed([("a.npy", declaring((1,), "|O", b"\x80\x04K\x01."))]), "holds Python objects"),
    "an array twice": (packed([("a.npy", b""), ("c.npy", b"")]).replace(b"c.npy", b"a.npy"), "it holds a.npy, a.npy"),
    "another array": (saved(b=np.zeros(1)), "it holds b.npy, not a"),
    "no array": (packed([]), "it holds nothing, not a"),
    "many files": (packed([(f"{i}", b"") for i in range(100)]), "holds more than 64 files"),
    "LZMA": (packed([("a.npy", declaring((0,)))], zipfile.ZIP_LZMA), "a method that NumPy does not use"),
    "not an array": (packed([("a.npy", b"text")]), "cannot be read"),
    "not an archive": (b"text", "cannot be read"),
    "nothing": (b"", "cannot be read"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_in_words(content, words):
    with pytest.raises(ModelError, match=rf"^golden\.npz.*{words}"):
        read(content, "a")


def test_refusing_a_bomb_takes_no_memory():
    for content in (BOMB, lying(BOMB, 1_000), packed([("a.npy", declaring((10**8,)))])):
        tracemalloc.start()
        with pytest.raises(ModelError):
            read(content, "a")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


@given(st.binary(max_size=8), st.integers(0, 10_000))
def test_damaged_files_are_read_or_refused(insert, place):
    content = saved(a=np.arange(10))
    place %= len(content)
    try:
        read(content[:place] + insert + content[place + len(insert) :], "a")
    except ModelError:
        return
