"""The commands `check`, `serve` and `classify`: arguments, output and exit codes."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from tests.app.conftest import png
from tests.app.service import MOUNTING, ROOT, needs_mounts


def test_check_prints_settings_and_passes(capsys):
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "CIFAR10_MODEL_NAME=cifar10\n" in out and "ok: cifar10 version" in out


def test_check_fails_on_a_store_without_a_model(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR10_STORE", str(tmp_path))
    assert main(["check"]) == 1
    assert "holds no version of 'cifar10'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../models/cifar10", "n" * 5_000])
def test_a_name_that_is_none_is_refused(capsys, monkeypatch, name):
    monkeypatch.setenv("CIFAR10_MODEL_NAME", name)
    assert main(["check"]) == 1
    assert "is not a model name" in capsys.readouterr().err


def test_a_store_that_cannot_be_read_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("CIFAR10_STORE", "s" * 5_000)
    assert main(["check"]) == 1
    assert "cannot be read: File name too long; choose a shorter name or path" in capsys.readouterr().err


def test_a_python_without_the_packages_is_told_of(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "app.settings", None)
    assert main(["check"]) == 1
    assert "has no app.settings; `make run` installs it for .venv/bin/python" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_refused(capsys, host):
    with pytest.raises(SystemExit):
        main(["serve", "--host", host, "--port", "0"])
    assert "argument --host: it is empty; give an address" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_a_port_is_one_that_there_is(capsys, port):
    with pytest.raises(SystemExit):
        main(["serve", "--port", port])
    assert "is not a port" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize(
    ("ending", "code", "message"), [(">&-", 0, ""), (">/dev/full", 1, "the answers cannot be written")]
)
def test_classify_without_a_place_for_its_answers(tmp_path, ending, code, message):
    (tmp_path / "cat.png").write_bytes(png())
    command = f"{shlex.quote(sys.executable)} -m app classify {shlex.quote(str(tmp_path / 'cat.png'))} {ending}"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == code
    assert message in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.process
@pytest.mark.parametrize("command", ["check", "classify docs/cat.png"])
def test_a_reader_that_has_ended_ends_the_command_quietly(command):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "app", *command.split()]
    ended = subprocess.run(arguments, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "begin"),
    [("check", "error: python -m app check: "), ("classify docs/cat.png", "error: the answers cannot be written: ")],
)
def test_output_that_cannot_be_written_is_one_sentence(command, begin):
    arguments = [sys.executable, "-m", "app", *command.split()]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(arguments, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    remedy = "No space left on device; free some space there (`df -h`, `df -i`) or choose another folder\n"
    assert (ended.returncode, ended.stderr) == (1, begin + remedy)


def test_classify_reads_no_more_of_a_file_than_may_be(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR10_MAX_BODY_BYTES", "5000")
    (tmp_path / "large.png").write_bytes(png() + bytes(5_000))
    assert main(["classify", str(tmp_path / "large.png"), "/dev/zero"]) == 1
    assert capsys.readouterr().err.count("more than 5,000 bytes, the limit that CIFAR10_MAX_BODY_BYTES sets") == 2


def test_classify_prints_a_json_object_a_file_and_names_bad_ones(capsys, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(png())
    bad.write_bytes(b"?")
    assert main(["classify", "--top-k", "2", str(good), str(bad), str(tmp_path / "gone.png")]) == 1
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["file"] == str(good) and len(answer["probabilities"]) == 2
    assert "bad.png: 1 bytes cannot be read" in printed.err and "gone.png" in printed.err


HIDE_PROCESSOR = """
mkdir "$0/nothing" && touch "$0/empty"
mount --bind "$0/nothing" /sys/devices/system/cpu
mount --bind "$0/empty" /proc/cpuinfo
exec "$@"
"""


@pytest.mark.process
@needs_mounts
@pytest.mark.parametrize(
    "command",
    [
        "app check",
        "app classify docs/cat.png",
        "app serve --port 0",
    ],
)
def test_a_processor_that_openvino_cannot_read_is_one_sentence(tmp_path, command):
    ended = subprocess.run(
        [*MOUNTING, "bash", "-c", HIDE_PROCESSOR, str(tmp_path), sys.executable, "-m", *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("OpenVINO cannot read this processor (Wrong CPU information") == 1
    assert "make /proc/cpuinfo and /sys/devices/system/cpu readable" in ended.stderr
    assert "Traceback" not in ended.stderr
