"""Other servers' protocols have the limits, deadlines, metrics and drift of /predict, and can be switched off."""

import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from app.protocols import ROUTERS
from app.protocols.json_body import SMALL_JSON_BYTES
from app.settings import PROTOCOLS
from tests.app.conftest import blotches, png
from tests.app.protocols.bodies import b64, pixels
from tests.contract.recording import CAT

V1, V2 = "/v1/models/cifar10:predict", "/v2/models/cifar10/infer"
INSTANCES = {"instances": [{"b64": b64()}]}
TENSOR = {"inputs": [{"name": "i", "shape": [1], "datatype": "BYTES", "data": [b64()]}]}
ADDRESSES = {"v1": ("/v1/models", V1, INSTANCES), "v2": ("/v2", V2, TENSOR), "sagemaker": ("/ping", "/invocations", {})}


def tensor_of(images: np.ndarray) -> dict:
    data = images.reshape(-1).tolist()
    return {"inputs": [{"name": "i", "shape": list(images.shape), "datatype": "UINT8", "data": data}]}


def test_every_protocol_has_a_switch():
    assert ROUTERS.keys() == set(PROTOCOLS) == ADDRESSES.keys()


@pytest.mark.parametrize("on", ["v1", " V2 ,sagemaker", "none"])
def test_a_protocol_that_is_off_is_unknown_to_the_service(client_with, on):
    client = client_with(protocols=on)
    for name, (get, post, body) in ADDRESSES.items():
        answers = [client.get(get), client.post(post, json=body), client.options(get)]
        if name in on.lower():
            assert [answer.status_code for answer in answers[::2]] == [200, 204]
            assert "error" in client.get(f"{get}/nothing").json()
        else:
            assert [answer.status_code for answer in answers] == [404] * 3
            assert {answer.json()["code"] for answer in answers} == {"not_found"}


def test_unknown_addresses_below_a_protocol_have_its_errors(client):
    for path in ("/v1/nothing", "/v2/models/cifar10/config", "/v1", "/ping/x"):
        response = client.get(path)
        assert response.status_code == 404 and list(response.json()) == ["error"]
    assert client.get("/v2/").json()["error"].startswith("this address does not exist; ask for '/v2'")
    assert client.get("/v3").json()["code"] == "not_found" and "code" in client.get("/v10").json()


def test_a_prefix_that_a_proxy_strips_is_no_part_of_the_protocol(client_with):
    client = TestClient(client_with(root_path="/cifar10").app, root_path="/cifar10")
    assert client.get("/cifar10/v1/models").json() == {"models": ["cifar10"]}
    assert list(client.get("/cifar10/v1/models/other").json()) == ["error"]
    assert list(client.get("/cifar10/v2/nothing").json()) == ["error"]


def test_without_a_model_everything_but_liveness_is_a_503_with_the_reason(client_with, tmp_path):
    client = client_with(store=tmp_path)
    for path in ("/v1/models", "/v1/models/cifar10", "/v2/health/ready", "/v2/models/cifar10/ready", "/v2/models"):
        response = client.get(path)
        assert response.status_code == 503 and "holds no version of 'cifar10'" in response.json()["error"]
        assert response.headers["retry-after"] == "1"
    assert client.post(V1, json=INSTANCES).status_code == client.post(V2, json=TENSOR).status_code == 503
    assert client.get("/v2/health/live").status_code == 200


def test_readiness_falls_while_draining_and_predictions_go_on(client):
    client.app.state.pipeline.draining = True
    try:
        for path in ("/v1/models/cifar10", "/v2/health/ready", "/v2/models/cifar10/ready"):
            assert client.get(path).status_code == 503 and "shutting down" in client.get(path).json()["error"]
        assert client.post(V1, json=INSTANCES).status_code == client.post(V2, json=TENSOR).status_code == 200
    finally:
        client.app.state.pipeline.draining = False


def test_bytes_and_images_are_limited_as_for_predict(client_with):
    client = client_with(max_body_bytes=10_000, max_files=2)
    for path in (V1, V2, "/invocations"):
        response = client.post(path, content=b"x" * 10_001)
        assert response.status_code == 413 and "the limit is 10,000" in response.json()["error"]
    three = [{"b64": "AAAA"}] * 3
    for path, body in (
        (V1, {"instances": three}),
        (V1, {"inputs": three}),
        ("/v1/models/cifar10:classify", {"examples": three}),
        ("/v1/models/cifar10:explain", {"instances": three}),
        ("/invocations", {"instances": three}),
        (V2, {"inputs": [{"name": "i", "shape": [3], "datatype": "BYTES", "data": ["AAAA"] * 3}]}),
        (V2, {"inputs": [{"name": "i", "shape": [10**15, 32, 32, 3], "datatype": "UINT8", "data": []}]}),
    ):
        response = client.post(path, json=body)
        assert response.status_code == 413 and "the limit is 2; send them in several" in response.json()["error"]


def test_json_is_counted_as_memory_and_the_memory_comes_back(client_with):
    client = client_with(max_memory_mb=1)  # the least: 64 MB
    memory = client.app.state.pipeline.memory
    body = b'{"instances":[%b]}' % b",".join([b"[]"] * 700_000)
    assert len(body) < 2_200_000
    response = client.post(V1, content=body)
    assert (
        response.status_code == 413
        and "parsing this JSON takes 133 MB, and the server has 64" in response.json()["error"]
    )
    assert memory.free == memory.capacity
    assert client.post(V2, json=tensor_of(np.stack([pixels()] * 40))).status_code == 200
    assert memory.free == memory.capacity


def test_requests_beyond_those_in_flight_are_a_503(client_with):
    client = client_with(max_requests=1)
    client.app.state.pipeline.admission.requests = 1
    for path, body in ((V1, INSTANCES), (V2, TENSOR), ("/invocations", INSTANCES)):
        response = client.post(path, json=body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "1 requests are in flight, which is the limit; try again" in response.json()["error"]


def test_compressed_bodies_are_refused_with_the_remedy(client):
    for path in (V1, V2):
        response = client.post(path, json=INSTANCES, headers={"Content-Encoding": "gzip"})
        assert response.status_code == 400 and "(Content-Encoding: gzip); send it as it is" in response.json()["error"]


def test_large_bodies_of_any_kind_are_answered_like_small_ones(client):
    images = np.stack([pixels(seed) for seed in range(64)])
    small = client.post(V2, json=tensor_of(images[:1])).json()["outputs"][0]["data"]
    bodies = {V2: tensor_of(images), V1: {"instances": images.tolist()}}
    for path, body in bodies.items():
        content = json.dumps(body).encode()
        assert len(content) > SMALL_JSON_BYTES
        answer = client.post(path, content=content).json()
        rows = np.array(answer["predictions"] if path == V1 else answer["outputs"][0]["data"]).reshape(64, 10)
        assert np.abs(rows[0] - small).max() < 0.02
    large = [{"b64": b64(png(1, 400))}] * 3
    assert len(client.post(V1, json={"instances": large}).json()["predictions"]) == 3


def test_metrics_name_templates_and_never_a_clients_words(client):
    client.post(V2, json=TENSOR)
    client.post("/v2/models/mrkmodel/infer", json=TENSOR)
    client.post("/v1/models/mrkmodel/versions/mrkversion:predict", content=b"{}")
    metrics = client.get("/metrics").text
    assert 'route="/v2/models/{model}/infer",status="200"' in metrics
    assert 'route="/v1/models/{model}/versions/{version}:predict",status="404"' in metrics
    assert "mrk" not in metrics


def test_errors_are_counted_by_their_code(client):
    def count() -> float:
        lines = client.get("/metrics").text.splitlines()
        named = [line for line in lines if line.startswith('cifar10_refusals_total{code="unusable_image"}')]
        return float(named[0].split()[-1]) if named else 0.0

    before = count()
    assert client.post(V1, json={"instances": [{"b64": b64(png()[:300])}]}).status_code == 400
    assert count() == before + 1


def test_timings_and_drift_are_those_of_predict(client_with, watched_store):
    client = client_with(store=watched_store)
    timing = client.post(V2, json=tensor_of(blotches(3))).headers["server-timing"]
    assert [part.partition(";")[0] for part in timing.split(", ")] == [
        "receive",
        "decode",
        "queue",
        "infer",
        "serialize",
        "total",
    ]
    client.post(V1, json={"instances": blotches(1).tolist()})
    assert client.get("/model/drift").json()["images"] == 4


def test_pixels_and_the_image_itself_get_the_same_answer(client):
    """A PNG of 32×32 pixels is decoded bit for bit."""
    image = np.asarray(Image.open(io.BytesIO(CAT)).convert("RGB"))
    by_image = list(client.post("/predict", content=CAT).json()["probabilities"].values())
    for body in (image.tolist(), (image / 255).tolist()):
        (row,) = client.post(V1, json={"instances": [body]}).json()["predictions"]
        assert row == pytest.approx(by_image, abs=1e-6)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(b64()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "image", "name", "shape", "datatype", "data", "parameters"]), inner)
    ),
    max_leaves=12,
)
KEYS = ("instances", "inputs", "examples", "outputs", "signature_name", "id", "parameters")


@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([V1, V2, "/v1/models/cifar10:classify", "/v1/models/cifar10:explain", "/invocations"]),
    body=st.dictionaries(st.sampled_from(KEYS), JSON_VALUES).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=100),
    length=st.none() | st.integers(0, 200),
)
def test_arbitrary_requests_are_answered_or_refused_with_a_text(client, path, body, length):
    headers = {"Content-Type": "application/json"}
    headers |= {} if length is None else {"Inference-Header-Content-Length": str(length)}
    response = client.post(path, content=body, headers=headers)
    assert response.status_code in (200, 400, 413)
    assert response.status_code == 200 or (list(response.json()) == ["error"] and len(response.json()["error"]) < 500)
