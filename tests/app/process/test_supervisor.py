"""Several processes on one port; those that die or hang are replaced, and all of them on SIGHUP."""

import http.client
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from model_store.store import SHIPPED_STORE
from tests.app.conftest import png
from tests.app.service import (
    Server,
    answering_processes,
    is_alive,
    needs_reuseport,
    serving,
    stop,
    wait_for_processes,
)
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = [pytest.mark.process, needs_reuseport]


def test_workers_share_the_port_and_one_that_dies_is_replaced(tmp_path):
    with serving(tmp_path, workers="3", drain_seconds="0") as server:
        victim = min(wait_for_processes(server, 3) - {server.process.pid})
        assert oom_score_adj(victim) == min(1_000, oom_score_adj(server.process.pid) + 300)  # not the first process
        os.kill(victim, signal.SIGKILL)
        wait_until_noticed(server)
        wait_for_processes(server, 4)
        (ended,) = [line for line in server.lines() if line["message"] == "a worker process ended"]
        assert ended["exit_code"] == -signal.SIGKILL
        wait_until(lambda: restarts(server)["killed"] == 1, server.log.read_text)
        assert restarts(server) == {"ended": 0, "killed": 1, "hung": 0}
        processes = answering_processes(server)
        assert stop(server) == 0
    assert not any(map(is_alive, processes))


def test_a_process_that_is_replaced_serves_the_version_that_the_others_serve(tmp_path):
    store = small_store(tmp_path)
    with serving(tmp_path, workers="2", store=str(store)) as server:
        (victim,) = wait_for_processes(server, 2) - {server.process.pid}
        (store / "cifar10" / "ACTIVE").write_text("2")  # a missing version: a process that chose anew could not serve
        os.kill(victim, signal.SIGKILL)
        wait_until_noticed(server)
        wait_for_processes(server, 3)


def restarts(server: Server) -> dict[str, float]:
    """The processes that were replaced, by reason, as /metrics counts them."""
    pattern = r'^cifar10_process_restarts_total{reason="(\w+)"} (\S+)$'
    found = re.findall(pattern, httpx2.get(server.url("/metrics")).text, re.MULTILINE)
    return {reason: float(count) for reason, count in found}


def oom_score_adj(process: int) -> int:
    return int(Path(f"/proc/{process}/oom_score_adj").read_text())


def wait_until_noticed(server: Server) -> None:
    """Wait until a worker's end is logged. Before, the kernel may hand its sockets connections, to die with it."""
    wait_until(lambda: "a worker process ended" in server.log.read_text(), server.log.read_text)


def small_store(tmp_path: Path) -> Path:
    """A store of its own with one version of `cifar10`."""
    store = tmp_path / "store"
    shutil.copytree(SHIPPED_STORE / "cifar10-small" / "2", store / "cifar10" / "1")
    manifest = (store / "cifar10" / "1" / "manifest.json").read_text().replace('"cifar10-small"', '"cifar10"', 1)
    manifest = manifest.replace('"version": 2', '"version": 1', 1)
    (store / "cifar10" / "1" / "manifest.json").write_text(manifest)
    return store


@contextmanager
def stopped_worker(server: Server) -> Iterator[int]:
    """A worker of two processes that was ready and has been stopped, as by a debugger or a hung disk."""
    (worker,) = wait_for_processes(server, 2) - {server.process.pid}
    os.kill(worker, signal.SIGSTOP)
    try:
        yield worker
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(tmp_path):
    with serving(tmp_path, workers="2", drain_seconds="0") as server, stopped_worker(server) as worker:
        wait_until_noticed(server)
        assert not is_alive(worker)
        wait_for_processes(server, 3)
        errors = [line["message"] for line in server.lines() if line["level"] == "error"]
        wait_until(lambda: restarts(server) == {"ended": 0, "killed": 0, "hung": 1}, server.log.read_text)
        assert errors == ["a worker process made no progress for 20 s and is killed", "a worker process ended"]
        assert stop(server) == 0


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_keep_the_service_from_stopping(tmp_path):
    with serving(tmp_path, workers="2", drain_seconds="0") as server, stopped_worker(server) as worker:
        assert stop(server) == 0
        assert not is_alive(worker)


@contextmanager
def clients(server: Server) -> Iterator[Counter]:
    """Four clients that predict all the time, two on connections kept open. Counts outcomes: a status or an error."""
    outcomes, finished, body = Counter(), threading.Event(), png()

    def predict(keep: bool) -> None:
        connection = None
        while not finished.wait(0.01):
            connection = connection or http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
            try:
                connection.request("POST", "/predict", body)
                with connection.getresponse() as answer:
                    answer.read()
                    outcomes[answer.status] += 1
                    keep = keep and answer.getheader("connection") != "close"
            except (OSError, http.client.HTTPException) as error:
                outcomes[repr(error)] += 1
                keep = False
            if not keep:
                connection.close()
                connection = None

    threads = [threading.Thread(target=predict, args=(bool(number % 2),)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        finished.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "times"), [(1, 1), (2, 2)])
def test_sighup_replaces_all_processes_without_a_lost_request(tmp_path, workers, times):
    with serving(tmp_path, workers=str(workers), drain_seconds="0") as server:
        before = wait_for_processes(server, workers)
        with clients(server) as outcomes:
            for starts in range(2, 2 + times):  # the second time, the processes are those of the first
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda starts=starts: started(server) == starts, server.log.read_text)
                wait_until(lambda: children(server) == workers - 1, server.log.read_text)
        assert outcomes.keys() == {200} and outcomes[200] > 100
        assert not any(map(is_alive, before - {server.process.pid}))
        assert [line for line in server.lines() if line["level"] in ("error", "warning")] == []
        assert stop(server) == 0


def started(server: Server) -> int:
    """How often the first process's program has started and become ready."""
    lines = [line["message"] for line in server.lines() if line["process"] == server.process.pid]
    return min(lines.count("ready"), sum(line.startswith("starting on") for line in lines))


def children(server: Server) -> int:
    """The number of processes that the first one has started and not yet waited for."""
    return len(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split())


def test_sighup_with_a_version_that_cannot_be_served_changes_nothing(tmp_path):
    store = small_store(tmp_path)
    with serving(tmp_path, workers="1", store=str(store), drain_seconds="0", follow="false") as server:
        (store / "cifar10" / "ACTIVE").write_text("2")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "a successor ended before it was ready" in server.log.read_text(), server.log.read_text)
        assert httpx2.post(server.url("/predict"), content=png()).status_code == 200
        (error,) = [line["message"] for line in server.lines() if line["level"] == "error"]
        assert error == "the model cannot be served: 'cifar10' has no version 2; the store holds 1"
        shutil.copytree(SHIPPED_STORE / "cifar10-small" / "2", store / "cifar10" / "2")
        manifest = store / "cifar10" / "2" / "manifest.json"
        changed = manifest.read_text().replace('"cifar10-small"', '"cifar10"', 1)
        manifest.write_text(changed)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: httpx2.get(server.url("/health")).json()["model"]["version"] == "2", server.log.read_text)
        assert stop(server) == 0


def test_a_broken_version_is_warned_of_once_by_sighup_and_shown_once(tmp_path):
    store = small_store(tmp_path)
    with serving(tmp_path, workers="2", store=str(store), drain_seconds="0", follow="false") as server:
        wait_for_processes(server, 2)
        (store / "cifar10" / "2").mkdir()
        for starts in (2, 3):
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda starts=starts: started(server) == starts, server.log.read_text)
            wait_until(lambda: children(server) == 1, server.log.read_text)
            messages = [line["message"] for line in server.lines() if line["level"] in ("warning", "error")]
            assert sum(message.startswith("this release ships") for message in messages) == starts
            assert sum(message.startswith("version 2 of cifar10 is skipped") for message in messages) == starts - 1
            assert len(messages) == 2 * starts - 1
            assert [item["version"] for item in httpx2.get(server.url("/health")).json()["skipped"]] == ["2"]
        assert stop(server) == 0


def test_a_removed_setting_is_named_once_whatever_the_number_of_processes(tmp_path):
    with serving(tmp_path, workers="2", CIFAR10_MAX_BATCH="16") as server:
        wait_until(lambda: server.log.read_text().count('"ready"') == 2, server.log.read_text)
        assert server.log.read_text().count("CIFAR10_MAX_BATCH is no longer a setting") == 1
