"""What a publication leaves behind that is stopped, killed or runs out of room."""

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from model_store.files import ARCHITECTURE

NAME = "cifar10"

STOPPING = """
import signal, sys
from pathlib import Path
from model_store.store import Store

def write(folder, version):
    (folder / "architecture.json").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
    raise SystemExit

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the jobs do
Store(Path(sys.argv[1])).publish("cifar10", write)
"""


@contextmanager
def stopped_publication(store):
    """A job that has written half a version, until it is killed or its stdin is closed."""
    command = [sys.executable, "-c", STOPPING, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as job:
        assert job.stdout.readline() == b"writing\n"
        yield job


def test_a_publication_stopped_by_a_container_leaves_nothing(store):
    with stopped_publication(store) as job:
        job.terminate()
    assert job.returncode != 0 and not store.root.exists()


def hidden(store):
    return [path for path in (store.root / NAME).iterdir() if path.name.startswith(".")]


def test_the_next_publication_removes_what_a_killed_one_left(store, write):
    with stopped_publication(store) as job:
        job.kill()
    assert len(hidden(store)) == 1
    assert store.publish(NAME, write) == 1
    assert hidden(store) == []


def test_a_publication_leaves_the_folder_of_one_that_is_alive(store, write):
    with stopped_publication(store) as job:
        assert store.publish(NAME, write) == 1
        (folder,) = hidden(store)
        assert (folder / ARCHITECTURE).read_text() == "half"
        job.stdin.close()
    assert hidden(store) == []


def test_without_locks_nothing_is_taken_for_left_behind(store, write, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", refuse)  # stands for NFS, which locks no folder
    (store.root / NAME / ".incoming-other").mkdir(parents=True)
    assert store.publish(NAME, write) == 1
    assert [path.name for path in hidden(store)] == [".incoming-other"]


def test_a_failed_write_names_the_version_that_it_was_for(store, write):
    def fill_up(folder, version):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as error:
        store.publish(NAME, fill_up)
    assert error.value.filename == str(store.folder(NAME, 1))
