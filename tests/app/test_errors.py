"""Errors are problem documents that say what is wrong."""

import io
import resource
import sys
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.errors import CODES
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import png
from tests.app.service import serving


def form(*parts: bytes, end: bytes = b"--X--\r\n") -> dict:
    body = b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=X"}}


PART = b'Content-Disposition: form-data; name="file"; filename="i"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_", "code", "detail"),
    [
        pytest.param({"content": b"{}"}, "unsupported_image", "JSON", id="json"),
        pytest.param({"content": b""}, "unsupported_image", "the request has no body", id="empty"),
        pytest.param({"content": png()[:300]}, "unusable_image", "ends early", id="truncated"),
        pytest.param({"files": {"image": png()}}, "malformed_request", "-F file=@photo.jpg", id="other field"),
        pytest.param(form(PART + png(), end=b""), "malformed_request", "closing boundary", id="unclosed form"),
        pytest.param(form(PART + png(), PART + png()), "too_large", "more than 1 file;", id="two files"),
        pytest.param(
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            "malformed_request",
            "has no boundary",
            id="no boundary",
        ),
        pytest.param({"content": png(), "params": {"top_k": 0}}, "invalid_parameter", "top_k", id="top_k 0"),
        pytest.param({"content": png(), "params": {"top_k": "x"}}, "invalid_parameter", "not 'x'", id="top_k x"),
    ],
)
def test_predict_explains_what_is_wrong(client, request_, code, detail):
    response = client.post("/predict", **request_)
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, document["code"]) == (CODES[code][0], code)
    assert detail in document["detail"] and document["request_id"] == response.headers["x-request-id"]


def test_unknown_address_and_method_are_problems_too(client):
    assert client.get("/nope").json()["code"] == "not_found"
    wrong = client.get("/predict")
    assert wrong.json()["code"] == "method_not_allowed" and wrong.headers["allow"] == "OPTIONS, POST"
    assert "supports only OPTIONS, POST" in wrong.json()["detail"]


def test_an_error_nobody_foresaw_is_a_problem_that_tells_the_log_and_not_the_client(tmp_path, caplog):
    def broken() -> None:
        raise RuntimeError("secret")

    app = create_app(Settings(store=tmp_path))
    app.add_api_route("/broken", broken)
    response = TestClient(app, raise_server_exceptions=False).get("/broken", headers={"X-Request-ID": "abc-1"})
    assert response.status_code == 500 and "secret" not in response.text
    assert (response.json()["code"], response.json()["request_id"]) == ("internal", "abc-1")
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_a_lack_of_memory_is_a_503_with_a_line_in_the_log_and_passes(tmp_path):
    with serving(tmp_path, workers="1") as server:
        url, large = server.url("/predict"), blank(6_200)
        assert httpx2.post(url, content=blank(200)).status_code == 200
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + 5_000_000
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        for address in (url, f"{url}?top_k=3"):
            refused = httpx2.post(address, content=large)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert "too little memory to decode the PNG file" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) >= 1
        form = {"files": [("files", large), ("files", png())]}
        results = httpx2.post(server.url("/predict/batch"), **form).json()["results"]
        assert results[0]["problem"]["code"] == "overloaded" and "prediction" in results[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert httpx2.post(url, content=large).status_code == 200
        lines = [line for line in server.lines() if line["message"].startswith("out of memory: ")]
        assert [line["level"] for line in lines] == ["error"] * 3


def blank(side: int) -> bytes:
    """A PNG of one colour: few bytes, many pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()
