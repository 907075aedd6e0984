"""Flatten a Keras architecture: nested models become one list of layer calls, in the order of computation.

Owns how Keras 2 and 3 write models, calls and tensors. What a layer computes is `layers.py`'s.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from model_store.errors import ModelError
from model_store.network.weights import group_name

LAYER_NAME_PATTERN = r"[A-Za-z0-9_.][A-Za-z0-9_./>-]{0,199}"  # of a TensorFlow scope
MODELS = {"Sequential": "Sequential", "Functional": "Functional", "Model": "Functional"}
UNKNOWN = "?"  # read by a layer whose input is a problem, so that the layers after it are looked at, too
MAX_CALLS = 10_000
MAX_PROBLEMS = 10  # named in one message


@dataclass(frozen=True)
class Place:
    """Where weight files keep a layer's weights.

    `group` is the path in Keras 3's layout. Older files know names: that of the outermost layer, and the layer's own.
    """

    group: str
    outermost: str
    name: str


Constant: TypeAlias = list[float]  # one number, or one for each channel


@dataclass(frozen=True)
class Call:
    """A layer applied to the outputs of others; `operands` are what an operation such as a division is applied to."""

    name: str
    kind: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    place: Place
    entry: dict[str, Any] = field(default_factory=dict)
    operands: tuple[str | Constant, ...] = ()


@dataclass
class Graph:
    """The flat network. `problems` say which layers cannot be served, each with its reason."""

    version: str
    calls: list[Call] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def is_keras_2(self) -> bool:
        """True unless Keras 3 wrote it; without a version, the oldest dialect is assumed."""
        return not self.version.startswith("3")

    def refuse(self) -> None:
        """Raise ModelError if there are problems."""
        if not self.problems:
            return
        named = self.problems[:MAX_PROBLEMS]
        more = len(self.problems) - len(named)
        lines = [*named, *([f"and {more:,} more"] if more else [])]
        head = f"{len(self.problems):,} of its layers cannot be served:\n  " if len(self.problems) > 1 else ""
        raise ModelError(head + "\n  ".join(lines))


def read_graph(text: bytes, version: str = "") -> Graph:
    """Read `to_json()` of Keras 2 or 3, or a whole model's config.

    Raises:
        ModelError: it is not such JSON, or not a Sequential or functional model with one input and one output.
    """
    try:
        document = _document(text)
        graph = Graph(str(document.get("keras_version") or version or "unknown")[:40])
        if document.get("backend", "tensorflow") not in ("tensorflow", "jax", "torch"):
            raise ModelError(
                f"it was saved on {str(document['backend'])[:40]!r}, where some layers compute other numbers; "
                "load both files with Keras 2 on TensorFlow and save them again"
            )
        if not _is_model(document):
            described = ".".join(str(document[key])[:80] for key in ("module", "class_name") if document.get(key))
            raise ModelError(
                f"it describes a {described!r}; only Sequential and functional models with their layers can be "
                "imported, and subclasses are custom code"
            )
        graph.output = _Flattening(graph).model(document, None, "", None)
    except RecursionError:
        raise ModelError("it is nested too deeply; give what model.to_json() returned") from None
    return graph


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


def _is_model(entry: dict[str, Any]) -> bool:
    kind = entry.get("class_name")
    return (
        isinstance(kind, str)
        and kind in MODELS
        and is_of_keras(entry)
        and str(entry.get("registered_name") or kind) in MODELS
        and isinstance(_layers(entry), list)
    )


def _layers(entry: dict[str, Any]) -> Any:
    config = entry.get("config")
    if isinstance(config, dict):
        return config.get("layers")
    return config if entry.get("class_name") == "Sequential" else None  # a list until Keras 2.2


def shown(text: object, limit: int = 80) -> str:
    """Return a text of a file as it can be shown on a terminal, in one line."""
    return "".join(each if each.isprintable() else "?" for each in str(text)[:limit])


def is_of_keras(entry: dict[str, Any]) -> bool:
    """Tell if a layer's module is Keras's own, as far as the file says one."""
    module = entry.get("module")
    return module is None or f"{module}.".startswith(("keras.", "tf_keras.", "tensorflow."))


class _Flattening:
    """Walks the models of a document from the outermost in, and adds their layers' calls to the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: set[str] = set()
        self.repeats = Counter[str]()

    def model(self, entry: dict[str, Any], images: str | None, path: str, outer: Place | None) -> str:
        """Add a model's calls. Returns the name of its output.

        Args:
            images: name of the value that a nested model is applied to.
            path: the names of the models around its layers, each with a dot after it.
            outer: the nested model's own place.
        """
        entries = [self._checked(layer) for layer in _layers(entry)]
        places = _places(entries, outer)
        if MODELS[entry["class_name"]] == "Sequential":
            return self._chain(entry, entries, places, images, path)
        return self._functional(entry["config"], entries, places, images, path)

    def _checked(self, entry: Any) -> dict[str, Any]:
        match entry:
            case {"class_name": str(), "config": {"name": str(name)}}:
                pass
            case {"class_name": str(), "config": [*_]}:  # a nested Sequential until Keras 2.2 has no name
                return {**entry, "config": {"name": "sequential", "layers": entry["config"]}}
            case _:
                raise ModelError(f"a layer is not an object with a class_name and a named config: {str(entry)[:80]}")
        if not re.fullmatch(LAYER_NAME_PATTERN, name):
            raise ModelError(
                f"a layer is named {name[:80]!r}; name it with at most 200 ASCII letters, digits, underscores, dots, "
                "dashes and slashes"
            )
        return entry  # type: ignore[no-any-return]

    def _chain(
        self, model: dict[str, Any], entries: list[Any], places: list[Place], images: str | None, path: str
    ) -> str:
        value = images
        if value is None and (not entries or entries[0]["class_name"] != "InputLayer"):
            value = self._input("images", _input_shape(model), Place("", "", ""))
        for entry, place in zip(entries, places, strict=True):
            if entry["class_name"] != "InputLayer":
                value = self._layer(entry, [value or ""], place, path)
            elif images is None:
                value = self._input(entry["config"]["name"], _input_shape(entry), place, entry["config"])
        return value or ""

    def _functional(
        self, config: dict[str, Any], entries: list[Any], places: list[Place], images: str | None, path: str
    ) -> str:
        first, last = (_end(config.get(key), key) for key in ("input_layers", "output_layers"))
        values: dict[str, str] = {}
        for entry, place in zip(entries, places, strict=True):
            name = entry["config"]["name"]
            if name in values:
                raise ModelError(f"two layers are named {name!r}")
            if entry["class_name"] == "InputLayer":
                if name != first:
                    raise ModelError(
                        f"layer {name!r} is an InputLayer, but the model's only input must be {first!r}; "
                        "a model has one input and one output"
                    )
                values[name] = images or self._input(name, _input_shape(entry), place, entry["config"])
                continue
            operands = self._operands(entry, values) or [UNKNOWN]
            values[name] = self._layer(entry, operands, place, path)
        if last not in values:
            raise ModelError(f"the model's output is {last[:200]!r}, which is not one of its layers")
        return values[last]

    def _operands(self, entry: dict[str, Any], values: dict[str, str]) -> list[str | Constant]:
        """Return what a layer is applied to; empty, after noting the problem, if the layer cannot be served."""
        name, calls = entry["config"]["name"], entry.get("inbound_nodes")
        described = f"layer {name!r} ({shown(entry['class_name'])})"
        if not isinstance(calls, list) or len(calls) != 1:
            times = len(calls) if isinstance(calls, list) else "no"
            self.graph.problems.append(
                f"{described} is called {times} times; each layer must be called once, so build one for each call"
            )
            return []
        operands, kwargs = _call(calls[0])
        is_2 = isinstance(calls[0], list)
        known = {"mask", "training", "name", "data_format", "slice_spec"}
        if strange := [
            key
            for key, value in kwargs.items()
            if value not in (None, False) and (key not in known or (key in ("training", "mask") and is_2))
        ]:
            self.graph.problems.append(
                f"{described} is called with {shown(strange[0])}={shown(kwargs[strange[0]], 40)}, "
                "arguments other than tensors; call it without"
            )
            return []
        if entry["class_name"] == "GetItem" and len(operands) == 2:
            kwargs["slice_spec"] = operands.pop()
        if "slice_spec" in kwargs:
            entry["config"]["slice_spec"] = kwargs["slice_spec"]
        read: list[str | Constant] = []
        for operand in operands:
            value = _constant(operand) if (history := _history(operand)) is None else values.get(history)
            if history is not None and history not in values:
                raise ModelError(f"layer {name!r} reads {history[:200]!r}, which does not come before it")
            if value is None:
                self.graph.problems.append(
                    f"{described} reads something that is not another layer's output: {shown(operand)}"
                )
                return []
            read.append(value)
        if not any(isinstance(value, str) for value in read):
            self.graph.problems.append(f"{described} must be called once, on another layer's output")
            return []
        return read

    def _layer(self, entry: dict[str, Any], operands: list[Any], place: Place, path: str) -> str:
        config = entry["config"]
        inputs = tuple(operand for operand in operands if isinstance(operand, str))
        if _is_model(entry):
            if len(inputs) != 1:
                self.graph.problems.append(f"layer {config['name']!r} is a model of {len(inputs)} inputs, not of one")
            return self.model(entry, inputs[0], f"{path}{config['name']}.", place)
        name = self._unique(config["name"], path)
        self._add(Call(name, entry["class_name"], config, inputs, place, entry, tuple(operands)))
        return name

    def _input(self, name: str, shape: Any, place: Place, config: dict[str, Any] | None = None) -> str:
        rest = {key: value for key, value in (config or {}).items() if key not in ("batch_input_shape", "dtype")}
        name = self._unique(name, "")
        self._add(Call(name, "InputLayer", {**rest, "batch_shape": shape}, (), place))
        return name

    def _add(self, call: Call) -> None:
        self.graph.calls.append(call)
        if len(self.graph.calls) > MAX_CALLS:
            raise ModelError(f"the model has more than {MAX_CALLS:,} layers")

    def _unique(self, name: str, path: str) -> str:
        """Return a name that Keras 3 accepts, after the models around the layer where it would not be unique."""
        plain = name.replace("/", ".")
        plain = plain if plain not in self.names else f"{path}{name}".replace("/", ".")
        repeated = plain
        while plain in self.names:
            self.repeats[repeated] += 1
            plain = f"{repeated}_{self.repeats[repeated]}"
        self.names.add(plain)
        return plain


def _places(entries: list[dict[str, Any]], outer: Place | None) -> list[Place]:
    """Return the place of each layer of a model: Keras 3 counts the layers of each class, model by model."""
    counts: Counter[str] = Counter()
    places = []
    for entry in entries:
        kind, name = MODELS.get(entry["class_name"], entry["class_name"]), entry["config"]["name"]
        if str(entry.get("module")).startswith("keras.src.ops"):  # an operation, which Keras 3 counts as no layer
            kind = "operation"
        kind = group_name(kind)
        group = f"{outer.group}/layers/{kind}" if outer else f"layers/{kind}"
        group += f"_{counts[kind]}" if counts[kind] else ""
        counts[kind] += 1
        places.append(Place(group, outer.outermost if outer else name, name))
    return places


def _input_shape(entry: dict[str, Any]) -> Any:
    """Return the shape of an InputLayer, or of the images that a Sequential model was built for."""
    config = entry["config"]
    layers = _layers(entry)
    if isinstance(config, dict):
        for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
            if config.get(key):
                return config[key]
    first = layers[0] if isinstance(layers, list) and layers else None
    return _input_shape(first) if isinstance(first, dict) and isinstance(first.get("config"), dict | list) else None


def _end(value: Any, key: str) -> str:
    """Return the one layer in `input_layers` or `output_layers`; Keras writes [name, 0, 0] or [[name, 0, 0]]."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    match value:
        case [str(name), int(), 0]:
            return name
    raise ModelError(f"the model must have one input and one output; {key} is {str(value)[:80]}")


def _call(call: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the tensors and constants of a call, and its other arguments.

    Keras 3 writes {"args", "kwargs"}; Keras 2 [[layer, 0, 0, kwargs], …], an operation [layer, 0, 0, kwargs].
    """
    match call:
        case {"args": [*args], "kwargs": dict(kwargs)}:
            return [part for arg in args for part in (arg if _is_tensors(arg) else [arg])], dict(kwargs)
        case [str(), int(), *_]:
            return _operands_of_2([call])
        case [*reads]:
            return _operands_of_2(reads)
    return [], {}


def _operands_of_2(reads: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    operands: list[Any] = []
    kwargs: dict[str, Any] = {}
    for read in reads:
        match read:
            case ["_CONSTANT_VALUE", -1, value, dict()]:
                operands.append(value)
            case [str(), int(), 0] | [str(), int(), 0, dict()]:
                operands.append(read[:3])
            case _:
                return [], {}
        kwargs |= read[3] if len(read) == 4 else {}
    operands += [kwargs.pop(key) for key in ("y", "b", "bias") if key in kwargs]
    return operands, kwargs


def _is_tensors(value: Any) -> bool:
    """Tell if it is a list of tensors, as Add takes, and not one tensor of Keras 2 or the index of a slice."""
    return isinstance(value, list) and all(_is_tensor(part) for part in value)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _history(operand: Any) -> str | None:
    """Return the layer that a tensor comes from, or None if it is a constant."""
    match operand:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), int(), 0]}}:
            return name
        case [str(name), int(), 0]:
            return name
    return None


def _constant(operand: Any) -> Constant | None:
    """Return the numbers of a constant: one, or one for each channel."""
    if isinstance(operand, dict) and isinstance(operand.get("config"), dict):
        operand = operand["config"].get("value")
    while isinstance(operand, list) and len(operand) == 1:
        operand = operand[0]
    numbers = operand if isinstance(operand, list) else [operand]
    if 1 <= len(numbers) <= 4 and all(isinstance(value, int | float) and abs(value) < 1e30 for value in numbers):
        return [float(value) for value in numbers]
    return None


def rewired(call: Call, names: dict[str, str]) -> Call:
    """Return the call reading other layers, by {old name: new name}."""
    inputs = tuple(names.get(name, name) for name in call.inputs)
    operands = tuple(names.get(value, value) if isinstance(value, str) else value for value in call.operands)
    return replace(call, inputs=inputs, operands=operands)
