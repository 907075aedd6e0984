"""The last message of a job, where Kubernetes reads it."""

import os

import pytest

from training.__main__ import main
from training.termination import MAX_BYTES, write_termination_log


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A termination log, as Kubernetes makes it: an empty file."""
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setenv("TERMINATION_LOG", str(path))
    return path


def test_a_failed_job_leaves_its_error_in_the_log(log, tmp_path, capsys):
    log.write_text("an earlier, longer message than the one that follows " * 9)
    assert main(["versions", "--store", str(tmp_path / "gone")]) == 1
    error = capsys.readouterr().err
    assert log.read_text() == error.strip() and error.startswith("error: the store ")


def test_an_invalid_command_line_leaves_its_error_in_the_log(log):
    with pytest.raises(SystemExit) as stopped:
        main(["prune", "--keep", "none"])
    assert stopped.value.code == 2
    text = "python -m training prune: error: argument --keep: 'none' is not a whole number of at least 1"
    assert log.read_text() == text


def test_an_error_that_nobody_expected_is_in_the_log_as_well(log, monkeypatch):
    monkeypatch.setattr("training.commands.store.existing_store", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["versions"])
    assert log.read_text() == "ZeroDivisionError: division by zero"


def test_a_job_that_succeeds_leaves_the_log_empty(log, capsys):
    assert main(["versions", "--store", "model_store/models"]) == 0
    assert log.read_bytes() == b""


def test_the_log_is_never_created(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "log"))
    write_termination_log("error")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nowhere"])
def test_what_is_not_a_file_is_left_alone(tmp_path, monkeypatch, kind):
    path = tmp_path / "log"
    make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link to nowhere": lambda: path.symlink_to("no")}
    make[kind]()
    monkeypatch.setenv("TERMINATION_LOG", str(path))
    write_termination_log("error")
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_the_log_holds_no_more_than_kubernetes_shows(log):
    write_termination_log("e" * 10_000)
    assert len(log.read_bytes()) == MAX_BYTES
