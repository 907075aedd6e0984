"""docs/clients.md: its requests get the answers it shows, its clients run, and it lists every address."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.protocols import ROUTERS
from tests.app.service import Server, serving

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sh\n(.*?)```\n\n```json\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
CLIENTS = {"python": ("client.py", sys.executable), "js": ("client.mjs", shutil.which("node"))}
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def test_every_address_is_listed_and_no_other_is():
    table = PAGE.split("| address | answers |")[1].split("\n\n")[0]
    listed = set(re.findall(r"`(GET|POST) (/[^`]*)`", table))
    routes = [route for router in ROUTERS.values() for route in router.routes]
    prefix = re.compile(r"/(versions/\{version\}|labels/\{label\})")
    assert listed == {(method, prefix.sub("", route.path)) for route in routes for method in route.methods}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("service"), workers="1") as server:
        yield server


@pytest.mark.process
@needs_curl
@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[command.split()[1] for command, _ in EXAMPLES])
def test_a_documented_request_gets_the_documented_answer(service, command, answer):
    command = command.replace(ADDRESS, service.url("")).replace("curl ", "curl --silent --noproxy '*' ", 1)
    process = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=True)
    assert is_alike(json.loads(process.stdout), json.loads(answer)), process.stdout


def is_alike(value: Any, shown: Any) -> bool:
    """True if a value is as documented, up to what depends on the processor: numbers by 0.02, the order of labels."""
    if isinstance(shown, dict):
        return value.keys() == shown.keys() and all(is_alike(value[key], shown[key]) for key in shown)
    if isinstance(shown, list) and shown and isinstance(shown[0], list) and isinstance(shown[0][0], str):
        return is_alike(dict(value), dict(shown)) and value[0][0] == shown[0][0]
    if isinstance(shown, list):
        return len(value) == len(shown) and all(map(is_alike, value, shown))
    if not isinstance(shown, str):
        return value == pytest.approx(shown, abs=0.02)
    parts = shown.split(":")
    return value.split(":")[1:] == parts[1:] if len(parts) == 3 else value == shown


def test_answers_that_differ_are_told_apart():
    assert is_alike(
        {"a": [0.5, "x"], "b": [["cat", 0.9], ["dog", 0.0]]}, {"a": [0.51, "x"], "b": [["cat", 0.9], ["dog", 0.0]]}
    )
    for value in ({"a": [0.6, "x"]}, {"a": [0.5, "y"]}, {"a": [0.5]}, {"b": [0.5, "x"]}):
        assert not is_alike(value, {"a": [0.5, "x"]})


def client_file(language: str, folder: Path, address: str) -> list[str]:
    """The documented client, for another address; returns its command."""
    name, interpreter = CLIENTS[language]
    if interpreter is None:
        pytest.skip("Node is not installed")
    code = PAGE.split(f"```{language}\n")[1].split("```")[0]
    assert ADDRESS in code
    (folder / name).write_text(code.replace(ADDRESS, address), encoding="utf-8")
    return [interpreter, str(folder / name)]


@pytest.mark.process
@pytest.mark.parametrize("language", CLIENTS)
def test_a_documented_client_prints_the_prediction(service, tmp_path, language):
    command = [*client_file(language, tmp_path, service.url("")), "docs/cat.png"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    path, label, confidence, verdict = process.stdout.split()
    assert (path, label, verdict) == ("docs/cat.png", "cat", "confident") and float(confidence) > 0.9
    wrong = subprocess.run([*command[:2], "README.md"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode and "unsupported_image: " in wrong.stderr


class Busy(BaseHTTPRequestHandler):
    """Refuses the first request, with a wait of a second, and answers the second one."""

    arrivals: list[float]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.arrivals.append(time.monotonic())
        refused = len(self.arrivals) == 1
        body = (
            {"code": "overloaded", "detail": "try again"}
            if refused
            else {"label": "cat", "confidence": 1, "verdict": None}
        )
        content = json.dumps(body).encode()
        self.send_response(503 if refused else 200)
        self.send_header("Content-Length", str(len(content)))
        if refused:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("language", CLIENTS)
def test_a_documented_client_waits_as_long_as_it_is_told(tmp_path, language):
    handler = type("Handler", (Busy,), {"arrivals": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            command = client_file(language, tmp_path, f"http://127.0.0.1:{server.server_port}")
            process = subprocess.run([*command, "docs/cat.png"], cwd=ROOT, capture_output=True, text=True, check=True)
        finally:
            server.shutdown()
            thread.join()
    first, second = handler.arrivals
    assert second - first >= 1 and process.stdout.split()[:2] == ["docs/cat.png", "cat"]
