"""A run directory is written by one job at a time."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

from training.__main__ import main
from training.commands.lock import LOCK, locked
from training.errors import TrainingError

HOLD = """
import sys
from pathlib import Path
from training.commands.lock import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_job(tmp_path):
    """Another job that writes to `run`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"locked\n"
        yield job
        job.kill()


def test_a_second_job_is_told_at_once_who_writes_there(other_job, tmp_path, capsys):
    command = ["train", "--recipe", "notebook", "--data", "/nowhere", "--out", str(tmp_path / "run"), "--resume"]
    assert main(command) == 1
    assert capsys.readouterr().err == (
        f"error: another job is writing to {tmp_path / 'run'} (process {other_job.pid} on {socket.gethostname()}); "
        "wait until it ends, or choose another --out\n"
    )


def test_a_killed_job_leaves_no_lock(other_job, tmp_path):
    other_job.send_signal(signal.SIGKILL)
    other_job.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().split()[0] == str(os.getpid())
    assert list((tmp_path / "run").iterdir()) == []


def test_the_lock_without_a_name_in_it_is_still_held(other_job, tmp_path):
    (tmp_path / "run" / LOCK).write_bytes(b"")
    with pytest.raises(TrainingError, match=r"another job is writing to \S+run; wait"), locked(tmp_path / "run"):
        pass


def test_folders_that_a_failed_job_created_are_gone_and_others_stay(tmp_path):
    with pytest.raises(TrainingError), locked(tmp_path / "new" / "run"):
        raise TrainingError
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "run.json").touch()
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["run.json"]


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)  # stands for such a file system
    with locked(tmp_path / "run"):
        pass
    assert f"warning: the file system of {tmp_path / 'run'} has no locks" in capsys.readouterr().err
