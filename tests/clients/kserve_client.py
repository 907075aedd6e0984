"""KServe's Python SDK against the service, with both of its protocols: python kserve_client.py HOST:PORT FOLDER.

Runs in an environment of its own. FOLDER has the image as cat.npy (32, 32, 3) and cat.png, /predict's answer, and the
example of an InferenceService, of which every field must be one of KServe's.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path

import httpx
import kserve
import kubernetes.client
import numpy as np
import yaml
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

address, folder = f"http://{sys.argv[1]}", Path(sys.argv[2])
expected = json.loads((folder / "expected.json").read_text())
pixels, encoded = np.load(folder / "cat.npy")[None], (folder / "cat.png").read_bytes()
name, probabilities = expected["model"]["name"], np.array([list(expected["probabilities"].values())])


def close(values):
    return np.abs(np.asarray(values) - probabilities).max() < 1e-3


async def refusal(client, body):
    try:
        await client.infer(address, body, model_name=name)
    except httpx.HTTPStatusError as error:
        return str(error)
    return "no error"


async def use_v1():
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        assert await client.is_model_ready(address, name)
        for image in (
            pixels[0].tolist(),
            (pixels[0] / 255).tolist(),
            {"image_bytes": {"b64": base64.b64encode(encoded).decode()}},
        ):
            answer = await client.infer(address, {"instances": [image]}, model_name=name)
            assert close(answer["predictions"]), answer
        answer = await client.explain(address, name, {"instances": pixels.tolist()})
        assert answer["explanations"][0]["label"] == "cat"
        received = await refusal(client, {"instances": [pixels[0, 0].tolist()]})
        assert "an image has the shape [32, 32, 3]" in received and "400 Bad Request" in received, received


async def use_v2():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(address) and await client.is_server_ready(address)
        assert await client.is_model_ready(address, name) and not await client.is_model_ready(address, "another")
        for values, datatype in ((pixels, "UINT8"), ((pixels / 255).astype(np.float32), "FP32")):
            for binary in (True, False):
                tensor = InferInput("image", list(values.shape), datatype)
                tensor.set_data_from_numpy(values, binary_data=binary)
                wanted = [RequestedOutput("probabilities"), RequestedOutput("label")]
                request = InferRequest(name, [tensor], request_id="one", request_outputs=wanted)
                answer = await client.infer(address, request, model_name=name)
                outputs = {output.name: output.as_numpy() for output in answer.outputs}
                assert answer.id == "one" and close(outputs["probabilities"]), outputs
                assert list(outputs["label"]) in (["cat"], [b"cat"]), outputs
        tensor = InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([encoded], np.object_), binary_data=True)
        answer = await client.infer(address, InferRequest(name, [tensor]), model_name=name)
        assert close(answer.outputs[0].as_numpy())
        # Binary outputs of every kind
        request = InferRequest(name, [tensor], parameters={"binary_data_output": True})
        answer = await client.infer(address, request, model_name=name)
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        assert close(outputs["probabilities"]) and list(outputs["verdict"]) in ([b"confident"], ["confident"]), outputs


def check_fields(value, kind, path=""):
    """Compare a manifest with the classes that were generated from KServe's and Kubernetes's schemas."""
    if kind.startswith("list["):
        for item in value:
            check_fields(item, kind[5:-1], path)
        return
    model = getattr(kserve, kind, None) or getattr(kubernetes.client, kind, None)
    if model is None:  # a text, a number or a map
        return
    fields = {model.attribute_map[name]: name for name in model.attribute_map}
    for name, inner in value.items():
        assert name in fields, f"{path}.{name} is not a field of {kind}"
        check_fields(inner, model.openapi_types[fields[name]], f"{path}.{name}")


asyncio.run(use_v1())
asyncio.run(use_v2())
check_fields(yaml.safe_load((folder / "inference-service.yaml").read_text()), "V1beta1InferenceService")
print("kserve: ok")
