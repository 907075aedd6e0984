"""Log lines are JSON."""

import httpx2
import pytest

from tests.app.conftest import png
from tests.app.service import serving, stop


@pytest.mark.process
def test_log_lines_are_json_and_carry_the_request_id(tmp_path):
    with serving(tmp_path, workers="1", drain_seconds="0") as server:
        httpx2.post(server.url("/predict"), content=png(), headers={"X-Request-ID": "tell-me-apart"})
        assert stop(server) == 0
        (line,) = [line for line in server.lines() if line.get("request_id") == "tell-me-apart"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/predict", 200)
