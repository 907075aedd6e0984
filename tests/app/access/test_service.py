"""Keys, rates and fair shares in the service's own processes."""

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from app.access.key_file import append_key
from tests.app.conftest import png
from tests.app.service import Server, needs_reuseport, serving, stop, wait_for_processes
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = [pytest.mark.process, needs_reuseport]
BODY = png()


def guarded(tmp_path: Path, **settings: str):
    return serving(tmp_path, access="keys", keys_file=str(tmp_path / "keys"), drain_seconds="0", **settings)


def status(server: Server, key: str, path: str = "/model") -> int:
    """The answer on a new connection, which any process may accept."""
    return httpx2.get(server.url(path), headers={"X-API-Key": key}).status_code


def statuses(server: Server, key: str) -> set[int]:
    """The answers of all processes: of forty connections, some reach each."""
    return {status(server, key) for _ in range(40)}


def test_a_rate_holds_for_all_processes_together(tmp_path):
    once, often = append_key(tmp_path / "keys", "once", "0.001"), append_key(tmp_path / "keys", "often", "5")
    with guarded(tmp_path, workers="2") as server:
        wait_for_processes(server, 2)
        answers = Counter(status(server, once) for _ in range(40))
        assert answers == {200: 1, 429: 39}
        began = time.monotonic()
        answers = Counter(status(server, often) for _ in range(40))
        assert 5 <= answers[200] <= 6 + 5 * (time.monotonic() - began)
        assert stop(server) == 0
        assert len(server.processes(key="once", status=429)) == 2
    with guarded(tmp_path, workers="2") as server:
        assert status(server, once) == 200


def test_every_process_knows_added_and_removed_keys_within_seconds(tmp_path):
    file = tmp_path / "keys"
    first = append_key(file, "first")
    with guarded(tmp_path, workers="2") as server:
        wait_for_processes(server, 2)
        assert statuses(server, first) == {200}
        second = append_key(file, "second")
        wait_until(lambda: statuses(server, second) == {200}, server.log.read_text)
        file.write_text(file.read_text().splitlines()[1])
        wait_until(lambda: statuses(server, first) == {401}, server.log.read_text)
        file.write_text("nothing of the kind")
        wait_until(lambda: server.log.read_text().count("the keys are not read again") == 2, server.log.read_text)
        assert statuses(server, second) == {200}
        assert stop(server) == 0
        assert server.processes(key="first") == server.processes(key="second") != set()
        log = server.log.read_text()
    assert first not in log and second not in log and "nothing of the kind" not in log


def test_a_process_that_is_replaced_while_the_file_is_invalid_waits_for_it(tmp_path):
    file = tmp_path / "keys"
    key = append_key(file, "ci")
    with guarded(tmp_path, workers="2") as server:
        (victim,) = wait_for_processes(server, 2) - {server.process.pid}
        content = file.read_text()
        file.write_text("")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "the keys cannot be read" in server.log.read_text(), server.log.read_text)
        assert status(server, key) == 200
        file.write_text(content)
        wait_for_processes(server, 3)
        assert statuses(server, key) == {200}


def test_a_key_is_in_no_command_line_log_or_answer(tmp_path):
    key = append_key(tmp_path / "keys", "ci")
    with guarded(tmp_path, workers="2", log_level="debug") as server:
        processes = wait_for_processes(server, 2)
        headers = {"Authorization": f"Bearer {key}"}
        texts = [httpx2.get(server.url(path), headers=headers).text for path in ("/model", "/metrics", "/nope")]
        texts += [httpx2.post(server.url("/predict?top_k=x"), content=BODY, headers=headers).text]
        texts += [Path(f"/proc/{process}/cmdline").read_text() for process in processes]
        assert stop(server) == 0
        texts += [path.read_bytes().decode("latin-1") for path in (server.log, *(tmp_path / "metrics").iterdir())]
    assert not [text for text in texts if key in text]


def test_a_refusal_does_not_wait_for_the_body_and_closes_what_follows_it(tmp_path):
    append_key(tmp_path / "keys", "ci")
    with guarded(tmp_path, workers="1") as server, server.connect() as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n" + BODY)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert (response.status, json.loads(response.read())["code"]) == (401, "key_required")
        client.sendall(bytes(30_000_000 - len(BODY)) + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        after = http.client.HTTPResponse(client)
        after.begin()
        assert after.status == 200


def test_a_client_that_asks_first_never_sends_a_body_that_is_refused(tmp_path):
    append_key(tmp_path / "keys", "ci")
    with guarded(tmp_path, workers="1") as server, server.connect() as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        )
        assert client.recv(1_000).startswith(b"HTTP/1.1 401 ")


def flood(server: Server, address: str, path: str, finished: threading.Event, outcomes: Counter) -> None:
    while not finished.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request("POST", path, BODY, {"X-Forwarded-For": address})
            outcomes[connection.getresponse().status] += 1
        except OSError as error:
            outcomes[repr(error)] += 1
        finally:
            connection.close()


@pytest.mark.slow
def test_one_address_that_floods_the_service_with_explanations_does_not_lock_others_out(tmp_path):
    """The flood has more requests at once than the service takes; two others ask one thing after the other."""
    with serving(tmp_path, workers="1", max_requests="8", drain_seconds="0") as server:
        finished, flooded = threading.Event(), Counter()
        threads = [
            threading.Thread(target=flood, args=(server, "203.0.113.1", "/explain", finished, flooded))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: flooded[503], server.log.read_text)
            for number in range(20):
                headers = {"X-Forwarded-For": f"203.0.113.{2 + number % 2}"}
                assert httpx2.post(server.url("/predict"), content=BODY, headers=headers).status_code == 200
            explained = httpx2.post(server.url("/explain"), content=BODY, headers={"X-Forwarded-For": "2001:db8::1"})
            assert explained.status_code == 200
        finally:
            finished.set()
            for thread in threads:
                thread.join()
        assert flooded[200] > 0
        assert stop(server) == 0
        log = server.log.read_text()
    assert "203.0.113" not in log and "2001:db8" not in log
