"""Read the weights that an architecture needs from HDF5, and check them; links out of the file are refused.

Reads the layout of Keras 3's `save_weights`: `layers/{class}[_{n}]/vars/{index}`, n counting a class's layers.
"""

import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from model_store.errors import ModelError
from model_store.network.architecture import Architecture
from model_store.network.layers import Shape

Weights = dict[str, dict[str, NDArray[np.float32]]]  # layer name -> weight name -> array
T = TypeVar("T")
MAX_OBJECTS = 20_000
MAX_PATH = 1_000  # characters; Keras names a weight after the models around its layer
CHUNK_FILTERS = [[], [h5py.h5z.FILTER_DEFLATE], [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]]
RANDOM_STATE = re.compile(r"^layers/(\w+/)+seed_generator/vars/0$")  # of Dropout and others, not used at inference


def read_weights(data: bytes, architecture: Architecture) -> Weights:
    """Read the weights of every layer, float32, each with the shape that the architecture needs.

    Args:
        data: the file's content; bytes, not a path, so that the content parsed is the content hashed.

    Raises:
        ModelError: it is not HDF5; a weight is missing, superfluous, not finite, or has another shape or type; or the
            file contains a soft or external link.
    """
    return read_datasets(data, lambda datasets: _matched(datasets, architecture))


def read_datasets(data: bytes, take: Callable[[dict[str, h5py.Dataset]], T]) -> T:
    """Apply `take` to the file's datasets by path, for layouts that `read_weights` does not read.

    Raises:
        ModelError: it is not HDF5, or contains a soft or external link.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return take(dict(_datasets(file)))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, zlib.error) as error:
        raise ModelError(f"the weights cannot be read as an HDF5 file: {error}") from None


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Walk every dataset by path. A group that is open takes memory, so none is walked by a second path."""
    pending, objects, groups = [("", file)], 0, {_address(file)}
    while pending:
        prefix, group = pending.pop()
        for key in group:
            path, objects = f"{prefix}{key}", objects + 1
            if objects > MAX_OBJECTS:
                raise ModelError(f"the weights file has more than {MAX_OBJECTS:,} objects")
            if len(path) > MAX_PATH:
                raise ModelError(f"the weights file has a path of more than {MAX_PATH:,} characters: {path[:80]!r}…")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ModelError(f"weight {path!r} is a soft or external link; only data in the file itself is read")
            item = group[key]
            if isinstance(item, h5py.Group):
                if (address := _address(item)) in groups:
                    raise ModelError(f"{path!r} is a second path to a group; save the weights again with Keras")
                groups.add(address)
                pending.append((f"{path}/", item))
            elif isinstance(item, h5py.Dataset):
                yield path, item


def _address(group: h5py.Group) -> int:
    address: int = h5py.h5o.get_info(group.id).addr
    return address


def _matched(datasets: dict[str, h5py.Dataset], architecture: Architecture) -> Weights:
    weights: Weights = {}
    counts: Counter[str] = Counter()
    shapes = architecture.weight_shapes()
    for node in architecture.nodes:
        kind, name = group_name(type(node.layer).__name__), node.layer.name
        group = f"layers/{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
        counts[kind] += 1
        for index, (weight, shape) in enumerate(shapes.get(name, {}).items()):
            array = checked_array(datasets.pop(f"{group}/vars/{index}", None), shape, f"{weight} of layer {name!r}")
            weights.setdefault(name, {})[weight] = array
    if extra := sorted(key for key in datasets if not RANDOM_STATE.match(key)):
        raise ModelError(f"the weights file has {extra[0]!r}, which no layer of the architecture uses")
    return weights


def checked_array(dataset: h5py.Dataset | None, shape: Shape, description: str) -> NDArray[np.float32]:
    """Read a dataset and check its type, shape and values; `description` names it in errors.

    Raises:
        ModelError: it is absent, of another shape or type, not finite, stored outside the file, or compressed to
            chunks that are larger than it declares.
    """
    if dataset is None:
        raise ModelError(f"the weights file has no {description}; save both files from the same model")
    if dataset.is_virtual or dataset.external:
        raise ModelError(f"{description} is stored outside the file; only data in the file itself is read")
    is_counter = shape == () and dataset.dtype.kind == "i"  # Normalization's, not used at inference
    if dataset.shape != shape or (dataset.dtype != np.float32 and not is_counter):
        raise ModelError(f"{description} is {dataset.dtype} {dataset.shape}, the architecture needs float32 {shape}")
    if dataset.chunks:
        _check_chunks(dataset, description)
    array = np.asarray(dataset[()], np.float32)
    if not np.isfinite(array).all():
        raise ModelError(f"{description} has values that are not finite; the training diverged")
    return array


def _check_chunks(dataset: h5py.Dataset, description: str) -> None:
    """Check that every chunk unpacks to the size it declares, in a dataset that is compressed as h5py does it.

    HDF5 allocates whatever a chunk unpacks to: 2 MB can become 2 GB, however small the dataset is.
    """
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if filters not in CHUNK_FILTERS or any(
        side > full for side, full in zip(dataset.chunks, dataset.shape, strict=True)
    ):
        raise ModelError(f"{description} is stored in chunks as Keras does not do; save the weights again with Keras")
    size = 4 * math.prod(dataset.chunks)
    chunks: list[Any] = []
    dataset.id.chunk_iter(chunks.append)  # by their numbers, HDF5 counts from the first each time
    for stored in chunks:
        skipped, packed = dataset.id.read_direct_chunk(stored.chunk_offset)
        chunk = zlib.decompressobj().decompress(packed, size + 1) if h5py.h5z.FILTER_DEFLATE in filters else packed
        if skipped or len(chunk) != size:
            raise ModelError(f"{description} does not unpack to its size; save the weights again with Keras")


def group_name(class_name: str) -> str:
    """Convert to Keras's snake case: BatchNormalization → batch_normalization, MaxPooling2D → max_pooling2d."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)).lower()
