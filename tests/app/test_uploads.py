"""Request bodies: multipart forms, raw images and their limits."""

import http.client
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Problem
from app.uploads import parse_images
from tests.app.conftest import png
from tests.app.service import serving
from tests.waiting import DEADLINE_SECONDS

FORM = "multipart/form-data; boundary=frontier"


def build(parts):
    body = b""
    for name, content in parts:
        head = f'--frontier\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + b"--frontier--\r\n"


contents = st.binary(max_size=300).filter(lambda data: b"frontier" not in data)


@given(st.lists(st.tuples(st.sampled_from(["file", "other", "FILE"]), contents), max_size=8))
def test_a_form_gives_back_the_files_of_its_field_in_order(parts):
    wanted = [content for name, content in parts if name == "file"]
    if wanted:
        assert parse_images(FORM, build(parts), "file", 8) == wanted
    else:
        with pytest.raises(Problem, match="no file named 'file'"):
            parse_images(FORM, build(parts), "file", 8)


@given(st.binary(max_size=400), st.sampled_from([FORM, "multipart/form-data", "multipart/form-data; boundary="]))
def test_arbitrary_bytes_as_a_form_are_files_or_a_problem(body, content_type):
    files, refusal = [], None
    try:
        files = parse_images(content_type, body, "file", 3)
    except Problem as problem:
        refusal = problem.code
    assert refusal in ("malformed_request", "too_large") or 1 <= len(files) <= 3
    assert all(file in body for file in files)


@given(st.integers(1, 400), contents)
def test_a_form_cut_short_is_refused(cut, content):
    whole = build([("file", content)])
    with pytest.raises(Problem, match=r"before its closing boundary|no file named|cannot be read"):
        parse_images(FORM, whole[: max(0, len(whole) - 4 - cut)], "file", 3)


def test_announced_body_over_the_limit_is_refused(client_with):
    small = client_with(max_body_bytes=1_000)
    response = small.post("/predict", content=bytes(1_001))
    assert response.status_code == 413 and "1,001 bytes, the limit is 1,000" in response.json()["detail"]


def test_chunked_body_over_the_limit_is_refused(client_with):
    small = client_with(max_body_bytes=1_000)
    response = small.post("/predict", content=iter([bytes(600)] * 2))
    assert response.status_code == 413 and response.json()["code"] == "too_large"


def test_too_many_files_in_a_batch_are_refused(client_with):
    small = client_with(max_files=2)
    response = small.post("/predict/batch", files=[("files", png())] * 3)
    assert response.status_code == 413 and "more than 2 files" in response.json()["detail"]


@pytest.mark.process
def test_a_body_that_does_not_arrive_is_given_up(tmp_path):
    with serving(tmp_path, workers="1", timeout_seconds="0.2") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"only this")
        response = connection.getresponse()
        assert response.status == 408 and json.loads(response.read())["code"] == "slow_upload"
        connection.close()
