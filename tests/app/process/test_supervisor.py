"""Several processes on one port; those that die are replaced."""

import os
import shutil
import signal

import pytest

from app.settings import SHIPPED_STORE
from tests.app.service import answering_processes, is_alive, needs_reuseport, serving, stop, wait_for_processes
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, needs_reuseport]


def test_workers_share_the_port_and_one_that_dies_is_replaced(tmp_path):
    with serving(tmp_path, workers="3", drain_seconds="0") as server:
        victim = min(wait_for_processes(server, 3) - {server.process.pid})
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(victim))  # until then the kernel may hand it connections, to die with it
        wait_for_processes(server, 4)
        (ended,) = [line for line in server.lines() if line["message"] == "a worker process ended"]
        assert ended["exit_code"] == -signal.SIGKILL
        processes = answering_processes(server)
        assert stop(server) == 0
    assert not any(map(is_alive, processes))


def test_a_process_that_is_replaced_serves_the_version_that_the_others_serve(tmp_path):
    store = tmp_path / "store"
    shutil.copytree(SHIPPED_STORE / "cifar10-small" / "1", store / "cifar10" / "1")
    manifest = (store / "cifar10" / "1" / "manifest.json").read_text().replace('"cifar10-small"', '"cifar10"', 1)
    (store / "cifar10" / "1" / "manifest.json").write_text(manifest)
    with serving(tmp_path, workers="2", store=str(store)) as server:
        (victim,) = wait_for_processes(server, 2) - {server.process.pid}
        (store / "cifar10" / "ACTIVE").write_text("2")  # a missing version: a process that chose anew could not serve
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(victim))
        wait_for_processes(server, 3)


def test_a_removed_setting_is_named_once_whatever_the_number_of_processes(tmp_path):
    with serving(tmp_path, workers="2", CIFAR10_MAX_BATCH="16") as server:
        wait_until(lambda: server.log.read_text().count('"ready"') == 2, server.log.read_text)
        assert server.log.read_text().count("CIFAR10_MAX_BATCH is no longer a setting") == 1
