"""Security headers, request ids and Server-Timing."""

import re

import pytest

from app.monitoring.middleware import security_headers
from tests.app.conftest import png


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/health", "/nope", "/page/js/page.js"])
def test_every_answer_has_the_security_headers(client, path):
    headers, expected = client.get(path).headers, security_headers()
    assert {name: headers[name] for name in expected} == expected
    assert headers["content-security-policy"].endswith("frame-ancestors 'none'")


def test_pages_of_named_origins_may_show_it_in_a_frame(client_with):
    client = client_with(frame_ancestors="https://example.org, https://b.example:8443")
    policy = client.get("/").headers["content-security-policy"]
    assert policy.endswith("; frame-ancestors https://example.org https://b.example:8443")


def test_request_id_is_taken_over_or_made(client):
    assert client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/health", headers={"X-Request-ID": 'a" b'}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


STAGES = ["receive", "decode", "queue", "infer", "serialize", "total"]


def server_timing(response) -> dict[str, float]:
    parts = (part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in parts}


@pytest.mark.parametrize("path", ["/predict", "/predict?top_k=2", "/predict/batch"])
def test_every_prediction_says_where_its_time_went(client, path):
    times = server_timing(client.post(path, content=png()))
    assert list(times) == STAGES
    assert all(time >= 0 for time in times.values())
    assert sum(times.values()) - times["total"] <= times["total"]


@pytest.mark.parametrize("path", ["/explain", "/explain?format=json"])
def test_every_explanation_says_where_its_time_went(client, path):
    times = server_timing(client.post(path, content=png()))
    assert list(times) == ["receive", "decode", "explain", "serialize", "total"]


def test_other_answers_say_what_is_known(client):
    assert list(server_timing(client.get("/health"))) == ["total"]
    assert list(server_timing(client.post("/predict", content=b"no image"))) == ["receive", "total"]
