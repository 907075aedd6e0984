"""NVIDIA's tritonclient[http] against the service: python triton_client.py HOST:PORT FOLDER.

Runs in an environment of its own. FOLDER has the image as cat.npy (32, 32, 3) and cat.png, and /predict's answer.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, folder = sys.argv[1], Path(sys.argv[2])
expected = json.loads((folder / "expected.json").read_text())
pixels, encoded = np.load(folder / "cat.npy")[None], (folder / "cat.png").read_bytes()
name, version = expected["model"]["name"], expected["model"]["version"]
probabilities = np.array([list(expected["probabilities"].values())], np.float32)
client = triton.InferenceServerClient(address)


def infer(values, datatype, binary, **options):
    tensor = triton.InferInput("image", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return client.infer(name, [tensor], **options)


def check(result):
    assert np.abs(result.as_numpy("probabilities") - probabilities).max() < 1e-3
    assert [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("label")] == ["cat"]


def refusal(values, datatype):
    try:
        infer(values, datatype, True)
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "no error"


# The server and the model
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
assert client.is_model_ready(name, version) and not client.is_model_ready(name, "999")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
metadata = client.get_model_metadata(name)
assert metadata["versions"] == [version] and metadata["inputs"][0]["shape"] == [-1, 32, 32, 3]
assert [output["name"] for output in metadata["outputs"]] == ["probabilities", "label", "verdict", "novelty"]
assert client.get_model_repository_index() == [{"name": name, "version": version, "state": "READY", "reason": ""}]

# One image, in every datatype, in JSON and binary
for binary in (True, False):
    check(infer(pixels, "UINT8", binary))
    check(infer((pixels / 255).astype(np.float32), "FP32", binary))
check(infer(np.array([encoded], np.object_), "BYTES", True))
check(infer(np.array([[encoded]], np.object_), "BYTES", True))
check(infer(np.array([base64.b64encode(encoded)], np.object_), "BYTES", False))

# A batch, with an id, for a version, as JSON
wanted = [triton.InferRequestedOutput(output, binary_data=False) for output in ("label", "probabilities")]
result = infer(np.repeat(pixels, 5, 0), "UINT8", True, outputs=wanted, request_id="five", model_version=version)
assert result.get_response()["id"] == "five" and result.as_numpy("probabilities").shape == (5, 10)
assert [output["name"] for output in result.get_response()["outputs"]] == ["label", "probabilities"]

# The classification extension
for binary in (True, False):
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
    classes = infer(pixels, "UINT8", True, outputs=wanted).as_numpy("probabilities")
    first = classes[0][0].decode() if isinstance(classes[0][0], bytes) else classes[0][0]
    assert classes.shape == (1, 3) and first.endswith(":3:cat"), classes

# Several requests in flight
waiting = []
for _ in range(4):
    tensor = triton.InferInput("image", [1, 32, 32, 3], "UINT8")
    tensor.set_data_from_numpy(pixels)
    waiting.append(client.async_infer(name, [tensor]))
for request in waiting:
    check(request.get_result())

# Errors are the service's own texts
for values, datatype, text in [
    (pixels[0], "UINT8", "UINT8 images have the shape [N, 32, 32, 3]"),
    (pixels.astype(np.float32), "FP32", "floating-point pixels must be from 0 to 1"),
    (pixels.astype(np.int64), "INT64", "send UINT8, FP32 or BYTES"),
    (np.array([b"no image"], np.object_), "BYTES", "image 0: 8 bytes cannot be read"),
]:
    received = refusal(values, datatype)
    assert received.startswith("400 ") and text in received, received
print("tritonclient: ok")
