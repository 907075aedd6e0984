"""Who gets in: hosts, origins, keys and rates, in the whole application."""

import json
import logging
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.access.gate import Gate
from app.access.key_file import append_key
from app.errors import CODES
from app.main import create_app
from app.openapi import KEY_CODES
from app.settings import Settings
from tests.app.conftest import png

PAGE = "https://page.example"
ASK = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
PUBLIC = ["/", "/page/js/page.js", "/health", "/health/ready", "/health/live", "/health?x=1"]
CLOSED = ["/docs", "/openapi.json", "/metrics", "/model", "/model/drift", "/model/card", "/nope", "/health/", "/page"]


@pytest.fixture
def keys(tmp_path) -> dict[str, str]:
    """A file `keys` with the keys of `any`, without a limit, and `slow`, one image in ten seconds."""
    return {name: append_key(tmp_path / "keys", name, rate) for name, rate in (("any", None), ("slow", "0.1"))}


@pytest.fixture
def guarded(client_with, keys, tmp_path):
    """Makes services that need one of `keys`."""
    return lambda **settings: client_with(access="keys", keys_file=tmp_path / "keys", **settings)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_nothing_is_installed_where_everybody_may_do_everything(tmp_path):
    app = create_app(Settings(store=tmp_path))
    assert not isinstance(app.middleware_stack.app, Gate)
    assert isinstance(create_app(Settings(store=tmp_path, allowed_hosts="x")).middleware_stack.app, Gate)


def test_a_key_is_taken_from_either_header(guarded, keys):
    client = guarded()
    for headers in (
        bearer(keys["any"]),
        {"Authorization": f"bearer  {keys['any']}"},
        {"X-API-Key": keys["any"]},
        {"X-API-Key": keys["any"], "Authorization": "Basic YTpi"},
        {"X-API-Key": keys["any"], "Authorization": "Bearer of-the-proxy"},
    ):
        assert client.post("/predict", content=png(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code", "challenge"),
    [
        ({}, "key_required", 'Bearer realm="cifar10"'),
        ({"Authorization": "Basic YTpi"}, "key_required", 'Bearer realm="cifar10"'),
        ({"Authorization": "Bearer"}, "key_required", 'Bearer realm="cifar10"'),
        (bearer("wrong-key"), "key_unknown", 'Bearer realm="cifar10", error="invalid_token"'),
        ({"X-API-Key": "wrong-key"}, "key_unknown", 'Bearer realm="cifar10", error="invalid_token"'),
    ],
)
def test_without_a_known_key_the_answer_is_401_with_the_remedy(guarded, headers, code, challenge):
    client = guarded()
    response = client.post("/predict", content=png(), headers=headers)
    document = response.json()
    assert (response.status_code, document["code"], response.headers["www-authenticate"]) == (401, code, challenge)
    assert response.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == response.headers["x-request-id"]
    assert "send one as Authorization: Bearer KEY or X-API-Key: KEY" in document["detail"]
    assert "wrong-key" not in response.text


def test_no_key_is_needed_for_health_the_page_and_preflights(guarded):
    client = guarded()
    for path in PUBLIC:
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
    assert client.options("/predict", headers=ASK).status_code == 204
    for path in ("/ping", "/v2/health/ready"):  # of other servers' protocols
        assert client.get(path).status_code != 401


@pytest.mark.parametrize("path", CLOSED)
def test_everything_else_needs_one(guarded, keys, path):
    client = guarded()
    for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
        assert client.request(method, path).status_code == 401, method
    assert client.get(path, headers=bearer(keys["any"])).status_code in (200, 404)


@pytest.mark.parametrize(
    "path", ["/page/../model", "/page/%2e%2e/model", "/health/../model", "/v2/health/../../model", "/HEALTH"]
)
def test_no_spelling_of_a_path_gets_round_the_key(guarded, path):
    client = guarded()
    assert client.get(path).status_code in (401, 404)
    assert '"manifest"' not in client.get(path).text


@pytest.mark.parametrize(
    ("public", "paths"),
    [("metrics", ["/metrics"]), ("docs, drift", ["/docs", "/openapi.json", "/model/drift"])],
)
def test_the_operator_may_open_parts_of_it(guarded, public, paths):
    client = guarded(public=public)
    assert [client.get(path).status_code for path in paths] == [200] * len(paths)
    for path in {"/metrics", "/docs", "/openapi.json", "/model/drift"} - set(paths):
        assert client.get(path).status_code == 401


def test_behind_a_prefix_the_same_needs_a_key(guarded):
    client = guarded(root_path="/cifar10")
    prefixed = TestClient(client.app, root_path="/cifar10", raise_server_exceptions=False)
    assert prefixed.get("/cifar10/health/live").status_code == 200
    assert prefixed.get("/cifar10/model").json()["code"] == "key_required"


def test_a_key_that_sends_too_much_is_told_when_to_come_back(guarded, keys):
    client = guarded()
    assert client.post("/predict", content=png(), headers=bearer(keys["slow"])).status_code == 200
    refused = client.post("/predict", content=png(), headers=bearer(keys["slow"]))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_exceeded")
    assert refused.headers["retry-after"] == "10"
    assert "the key 'slow' may send 0.1 images a second" in refused.json()["detail"]
    assert client.post("/predict", content=png(), headers=bearer(keys["any"])).status_code == 200


def test_a_batch_costs_its_images(guarded, keys):
    client = guarded()
    files = [("files", png(seed)) for seed in range(5)]
    answer = client.post("/predict/batch", files=files, headers=bearer(keys["slow"]))
    assert answer.status_code == 200 and len(answer.json()["results"]) == 5
    refused = client.post("/predict", content=png(), headers=bearer(keys["slow"]))
    assert refused.headers["retry-after"] == "50"


def test_only_the_keys_name_is_logged_and_the_denied_are_counted(guarded, keys, capsys, caplog):
    logging.getLogger("app.access").setLevel(logging.INFO)
    try:
        client = guarded(public="metrics")
        before = refusals(client)
        assert client.get("/model", headers=bearer(keys["any"])).status_code == 200
        for headers in (bearer(keys["slow"]), bearer(keys["slow"]), bearer("wrong-key"), {}):
            client.get("/model", headers=headers)
        client.get("/health")
        metrics = client.get("/metrics").text
    finally:
        logging.getLogger("app.access").setLevel(logging.NOTSET)
    printed = capsys.readouterr().err + caplog.text
    lines = [json.loads(line) for line in printed.splitlines() if '"message": "request"' in line]
    by_status = {status: [line.get("key") for line in lines if line["status"] == status] for status in (200, 401, 429)}
    assert set(by_status.pop(200)) == {"any", "slow", None}
    assert by_status == {401: [None, None], 429: ["slow"]}
    counted = {code: refusals(client).get(code, 0) - before.get(code, 0) for code in CODES}
    assert {code: count for code, count in counted.items() if count} == {
        "rate_exceeded": 1,
        "key_unknown": 1,
        "key_required": 1,
    }
    for secret in (*keys.values(), "wrong-key"):
        assert secret not in printed and secret not in metrics


def refusals(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    found = [line.split('code="')[1].split('"} ') for line in lines if line.startswith("cifar10_refusals_total{")]
    return {code: float(count) for code, count in found}


def test_the_description_says_how_to_send_a_key(guarded, keys):
    document = guarded(public="docs").get("/openapi.json").json()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    health, model = document["paths"]["/health"]["get"], document["paths"]["/model"]["get"]
    assert health["security"] == [] and "401" not in health["responses"] and "security" not in model
    assert all(f"`{code}`" in str(model["responses"]) for code in KEY_CODES)
    assert {"200", "401", "429", "503"} <= model["responses"].keys()


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("example.org", True),
        ("EXAMPLE.org:8000", True),
        ("a.b.example.net", True),
        ("example.net", False),
        ("badexample.net", False),
        ("evil.example", False),
        ("127.0.0.1:8000", False),
        ("[::1]", True),
        ("[::1]:8000", True),
        ("", False),
    ],
)
def test_the_host_must_be_one_of_the_services(client_with, host, is_known):
    client = client_with(allowed_hosts="example.org, *.example.net, [::1]")
    response = client.get("/model", headers={"Host": host})
    assert response.status_code == (200 if is_known else 421)
    assert is_known or response.json()["code"] == "unknown_host"
    assert client.get("/health/live", headers={"Host": host}).status_code == 200


def test_a_page_of_an_allowed_origin_may_ask_and_read(guarded, keys):
    client = guarded(allowed_origins=f"{PAGE}, http://other.example:8080")
    preflight = client.options("/predict", headers=ASK | {"Access-Control-Request-Headers": "authorization"})
    assert preflight.status_code == 204 and int(preflight.headers["access-control-max-age"]) > 0
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert set(allowed) == {"authorization", "x-api-key", "content-type", "x-request-id"}
    origin = {"Origin": PAGE}
    answers = {
        200: client.post("/predict", content=png(), headers=origin | bearer(keys["any"])),
        401: client.post("/predict", content=png(), headers=origin),
        404: client.get("/nope", headers=origin | bearer(keys["any"])),
        415: client.post("/predict?top_k=1", content=b"?", headers=origin | bearer(keys["any"])),
        204: preflight,
    }
    for status, response in answers.items():
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["access-control-expose-headers"] == "X-Request-ID, Retry-After, Server-Timing"
        assert "Origin" in response.headers["vary"]


def test_pages_of_other_origins_may_not_read(client_with):
    client = client_with(allowed_origins="http://other.example")
    for response in (
        client.post("/predict", content=png(), headers={"Origin": PAGE}),
        client.options("/predict", headers=ASK),
        client.get("/health", headers={"Origin": "null"}),
        client.get("/health"),
    ):
        assert "access-control-allow-origin" not in response.headers and response.headers["vary"] == "Origin"


def test_every_origin_may_be_allowed(client_with):
    client = client_with(allowed_origins="*")
    assert client.options("/predict", headers=ASK).headers["access-control-allow-origin"] == "*"
    response = client.get("/model", headers={"Origin": PAGE})
    assert response.headers["access-control-allow-origin"] == "*" and "Origin" not in response.headers["vary"]


def test_without_a_setting_there_is_no_word_of_other_origins(client):
    response = client.options("/predict", headers=ASK)
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_the_host_is_checked_before_the_key_and_the_key_before_the_body(guarded, keys, tmp_path: Path):
    client = guarded(allowed_hosts="testserver")
    elsewhere = client.post("/predict", content=b"?", headers={"Host": "elsewhere"})
    assert elsewhere.json()["code"] == "unknown_host"
    assert client.post("/predict", content=b"?").json()["code"] == "key_required"
    assert client.post("/predict", content=b"?", headers=bearer(keys["any"])).json()["code"] == "unsupported_image"


def test_clients_of_other_servers_protocols_are_refused_in_their_own_form_and_pay_for_each_image(guarded, keys):
    client, document = guarded(), {"instances": [[[[0, 0, 0]] * 32] * 32] * 3}
    refused = client.post("/v1/models/cifar10:predict", json=document)
    assert refused.status_code == 401 and refused.json() == {"error": refused.json()["error"]}
    assert client.post("/v1/models/cifar10:predict", json=document, headers=bearer(keys["slow"])).status_code == 200
    refused = client.post("/v2/models/cifar10/infer", json={}, headers=bearer(keys["slow"]))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
    assert client.get("/v2/health/ready").status_code == 200 == client.get("/ping").status_code
