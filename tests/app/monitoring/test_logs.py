"""Log lines are JSON, and writing them never waits."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx2
import pytest

from app.monitoring.logs import ATOMIC_BYTES, DroppingStream
from tests.app.conftest import png
from tests.app.service import LISTENING, ROOT, default_signals, is_ready, serving, stop
from tests.waiting import DEADLINE_SECONDS, wait_until


@pytest.mark.process
def test_log_lines_are_json_and_carry_the_request_id(tmp_path):
    with serving(tmp_path, workers="1", drain_seconds="0") as server:
        httpx2.post(server.url("/predict"), content=png(), headers={"X-Request-ID": "tell-me-apart"})
        assert stop(server) == 0
        (line,) = [line for line in server.lines() if line.get("request_id") == "tell-me-apart"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/predict", 200)


OTHERS = """
import logging, sys
from app.monitoring.logs import configure_logging
other = logging.FileHandler(sys.argv[1])
logging.getLogger("ray.serve").addHandler(other)
configure_logging("info")
logging.getLogger("ray.serve").warning("to both")
logging.getLogger("uvicorn.error").info("once")
"""


def test_handlers_of_other_libraries_stay_open(tmp_path):
    command = [sys.executable, "-c", OTHERS, str(tmp_path / "other.log")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("ray.serve", "to both"),
        ("uvicorn.error", "once"),
    ]
    assert (tmp_path / "other.log").read_text() == "to both\n"


def set_pipe_size(descriptor: int, size: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)


@contextmanager
def small_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    set_pipe_size(writer, 8_192)
    os.set_blocking(reader, False)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def small_socket() -> Iterator[tuple[int, int]]:
    """A pair of connected sockets, as systemd's journal makes."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        yield reader.fileno(), writer.fileno()


def received(reader: int) -> bytes:
    data = b""
    while True:
        try:
            data += os.read(reader, 65_536)
        except BlockingIOError:
            return data


@pytest.mark.parametrize("connected", [small_pipe, small_socket], ids=["pipe", "socket"])
def test_lines_that_nobody_reads_are_dropped_whole_and_counted(connected):
    with connected() as (reader, writer), closing(DroppingStream(writer)) as stream:
        line = "x" * 99 + "\n"
        for _ in range(500):
            stream.write(line * 10)
        assert os.get_blocking(writer)  # for other programs that write to it
        data = received(reader)
        stream.write("after\n")  # also sends the rest of a line that was cut
        data += received(reader)
        lines = data.decode().splitlines(keepends=True)
        assert set(lines) == {line, "after\n"}
        assert stream.take_dropped() == 5_000 - lines.count(line) > 0 == stream.take_dropped()


@pytest.mark.parametrize("length", [10, ATOMIC_BYTES - 1, ATOMIC_BYTES, 3 * ATOMIC_BYTES])
def test_lines_of_every_length_arrive_as_they_are(length):
    with small_pipe() as (reader, writer), closing(DroppingStream(writer)) as stream:
        data = b""
        for text in ("a\n", "b" * length + "\n", "c\n" * 3_000, "d\n"):
            stream.write(text)
            data += received(reader)
            stream.write("")
        stream.write("\n")
        data += received(reader)
        whole = data.decode().splitlines()
        assert {"a", "b" * length, "c", "d"} >= set(whole) - {""} and "b" * length in whole


def test_lines_for_a_reader_that_is_gone_are_dropped():
    reader, writer = os.pipe()
    with closing(DroppingStream(writer)) as stream:
        os.close(reader)
        stream.write("one\ntwo\n")
        assert stream.take_dropped() == 2
    os.close(writer)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe is set on Linux")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_reader_that_stops_reading_stops_neither_answers_nor_the_shutdown(tmp_path, workers):
    environment = {"CIFAR10_WORKERS": workers, "CIFAR10_DRAIN_SECONDS": "0"}
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    with default_signals():
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        set_pipe_size(process.stderr.fileno(), 4_096)
        while not (listening := LISTENING.search(line := process.stderr.readline())):
            assert line
        url = f"http://127.0.0.1:{listening[1]}"
        wait_until(lambda: is_ready(listening[1]))
        for _ in range(100):
            assert httpx2.post(f"{url}/predict", content=png()).status_code == 200
        dropped = re.search(r"^cifar10_log_lines_dropped_total (.+)$", httpx2.get(f"{url}/metrics").text, re.MULTILINE)
        assert dropped and float(dropped[1]) > 10
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert all(json.loads(line) for line in process.stderr.read().splitlines())
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.process
def test_dropped_lines_are_reported_once_the_reader_reads_again():
    program = """
import logging, os, sys
from app.monitoring.logs import configure_logging
configure_logging("info")
for _ in range(1_000):
    logging.getLogger("app").info("filler")
os.write(1, b"full")
os.read(0, 1)
logging.getLogger("app").info("again")
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=-1, stdout=-1, stderr=-1, bufsize=0
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.read(4) == b"full"
        os.set_blocking(process.stderr.fileno(), False)
        written = received_now(process.stderr.fileno())
        process.stdin.write(b".")
        process.wait(DEADLINE_SECONDS)
        lines = [json.loads(line) for line in (written + received_now(process.stderr.fileno())).splitlines()]
    (report,) = [line["message"] for line in lines if line["level"] == "warning"]
    filler = sum(line["message"] == "filler" for line in lines)
    assert report.startswith(f"{1_000 - filler} log lines were dropped") and filler < 1_000


def received_now(descriptor: int) -> bytes:
    data = b""
    try:
        while part := os.read(descriptor, 65_536):
            data += part
    except BlockingIOError:
        pass
    return data
