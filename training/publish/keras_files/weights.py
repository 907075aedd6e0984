"""Find a network's weights in the HDF5 files of Keras 2 and 3.

Owns the layouts: by class and number, since Keras 2.13 (`layers/conv2d_1/vars/0`) and in a variant in 2.12; before
that, and in `.h5`, by name (`conv2d_1/conv2d_1/kernel:0`). Optimizers, metrics and random states are passed over.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from model_store.errors import ModelError
from model_store.network.layers import Shape
from model_store.network.weights import Weights, checked_array
from training.publish.keras_files.graph import Place

WHOLE_MODEL = "model_weights"  # where save() puts what save_weights() puts at the top
OF_2_12 = "_layer_checkpoint_dependencies"
ALIASES = {"depthwise_kernel": "kernel", "kernel": "depthwise_kernel"}  # of DepthwiseConv2D, in Keras 2 and 3
Datasets = dict[str, h5py.Dataset]
Wanted = dict[str, dict[str, Shape]]  # layer -> weight -> shape, in Keras's order


def find_weights(
    datasets: Datasets, wanted: Wanted, places: dict[str, Place], passed_over: list[Place]
) -> tuple[Weights, bool]:
    """Find and check the weights wanted. Also tells if they were found by their order, since all names differ.

    Args:
        places: of the layers wanted, by name.
        passed_over: places of layers whose weights are not needed.

    Raises:
        ModelError: a weight is missing, superfluous, not finite, or has another shape or type.
    """
    if any(path.startswith(f"{OF_2_12}/") for path in datasets):
        datasets = _as_since_2_13(datasets)
    if any(re.match(r"layers/.*/vars/\d+$", path) for path in datasets):
        return _by_class(datasets, wanted, places, passed_over), False
    stored = _by_name(datasets, [*places.values(), *passed_over])
    renamed = {name for name, _ in stored} - {place.outermost for place in passed_over}
    try:
        return _collect(stored, wanted, places, passed_over), False
    except ModelError:
        if renamed == {_owner(places[layer]) for layer in wanted}:
            raise
        in_order = _by_order(datasets, wanted)
        if in_order is None:
            raise
        return in_order, True


def _as_since_2_13(datasets: Datasets) -> Datasets:
    """Rename the paths of Keras 2.12, which counts layers with weights twice, to those of later releases."""
    numbers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    split = [[*_steps(path)] for path in datasets]
    for steps in split:
        for parent, kind, number in steps:
            numbers[parent, kind].add(number)
    renamed = {}
    for (path, dataset), steps in zip(datasets.items(), split, strict=True):
        if not steps:
            renamed[path] = dataset
            continue
        rest = path.removeprefix(steps[-1][0]).partition("/")[2].partition("/")[2]
        ranks = [(kind, sorted(numbers[parent, kind]).index(number)) for parent, kind, number in steps]
        renamed["/".join(f"layers/{kind}" + (f"_{rank}" if rank else "") for kind, rank in ranks) + f"/{rest}"] = (
            dataset
        )
    return renamed


def _steps(path: str) -> Iterator[tuple[str, str, int]]:
    """Yield (path of the container, class, number) for each model and layer on a path of Keras 2.12."""
    parent = OF_2_12
    while path.startswith(f"{parent}/"):
        name = path.removeprefix(f"{parent}/").partition("/")[0]
        kind, number = re.fullmatch(r"(?s)(.*?)(?:_(\d{1,9}))?", name).groups()  # type: ignore[union-attr]
        yield parent, kind, int(number or 0)
        parent = f"{parent}/{name}/{OF_2_12}"


def _by_class(datasets: Datasets, wanted: Wanted, places: dict[str, Place], passed_over: list[Place]) -> Weights:
    weights: Weights = {}
    rest = dict(datasets)
    for layer, shapes in wanted.items():
        for index, (weight, shape) in enumerate(shapes.items()):
            dataset = rest.pop(f"{places[layer].group}/vars/{index}", None)
            weights.setdefault(layer, {})[weight] = checked_array(dataset, shape, f"{weight} of layer {layer!r}")
    ignored = tuple(f"{place.group}/" for place in passed_over)
    extra = [path for path in rest if path.startswith("layers/") and not path.startswith(ignored)]
    if extra := sorted(path for path in extra if "/seed_generator/" not in path):
        raise ModelError(f"it has {extra[0]!r}, which no layer of the architecture uses")
    return weights


Owner = tuple[str, str]  # outermost layer, and the layer's own name


def _owner(place: Place) -> Owner:
    return place.outermost, place.name


def _by_name(datasets: Datasets, places: list[Place]) -> dict[tuple[Owner, str], h5py.Dataset]:
    """Map (owner, weight) to datasets with paths such as `conv2d/conv2d/kernel:0`, without an optimizer's."""
    inner: defaultdict[str, set[str]] = defaultdict(set)
    for place in places:
        inner[place.outermost].add(place.name)
    stored: dict[tuple[Owner, str], h5py.Dataset] = {}
    for path, dataset in _without_optimizer(datasets).items():
        layers = [name for name in inner if path.startswith(f"{name}/")]
        outermost = max(layers, key=len) if layers else path.partition("/")[0]
        scope, _, weight = path.removeprefix(f"{outermost}/").rpartition("/")
        names = inner.get(outermost, {outermost})
        name = outermost
        if names != {outermost}:  # a nested model
            fitting = [name for name in names if f"/{scope}".endswith(f"/{name}")]
            name = max(fitting, key=len) if fitting else scope
        key = (outermost, name), weight.removesuffix(":0")
        if key in stored:
            raise ModelError(f"it holds the {key[1]} of layer {name!r} twice, the second time as {path!r}")
        stored[key] = dataset
    return stored


def _without_optimizer(datasets: Datasets) -> Datasets:
    whole = f"{WHOLE_MODEL}/"
    if not any(path.startswith(whole) for path in datasets):
        return datasets
    return {path.removeprefix(whole): dataset for path, dataset in datasets.items() if path.startswith(whole)}


def _collect(
    stored: dict[tuple[Owner, str], h5py.Dataset], wanted: Wanted, places: dict[str, Place], passed_over: list[Place]
) -> Weights:
    weights: Weights = {}
    rest = dict(stored)
    for layer, shapes in wanted.items():
        owner = _owner(places[layer])
        for weight, shape in shapes.items():
            key = owner, weight
            key = key if key in rest or weight not in ALIASES else (owner, ALIASES[weight])
            array = checked_array(rest.pop(key, None), shape, f"{weight} of layer {layer!r}")
            weights.setdefault(layer, {})[weight] = array
    ignored = {_owner(place) for place in passed_over}
    if extra := sorted((owner[1], weight) for owner, weight in rest if owner not in ignored):
        raise ModelError(f"it holds {extra[0][1]!r} of layer {extra[0][0]!r}, which the architecture lacks")
    return weights


def _by_order(datasets: Datasets, wanted: Wanted) -> Weights | None:
    """Match layers with weights one by one, as Keras loads `.h5`; None if names of weights or shapes do not fit."""
    if not datasets:
        return None
    file = next(iter(datasets.values())).file
    try:
        owners = list(_ordered(file.get(WHOLE_MODEL, file)))
    except (KeyError, TypeError, ValueError, AttributeError, UnicodeDecodeError):
        return None
    if len(owners) != len(wanted) or sum(map(len, owners)) != len(_without_optimizer(datasets)):
        return None
    weights: Weights = {}
    for (layer, shapes), found in zip(wanted.items(), owners, strict=True):
        found = {name if name in shapes else ALIASES.get(name, name): dataset for name, dataset in found.items()}
        if set(found) != set(shapes):
            return None
        for weight, shape in shapes.items():
            if found[weight].shape != shape:
                return None
            array = checked_array(found[weight], shape, f"{weight} of layer {layer!r}")
            weights.setdefault(layer, {})[weight] = array
    return weights


def _ordered(root: h5py.Group) -> Iterator[dict[str, h5py.Dataset]]:
    """Yield the datasets of each layer with weights, by weight, in the order that the file's attributes give."""
    for layer in _attribute(root, "layer_names"):
        owners: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for path in _attribute(root[layer], "weight_names"):
            scope, _, weight = path.rpartition("/")
            if not isinstance(dataset := root[layer][path], h5py.Dataset):
                raise TypeError(f"{path} is a group")
            owners[scope][weight.removesuffix(":0")] = dataset
        yield from owners.values()


def _attribute(group: h5py.Group, key: str) -> list[str]:
    """Return a list of names, which Keras splits into key0, key1, … if it is long."""
    keys = [key] if key in group.attrs else [f"{key}{index}" for index in range(len(group.attrs))]
    values = [value for part in keys if part in group.attrs for value in np.asarray(group.attrs[part]).ravel()]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
