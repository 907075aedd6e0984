import os
import socket
import sys

import pytest

from benchmarks import BenchmarkError
from benchmarks.harness.server import listeners, serving

pytestmark = pytest.mark.process


def test_the_service_is_ready_in_all_processes_and_stops_with_the_block():
    with serving(workers=2) as server:
        assert listeners(server.port) == 2
        assert server.all_ready_seconds >= server.ready_seconds > 0
        assert len(server.megabytes()) == 2
        assert server.model.startswith("cifar10 ")
    assert listeners(server.port) == 0


def test_a_checkout_that_serves_with_fewer_processes_is_not_waited_for_in_vain(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__main__.py").write_text(ONE_PROCESS)
    with serving(tmp_path) as server:
        assert listeners(server.port) == 1
        assert (server.model, server.precision) == ("other 1", "float32")


ONE_PROCESS = """
import http.server, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"model": {"name": "other", "version": 1}, "precision": "float32"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Ready).serve_forever()
"""


def test_another_checkout_is_served_by_its_own_environment(tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "own $PWD" && exec {sys.executable} -c "raise SystemExit(3)"\n')
    python.chmod(0o755)
    with pytest.raises(BenchmarkError, match=rf"(?s)ended with code 3.*own {tmp_path}"), serving(tmp_path):
        pass


def test_a_service_that_cannot_start_is_an_error_with_its_log(tmp_path):
    with pytest.raises(BenchmarkError, match=r"(?s)ended with code 1.*No module named app"), serving(tmp_path):
        pass


def test_the_service_has_the_cores_it_is_given_and_this_process_keeps_its_own():
    before = os.sched_getaffinity(0)
    with serving(on=[min(before)]) as server:
        assert os.sched_getaffinity(server.pid) == {min(before)}
        assert os.sched_getaffinity(0) == before
        assert len(server.megabytes()) == 1


def test_listeners_are_counted_by_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert listeners(one.getsockname()[1]) == 1
