import errno
import subprocess
import sys
from pathlib import Path

import pytest

from app.process.core_share import CoreShare


@pytest.mark.parametrize(
    ("cores", "processes", "own"), [(1, 1, 1), (8, 1, 8), (2, 2, 1), (16, 16, 1), (16, 4, 4), (2, 5, 1)]
)
def test_cores_are_shared_equally(cores, processes, own):
    share = CoreShare(cores, processes)
    assert share.own == share.most == own and not share.has_all()


OTHER = """
import sys
from pathlib import Path
from app.process.core_share import CoreShare
share = CoreShare(2, 2, Path(sys.argv[1]))
for line in sys.stdin:
    share.set_busy(line.strip() == "busy")
    print(share.has_all(), flush=True)
"""


class Other:
    """Another process of the service."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-c", OTHER, directory]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, word: str) -> bool:
        """Return whether it may compute on all cores once it is busy or idle."""
        print(word, file=self.process.stdin, flush=True)
        return self.process.stdout.readline() == "True\n"

    def kill(self) -> None:
        with self.process:
            self.process.kill()


def test_a_process_computes_on_anothers_core_while_that_has_no_work(tmp_path):
    share, other = CoreShare(2, 2, tmp_path), Other(tmp_path)
    assert (share.own, share.most, other.tell("idle"), share.has_all()) == (1, 2, True, True)
    share.set_busy(True)
    assert (other.tell("idle"), share.has_all()) == (False, True)
    assert (other.tell("busy"), share.has_all()) == (False, False)
    share.set_busy(False)
    assert (other.tell("busy"), share.has_all()) == (True, False)
    other.kill()
    assert not share.has_all()  # its mark stays until the process that replaces it takes its place
    replacement = Other(tmp_path)
    assert replacement.tell("idle") and share.has_all()
    replacement.kill()


def test_a_directory_without_room_leaves_each_process_its_own_cores(tmp_path, monkeypatch, caplog):
    def full(file, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.process.shared_directory.reserve", full)
    share = CoreShare(2, 2, tmp_path)
    share.set_busy(True)
    assert share.most == 1 and not share.has_all()
    (line,) = caplog.messages
    assert line == (
        f"{tmp_path} has no room for processes.busy: No space left on device; each process keeps to its own cores"
    )
