"""`make audit` tells vulnerable locks from clean ones, from an advisory service out of reach, and from other errors."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "serve.txt"
AFFECTED = {
    "package": {"name": "h11", "ecosystem": "PyPI"},
    "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "99"}]}],
}
ADVISORY = {"id": "PYSEC-2030-1", "summary": "made up", "affected": [AFFECTED]}

pytestmark = [pytest.mark.process, pytest.mark.slow]


@contextmanager
def advisory_service(answer) -> Iterator[str]:
    """A service like OSV's; `answer(package)` returns the status and the body."""

    class Advisories(BaseHTTPRequestHandler):
        def do_POST(self):
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(query["package"]["name"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def audit(url, cache, lock=LOCK):
    command = [sys.executable, str(ROOT / "requirements" / "audit.py"), str(lock)]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"PIP_AUDIT_OSV_URL": url, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_lock_without_known_vulnerabilities_passes_and_every_package_is_asked_for(tmp_path):
    asked = set()

    def answer(package):
        asked.add(package)
        return 200, b"{}"

    with advisory_service(answer) as url:
        process = audit(url, tmp_path)
    assert (process.returncode, process.stdout) == (0, f"{LOCK}: no known vulnerabilities\n"), process.stderr
    pinned = {line.split("==")[0] for line in LOCK.read_text().splitlines() if "==" in line}
    assert asked == pinned


def test_a_known_vulnerability_fails_and_is_listed_with_the_version_that_fixes_it(tmp_path):
    advisories = {"h11": json.dumps({"vulns": [ADVISORY]}).encode()}
    with advisory_service(lambda package: (200, advisories.get(package, b"{}"))) as url:
        process = audit(url, tmp_path)
    assert process.returncode == 1
    (row,) = [line.split() for line in process.stdout.splitlines() if "PYSEC" in line]
    assert (row[0], row[2:]) == ("h11", ["PYSEC-2030-1", "99"])
    assert "upgrade the packages with `make lock UPGRADE=1`" in process.stderr


@pytest.mark.parametrize("url", ["http://{host}:{port}/", "http://osv.invalid/"], ids=["no listener", "no such name"])
def test_a_service_out_of_reach_is_one_line_and_no_failure(tmp_path, url):
    with socket.socket() as bound:  # its port is taken, and nothing listens on it
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        process = audit(url.format(host=host, port=port), tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    (line,) = process.stdout.splitlines()
    assert line.startswith("not audited: no answer from the advisory service (")


@pytest.mark.parametrize("status", [200, 503])
def test_an_answer_that_is_no_advisory_fails_and_is_not_called_out_of_reach(tmp_path, status):
    with advisory_service(lambda _: (status, b"<html>Please log in</html>")) as url:
        process = audit(url, tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.endswith(f"error: pip-audit failed, so {LOCK} could not be audited; its output is above\n")


def test_a_lock_without_hashes_fails(tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text("h11==0.16.0\n")
    with advisory_service(lambda _: (200, b"{}")) as url:
        process = audit(url, tmp_path, lock)
    assert process.returncode == 2 and "does not contain a hash" in process.stderr
