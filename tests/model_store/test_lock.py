import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from model_store.lock import FILE, FOLDER, lock

HOLD = """
import sys
from pathlib import Path
from model_store.lock import FILE, lock

held = lock(Path(sys.argv[1]), FILE)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("name", "flags"), [("file", FILE), ("", FOLDER)], ids=["file", "folder"])
def test_a_lock_is_held_by_one_at_a_time(tmp_path, name, flags):
    held = lock(tmp_path / name, flags)
    assert held.effective
    with pytest.raises(BlockingIOError):
        lock(tmp_path / name, flags)
    os.close(held.descriptor)
    os.close(lock(tmp_path / name, flags).descriptor)


def test_a_killed_process_holds_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(BlockingIOError):
            lock(tmp_path / "file", FILE)
        process.send_signal(signal.SIGKILL)
    os.close(lock(tmp_path / "file", FILE).descriptor)


def test_a_file_that_was_replaced_before_it_was_locked_is_not_taken(tmp_path, monkeypatch):
    path, flock = tmp_path / "file", fcntl.flock

    def late(descriptor, operation):
        path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileNotFoundError):
        lock(path, FILE)


def test_a_file_system_without_locks_is_told_from_a_held_lock(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)  # stands for such a file system
    held = lock(tmp_path / "file", FILE)
    assert not held.effective
    os.close(held.descriptor)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        lock(tmp_path / "link", FILE)
    assert not (tmp_path / "elsewhere").exists()
