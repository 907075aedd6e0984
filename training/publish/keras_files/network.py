"""Read a network from the files of Keras 2 and 3: its architecture, then the weights that it needs."""

import json
from dataclasses import dataclass
from typing import Any

import h5py

from model_store.errors import ModelError
from model_store.network.architecture import Architecture, parse_architecture
from model_store.network.weights import Weights, read_datasets
from training.publish.keras_files.graph import Call, Graph, Place, read_graph
from training.publish.keras_files.layers import is_mixed, simplify, translate
from training.publish.keras_files.scaling import Scaling, compose, needs_weights, take_scaling, weight_shape
from training.publish.keras_files.weights import find_weights


@dataclass(frozen=True)
class KerasArchitecture:
    """A network as it will be served, and what was taken off it.

    `scaling` are the layers at its front that scale the pixels; `left_out` those that do nothing at inference. `mixed`
    tells that Keras computes it in 16 bits.
    """

    architecture: Architecture
    version: str
    places: dict[str, Place]
    scaling: tuple[Call, ...]
    passed_over: tuple[Place, ...]
    left_out: tuple[str, ...]
    mixed: bool


@dataclass(frozen=True)
class KerasWeights:
    """The weights of a network, and what the layers at its front do. `by_order`: no layer was found by its name."""

    weights: Weights
    scaling: Scaling
    by_order: bool


def read_keras_json(text: bytes, version: str = "") -> KerasArchitecture:
    """Read the network in `to_json()` of Keras 2 or 3, or in a whole model.

    Raises:
        ModelError: it is not such JSON, or the network has layers, attributes, inputs or sizes that are not served; the
            text names each layer with its reason.
    """
    graph = read_graph(text, version)
    places = {call.name: call.place for call in graph.calls}
    mixed = any(is_mixed(_policy(call)) for call in graph.calls)
    left_out = simplify(graph)
    if not graph.calls:
        raise ModelError("none of its layers computes anything; give a network that was trained")
    scaling = take_scaling(graph, _channels(graph))
    architecture = _parse(graph)
    kept = {node.layer.name for node in architecture.nodes}
    passed_over = tuple(place for name, place in places.items() if name not in kept)
    kept_places = {name: place for name, place in places.items() if name in kept}
    return KerasArchitecture(
        architecture, graph.version, kept_places, tuple(scaling), passed_over, tuple(left_out), mixed
    )


def read_keras_weights(data: bytes, read: KerasArchitecture) -> KerasWeights:
    """Read the weights of every layer from the HDF5 file of `save_weights()` or `save()` of Keras 2 or 3.

    Raises:
        ModelError: as `model_store.network.weights.read_weights`.
    """
    return read_datasets(data, lambda datasets: _find(datasets, read))


def _policy(call: Call) -> Any:
    match call.config.get("dtype"):
        case {"config": {"name": name}} | name:
            return name


def _channels(graph: Graph) -> int:
    shape = graph.calls[0].config.get("batch_shape") if graph.calls else None
    return shape[-1] if isinstance(shape, list) and shape and shape[-1] in (1, 3) and isinstance(shape[-1], int) else 3


def _parse(graph: Graph) -> Architecture:
    layers = [translate(call, graph) for call in graph.calls]
    graph.refuse()
    first = graph.calls[0].name
    config = {"layers": layers, "input_layers": [[first, 0, 0]], "output_layers": [[graph.output, 0, 0]]}
    return parse_architecture(json.dumps({"class_name": "Functional", "config": config}))


def _find(datasets: dict[str, h5py.Dataset], read: KerasArchitecture) -> KerasWeights:
    channels = read.architecture.nodes[0].shape[-1]
    adapted = {call.name: weight_shape(call, channels) for call in read.scaling if needs_weights(call)}
    wanted = {name: {"mean": shape, "variance": shape} for name, shape in adapted.items()}
    places = {**read.places, **{call.name: call.place for call in read.scaling if call.name in adapted}}
    passed_over = list(read.passed_over)
    weights, by_order = find_weights(datasets, {**wanted, **read.architecture.weight_shapes()}, places, passed_over)
    statistics = {name: (weights[name]["mean"], weights[name]["variance"]) for name in adapted}
    kept = {name: arrays for name, arrays in weights.items() if name not in adapted}
    return KerasWeights(kept, compose(list(read.scaling), statistics, channels), by_order)
