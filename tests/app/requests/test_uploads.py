"""Request bodies: multipart forms, raw images and their limits."""

import asyncio
import http.client
import io
import json
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import Request

from app.admission import BODY_COPIES, ImageMemory
from app.errors import Problem
from app.requests.uploads import (
    MAX_OTHER_PARTS,
    MAX_PART_HEADER_BYTES,
    MIN_RATE,
    RATE_SECONDS,
    SEARCHED_BYTES,
    SMALL_FORM_BYTES,
    Uploads,
    is_large_form,
    parse_images,
)
from tests.app.conftest import png
from tests.app.service import Server, serving
from tests.app.stops import stoppable
from tests.waiting import DEADLINE_SECONDS, run_ready_tasks, wait_until

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
    assert "only parts without a name; send" in refusal(b"--frontier\r\n\r\nx\r\n" * 2 + build([]))


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


class Arriving:
    """Uploads to a service of their own, whose bodies arrive as a test says."""

    def __init__(self, capacity: int = 1_000_000_000) -> None:
        self.memory, self.uploads = ImageMemory(10 * capacity), Uploads(capacity)

    def begin(self) -> tuple[asyncio.Queue, asyncio.Task]:
        messages: asyncio.Queue = asyncio.Queue()
        return messages, asyncio.create_task(self.read(messages.get))

    async def read(self, receive) -> bytes | str:
        """The body, or the code and text of the problem."""
        request = Request({"type": "http", "headers": []}, receive)
        try:
            with self.memory.reserve() as reservation, stoppable() as stop:
                return await self.uploads.read_body(request, 10**9, reservation, stop)
        except Problem as problem:
            return f"{problem.code}: {problem.detail}"


async def send(messages: asyncio.Queue, body: bytes, more_body: bool = True) -> None:
    """Let a part of a body arrive, and what waits for it go on."""
    await messages.put({"type": "http.request", "body": body, "more_body": more_body})
    await run_ready_tasks()


def test_an_upload_that_stops_is_ended_and_one_that_goes_on_is_not():
    async def scenario():
        arriving = Arriving()
        (steady, read), (_, stopped) = arriving.begin(), arriving.begin()
        for _ in range(3):
            await send(steady, bytes(MIN_RATE * RATE_SECONDS))
            arriving.uploads.end_slow()
        await send(steady, b"last", more_body=False)
        return len(await read), await stopped, arriving.memory.free == arriving.memory.capacity

    size, ended, is_given_back = asyncio.run(scenario())
    assert size == 3 * MIN_RATE * RATE_SECONDS + 4 and is_given_back
    assert ended.startswith("slow_upload: fewer than 10,000 bytes of the body arrived in 10 s")


def test_the_interval_in_which_an_upload_begins_does_not_count():
    async def scenario():
        arriving = Arriving()
        messages, read = arriving.begin()
        await run_ready_tasks()
        arriving.uploads.end_slow()
        await send(messages, b"all", more_body=False)
        return await read

    assert asyncio.run(scenario()) == b"all"


def test_of_the_uploads_that_fill_the_memory_the_largest_are_ended():
    async def scenario():
        arriving = Arriving(capacity=1_000_000)
        large = [arriving.begin() for _ in range(40)]
        for messages, _ in large:
            for _ in range(9):
                await send(messages, bytes(100_000))
        taken = arriving.memory.capacity - arriving.memory.free
        messages, small = arriving.begin()
        await send(messages, b"small", more_body=False)
        ended = [read.result() for _, read in large if read.done()]
        for _, read in large:
            read.cancel()
        return await small, taken, ended

    small, taken, ended = asyncio.run(scenario())
    assert small == b"small" and taken <= BODY_COPIES * 1_000_000
    assert len(ended) >= 38 and all(text.startswith("overloaded: the uploads in progress take 1 MB") for text in ended)


@pytest.mark.process
def test_uploads_in_progress_do_not_count_as_requests_in_flight(tmp_path):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"
    with serving(tmp_path, workers="1", max_requests="2") as server, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.connect()).sendall(head)
        for path in ("/predict", "/predict/batch", "/explain"):
            assert httpx2.post(server.url(path), content=png()).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.process
def test_bodies_sent_half_way_do_not_fill_the_memory(tmp_path):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 31000000\r\n\r\n"
    with serving(tmp_path, workers="1", max_memory_mb="600") as server, ExitStack() as stack:
        before, connections = memory_of(server), [stack.enter_context(server.connect()) for _ in range(30)]
        for connection in connections:
            connection.sendall(head + bytes(10_000_000))
        wait_until(lambda: count_of(server, "overloaded") >= 20)
        assert memory_of(server) - before < 150_000_000 < 30 * 10_000_000
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200


def memory_of(server: Server) -> int:
    """The bytes of memory that the process has."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count_of(server: Server, code: str) -> float:
    """How many problems of a code there have been."""
    match = re.search(
        rf'^cifar10_refusals_total{{code="{code}"}} (\S+)$', httpx2.get(server.url("/metrics")).text, re.M
    )
    return float(match[1]) if match else 0


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
