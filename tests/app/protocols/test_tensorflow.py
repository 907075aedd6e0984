"""/v1 answers as TensorFlow Serving and KServe's version 1 do."""

import json

import numpy as np
import pytest

from app.protocols.tensorflow import MAX_EXPLANATIONS
from tests.app.conftest import png
from tests.app.protocols.bodies import b64, expected, pixels

MODEL = "/v1/models/cifar10"
ZEROS = np.zeros((32, 32, 3), int).tolist()
ONES = np.ones((32, 32, 3), int).tolist()


def predict(client, body, verb="predict"):
    return client.post(f"{MODEL}:{verb}", content=body if isinstance(body, bytes) else json.dumps(body))


ONE_IMAGE = {
    # the forms of TensorFlow Serving's documentation, "Encoding binary values" and "Specifying input tensors"
    "rows, base64": {"instances": [{"b64": b64()}]},
    "rows, named base64": {"signature_name": "serving_default", "instances": [{"image_bytes": {"b64": b64()}}]},
    "rows, pixels": {"instances": [pixels().tolist()]},
    "rows, fractions": {"instances": [(pixels() / 255).tolist()]},
    "rows, named pixels": {"instances": [{"image": pixels().tolist()}]},
    "columns, base64": {"inputs": [{"b64": b64()}]},
    "columns, one base64": {"inputs": {"b64": b64()}},
    "columns, named": {"inputs": {"image": [{"b64": b64()}]}},
    "columns, named pixels": {"signature_name": "", "inputs": {"image": [pixels().tolist()]}},
}


@pytest.mark.parametrize("body", ONE_IMAGE.values(), ids=ONE_IMAGE)
def test_every_documented_form_of_an_image_gets_its_probabilities(client, body):
    answer = predict(client, body).json()
    assert list(answer) == ["predictions" if "instances" in body else "outputs"]
    (probabilities,) = answer.popitem()[1]
    assert probabilities == pytest.approx(expected(client), abs=1e-6)


def test_several_images_of_any_form_are_answered_in_order(client):
    images = [pixels(1).tolist(), {"b64": b64(png(2))}, {"image": {"b64": b64(png(3))}}, pixels(4).tolist()] * 9
    rows = predict(client, {"instances": images}).json()["predictions"]
    for index, row in enumerate(rows):
        assert np.abs(np.array(row) - expected(client, index % 4 + 1)).max() < 0.02


def test_classify_gives_labels_with_the_largest_first(client):
    body = {"context": {}, "examples": [{"image": {"b64": b64()}}, {"image": pixels(1).tolist()}]}
    first, second = predict(client, body, "classify").json()["result"]
    probabilities = client.post("/predict?top_k=10", content=png()).json()["probabilities"]
    assert [label for label, _ in first] == list(probabilities) and len(second) == 10
    assert [share for _, share in first] == pytest.approx(list(probabilities.values()), abs=0.02)


def test_explain_gives_what_the_endpoint_for_one_image_gives(client):
    answer = predict(client, {"instances": [{"b64": b64()}, pixels().tolist()]}, "explain").json()
    alone = client.post("/explain?format=json", content=png()).json()
    assert [explanation["label"] for explanation in answer["explanations"]] == [alone["label"]] * 2
    assert answer["explanations"][0].keys() == alone.keys()


def test_status_answers_tensorflow_serving_and_kserve_at_once(client):
    version = client.get("/health").json()["model"]["version"]
    for path in (MODEL, f"{MODEL}/versions/{version}"):
        status = client.get(path).json()
        assert (status["name"], status["ready"]) == ("cifar10", True)
        assert status["model_version_status"] == [
            {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    assert client.get("/v1/models").json() == {"models": ["cifar10"]}
    signature = client.get(f"{MODEL}/metadata").json()["metadata"]["signature_def"]["signature_def"]["serving_default"]
    dimensions = signature["inputs"]["image"]["tensor_shape"]["dim"]
    assert [dimension["size"] for dimension in dimensions] == ["-1", "32", "32", "3"]
    body = json.dumps(ONE_IMAGE["rows, base64"])
    assert (
        client.post(f"{MODEL}/versions/{version}:predict", content=body).json() == predict(client, body.encode()).json()
    )


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/models/other", "the model 'other' does not exist; this service has 'cifar10' in version "),
        ("/v1/models/cifar10/versions/999", "version '999' of 'cifar10' is not served; this service has"),
        ("/v1/models/cifar10/labels/stable", "versions have no labels here; leave it out or ask for /versions/"),
    ],
    ids=["model", "version", "label"],
)
def test_another_model_or_version_is_a_404_that_names_those_that_exist(client, path, detail):
    for response in (client.get(path), client.get(f"{path}/metadata"), client.post(f"{path}:predict", content=b"{")):
        assert response.status_code == 404 and detail in response.json()["error"]


WRONG = {
    "no object": (b"[]", "the body is an empty list; send an object"),
    "no images": ({}, "send either 'instances' or 'inputs'; the keys [] were received"),
    "both formats": ({"instances": [ZEROS], "inputs": [ZEROS]}, "either 'instances' or 'inputs'; both were received"),
    "an empty list": ({"instances": []}, "the request has no images"),
    "an object": ({"instances": {"b64": b64()}}, "'instances' is an object; send a list of images"),
    "a single tensor": ({"inputs": ZEROS}, "inputs[0]: a tensor of shape [32, 3] was received; an image has the shape"),
    "two names": ({"instances": [{"a": ZEROS, "b": 1}]}, "an object has the keys ['a', 'b']; the model has one input"),
    "an empty object": ({"instances": [{}]}, "an object has the keys []; the model has one input"),
    "another signature": ({"signature_name": "x", "instances": [ZEROS]}, "the model has only 'serving_default'"),
    "text": ({"instances": ["cat"]}, "instances[0]: a tensor of shape [] was received"),
    "a bad number": (
        {"instances": [ZEROS, np.full((32, 32, 3), 256).tolist()]},
        "instances[1]: pixels from 256 to 256",
    ),
    "255 as floats": ({"instances": [np.full((32, 32, 3), 255.0).tolist()]}, "instances[0]: pixels from 255 to 255"),
    "a bad image": ({"instances": [ZEROS, {"b64": b64(b"no image")}]}, "instances[1]: 8 bytes cannot be read"),
    "a truncated image": ({"instances": [{"b64": b64(png()[:300])}]}, "instances[0]: the PNG file ends early"),
    "bad base64": ({"inputs": [{"b64": "abc"}]}, "inputs[0]: the string 'abc' is not base64"),
    "base64 of null": ({"instances": [{"b64": None}]}, "instances[0]: the base64 of an image is null; send a string"),
}


@pytest.mark.parametrize(("body", "detail"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_a_400_that_says_what_to_do(client, body, detail):
    response = predict(client, body)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert detail in response.json()["error"] and response.headers["content-type"] == "application/json"


def test_zeros_and_ones_without_a_fraction_are_ambiguous_unless_another_number_tells(client):
    assert "all numbers are 0 or 1" in predict(client, {"instances": [ZEROS, ONES]}).json()["error"]
    black = predict(client, {"instances": [ZEROS]}).json()["predictions"]
    assert black == predict(client, {"instances": [np.zeros((32, 32, 3)).tolist()]}).json()["predictions"]
    white = np.full((32, 32, 3), 255).tolist()
    assert len(predict(client, {"instances": [ONES, white]}).json()["predictions"]) == 2  # 8-bit pixels, nearly black
    as_fractions = predict(client, {"instances": [ONES, (pixels() / 255).tolist()]}).json()["predictions"]
    as_pixels = predict(client, {"instances": [white, pixels().tolist()]}).json()["predictions"]
    assert np.abs(np.array(as_fractions) - as_pixels).max() < 1e-6


def test_more_explanations_than_the_network_should_compute_are_refused(client):
    response = predict(client, {"instances": [ZEROS] * (MAX_EXPLANATIONS + 1)}, "explain")
    assert response.status_code == 413 and f"the limit is {MAX_EXPLANATIONS}" in response.json()["error"]


def test_a_get_of_a_verb_is_told_to_post(client):
    response = client.get(f"{MODEL}:predict")
    assert (response.status_code, response.headers["allow"]) == (405, "OPTIONS, POST")
