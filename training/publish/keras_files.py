"""Convert files saved by Keras 2 and 3 to the architecture and weights of `model_store`.

Owns the dialects: Sequential and functional JSON since Keras 2.1, HDF5 by `save_weights` or `save`. Each is translated
to Keras 3, without attributes that matter in training only, and the reader of `model_store` checks the result. Keras
is not imported: nothing here could run code from a file.
"""

import json
import re
from typing import Any

import h5py

from model_store.errors import ModelError
from model_store.network.architecture import Architecture, parse_architecture
from model_store.network.layers import LAYERS
from model_store.network.weights import Weights, checked_array, read_datasets, read_weights

LAYER_NAME_PATTERN = r"[A-Za-z0-9_.][A-Za-z0-9_.>-]*"  # of a TensorFlow scope, without slash: Keras 3 refuses it
WHOLE_MODEL = "model_weights/"  # where save() puts what save_weights() puts at the top
VERSIONED = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}
ACTIVATION_NAMES = {None: "linear", "swish": "silu", "softmax_v2": "softmax"}
# Layers that are an Activation as long as their attributes, if present, have these values.
ACTIVATION_LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("relu", {"max_value": None, "negative_slope": 0, "threshold": 0}),
    "Softmax": ("softmax", {"axis": -1}),
}


def read_keras_json(text: bytes) -> tuple[Architecture, str]:
    """Read the network in `to_json()` of Keras 2 or 3. Also returns the version of Keras that wrote it.

    Raises:
        ModelError: it is not such JSON, or the network has a layer, attribute, input or size that is not served.
    """
    try:
        document = _document(text)
        architecture = parse_architecture(json.dumps(_translate(document)))
    except RecursionError:
        raise ModelError("it is nested too deeply; give what model.to_json() returned") from None
    return architecture, str(document.get("keras_version", "unknown"))[:40]


def read_keras_weights(data: bytes, architecture: Architecture) -> Weights:
    """Read the weights of every layer from the HDF5 file of `save_weights()` or `save()` of Keras 2 or 3.

    Raises:
        ModelError: as `model_store.network.weights.read_weights`.
    """
    return read_datasets(data, lambda datasets: _read_arrays(datasets, data, architecture))


def _document(text: bytes) -> dict[str, Any]:
    """Parse the JSON object, also from a string inside JSON, which `json.dump(model.to_json(), file)` writes."""
    try:
        document = json.loads(text)
        document = json.loads(document) if isinstance(document, str) else document
    except ValueError as error:
        raise ModelError(f"it is not JSON ({error}); give what model.to_json() returned") from None
    if not isinstance(document, dict):
        raise ModelError(f"it is JSON, but not an object: {str(document)[:80]}; give what model.to_json() returned")
    return document


def _translate(document: dict[str, Any]) -> dict[str, Any]:
    """Translate the whole document to Keras 3."""
    if document.get("backend", "tensorflow") not in ("tensorflow", "jax", "torch"):
        raise ModelError(
            f"it was saved on {str(document['backend'])[:40]!r}, where some layers compute other numbers; "
            "load both files with Keras 2 on TensorFlow and save them again"
        )
    match document:
        case {"class_name": "Sequential", "config": [*entries]}:  # until Keras 2.2
            return {"class_name": "Sequential", "config": {"layers": _translate_chain(entries, None)}}
        case {"class_name": "Sequential", "config": {"layers": [*entries], **rest}}:
            return {
                "class_name": "Sequential",
                "config": {"layers": _translate_chain(entries, rest.get("build_input_shape"))},
            }
        case {"class_name": "Functional" | "Model", "config": {"layers": [*entries], **rest}}:
            return {
                "class_name": "Functional",
                "config": {**rest, "layers": [_translate_layer(entry) for entry in entries]},
            }
    kind = str(document.get("class_name"))[:80]
    raise ModelError(
        f"it describes a {kind!r}; only Sequential and functional models with their layers can be imported"
    )


def _translate_chain(entries: list[Any], built_for: Any) -> list[dict[str, Any]]:
    """Translate a Sequential model's layers, and add the InputLayer that older dialects leave out."""
    layers = [_translate_layer(entry) for entry in entries]
    if layers and layers[0]["class_name"] != "InputLayer":
        shape = entries[0]["config"].get("batch_input_shape", built_for)
        layers.insert(0, _entry("InputLayer", {"name": "images", "batch_shape": _batch_shape(shape)}))
    return layers


def _translate_layer(entry: Any) -> dict[str, Any]:
    """Translate one layer, without attributes that matter in training only except the rate of a Dropout."""
    match entry:
        case {"class_name": str(kind), "config": {"name": str(name)} as config}:
            kind = _check_stock(VERSIONED.get(kind, kind), name, entry)
        case _:
            raise ModelError(f"a layer is not an object with a class_name and a named config: {str(entry)[:80]}")
    if not re.fullmatch(LAYER_NAME_PATTERN, name):
        raise ModelError(
            f"a layer is named {name[:80]!r}; name it with ASCII letters, digits, underscore, dot and dash"
        )
    if kind in ACTIVATION_LAYERS:
        kind, config = "Activation", _activation_config(kind, name, config)
    fields = LAYERS[kind].model_fields
    served = {key: value for key, value in config.items() if key not in fields or fields[key].annotation is not Any}
    rate = {"rate": _rate(name, config)} if kind == "Dropout" else {}
    layer = _entry(kind, _attributes(kind, served) | rate)
    return layer | ({"inbound_nodes": _translate_calls(entry["inbound_nodes"])} if "inbound_nodes" in entry else {})


def _entry(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def _check_stock(kind: str, name: str, entry: dict[str, Any]) -> str:
    """Return the kind if it is one of Keras's own layers that can be served."""
    module, registered = entry.get("module"), entry.get("registered_name") or kind
    ours = module is None or str(module).startswith(("keras.", "tf_keras.", "tensorflow."))
    if not ours or registered != kind or kind not in {*LAYERS, *ACTIVATION_LAYERS}:
        raise ModelError(
            f"layer {name!r} is a {'.'.join(str(part)[:80] for part in (module, registered) if part)}, which cannot be "
            f"imported: custom and Lambda layers are code. Served are {', '.join([*LAYERS, *ACTIVATION_LAYERS])}"
        )
    return kind


def _activation_config(kind: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of an Activation layer that does the same."""
    function, attributes = ACTIVATION_LAYERS[kind]
    for key, value in attributes.items():
        if config.get(key, value) != value:
            raise ModelError(f"layer {name!r} ({kind}) has {key} {str(config[key])[:80]}; only {value} is served")
    rest = {key: value for key, value in config.items() if key not in attributes}
    return {**rest, "activation": function}


def _attributes(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Translate a layer's attributes to Keras 3; unknown ones stay, for the parser to refuse."""
    if kind == "InputLayer":
        config = {"batch_shape": config.get("batch_input_shape"), **config}
    translations = {"batch_shape": _batch_shape, "dtype": _dtype, "axis": _axis, "activation": _activation}
    return {
        key: translations[key](value) if key in translations else value
        for key, value in config.items()
        if key != "batch_input_shape"
    }


def _batch_shape(value: Any) -> list[int | None]:
    sides = value[1:3] if isinstance(value, list) and len(value) == 4 else []
    if not all(type(side) is int and 16 <= side <= 256 for side in sides) or not sides or value[3] not in (1, 3):
        raise ModelError(
            f"the network's input is {str(value)[:80]}, it must be [null, height, width, channels]: any number of "
            "images of 16 to 256 pixels a side and of 1 or 3 channels, which come last"
        )
    return [None, *value[1:]]


def _dtype(value: Any) -> Any:
    """Return the name of a policy. Mixed ones store weights in float32, in which they are published."""
    match value:
        case {"config": {"name": name}} | name:
            return "float32" if name in ("mixed_float16", "mixed_bfloat16") else name


def _rate(name: str, config: dict[str, Any]) -> float:
    rate = config.get("rate")
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ModelError(f"layer {name!r} (Dropout) has rate {str(rate)[:80]}, it must be a number from 0 to 1")
    return rate


def _axis(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _activation(value: Any) -> Any:
    return ACTIVATION_NAMES.get(value, value) if value is None or isinstance(value, str) else value


def _translate_calls(value: Any) -> Any:
    """Translate Keras 2's [[[layer, 0, 0, kwargs], …]] to Keras 3; anything else stays, for the parser to check."""
    match value:
        case [[*reads]] if reads and all(isinstance(r, list) and len(r) == 4 and isinstance(r[3], dict) for r in reads):
            tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": read[:3]}} for read in reads]
            kwargs = {key: value for read in reads for key, value in read[3].items()}
            return [{"args": [tensors], "kwargs": kwargs}]
    return value


def _read_arrays(datasets: dict[str, h5py.Dataset], data: bytes, architecture: Architecture) -> Weights:
    if any(re.match(r"layers/[^/]+/vars/\d+$", path) for path in datasets):  # since Keras 2.13, as .weights.h5
        return read_weights(data, architecture)
    if any("/vars/" in path for path in datasets):
        raise ModelError(
            "it is laid out as only Keras 2.12 does for .weights.h5; load it there and save it as weights.h5"
        )
    stored = _by_name(datasets)
    weights: Weights = {}
    for layer, shapes in architecture.weight_shapes().items():
        for weight, shape in shapes.items():
            array = checked_array(stored.pop((layer, weight), None), shape, f"{weight} of layer {layer!r}")
            weights.setdefault(layer, {})[weight] = array
    if stored:
        raise ModelError(
            f"it holds {' of layer '.join(map(repr, reversed(min(stored))))}, which the architecture lacks"
        )
    return weights


def _by_name(datasets: dict[str, h5py.Dataset]) -> dict[tuple[str, str], h5py.Dataset]:
    """Map (layer, weight) to datasets with paths such as `conv2d/conv2d/kernel:0`, without an optimizer's."""
    whole = any(path.startswith(WHOLE_MODEL) for path in datasets)
    stored: dict[tuple[str, str], h5py.Dataset] = {}
    for path, dataset in datasets.items():
        if whole and not path.startswith(WHOLE_MODEL):
            continue
        layer, _, weight = path.removeprefix(WHOLE_MODEL).partition("/")
        key = layer, weight.rpartition("/")[2].removesuffix(":0")
        if key in stored:
            raise ModelError(f"it holds the {key[1]} of layer {layer!r} twice, the second time as {path!r}")
        stored[key] = dataset
    return stored
