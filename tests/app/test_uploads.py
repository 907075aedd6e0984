"""Request bodies: multipart forms, raw images and their limits."""

import http.client
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.errors import Problem
from app.uploads import (
    MAX_OTHER_PARTS,
    MAX_PART_HEADER_BYTES,
    SEARCHED_BYTES,
    SMALL_FORM_BYTES,
    is_large_form,
    parse_images,
)
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


def refusal(body: bytes, content_type: str = FORM, limit: int = 1) -> str:
    """The code and text of the problem that a body causes."""
    with pytest.raises(Problem) as raised:
        parse_images(content_type, body, "file", limit)
    return f"{raised.value.code}: {raised.value.detail}"


@given(contents.filter(lambda text: b"--" not in text))
def test_text_before_the_first_boundary_is_ignored(preamble):
    assert parse_images(FORM, preamble + b"\r\n" + build([("file", b"x")]), "file", 1) == [b"x"]


def test_text_after_the_last_boundary_and_spaces_after_a_boundary_are_ignored():
    body = build([("file", b"x")]).replace(b"frontier\r\n", b"frontier \t\r\n")
    assert parse_images(FORM, body + b"\r\nepilogue\r\n--frontier\r\n", "file", 1) == [b"x"]


def test_a_form_without_a_boundary_is_told_so():
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""'):
        assert "Content-Type of the form has no boundary" in refusal(build([("file", b"x")]), content_type)


def test_a_form_with_another_boundary_than_announced_is_told_so():
    detail = refusal(build([("file", b"x")]), "multipart/form-data; boundary=other")
    assert "boundary 'other', given by Content-Type, is not in the body" in detail


def test_a_form_with_the_file_under_other_names_is_told_which_names_came():
    assert "no file named 'file', only 'image', 'FILE'; send" in refusal(build([("image", b"x"), ("FILE", b"y")]))
    many = refusal(build([(f"photo{number}", b"x") for number in range(9)]))
    assert "only 'photo0', 'photo1', 'photo2' and 6 more;" in many
    assert len(refusal(build([("n" * 1_000, b"x")]))) < 250
    assert "it has no parts at all" in refusal(build([]))


@pytest.mark.parametrize(
    "part", [b"\r\n", b"\r\nx\r\n", b"Content-Disposition: form-data; name=other\r\n\r\nx\r\n"], ids=repr
)
def test_parts_of_any_name_are_limited(part):
    most = b"".join([b"--frontier\r\n", part]) * (2 + MAX_OTHER_PARTS)
    end = build([])
    assert "no file named 'file'" in refusal((b"--frontier\r\n" + part) * 2 + end)
    assert "more than 17 parts" in refusal(most + end)


def test_a_parts_headers_are_limited():
    head = b"Content-Disposition: form-data; name=file\r\nX-Long: "
    whole = b"--frontier\r\n" + head + b"%s\r\n\r\nx\r\n--frontier--"
    fits = MAX_PART_HEADER_BYTES - len(head) - 4
    assert parse_images(FORM, whole % (b"x" * fits), "file", 1) == [b"x"]
    assert "more than 2,048 bytes" in refusal(whole % (b"x" * (fits + 1)))


def test_a_long_content_type_is_refused_for_a_form_and_ignored_for_an_image():
    parameters = 'a="b;' * 100_000
    assert "has 500,021 characters, the limit is 1,024" in refusal(b"", f"multipart/form-data; {parameters}")
    assert parse_images(f"image/png; {parameters}", b"image", "file", 1) == [b"image"]


def test_lines_that_begin_like_a_boundary_end_the_form():
    body = build([("file", b"\r\n--frontierX" * 1_000)])
    assert "a boundary is followed by other text" in refusal(body)


@pytest.mark.parametrize("at", [-20, -9, -8, -3, 0, 5])
def test_a_boundary_is_found_wherever_a_search_ends(at):
    content = bytes(SEARCHED_BYTES - 76 + at)
    assert parse_images(FORM, build([("file", content)]), "file", 1) == [content]


def test_only_a_form_that_parses_in_less_than_a_millisecond_stays_in_the_event_loop():
    assert not is_large_form(FORM, bytes(SMALL_FORM_BYTES)) and is_large_form(FORM, bytes(SMALL_FORM_BYTES + 1))
    assert not is_large_form("image/png", bytes(10 * SMALL_FORM_BYTES))


def test_a_large_form_gets_the_answer_of_the_image_itself(client):
    content = png(side=96)
    assert len(content) > SMALL_FORM_BYTES
    form = client.post("/predict", files={"file": content})
    assert form.json() == client.post("/predict", content=content).json()
    assert "only 'image'" in client.post("/predict", files={"image": content}).json()["detail"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_an_image_sent_with_curl_d_is_told_so(client, format):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png())).save(buffer, format)
    damaged = buffer.getvalue().translate(None, b"\r\n\0")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/predict", content=damaged, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "unusable_image")
    assert "curl -d" in response.json()["detail"] and "-F file=@photo.jpg" in response.json()["detail"]
    whole = client.post("/predict", content=buffer.getvalue(), headers=headers)
    assert whole.status_code == 200


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
