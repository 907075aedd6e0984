"""Damaged requests on raw connections: each gets legal answers and does no harm to the next one."""

import re
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CODES
from tests.app.service import ROOT, Server
from tests.contract.recording import form
from tests.fuzz.conftest import CLOSE, predict
from tests.fuzz.mutation import EXTREMES, mutated
from tests.fuzz.profiles import fuzzed

pytestmark = pytest.mark.process

CAT = (ROOT / "docs/cat.png").read_bytes()
HEAD = b"Host: x\r\nUser-Agent: fuzz\r\nX-Request-ID: fuzz-1\r\n"
END_SECONDS = 20  # in which a connection ends once its client has closed its side


def post(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (path, HEAD, headers, len(body), body)


def get(path: bytes, headers: bytes = b"", method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\n%s%s\r\n" % (method, path, HEAD, headers)


def chunked(path: bytes, body: bytes, size: int, trailers: bytes = b"") -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    head = b"POST %s HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (path, HEAD)
    return b"".join([head, *(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks), b"0\r\n", trailers, b"\r\n"])


def post_form(path: bytes, field: str, *files: bytes) -> bytes:
    headers, body = form(field, *files)
    return post(path, body, b"Content-Type: %s\r\n" % headers["Content-Type"].encode())


REQUESTS = [
    post(b"/predict", CAT, b"Content-Type: image/png\r\n"),
    post(b"/predict?top_k=3", CAT, b"Expect: 100-continue\r\n"),
    chunked(b"/predict", CAT, 700),
    chunked(b"/predict", CAT[:300], 1, b"X-Checksum: 1\r\nX-Second: 2\r\n"),
    post_form(b"/predict", "file", CAT),
    post_form(b"/predict/batch?top_k=1", "files", CAT, b"no image", CAT[:900]),
    post(b"/explain?format=json&class=unicorn", CAT),
    get(b"/health", b"Connection: keep-alive, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    get(b"/health/live", b"X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"),
    get(b"/model"),
    get(b"/model/report/evaluation.json", b'If-None-Match: "0"\r\n'),
    get(b"/metrics"),
    get(b"/page/js/page.js", b"Accept-Encoding: gzip\r\nRange: bytes=0-99\r\n"),
    get(b"/page/../page/%2e%2e/js/page.js"),
    get(b"http://other.example/openapi.json", b"Connection: close\r\n"),
    get(b"/predict", method=b"OPTIONS"),
]
TOKENS = [
    *EXTREMES,
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"%00", b"%ff", b"/..", b"?", b"#", b"\xc3\xa9"),
    *(b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"HTTP/0.9", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\0\1\0"),
    *(b"Content-Length: -1\r\n", b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Expect: 200-ok\r\n"),
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"fffffffffffffffff\r\n", b"-1\r\n", b"5;name=value\r\nabcde\r\n"),
    *(b"Host: a\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"Range: bytes=-1,0-,9-8\r\n"),
    *(b"X-Request-ID: a\r\n b\r\n", b"Content-Type: multipart/form-data; boundary=\r\n", b"a" * 9_000),
    *(b"POST", b"HEAD", b"CONNECT", b"DELETE", b"top_k=1e999", b"class=" + b"%f0" * 99, b"--edge\r\n", b"--edge--"),
]

sound = st.sampled_from(REQUESTS)
sent = st.lists(st.one_of(sound, sound.flatmap(lambda request: mutated(request, TOKENS))), min_size=1, max_size=3)
cuts = st.lists(st.tuples(st.integers(0, 9_000), st.sampled_from([0, 0, 0.001, 0.02])), max_size=4)


def exchange(server: Server, data: bytes, pauses: list[tuple[int, float]], ending: str) -> tuple[bytes, bool]:
    """Send the bytes in pieces, and return what comes back until the connection ends, and whether it was reset.

    Args:
        pauses: offsets in `data`, each with the seconds to wait there.
        ending: `shut` the sending side and read to the end, or `close` or `reset` the connection without reading.
    """
    received, is_reset, start = b"", False, 0
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(END_SECONDS)
        try:
            for at, seconds in sorted(pauses):
                client.sendall(data[start:at])
                start = max(start, at)
                time.sleep(seconds)  # the client's pause, not the test's
            client.sendall(data[start:])
            if ending == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if ending == "shut":
                client.shutdown(socket.SHUT_WR)
                while part := client.recv(65_536):
                    received += part
        except TimeoutError:
            raise
        except OSError:  # the service closed before it had read everything
            is_reset = True
            received += unread(client)
    return received, is_reset


def unread(client: socket.socket) -> bytes:
    try:
        return client.recv(1_000_000, socket.MSG_DONTWAIT)
    except OSError:
        return b""


STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [A-Za-z ]+\r\n")
FIELD = re.compile(rb"([A-Za-z0-9-]+): ([\t\x20-\x7e\x80-\xff]*)\r\n")
DOCUMENTED = {status for status, _ in CODES.values()} | {100, 200, 204, 206, 304, 416, 501}
FORBIDDEN = {500, 504}
BODILESS = {100, 204, 304}


def read_answers(received: bytes, is_reset: bool, may_be_head: bool) -> list[int]:
    """The statuses of the answers, which fill `received` to its last byte; after a reset, the last may be cut."""
    statuses, at = [], 0
    while at < len(received):
        line = STATUS.match(received, at)
        if is_reset and b"\r\n\r\n" not in received[at:]:
            break
        assert line, received[at : at + 200]
        status, at, fields = int(line[1]), line.end(), {}
        while not received.startswith(b"\r\n", at):
            field = FIELD.match(received, at)
            assert field, received[at : at + 200]
            assert field[1].lower() not in fields, field[0]
            fields[field[1].lower()] = field[2]
            at = field.end()
        at += 2
        if status == 503:
            assert fields[b"retry-after"].isdigit()
        if status not in BODILESS and not (may_be_head and received[at : at + 9] in (b"", b"HTTP/1.1 ")):
            at += int(fields[b"content-length"])
            assert at <= len(received) or is_reset, "the answer ends early"
        statuses.append(status)
    return statuses


@pytest.fixture(scope="module")
def prediction(service) -> dict[str, float]:
    return predict(service)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.split(b"\r\n")[0].decode())
def test_sound_requests_get_one_answer_each(service, request_):
    received, is_reset = exchange(service, request_ * 2, [(10, 0.0)], "shut")
    statuses = [status for status in read_answers(received, is_reset, may_be_head=False) if status != 100]
    assert len(statuses) == (1 if b"Connection: close" in request_ else 2) and {*statuses} <= {
        200,
        204,
        206,
        304,
        404,
        422,
    }


@fuzzed(short=40, fuzz=4_000)
@given(sent, cuts, st.sampled_from(["shut", "shut", "shut", "close", "reset"]))
def test_damaged_requests_get_legal_answers_and_leave_the_service_as_it_was(
    service, prediction, requests, pauses, ending
):
    data = b"".join(requests)
    received, is_reset = exchange(service, data, pauses, ending)
    statuses = read_answers(received, is_reset, may_be_head=b"HEAD" in data)
    assert {*statuses} <= DOCUMENTED - FORBIDDEN, statuses
    assert predict(service) == pytest.approx(prediction, abs=CLOSE)


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: a\nb\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{}",
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_illegal_answers_would_be_noticed(received):
    with pytest.raises((AssertionError, KeyError)):
        read_answers(received, is_reset=False, may_be_head=False)
