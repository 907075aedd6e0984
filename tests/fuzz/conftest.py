"""The service that is fuzzed. Importing the profiles here registers them before pytest reads `--hypothesis-profile`."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.fuzz.profiles  # noqa: F401
from tests.app.conftest import png
from tests.app.service import Server, serving
from tests.contract.recording import exchange
from tests.waiting import wait_until

# Threads that a process starts when it first needs them: asyncio's pool, two that decode, one that explains.
POOLED_THREADS = min(32, (os.cpu_count() or 1) + 4) + 3

CLOSE = 1e-3  # the probabilities of an image differ by less, whatever images are computed beside it


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Server]:
    """A service of one process, which must be as good at the end as at the start."""
    if sys.platform != "linux":
        pytest.skip("the files and threads of a process are counted in /proc")
    with serving(tmp_path_factory.mktemp("service"), workers="1", precision="float32") as server:
        prediction, files, running = predict(server), open_files(server), threads(server)
        yield server
        assert predict(server) == pytest.approx(prediction, abs=CLOSE)
        wait_until(lambda: open_files(server) <= files, lambda: f"{open_files(server)} files are open, not {files}")
        assert threads(server) <= running + POOLED_THREADS
        assert [line for line in server.lines() if line["level"] in ("warning", "error", "critical")] == []


def predict(server: Server) -> dict[str, float]:
    """The probabilities of one image, asked for on a new connection after /health/live."""
    assert exchange(server.port, "GET", "/health/live", {}, b"")[::2] == (200, b'{"status":"alive"}')
    status, _, body = exchange(server.port, "POST", "/predict", {}, png())
    assert status == 200, body
    return json.loads(body)["probabilities"]


def open_files(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
