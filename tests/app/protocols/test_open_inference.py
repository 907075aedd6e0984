"""/v2 answers as KServe's Open Inference Protocol and Triton's extensions say."""

import json

import numpy as np
import pytest

from tests.app.conftest import png
from tests.app.protocols.bodies import b64, expected, pixels

MODEL = "/v2/models/cifar10"
HEADER = "Inference-Header-Content-Length"


def tensor(data, datatype="UINT8", shape=(1, 32, 32, 3), **fields):
    return {"name": "image", "datatype": datatype, "shape": list(shape), "data": data} | fields


def infer(client, *inputs, **fields):
    return client.post(f"{MODEL}/infer", json={"inputs": list(inputs)} | fields)


def infer_binary(client, tensors: bytes, datatype="UINT8", shape=(1, 32, 32, 3), size=None, **fields):
    """Send a tensor after the JSON; `size` is what its parameter says."""
    described = {"name": "image", "datatype": datatype, "shape": list(shape)}
    described["parameters"] = {"binary_data_size": len(tensors) if size is None else size}
    header = json.dumps({"inputs": [described]} | fields).encode()
    return client.post(f"{MODEL}/infer", content=header + tensors, headers={HEADER: str(len(header))})


def lengthened(*items: bytes) -> bytes:
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def outputs(response) -> dict:
    return {output["name"]: output.get("data") for output in response.json()["outputs"]}


FRACTIONS = (pixels() / 255).astype(np.float32)
JSON = {
    "UINT8, flat": tensor(pixels().reshape(-1).tolist()),
    "UINT8, nested": tensor(pixels()[None].tolist()),
    "FP32, flat": tensor(FRACTIONS.reshape(-1).tolist(), "FP32"),
    "FP32, nested": tensor(FRACTIONS[None].tolist(), "FP32"),
    "BYTES": tensor([b64()], "BYTES", [1]),
    "BYTES, as a column": tensor([[b64()]], "BYTES", [1, 1]),
    "BYTES, as an object": tensor([{"b64": b64()}], "BYTES", [1]),
    "any name": tensor([b64()], "BYTES", [1], name="input_1"),
}
BINARY = {
    "UINT8": (pixels().tobytes(), "UINT8", (1, 32, 32, 3)),
    "FP32": (FRACTIONS.astype("<f4").tobytes(), "FP32", (1, 32, 32, 3)),
    "BYTES": (lengthened(png()), "BYTES", (1,)),
    "BYTES, as a column": (lengthened(png()), "BYTES", (1, 1)),
}


@pytest.mark.parametrize("asked", JSON.values(), ids=JSON)
def test_json_tensors_get_the_prediction_of_the_image(client, asked):
    assert outputs(infer(client, asked))["probabilities"] == pytest.approx(expected(client), abs=1e-6)


@pytest.mark.parametrize(("data", "datatype", "shape"), BINARY.values(), ids=BINARY)
def test_binary_tensors_get_the_prediction_of_the_image(client, data, datatype, shape):
    answer = outputs(infer_binary(client, data, datatype, shape))
    assert answer["probabilities"] == pytest.approx(expected(client), abs=1e-6)


def test_an_answer_names_model_version_and_id_and_has_every_output(client):
    predicted = client.post("/predict", content=png()).json()
    answer = infer(client, JSON["BYTES"], id="a:b").json()
    described = {output.pop("name"): output for output in answer.pop("outputs")}
    assert answer == {"model_name": "cifar10", "model_version": predicted["model"]["version"], "id": "a:b"}
    assert described["label"] == {"datatype": "BYTES", "shape": [1], "data": [predicted["label"]]}
    assert described["verdict"] == {"datatype": "BYTES", "shape": [1], "data": [predicted["verdict"]]}
    assert described["novelty"] == {"datatype": "FP32", "shape": [1], "data": [predicted["novelty"]]}
    assert (described["probabilities"]["datatype"], described["probabilities"]["shape"]) == ("FP32", [1, 10])
    assert "id" not in infer(client, JSON["BYTES"]).json()


def test_several_images_are_answered_in_order(client):
    images = np.stack([pixels(seed) for seed in range(40)])
    answer = outputs(infer_binary(client, images.tobytes(), shape=images.shape))
    rows = np.array(answer["probabilities"]).reshape(40, 10)
    for seed in (0, 17, 39):
        assert np.abs(rows[seed] - expected(client, seed)).max() < 0.02
    encoded = outputs(infer_binary(client, lengthened(png(1), png(2)), "BYTES", (2,)))
    assert np.array(encoded["probabilities"]).reshape(2, 10)[1] == pytest.approx(expected(client, 2), abs=0.02)


def test_only_the_outputs_that_are_asked_for_are_answered_in_their_order(client):
    asked = [{"name": "label"}, {"name": "probabilities", "parameters": {"classification": 3}}]
    answer = infer(client, JSON["BYTES"], outputs=asked).json()["outputs"]
    assert [output["name"] for output in answer] == ["label", "probabilities"]
    largest = client.post("/predict?top_k=3", content=png()).json()["probabilities"]
    assert (answer[1]["datatype"], answer[1]["shape"]) == ("BYTES", [1, 3])
    labels = client.get("/model").json()["manifest"]["labels"]
    for text, (label, share) in zip(answer[1]["data"], largest.items(), strict=True):
        value, index, name = text.split(":")
        assert (labels[int(index)], name) == (label, label) and float(value) == pytest.approx(share, abs=1e-5)


def test_outputs_are_binary_where_asked(client):
    wanted = [
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "verdict"},
    ]
    response = infer(client, JSON["BYTES"], outputs=wanted)
    length = int(response.headers[HEADER])
    document, rest = json.loads(response.content[:length]), response.content[length:]
    assert response.headers["content-type"] == "application/octet-stream"
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 40}
    assert np.frombuffer(rest[:40], "<f4") == pytest.approx(expected(client), abs=1e-6)
    label = client.post("/predict", content=png()).json()["label"].encode()
    assert rest[40:] == lengthened(label) and document["outputs"][2]["data"]
    everything = infer(client, JSON["BYTES"], parameters={"binary_data_output": True})
    assert b'"data"' not in everything.content[: int(everything.headers[HEADER])]
    override = [{"name": "label", "parameters": {"binary_data": False}}]
    plain = infer(client, JSON["BYTES"], parameters={"binary_data_output": True}, outputs=override)
    assert plain.json()["outputs"][0]["data"] == [label.decode()]


def test_a_version_without_verdicts_has_no_such_outputs(altered):
    client, _ = altered(lambda manifest, _: manifest.update(verdicts=None, reference=None))
    names = ["probabilities", "label"]
    assert [output["name"] for output in client.get(MODEL).json()["outputs"]] == names
    assert list(outputs(infer(client, JSON["BYTES"]))) == names
    refused = infer(client, JSON["BYTES"], outputs=[{"name": "verdict"}])
    assert refused.json()["error"] == "the output 'verdict' does not exist; the model has probabilities, label"


def test_server_and_model_describe_themselves(client):
    version = client.get("/health").json()["model"]["version"]
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data", "classification"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models").json() == {"models": ["cifar10"]}
    for path in (MODEL, f"{MODEL}/versions/{version}"):
        document = client.get(path).json()
        assert document["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
        assert document["versions"] == [version]
        assert client.get(f"{path}/ready").json() == {"name": "cifar10", "ready": True}
    index = client.post("/v2/repository/index", content=b"{}").json()
    assert index == [{"name": "cifar10", "version": version, "state": "READY", "reason": ""}]
    for path in ("/v2/models/other", "/v2/models/cifar10/versions/999", "/v2/models/cifar10/versions/999/ready"):
        assert client.get(path).status_code == 404 and "this service has 'cifar10'" in client.get(path).json()["error"]


FLAT = pixels().reshape(-1).tolist()
WRONG = {
    "no inputs": ({}, "inputs is null; the model has one input, so send a list of one object"),
    "two inputs": ({"inputs": [tensor(FLAT)] * 2}, "inputs is a list of 2 values; the model has one input"),
    "no name": ({"inputs": [tensor(FLAT, name=None)]}, "inputs[0]: name is null; send a string"),
    "an unknown datatype": ({"inputs": [tensor(FLAT, "INT64")]}, "datatype is the string 'INT64'; send UINT8, FP32 or"),
    "no datatype": ({"inputs": [tensor(FLAT, [])]}, "datatype is an empty list; send UINT8, FP32 or BYTES"),
    "no batch": (
        {"inputs": [tensor(FLAT, shape=[32, 32, 3])]},
        "the shape is [32, 32, 3]; UINT8 images have the shape [N",
    ),
    "channels first": ({"inputs": [tensor(FLAT, shape=[1, 3, 32, 32])]}, "the shape is [1, 3, 32, 32]; UINT8 images"),
    "a negative shape": ({"inputs": [tensor(FLAT, shape=[-1, 32, 32, 3])]}, "the shape is [-1, 32, 32, 3]; UINT8"),
    "an empty shape": (
        {"inputs": [tensor(FLAT, shape=[])]},
        "the shape is []; UINT8 images have the shape [N, 32, 32, 3]",
    ),
    "a shape of floats": ({"inputs": [tensor(FLAT, shape=[1.0, 32, 32, 3])]}, "the shape is [1.0, 32, 32, 3]"),
    "a shape of truths": ({"inputs": [tensor(FLAT, shape=[True, 32, 32, 3])]}, "the shape is [True, 32, 32, 3]"),
    "no images": ({"inputs": [tensor([], shape=[0, 32, 32, 3])]}, "inputs[0]: the request has no images"),
    "too little data": ({"inputs": [tensor(FLAT[1:])]}, "data has 3,071 values, not 3,072 for 1 image of shape"),
    "neither data": ({"inputs": [{"name": "i", "datatype": "UINT8", "shape": [1, 32, 32, 3]}]}, "has neither data nor"),
    "fractions as UINT8": ({"inputs": [tensor([0.5] * 3072)]}, "inputs[0]: image 0: UINT8 pixels with a fraction"),
    "300 as UINT8": ({"inputs": [tensor([300] * 3072)]}, "pixels from 300 to 300 were received; whole numbers must be"),
    "255 as FP32": ({"inputs": [tensor([255] * 3072, "FP32")]}, "pixels from 255 to 255 were received; floating-point"),
    "strings as UINT8": (
        {"inputs": [tensor(["1"] * 3072)]},
        "inputs[0]: image 0: a pixel is the string '1'; send numbers",
    ),
    "null as FP32": ({"inputs": [tensor([None] * 3072, "FP32")]}, "a pixel is null; send numbers"),
    "too few strings": (
        {"inputs": [tensor([b64()], "BYTES", [2])]},
        "data is a list of 1 values; the shape says 2 strings",
    ),
    "no base64": ({"inputs": [tensor(["cat"], "BYTES", [1])]}, "inputs[0]: image 0: the string 'cat' is not base64"),
    "a bad image": (
        {"inputs": [tensor([b64(), b64(b"x")], "BYTES", [2])]},
        "inputs[0]: image 1: 1 bytes cannot be read",
    ),
    "shared memory": ({"inputs": [tensor(FLAT, parameters={"shared_memory_region": "x"})]}, "shared memory is not"),
    "data and a size": ({"inputs": [tensor(None, parameters={"binary_data_size": 1})]}, "both data and binary"),
    "parameters that are a list": (
        {"inputs": [tensor(FLAT, parameters=[])]},
        "the parameters of the input are an empty",
    ),
    "a number as id": ({"id": 7, "inputs": [tensor(FLAT)]}, "id is the number 7; send a string"),
    "an unknown output": (
        {"inputs": [tensor(FLAT)], "outputs": [{"name": "x"}]},
        "the output 'x' does not exist; the model",
    ),
    "an output twice": ({"inputs": [tensor(FLAT)], "outputs": [{"name": "label"}] * 2}, "outputs has a name twice"),
    "outputs as text": ({"inputs": [tensor(FLAT)], "outputs": "label"}, "outputs is the string 'label'; send a list"),
    "no classes": (
        {"inputs": [tensor(FLAT)], "outputs": [{"name": "probabilities", "parameters": {"classification": 0}}]},
        "classification is the number 0; send the number of classes",
    ),
    "classes of the label": (
        {"inputs": [tensor(FLAT)], "outputs": [{"name": "label", "parameters": {"classification": 1}}]},
        "classification is for probabilities, not for label",
    ),
    "text as a flag": (
        {"inputs": [tensor(FLAT)], "outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]},
        "binary_data is the string 'yes'; send true or false",
    ),
}


@pytest.mark.parametrize(("body", "detail"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_a_400_that_says_what_to_do(client, body, detail):
    response = client.post(f"{MODEL}/infer", json=body)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert detail in response.json()["error"]


PIXELS = pixels().tobytes()
WRONG_BINARY = {
    "too short": (PIXELS[1:], {}, "the tensor has 3,071 bytes; UINT8 of shape [1, 32, 32, 3] has 3,072"),
    "another size": (PIXELS, {"size": 3071}, "binary_data_size is the number 3071, but 3,072 bytes follow the JSON"),
    "a negative size": (PIXELS, {"size": -1}, "binary_data_size is the number -1, but 3,072 bytes follow"),
    "a size of text": (PIXELS, {"size": "3072"}, "binary_data_size is the string '3072', but"),
    "a huge shape": (
        PIXELS,
        {"shape": (256, 32, 32, 3)},
        "the tensor has 3,072 bytes; UINT8 of shape [256, 32, 32, 3]",
    ),
    "NaN": (np.full(3072, np.nan, "<f4").tobytes(), {"datatype": "FP32"}, "image 0: pixels that are NaN were received"),
    "no length": (b"\1", {"datatype": "BYTES", "shape": (1,)}, "image 0 ends after the tensor"),
    "a length beyond the end": (
        b"\xff\xff\xff\xff" + png(),
        {"datatype": "BYTES", "shape": (1,)},
        "image 0 ends after",
    ),
    "too few images": (
        lengthened(png()),
        {"datatype": "BYTES", "shape": (2,)},
        "the tensor has 1 images and 0 bytes after",
    ),
    "too many images": (
        lengthened(b"a", b"b"),
        {"datatype": "BYTES", "shape": (1,)},
        "has 1 images and 5 bytes after them",
    ),
}


@pytest.mark.parametrize(("data", "options", "detail"), WRONG_BINARY.values(), ids=WRONG_BINARY)
def test_a_binary_tensor_that_does_not_match_is_refused(client, data, options, detail):
    response = infer_binary(client, data, **options)
    assert response.status_code == 400 and detail in response.json()["error"]


@pytest.mark.parametrize("length", ["0", "-1", "abc", "99999", "9" * 5_000, "²", ""])
def test_a_wrong_length_of_the_header_is_refused(client, length):
    response = client.post(f"{MODEL}/infer", content=b"{}", headers={HEADER.encode(): length.encode()})
    assert response.status_code == 400 and "give the length of the JSON before the tensors" in response.json()["error"]


def test_bytes_without_their_size_and_a_size_without_the_header_are_refused(client):
    header = json.dumps({"inputs": [tensor(FLAT)]}).encode()
    response = client.post(f"{MODEL}/infer", content=header + PIXELS, headers={HEADER: str(len(header))})
    assert "3,072 bytes follow the JSON, but the input has no binary_data_size" in response.json()["error"]
    described = {"name": "i", "datatype": "UINT8", "shape": [1, 32, 32, 3], "parameters": {"binary_data_size": 3072}}
    response = client.post(f"{MODEL}/infer", json={"inputs": [described]})
    assert "binary_data_size needs the header Inference-Header-Content-Length" in response.json()["error"]
