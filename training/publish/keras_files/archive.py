"""Take a whole model's file apart: `.keras` (a zip, or HDF5 when Keras 2.12 wrote it) or `.h5`.

Owns the containers and their limits; the architecture and the weights inside stay bytes.
"""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass

import h5py

from model_store.errors import ModelError
from model_store.files import MAX_FILE_BYTES
from model_store.reading import MAX_JSON_BYTES

MAX_MODEL_BYTES = 3 * MAX_FILE_BYTES  # with an optimizer's state, as Adam's: two numbers for each weight
MAX_MEMBERS = 1_000
MAX_RATIO = 100  # of a packed member; Keras stores members as they are
CONFIG, METADATA, VARIABLES = "config.json", "metadata.json", "model.weights.h5"
HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class ModelFile:
    """A whole model: its architecture (JSON), its weights (HDF5), and the version of Keras that wrote it, or ""."""

    document: bytes
    weights: bytes
    version: str


def read_model_file(data: bytes) -> ModelFile:
    """Take apart what `save()` of Keras 2 or 3 wrote.

    Raises:
        ModelError: it is neither such a zip nor such HDF5, a part is missing, or a part is over its limit.
    """
    if data.startswith(b"PK"):
        return _read_zip(data)
    if data.startswith(HDF5):
        return _read_hdf5(data)
    if data.lstrip()[:1] in (b"{", b'"'):
        raise ModelError("it is an architecture without weights; pass it as --architecture, with --weights")
    raise ModelError("it is neither a .keras file nor HDF5; give what model.save('model.keras') wrote")


def _read_zip(data: bytes) -> ModelFile:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) > MAX_MEMBERS or len(set(names)) != len(names):
                raise ModelError(
                    f"the zip has {len(names):,} members, the limit is {MAX_MEMBERS:,}, none of them twice"
                )
            if CONFIG not in names or VARIABLES not in names:
                missing = CONFIG if CONFIG not in names else VARIABLES
                raise ModelError(f"the zip has no {missing}; give what model.save('model.keras') wrote")
            metadata = _member(archive, METADATA, MAX_JSON_BYTES) if METADATA in names else b"{}"
            document = _member(archive, CONFIG, MAX_JSON_BYTES)
            return ModelFile(document, _member(archive, VARIABLES, MAX_MODEL_BYTES), _version(metadata))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"the zip cannot be read ({error}); copy or save the file again") from None


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Read a member that is stored or deflated, without trusting the size it declares."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(f"{name} is packed in a way that Keras does not use; save the model again with Keras")
    if info.file_size > limit:
        raise ModelError(f"{name} has {info.file_size:,} bytes, the limit is {limit:,}")
    if info.file_size > MAX_RATIO * max(info.compress_size, 1_000):
        raise ModelError(f"{name} unpacks to more than {MAX_RATIO} times its size; save the model again with Keras")
    with archive.open(info) as member:
        return member.read(info.file_size + 1)


def _version(metadata: bytes) -> str:
    parsed = json.loads(metadata)
    version = str(parsed.get("keras_version", "")) if isinstance(parsed, dict) else ""
    return version if version.isascii() and version.isprintable() else ""


def _read_hdf5(data: bytes) -> ModelFile:
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            if "model_config" not in file.attrs:
                raise ModelError("it holds weights only; pass it as --weights, with --architecture")
            document, version = (_attribute(file, key) for key in ("model_config", "keras_version"))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"it cannot be read as an HDF5 file: {error}") from None
    return ModelFile(document, data, version.decode("utf-8", "replace"))


def _attribute(file: h5py.File, key: str) -> bytes:
    """Return a text attribute, "" if there is none."""
    if key not in file.attrs:
        return b""
    stored = file.attrs.get_id(key)
    value = file.attrs[key] if stored.shape == () else None
    if not isinstance(value, str | bytes):
        raise ModelError(f"its {key} is not a text; save the model again with Keras")
    content = value.encode() if isinstance(value, str) else value
    if max(stored.get_storage_size(), len(content)) > MAX_JSON_BYTES:
        raise ModelError(f"its {key} has {len(content):,} bytes, the limit is {MAX_JSON_BYTES:,}")
    return content
