"""Translate single layers of Keras 2 and 3 to the stock layers of Keras 3 that are served, or say why not."""

from dataclasses import replace
from typing import Any

import keras

from model_store.errors import ModelError
from model_store.network.architecture import parse_layer
from model_store.network.layers import LAYERS
from training.publish.keras_files.graph import Call, Constant, Graph, is_of_keras, rewired, shown

VERSIONED = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}
ACTIVATION_NAMES = {None: "linear", "swish": "silu", "softmax_v2": "softmax"}
# Layers that return their input at inference. Dropout is one too, but stays: to train on needs its rate.
IDLE = {name for name, layer in LAYERS.items() if layer.is_identity} - {"Dropout"}
IDLE |= {"AugMix", "CutMix", "MixUp", "RandAugment", "RandomElasticTransform", "RandomHeight", "RandomWidth"}
# Attributes that Keras 2 names otherwise.
RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
# Attributes that Keras 2 writes although they change nothing: of layers whose groups are their channels.
WITHOUT_GROUPS = "DepthwiseConv2D", "SeparableConv2D"
# Arithmetic between layers, by Keras 3's classes and by the functions of Keras 2's TFOpLambda.
ARITHMETIC = {
    "Add": "Add", "Subtract": "Subtract", "Multiply": "Multiply", "TrueDivide": "Divide", "Divide": "Divide",
    "math.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply", "math.truediv": "Divide",
    "math.divide": "Divide", "nn.bias_add": "Add", "__operators__.add": "Add",
}  # fmt: skip
REVERSED = "ReverseChannels"  # RGB to BGR or back, as `preprocess_input` of ResNet50 and VGG16 does
PREPROCESSING_REMEDY = "if it prepares the pixels, remove it and pass --mean, --std and --channel-order"


def simplify(graph: Graph) -> list[str]:
    """Replace operations by layers that compute the same, and leave out layers without effect at inference.

    Returns:
        the layers left out, "name (Class)" each.
    """
    left_out: list[str] = []
    names: dict[str, str] = {}
    calls: dict[str, Call] = {}
    for call in graph.calls:
        call = rewired(call, names)
        kind = VERSIONED.get(call.kind, call.kind)
        if kind in IDLE and not _stock_problem(kind, call):
            left_out.append(f"{call.name} ({kind})")
            names[call.name] = call.inputs[0]
            continue
        calls[call.name] = _operation(call, calls) if _is_operation(call) else replace(call, kind=kind)
    graph.output = names.get(graph.output, graph.output)
    used = {name for call in calls.values() for name in call.inputs}
    graph.calls = [call for call in calls.values() if call.kind != "GetItem" or call.name in used]
    return left_out


def translate(call: Call, graph: Graph) -> dict[str, Any]:
    """Translate one call to an entry of Keras 3's functional JSON; note a problem if the layer cannot be served."""
    try:
        entry = _translate(call, graph)
        parse_layer(entry)
        return {**entry, "inbound_nodes": _inbound(call)}
    except ModelError as error:
        graph.problems.append(str(error))
        return {}


def _translate(call: Call, graph: Graph) -> dict[str, Any]:
    """Translate one layer, without attributes that matter in training only except the rate of a Dropout."""
    kind, name, config = call.kind, call.name, {**_unwrapped(call.config), "name": call.name}
    if problem := _stock_problem(kind, call):
        raise ModelError(f"layer {name!r} is a {_described(call)}, {problem}")
    if graph.is_keras_2 and config.get("activation") == "hard_sigmoid":
        raise ModelError(
            f"layer {name!r} ({kind}) has the activation 'hard_sigmoid' of Keras 2, 0.2 x + 0.5, which is not served: "
            "that of Keras 3 computes other numbers"
        )
    config = {RENAMED.get(kind, {}).get(key, key): value for key, value in config.items()}
    if kind in WITHOUT_GROUPS and config.get("groups") == 1:
        del config["groups"]
    fields = LAYERS[kind].model_fields
    served = {key: value for key, value in config.items() if key not in fields or fields[key].annotation is not Any}
    rate = {"rate": _rate(name, config)} if kind == "Dropout" else {}
    return _entry(kind, _attributes(served) | rate)


def _unwrapped(value: Any) -> Any:
    """Return plain JSON for the arrays and tuples that Keras 2.12 to 3 write as objects."""
    match value:
        case {"class_name": "__numpy__" | "__tensor__", "config": {"value": plain}}:
            return plain
        case {"class_name": "__tuple__", "items": [*items]}:
            return [_unwrapped(item) for item in items]
        case {**entries}:
            return {key: _unwrapped(item) for key, item in entries.items()}
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value


def _entry(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def _inbound(call: Call) -> list[dict[str, Any]]:
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in call.inputs]
    return [{"args": [tensors], "kwargs": {}}] if tensors else []


def _stock_problem(kind: str, call: Call) -> str:
    """Say why a layer cannot be served by its class; "" if it can."""
    registered = str(call.entry.get("registered_name") or call.kind)
    if kind == "Lambda":
        return f"which is custom code: it holds Python, and no code from a file is run; {PREPROCESSING_REMEDY}"
    if not is_of_keras(call.entry) or VERSIONED.get(registered, registered) != kind:
        return "which is custom code; only Keras's own layers can be imported"
    if kind in {*LAYERS, *IDLE}:
        return ""
    if kind == REVERSED or _is_operation(call):
        return f"which is not served here in the network; {PREPROCESSING_REMEDY}"
    stock = call.entry.get("module") or hasattr(keras.layers, kind)  # old files name no module
    return "which is not served yet" if stock else "which is custom code, or a layer that Keras 3 no longer has"


def _described(call: Call) -> str:
    parts = call.entry.get("module"), call.entry.get("registered_name") or call.entry.get("class_name", call.kind)
    function = call.config.get("function")
    return ".".join(shown(part) for part in parts if part) + (
        f" of {function[:80]!r}" if isinstance(function, str) else ""
    )


def _is_operation(call: Call) -> bool:
    """Tell if it is arithmetic or indexing between layers rather than a layer.

    Keras 3 names no modules in `.h5`; there, operations are what lacks the attributes that every layer has.
    """
    if call.kind in ("TFOpLambda", "SlicingOpLambda"):
        return is_of_keras(call.entry)
    module = call.entry.get("module")
    return str(module).startswith("keras.src.ops.") or (
        module is None and call.kind != "InputLayer" and "trainable" not in call.config
    )


def _operation(call: Call, calls: dict[str, Call]) -> Call:
    """Return the layer that computes what an operation does; the operation itself if there is none."""
    function = call.config.get("function", call.kind)
    arithmetic = ARITHMETIC.get(function) if isinstance(function, str) else None
    if arithmetic and len(call.operands) == 2:
        if len(call.inputs) == 2:
            kind = arithmetic if arithmetic in LAYERS else call.kind
            return _made(call, kind, {}) if kind != call.kind or kind in LAYERS else call
        affine = _affine(arithmetic, *call.operands)
        return _made(call, "Rescaling", {"scale": affine[0], "offset": affine[1]}) if affine else call
    if call.kind == "SlicingOpLambda" and _reverses(call.config.get("slice_spec")):
        return _made(call, REVERSED, {})
    if call.kind == "Stack" and call.config.get("axis") == -1:
        parts = [calls[name] for name in call.inputs if name in calls]
        indices = [_channel(part) for part in parts]
        sources = {part.inputs for part in parts}
        if indices == [2, 1, 0] and len(sources) == 1:
            return replace(_made(call, REVERSED, {}), inputs=sources.pop())
    return call


def _made(call: Call, kind: str, config: dict[str, Any]) -> Call:
    return Call(call.name, kind, {"name": call.name, **config}, call.inputs, call.place)


def _affine(arithmetic: str, left: str | Constant, right: str | Constant) -> tuple[Any, Any] | None:
    """Return scale and offset of `x * scale + offset`, a number each or one for each channel."""
    constant = right if isinstance(left, str) else left
    values = [float(value) for value in constant]
    if isinstance(left, str):
        if arithmetic == "Divide" and 0 in values:
            return None
        scale, offset = {
            "Add": ([1.0], values),
            "Subtract": ([1.0], [-value for value in values]),
            "Multiply": (values, [0.0]),
            "Divide": ([1 / value if value else 0.0 for value in values], [0.0]),
        }[arithmetic]
    elif arithmetic == "Divide":
        return None
    else:
        scale, offset = {"Add": ([1.0], values), "Subtract": ([-1.0], values), "Multiply": (values, [0.0])}[arithmetic]
    return _plain(scale), _plain(offset)


def _plain(values: Constant) -> float | Constant:
    return values[0] if len(values) == 1 else values


def _reverses(spec: Any) -> bool:
    """Tell if a slice of Keras 2 is `[..., ::-1]`."""
    match spec:
        case [*leading, {"start": None, "stop": None, "step": -1}]:
            whole = {"start": None, "stop": None, "step": None}
            return leading == [{"class_name": "__ellipsis__"}] or leading == [whole] * 3
    return False


def _channel(call: Call) -> int | None:
    """Return the channel that a GetItem of Keras 3 takes, `x[..., i]`."""
    match call.kind, call.config.get("slice_spec"):
        case "GetItem", [{"class_name": "__ellipsis__"}, int(index)]:
            return index
    return None


def _attributes(config: dict[str, Any]) -> dict[str, Any]:
    """Translate a layer's attributes to Keras 3; unknown ones stay, for the parser to refuse."""
    translations = {"batch_shape": _batch_shape, "dtype": _dtype, "axis": _axis, "activation": _activation}
    return {
        key: translations[key](value) if key in translations else value
        for key, value in config.items()
        if key != "batch_input_shape"
    }


def _batch_shape(value: Any) -> list[int | None]:
    """Return the shape for any number of images; some networks were built for a fixed one."""
    if not isinstance(value, list) or len(value) != 4:
        raise ModelError(
            f"the network's input is {str(value)[:80]}, it must be images: [null, height, width, channels], in numbers"
        )
    return [None, *value[1:]]


def _dtype(value: Any) -> Any:
    """Return the name of a policy. Mixed ones store weights in float32, in which they are published."""
    match value:
        case {"config": {"name": name}} | name:
            return "float32" if is_mixed(name) else name


def is_mixed(name: Any) -> bool:
    """Tell if a policy computes in 16 bits on weights of float32."""
    return name in ("mixed_float16", "mixed_bfloat16")


def _rate(name: str, config: dict[str, Any]) -> float:
    rate = config.get("rate")
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ModelError(f"layer {name!r} (Dropout) has rate {str(rate)[:80]}, it must be a number from 0 to 1")
    return rate


def _axis(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _activation(value: Any) -> Any:
    return ACTIVATION_NAMES.get(value, value) if value is None or isinstance(value, str) else value
