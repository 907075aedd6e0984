import argparse
import os
import shutil

import pytest

from benchmarks import bodies, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.wrk import measured, parse, require_wrk, run_wrk, whole_seconds
from tests.benchmarks.conftest import BUSY, OK

SAID = """Running 1s test @ http://127.0.0.1:8000/predict
  1 threads and 2 connections
Requests/sec:   1234.50
measured: {"requests": 1235, "seconds": 1.000405, "p50_ms": 0.761, "p99_ms": 8.200, "refused": 3, "broken": 0}
"""
installed = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
BODY = bodies.raw(bodies.pictures()[0])


def test_figures_are_read_from_what_wrk_prints():
    expected = {"requests": 1_235, "seconds": 1.000405, "p50_ms": 0.761, "p99_ms": 8.2, "refused": 3, "broken": 0}
    assert parse(SAID) == expected


@pytest.mark.parametrize(
    ("said", "text"),
    [("", "nothing"), ("unable to connect", "unable to connect")],
    ids=["silent", "other words"],
)
def test_without_figures_it_says_what_there_was(said, text):
    with pytest.raises(BenchmarkError, match=text):
        parse(said)


def test_says_how_to_install_wrk(monkeypatch):
    monkeypatch.setattr(wrk.shutil, "which", lambda name: None)
    with pytest.raises(BenchmarkError, match="apt install wrk"):
        require_wrk()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "²"])
def test_wrk_takes_whole_seconds(text):
    assert whole_seconds("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="no whole number of seconds"):
        whole_seconds(text)


def test_where_no_request_is_answered_it_measures_for_longer(monkeypatch):
    tried = []

    def run(port, body, connections, seconds):
        tried.append(seconds)
        return SAID if seconds == 8 else SAID.replace("1235,", "0,")

    monkeypatch.setattr(wrk, "run_wrk", run)
    load = measured(os.getpid(), 1, BODY, connections=2, seconds=2)
    assert tried == [2, 4, 8]
    assert (load.requests, load.refused, load.rate) == (1_235, 3, pytest.approx(1_231.5, abs=0.1))


def test_a_server_that_never_answers_is_an_error(monkeypatch):
    monkeypatch.setattr(wrk, "run_wrk", lambda *given: SAID.replace("1235,", "0,"))
    with pytest.raises(BenchmarkError, match="PNG 32×32: no request was answered in 30 s"):
        measured(os.getpid(), 1, BODY, connections=2, seconds=2)


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
