"""Whole models' files: what is read, and what is refused before it takes memory."""

import io
import zipfile

import h5py
import pytest

from model_store.errors import ModelError
from training.publish.keras_files.archive import read_model_file

WHOLE = {"metadata.json": b'{"keras_version": "3.1.0"}', "config.json": b"{}", "model.weights.h5": b"\x89HDF"}


def packed(members, compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def hdf5(**attributes) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update(attributes)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_taken_apart(compression):
    file = read_model_file(packed(WHOLE, compression))
    assert (file.document, file.weights, file.version) == (b"{}", b"\x89HDF", "3.1.0")


def test_hdf5_is_taken_apart_whatever_its_suffix():
    data = hdf5(model_config="{}", keras_version="2.12.0")
    file = read_model_file(data)
    assert (file.document, file.weights, file.version) == (b"{}", data, "2.12.0")


def test_a_version_that_is_no_text_of_a_terminal_is_none():
    for version in (rb"\ud800", rb"\u001b[2J"):
        metadata = b'{"keras_version": "%s"}' % version
        assert read_model_file(packed({**WHOLE, "metadata.json": metadata})).version == ""


def without(name):
    return {key: value for key, value in WHOLE.items() if key != name}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is neither a .keras file nor HDF5"),
        (b'{"class_name": 1}', "it is an architecture without weights; pass it as --architecture, with --weights"),
        (hdf5(), "it holds weights only; pass it as --weights, with --architecture"),
        (hdf5(model_config=["{}"] * 1000), "its model_config is not a text"),
        (hdf5(model_config=10**12), "its model_config is not a text"),
        (hdf5(model_config="{}", keras_version=2.12), "its keras_version is not a text"),
        (b"\x89HDF\r\n\x1a\n", "it cannot be read as an HDF5 file"),
        (packed(WHOLE)[:-30], "the zip cannot be read (File is not a zip file)"),
        (packed(without("config.json")), "the zip has no config.json"),
        (packed({**without("model.weights.h5"), "model.weights.npz": b""}), "the zip has no model.weights.h5"),
        (packed({**WHOLE, "metadata.json": b"{"}), "the zip cannot be read"),
        (packed({f"{index}": b"" for index in range(1001)}), "the zip has 1,001 members, the limit is 1,000"),
        (packed({**WHOLE, "config.json": b" " * 4_000_001}), "config.json has 4,000,001 bytes, the limit is 4,000,000"),
        (packed({**WHOLE, "config.json": b" " * 1_000_000}, zipfile.ZIP_DEFLATED), "unpacks to more than 100 times"),
        (packed(WHOLE, zipfile.ZIP_LZMA), "is packed in a way that Keras does not use"),
        (packed(WHOLE).replace(b"\x89HDF", b"\x89HDG", 1), "the zip cannot be read (Bad CRC-32"),
    ],
)  # fmt: skip
def test_what_is_no_whole_model_is_refused_in_words(data, message):
    with pytest.raises(ModelError) as caught:
        read_model_file(data)
    assert message in str(caught.value)


def test_a_name_that_stands_twice_is_refused():
    buffer = io.BytesIO(packed(WHOLE))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", b"[]")
    with pytest.raises(ModelError, match="none of them twice"):
        read_model_file(buffer.getvalue())
