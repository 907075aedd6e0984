"""Answers of the Open Inference Protocol (v2): predictions as named tensors, in JSON or as binary data after it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi.responses import Response
from numpy.typing import NDArray

from app.prediction import Prediction, largest, to_json
from app.protocols.images import malformed
from app.protocols.inference_request import BYTES, HEADER_LENGTH, InferenceRequest, RequestedOutput
from app.responses import JsonResponse
from model_store.manifest import Manifest
from model_store.version import Loaded

PROBABILITIES, LABEL, VERDICT, NOVELTY = "probabilities", "label", "verdict", "novelty"
Values = NDArray[np.float32] | list[str]  # FP32 or BYTES


def output_shapes(loaded: Loaded) -> dict[str, tuple[str, list[int]]]:
    """Return datatype and shape of each output, -1 being the number of images."""
    outputs = {PROBABILITIES: ("FP32", [-1, len(loaded.manifest.labels)]), LABEL: (BYTES, [-1])}
    fitted = {VERDICT: (BYTES, [-1]), NOVELTY: ("FP32", [-1])}
    return outputs | (fitted if loaded.classifier.verdicts else {})


def check_outputs(asked: InferenceRequest, loaded: Loaded) -> tuple[RequestedOutput, ...]:
    """Return the outputs of an answer, all of them by default.

    Raises:
        Problem: the model has no such output, or it cannot be classified.
    """
    names = output_shapes(loaded)
    if asked.outputs is None:
        return tuple(RequestedOutput(name, 0, asked.binary) for name in names)
    for output in asked.outputs:
        if output.name not in names:
            raise malformed(f"the output {output.name[:80]!r} does not exist; the model has {', '.join(names)}")
        if output.classes and output.name != PROBABILITIES:
            raise malformed(f"classification is for {PROBABILITIES}, not for {output.name}; leave it out there")
    return asked.outputs


def inference_response(
    asked: InferenceRequest, outputs: Sequence[RequestedOutput], rows: Sequence[Prediction], manifest: Manifest
) -> Response:
    """Build the answer."""
    described: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    for output in outputs:
        values, shape = _values(output, rows, manifest)
        document: dict[str, Any] = {"name": output.name, "datatype": _datatype(values), "shape": shape}
        if output.binary:
            tensors.append(_to_bytes(values))
            document["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            document["data"] = values
        described.append(document)
    answer: dict[str, Any] = {"model_name": manifest.name, "model_version": str(manifest.version)}
    answer |= {"id": asked.id} if asked.id is not None else {}
    answer["outputs"] = described
    if not any(output.binary for output in outputs):
        return JsonResponse(answer)
    header = to_json(answer)
    headers = {HEADER_LENGTH: str(len(header))}
    return Response(b"".join([header, *tensors]), headers=headers, media_type="application/octet-stream")


def _values(output: RequestedOutput, rows: Sequence[Prediction], manifest: Manifest) -> tuple[Values, list[int]]:
    """Return an output's values, flat, and their shape."""
    count, labels = len(rows), manifest.labels
    match output.name:
        case "label":
            return [labels[int(row.probabilities.argmax())] for row in rows], [count]
        case "verdict":
            return [row.verdict or "" for row in rows], [count]
        case "novelty":
            return np.array([row.rounded_novelty for row in rows], np.float32), [count]
    if output.classes:
        classes = min(output.classes, len(labels))
        return [text for row in rows for text in _classified(row, classes, labels)], [count, classes]
    return np.concatenate([row.probabilities for row in rows]), [count, len(labels)]


def _classified(row: Prediction, classes: int, labels: Sequence[str]) -> list[str]:
    """Write the largest probabilities as Triton's classification extension does: value:index:label."""
    return [f"{row.probabilities[i]:.6f}:{i}:{labels[i]}" for i in largest(row.probabilities, classes)]


def _datatype(values: Values) -> str:
    return BYTES if isinstance(values, list) else "FP32"


def _to_bytes(values: Values) -> bytes:
    """Encode a tensor: strings follow their length in four bytes, numbers are little-endian."""
    if isinstance(values, list):
        encoded = [value.encode() for value in values]
        return b"".join([part for text in encoded for part in (len(text).to_bytes(4, "little"), text)])
    return values.astype("<f4").tobytes()
