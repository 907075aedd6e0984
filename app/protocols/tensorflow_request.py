"""Bodies of TensorFlow Serving's REST interface and of KServe's v1, which extends it.

    {"instances": [image, …]} or {"inputs": [image, …]}; to classify, {"examples": [image, …]}

An image is a tensor of shape (height, width, channels) or {"b64": "…"}, or an object with one of them under a name of
its own.
"""

from dataclasses import dataclass
from typing import Any

from app.errors import Problem
from app.protocols.images import (
    check_count,
    decode_base64,
    flatten,
    malformed,
    number_types,
    pixels_from_fractions,
    pixels_from_integers,
)
from app.protocols.json_body import JsonObject, describe
from app.protocols.requests import at
from app.versions.serving import Source
from model_store.network.layers import Shape

SIGNATURE = "serving_default"
ROWS, COLUMNS, EXAMPLES = "instances", "inputs", "examples"
AMBIGUOUS = (
    "all numbers are 0 or 1 and have no fraction, so they may be 8-bit pixels or floating-point ones; "
    "write 1.0 for floating-point pixels, or name the datatype in POST /v2/models/NAME/infer"
)


@dataclass(frozen=True)
class ImagesRequest:
    """The images of a request, and the field they came in."""

    images: list[Source]
    field: str

    @property
    def place(self) -> str:
        """The place of an image, with `{}` for its index."""
        return f"{self.field}[{{}}]"


def read_images(document: JsonObject, max_images: int, shape: Shape) -> ImagesRequest:
    """Read a request to predict, in row or column format.

    Raises:
        Problem: it is not as described above.
    """
    _check_signature(document)
    fields = [field for field in (ROWS, COLUMNS) if field in document]
    if len(fields) != 1:
        received = "both" if fields else f"the keys {sorted(document)[:5]!r}"[:200]
        raise malformed(f"send either 'instances' or 'inputs'; {received} were received")
    (field,) = fields
    value = document[field]
    if field == COLUMNS:
        value = _without_name(value)
        if isinstance(value, dict):  # {"b64": …}
            value = [value]
    return ImagesRequest(_images(value, field, max_images, shape), field)


def read_rows(document: JsonObject, max_images: int, shape: Shape) -> ImagesRequest:
    """Read a request whose images are `instances`.

    Raises:
        Problem: it is not as described above.
    """
    return ImagesRequest(_images(document.get(ROWS), ROWS, max_images, shape), ROWS)


def read_examples(document: JsonObject, max_images: int, shape: Shape) -> ImagesRequest:
    """Read a request to classify.

    Raises:
        Problem: it is not as described above.
    """
    _check_signature(document)
    return ImagesRequest(_images(document.get(EXAMPLES), EXAMPLES, max_images, shape), EXAMPLES)


def _check_signature(document: JsonObject) -> None:
    if (name := document.get("signature_name", SIGNATURE)) not in (SIGNATURE, ""):
        raise malformed(f"signature_name is {describe(name)}; the model has only {SIGNATURE!r}")


def _images(values: Any, field: str, max_images: int, shape: Shape) -> list[Source]:
    """Read images. Numbers have one meaning in the whole request: 8-bit pixels if none of them has a fraction."""
    if not isinstance(values, list):
        raise malformed(f"{field!r} is {describe(values)}; send a list of images")
    check_count(len(values), max_images)
    sources: list[Source | None] = [None] * len(values)
    tensors: dict[int, list[Any]] = {}
    types: set[type] = set()
    for index, value in enumerate(values):
        try:
            inner = _without_name(value)
            if isinstance(inner, dict):
                sources[index] = decode_base64(inner["b64"])
            else:
                tensors[index] = flatten(inner, shape)
                types |= number_types(tensors[index])
        except Problem as problem:
            raise at(f"{field}[{index}]", problem) from None
    convert = pixels_from_fractions if float in types else pixels_from_integers
    if types == {int} and max(map(max, tensors.values())) == 1:
        raise malformed(AMBIGUOUS)
    for index, numbers in tensors.items():
        try:
            sources[index] = convert(numbers, shape)
        except Problem as problem:
            raise at(f"{field}[{index}]", problem) from None
    return [source for source in sources if source is not None]


def _without_name(value: Any) -> Any:
    """Return the value of an object with one key, an input's name, unless that is "b64"; anything else as it is."""
    while isinstance(value, dict) and "b64" not in value:
        if len(value) != 1:
            raise malformed(f"an object has the keys {sorted(value)[:5]!r}; the model has one input"[:250])
        (value,) = value.values()
    return value
