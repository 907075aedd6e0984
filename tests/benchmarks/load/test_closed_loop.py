import argparse
import os
import shutil

import pytest

from benchmarks import BenchmarkError
from benchmarks.load import bodies
from benchmarks.load.closed_loop import measure_load, parse, require_wrk, run_wrk, whole_number
from tests.benchmarks.conftest import BUSY, OK

OUTPUT = """Running 1s test @ http://127.0.0.1:8000/predict
  1 threads and 2 connections
Requests/sec:   1234.50
measured: {"requests": 1235, "seconds": 1.000405, "p50_ms": 0.761, "p99_ms": 8.200, "refused": 3, "broken": 0}
"""
installed = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
BODY = bodies.raw(bodies.pictures()[0])


def test_figures_are_read_from_what_wrk_prints():
    expected = {"requests": 1_235, "seconds": 1.000405, "p50_ms": 0.761, "p99_ms": 8.2, "refused": 3, "broken": 0}
    assert parse(OUTPUT) == expected


@pytest.mark.parametrize(
    ("output", "text"),
    [("", "nothing"), ("unable to connect", "unable to connect")],
    ids=["silent", "other words"],
)
def test_without_figures_it_says_what_there_was(output, text):
    with pytest.raises(BenchmarkError, match=text):
        parse(output)


@pytest.fixture
def fake_wrk(tmp_path, monkeypatch):
    """Makes a `wrk` that prints OUTPUT, with no request answered in less than `answers_from` seconds."""

    def make(answers_from: int) -> None:
        (tmp_path / "answered").write_text(OUTPUT)
        (tmp_path / "silent").write_text(OUTPUT.replace("1235,", "0,"))
        script = tmp_path / "wrk"
        seconds = 'seconds=${3#-d}; seconds=${seconds%s}; echo $seconds >> "$0.log"'
        choose = f"[ $seconds -ge {answers_from} ] && name=answered || name=silent"
        script.write_text(f'#!/bin/sh\n{seconds}; {choose}; cat "{tmp_path}/$name"\n')
        script.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return make


def test_says_how_to_install_wrk(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match="apt install wrk"):
        require_wrk()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "²"])
def test_counts_and_seconds_are_whole_numbers(text):
    assert whole_number("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least 1"):
        whole_number(text)


def test_an_unanswered_load_is_repeated_for_twice_as_long(tmp_path, fake_wrk):
    fake_wrk(answers_from=8)
    load = measure_load(os.getpid(), 1, BODY, connections=2, seconds=2)
    assert (tmp_path / "wrk.log").read_text().split() == ["2", "4", "8"]
    assert (load.requests, load.refused, load.rate) == (1_235, 3, pytest.approx(1_231.5, abs=0.1))


def test_a_server_that_never_answers_is_an_error(tmp_path, fake_wrk):
    fake_wrk(answers_from=99)
    with pytest.raises(BenchmarkError, match="PNG 32×32: no request was answered in 30 s"):
        measure_load(os.getpid(), 1, BODY, connections=2, seconds=2)
    assert (tmp_path / "wrk.log").read_text().split() == ["2", "4", "8", "16", "30"]


@installed
def test_wrk_posts_the_body_and_counts_refusals(server_with):
    heads = []
    answers = iter([OK, BUSY])

    def answer(head):
        heads.append(head)
        return next(answers, OK)

    server = server_with(answer)
    figures = parse(run_wrk(server.port, BODY, connections=1, seconds=1))
    assert figures["refused"] == 1
    assert server.requests - 1 <= figures["requests"] <= server.requests
    assert heads[0].startswith(b"POST /predict HTTP/1.1\r\n")
    assert b"Content-Type: image/png\r\n" in heads[0] + b"\r\n"
    assert f"Content-Length: {len(BODY.data)}\r\n".encode() in heads[0] + b"\r\n"


@installed
def test_what_wrk_does_not_take_is_an_error_with_its_words():
    with pytest.raises(BenchmarkError, match="wrk ended with code 1: Usage: wrk"):
        run_wrk(1, BODY, connections=1, seconds=0)
