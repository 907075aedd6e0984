"""Parses JSON bodies: bounded in time and memory, and refused where parsers differ in what they read."""

import gc
import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import orjson
from fastapi import Request

from app.admission import BODY_COPIES, ImageMemory
from app.errors import Problem
from app.pipeline import Pipeline
from app.requests.intake import Parse
from model_store.network.layers import Shape
from model_store.reading import parse_json

T = TypeVar("T")
JsonObject = dict[str, Any]
# Makes the request of the object, the maximum number of images, and the shape of one. Keeps no reference to the object.
Build: TypeAlias = Callable[[JsonObject, int, Shape], T]
# Bodies up to this size, such as a 32×32 image as JSON floats, are parsed in about a millisecond.
SMALL_JSON_BYTES = 81_920
# Values besides pixels: names, shapes, parameters.
MAX_OTHER_VALUES = 10_000
# Of each image in a request, on average: 5 of 224×224×3 have as many values as 256 of this. Parsing blocks all threads
# of the process, and encoded images are smaller.
PIXEL_VALUES = 32 * 32 * 3
# Upper bounds of the bytes that CPython needs for a list, an object, a further value, a key and half a string, counted
# by the character that each of them has in the text. Base64 has none of these characters.
VALUE_COSTS = {b"[": 112, b"{": 272, b",": 72, b":": 304, b'"': 40}
ASCII_COPIES, OTHER_COPIES = 2, 6  # bytes for each byte of text: a string, and the image in it; Unicode takes four


def json_parser(build: Build[T]) -> Parse[T]:
    """Return a parser of bodies that are one JSON object, from which `build` makes the request."""

    async def parse(request: Request, pipeline: Pipeline, body: bytes) -> T:
        return await build_from_json(request, pipeline, body, build)

    return parse


async def build_from_json(
    request: Request,
    pipeline: Pipeline,
    body: bytes,
    build: Build[T],
    size: int = 0,
) -> T:
    """Parse a JSON object and make a request of it, in a thread of the decoders unless it is small.

    Args:
        size: the bytes that `build` works on, if they are more than the JSON.

    Raises:
        Problem: the body is not one JSON object, has too many values, takes too much memory, or is refused by `build`.
    """
    if (coding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        detail = f"the body is compressed (Content-Encoding: {coding[:40]})"
        raise Problem("malformed_request", f"{detail}; send it as it is")
    max_images, shape = pipeline.settings.max_files, pipeline.require_serving().loaded.classifier.shape
    if max(len(body), size) <= SMALL_JSON_BYTES:
        return build(parse_object(body, max_images, shape), max_images, shape)
    return await pipeline.decoders.run(_build_large, pipeline.memory, body, max_images, shape, build)


def _build_large(memory: ImageMemory, body: bytes, max_images: int, shape: Shape, build: Build[T]) -> T:
    size = parsed_bytes(body)
    if size + BODY_COPIES * len(body) > memory.capacity:
        taken, capacity = size // 1_000_000, memory.capacity // 1_000_000
        detail = f"parsing this JSON takes {taken:,} MB, and the server has {capacity} MB for images"
        raise Problem("too_large", f"{detail}; send fewer images, or their encoded bytes")
    with memory.reserve() as reservation:
        reservation.grow(size)
        # Collecting garbage, of which JSON has none, would take two thirds of the time in which orjson blocks all
        # threads: 0.2 s in place of 0.08 s for 256 images as floats (AMD EPYC).
        gc.disable()
        try:
            document = parse_object(body, max_images, shape)
        finally:
            gc.enable()
        return build(document, max_images, shape)


def parsed_bytes(body: bytes) -> int:
    """Estimate, from above, the memory that parsed JSON takes, images made of it included."""
    copies = ASCII_COPIES if body.isascii() else OTHER_COPIES
    return copies * len(body) + sum(cost * body.count(character) for character, cost in VALUE_COSTS.items())


def parse_object(body: bytes, max_images: int, shape: Shape) -> JsonObject:
    """Parse one JSON object whose keys are unique.

    Raises:
        Problem: the body is not one object, or has more values than `max_images` images of 32×32×3, and one of
            this shape, need.
    """
    limit = max(max_images * PIXEL_VALUES, math.prod(shape)) + MAX_OTHER_VALUES
    if (values := body.count(b",") + 1) > limit:
        images = min(max_images, limit // math.prod(shape))
        detail = (
            f"the JSON has about {values:,} values, the limit is {limit:,} (for {images} image{'s' * (images > 1)})"
        )
        raise Problem("too_large", f"{detail}; send fewer images, or their encoded bytes")
    document: Any
    try:
        document = orjson.loads(body)
        if _count_keys(document) != body.count(b":"):  # a colon in a string, or a key that orjson has dropped
            document = None  # free it first
            document = parse_json(body)
    except RecursionError:
        raise Problem("malformed_request", "the JSON is nested too deeply; send the tensor as documented") from None
    except ValueError as error:
        detail = f"the body cannot be read as JSON: {_reason(body, error)}"
        raise Problem("malformed_request", detail) from None
    if not isinstance(document, dict):
        raise Problem("malformed_request", f"the body is {describe(document)}; send an object")
    return document


def _count_keys(value: Any) -> int:
    """Count the keys where requests have any. Fewer than there are colons only costs time."""
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return sum(map(_count_keys, value))
    return 0


def _reason(body: bytes, error: ValueError) -> str:
    if not body:
        return "it is empty"
    if "depth limit" in str(error):
        return "it is nested too deeply; send the tensor as documented"
    if not isinstance(error, orjson.JSONDecodeError):
        return f"{error}; send every key once, and tensors as documented"
    if b"NaN" in body or b"Infinity" in body:
        return f"{error}; NaN and Infinity are not JSON"
    return f"{error}; send one JSON object in UTF-8"


def describe(value: Any) -> str:
    """Name a JSON value's type, with a short value itself, for an error."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value!r}"[:60]
        case str():
            return f"the string {value[:40]!r}" + ("..." if len(value) > 40 else "")
        case list():
            return f"a list of {len(value):,} values" if value else "an empty list"
    return "an object"
