"""Bodies of the Open Inference Protocol (v2), in JSON or with binary tensors after a JSON header.

Sources: KServe's required API (predict-api-v2, "Inference Request JSON Object") and Triton's extensions "binary tensor
data" and "classification".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import Request

from app.errors import Problem
from app.pipeline import Pipeline
from app.protocols.images import (
    check_count,
    decode_base64,
    malformed,
    number_types,
    pixels_from_fractions,
    pixels_from_integers,
    split_flat,
)
from app.protocols.json_body import JsonObject, build_from_json, describe
from app.protocols.requests import at
from app.versions.serving import Source
from model_store.network.layers import Shape

HEADER_LENGTH = "inference-header-content-length"
INPUT = "inputs[0]"
PLACE = f"{INPUT}: image {{}}"  # of one image
DATATYPES = {"UINT8": 1, "FP32": 4}  # bytes of a pixel's value
BYTES = "BYTES"
SHOWN = 60


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a client wants: as a tensor, or as its `classes` largest values with their labels."""

    name: str
    classes: int  # 0 for the tensor
    binary: bool


@dataclass(frozen=True)
class InferenceRequest:
    """The images, and what the client wants to know of them."""

    id: str | None
    images: list[Source]
    outputs: tuple[RequestedOutput, ...] | None  # None for all
    binary: bool  # of outputs that are not listed


async def parse_inference(request: Request, pipeline: Pipeline, body: bytes) -> InferenceRequest:
    """Parse a body, in a thread unless it is small.

    Raises:
        Problem: it is not as the protocol says.
    """
    length = request.headers.get(HEADER_LENGTH)
    if length is None:
        return await build_from_json(request, pipeline, body, read_inference)
    if not (length.isascii() and length.isdigit() and 0 < int(length[:12]) <= len(body)):
        received = f"Inference-Header-Content-Length is {length[:20]!r}, and the body has {len(body):,} bytes"
        raise malformed(f"{received}; give the length of the JSON before the tensors")
    tensors = memoryview(body)[int(length) :]
    read = partial(read_inference, tensors=tensors)
    return await build_from_json(request, pipeline, body[: int(length)], read, len(body))


def read_inference(
    document: JsonObject, max_images: int, shape: Shape, tensors: memoryview | None = None
) -> InferenceRequest:
    """Read a request; `tensors` are the bytes after the JSON, if its length was given.

    Raises:
        Problem: it is not as the protocol says.
    """
    identity = document.get("id")
    if not (identity is None or isinstance(identity, str)):
        raise malformed(f"id is {describe(identity)}; send a string")
    binary = _flag(_parameters(document, "the request"), "binary_data_output", False)
    outputs = _outputs(document["outputs"], binary) if "outputs" in document else None
    inputs = document.get("inputs")
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise malformed(f"inputs is {describe(inputs)}; the model has one input, so send a list of one object")
    try:
        images = _images(inputs[0], max_images, shape, tensors)
    except Problem as problem:
        raise at(INPUT, problem) from None
    return InferenceRequest(identity, images, outputs, binary)


def _images(tensor: JsonObject, max_images: int, shape: Shape, tensors: memoryview | None) -> list[Source]:
    datatype, parameters = tensor.get("datatype"), _parameters(tensor, "the input")
    if not (isinstance(datatype, str) and datatype in (*DATATYPES, BYTES)):
        raise malformed(f"datatype is {describe(datatype)}; send UINT8, FP32 or BYTES")
    if not isinstance(tensor.get("name"), str):
        raise malformed(f"name is {describe(tensor.get('name'))}; send a string")
    if "shared_memory_region" in parameters:
        raise malformed("shared memory is not supported; send the tensor in the body")
    count = _count(tensor.get("shape"), datatype, shape)
    check_count(count, max_images)
    if "binary_data_size" not in parameters:
        if tensors:
            raise malformed(f"{len(tensors):,} bytes follow the JSON, but the input has no binary_data_size; send it")
        if "data" not in tensor:
            raise malformed("the input has neither data nor the parameter binary_data_size; send one of them")
        return _from_json(tensor["data"], count, datatype, shape)
    if "data" in tensor:
        raise malformed("the input has both data and binary_data_size; send one of them")
    size = parameters["binary_data_size"]
    if tensors is None:
        raise malformed("binary_data_size needs the header Inference-Header-Content-Length; send it")
    if type(size) is not int or size != len(tensors):
        raise malformed(f"binary_data_size is {describe(size)}, but {len(tensors):,} bytes follow the JSON")
    return _encoded(tensors, count) if datatype == BYTES else _from_bytes(tensors, count, datatype, shape)


def _count(whole: Any, datatype: str, shape: Shape) -> int:
    """Return the number of images of a tensor's whole shape; `shape` is that of one image."""
    sizes = whole if isinstance(whole, list) and whole and all(type(size) is int for size in whole) else [-1]
    rest = tuple(sizes[1:])
    if sizes[0] < 0 or rest not in (((), (1,)) if datatype == BYTES else (shape,)):
        expected = "[N] or [N, 1]" if datatype == BYTES else f"[N, {', '.join(map(str, shape))}]"
        raise malformed(f"the shape is {str(whole)[:SHOWN]}; {datatype} images have the shape {expected}")
    return int(sizes[0])


def _from_json(data: Any, count: int, datatype: str, shape: Shape) -> list[Source]:
    if datatype == BYTES:
        return _from_strings(data, count)
    convert = pixels_from_integers if datatype == "UINT8" else pixels_from_fractions
    images: list[Source] = []
    for index, values in enumerate(split_flat(data, count, shape)):
        try:
            if float in number_types(values) and datatype == "UINT8":
                raise malformed("UINT8 pixels with a fraction were received; send whole numbers, or FP32 from 0 to 1")
            images.append(convert(values, shape))
        except Problem as problem:
            raise at(f"image {index}", problem) from None
    return images


def _from_strings(data: Any, count: int) -> list[Source]:
    """Read strings in base64, the only way that JSON can hold an image; {"b64": …} is accepted as well."""
    if not isinstance(data, list) or len(data) != count:
        raise malformed(f"data is {describe(data)}; the shape says {count:,} strings")
    images: list[Source] = []
    for index, item in enumerate(data):
        if isinstance(item, list) and len(item) == 1:
            (item,) = item
        try:
            images.append(decode_base64(item["b64"] if isinstance(item, dict) and item.keys() == {"b64"} else item))
        except Problem as problem:
            raise at(f"image {index}", problem) from None
    return images


def _from_bytes(tensors: memoryview, count: int, datatype: str, shape: Shape) -> list[Source]:
    expected = count * math.prod(shape) * DATATYPES[datatype]
    if len(tensors) != expected:
        raise malformed(
            f"the tensor has {len(tensors):,} bytes; {datatype} of shape {[count, *shape]} has {expected:,}"
        )
    if datatype == "UINT8":
        return list(np.frombuffer(tensors, np.uint8).reshape(count, *shape))
    images: list[Source] = []
    for index, values in enumerate(np.frombuffer(tensors, "<f4").reshape(count, -1)):
        try:
            images.append(pixels_from_fractions(values, shape))
        except Problem as problem:
            raise at(f"image {index}", problem) from None
    return images


def _encoded(tensors: memoryview, count: int) -> list[Source]:
    """Cut images that each follow their length in four bytes, little-endian."""
    images: list[Source] = []
    start = 0
    while start < len(tensors) and len(images) < count:
        end = start + 4 + int.from_bytes(tensors[start : start + 4], "little")
        if end > len(tensors) or start + 4 > len(tensors):
            raise malformed(f"image {len(images)} ends after the tensor; send its length in four bytes, little-endian")
        images.append(bytes(tensors[start + 4 : end]))
        start = end
    if len(images) < count or start < len(tensors):
        received = f"{len(images):,} images and {len(tensors) - start:,} bytes after them"
        raise malformed(f"the tensor has {received}; the shape says {count:,} images")
    return images


def _outputs(values: Any, binary: bool) -> tuple[RequestedOutput, ...]:
    if not (isinstance(values, list) and all(isinstance(value, dict) for value in values)):
        raise malformed(f"outputs is {describe(values)}; send a list of objects, or leave it out for all outputs")
    outputs = tuple(_output(value, binary) for value in values)
    if len({output.name for output in outputs}) < len(outputs):
        raise malformed("outputs has a name twice; send it once")
    return outputs


def _output(value: JsonObject, binary: bool) -> RequestedOutput:
    name, parameters = value.get("name"), _parameters(value, "an output")
    if not isinstance(name, str):
        raise malformed(f"the name of an output is {describe(name)}; send a string")
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0 or ("classification" in parameters and not classes):
        raise malformed(f"classification is {describe(classes)}; send the number of classes, at least 1")
    if "shared_memory_region" in parameters:
        raise malformed("shared memory is not supported; outputs are sent in the answer")
    return RequestedOutput(name, classes, _flag(parameters, "binary_data", binary))


def _parameters(value: Mapping[str, Any], owner: str) -> JsonObject:
    parameters = value.get("parameters")
    if not (parameters is None or isinstance(parameters, dict)):
        raise malformed(f"the parameters of {owner} are {describe(parameters)}; send an object")
    return parameters or {}


def _flag(parameters: JsonObject, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise malformed(f"{name} is {describe(value)}; send true or false")
    return value
