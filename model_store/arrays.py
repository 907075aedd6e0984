"""Read `.npz` files of a bounded size: the sizes that a file declares are checked before anything is unpacked.

`numpy.load` allocates what a header declares, and unpacks whatever the archive holds: 13 MB can become 3 GB.
"""

import io
import math
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from model_store.errors import ModelError

ENTRY = b"PK\x01\x02"  # begins each entry of a zip archive's directory
MAX_ENTRIES = 64  # zipfile keeps 600 bytes for each of an archive's 46
MAX_DIMENSIONS = 8


def read_arrays(content: bytes, file: str, names: Sequence[str], max_bytes: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of a `.npz` file, which must be exactly `names`; pickled objects are refused.

    Args:
        file: the file's name, for errors.
        max_bytes: limit of all arrays together, unpacked.

    Raises:
        ModelError: it is not such a file, or an array's declared or actual size does not fit.
    """
    if content.count(ENTRY) > MAX_ENTRIES:
        raise ModelError(f"{file} cannot be read: it holds more than {MAX_ENTRIES} files, not {', '.join(names)}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sorted(member.filename for member in members) != sorted(f"{name}.npy" for name in names):
                held = ", ".join(member.filename for member in members)[:200]
                raise ValueError(f"it holds {held or 'nothing'}, not {', '.join(names)}")
            if (size := sum(member.file_size for member in members)) > max_bytes:
                raise ValueError(f"it unpacks to {size:,} bytes, the limit is {max_bytes:,}")
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except Exception as error:  # noqa: BLE001 zipfile and NumPy raise errors of any type on damaged files
        raise ModelError(f"{file} cannot be read: {error}") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed by a method that NumPy does not use")
    with archive.open(member) as stream:  # `read()` without a size would unpack what the member does not declare
        return _parse_array(stream.read(member.file_size), member.filename)


def _parse_array(data: bytes, name: str) -> NDArray[Any]:
    """Parse a `.npy` file whose header declares as many bytes as follow it."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has version {version} of NumPy's format")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    body = data[stream.tell() :]
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{name} declares {dtype} {shape}, which does not fit its {len(body):,} bytes")
    flat = np.frombuffer(body, dtype, count=math.prod(shape)) if body else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C").copy()
