"""Versions take over without a restart: no request fails, every answer names its version, and memory is returned."""

import re
import subprocess
import sys
import threading
import weakref

import httpx2
import numpy as np
import pytest

from model_store.store import Store
from tests.app.conftest import png
from tests.app.published import NAME, put
from tests.app.service import ROOT, needs_reuseport, serving, stop
from tests.waiting import wait_until


def served(client):
    return client.get("/health").json()["model"]["version"]


def test_a_published_version_takes_over_and_the_old_one_is_freed(client_with, tmp_path):
    put(tmp_path, 1)
    client = client_with(store=tmp_path)
    old = weakref.ref(client.app.state.pipeline.serving)
    engine = weakref.ref(client.app.state.pipeline.serving.loaded.classifier)
    assert client.post("/predict", content=png()).json()["model"] == {"name": NAME, "version": "1"}
    put(tmp_path, 2, "cifar10", hidden=True).rename(tmp_path / NAME / "2")
    wait_until(lambda: served(client) == "2")
    assert client.post("/predict", content=png()).json()["model"] == {"name": NAME, "version": "2"}
    assert client.get("/model").json()["manifest"]["version"] == 2
    assert "version 2" in client.get("/model/card").text
    wait_until(lambda: old() is None and engine() is None)
    metrics = client.get("/metrics").text
    assert 'cifar10_serving_processes{model="cifar10",version="1"} 0.0' in metrics
    assert 'cifar10_serving_processes{model="cifar10",version="2"} 1.0' in metrics
    assert 'cifar10_version_changes_total{result="served"} 1.0' in metrics


def test_activate_goes_back_and_versions_says_so(client_with, tmp_path):
    put(tmp_path, 1)
    put(tmp_path, 2)
    client = client_with(store=tmp_path)
    assert client.get("/model/versions").json() == {
        "model": NAME,
        "serving": "2",
        "active": None,
        "follows": True,
        "versions": [
            {"version": "2", "state": "serving", "reason": None},
            {"version": "1", "state": "available", "reason": None},
        ],
        "store_problem": None,
    }
    command = [sys.executable, "-m", "training", "activate", "1", "--name", NAME, "--store", str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith("cifar10 1 is active, until another is activated; running services follow within seconds")
    wait_until(lambda: served(client) == "1")
    listing = client.get("/model/versions").json()
    assert listing["active"] == listing["serving"] == "1"
    assert [version["state"] for version in listing["versions"]] == ["available", "serving"]


def test_a_bad_version_is_refused_with_the_reason_and_the_old_one_stays(client_with, tmp_path, caplog):
    put(tmp_path, 1)
    client = client_with(store=tmp_path)
    (put(tmp_path, 2) / "golden.npz").write_bytes(b"damaged")
    (skipped,) = wait_until(lambda: client.get("/health").json()["skipped"])
    assert skipped["version"] == "2" and skipped["reason"].startswith("golden.npz is not the file that was published")
    assert served(client) == "1"
    assert client.get("/model/versions").json()["versions"][0] == {
        "version": "2",
        "state": "skipped",
        "reason": skipped["reason"],
    }
    assert 'cifar10_version_changes_total{result="refused"} 1.0' in client.get("/metrics").text
    wait_until(lambda: "cifar10_skipped_versions 1.0" in client.get("/metrics").text)
    (line,) = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert line.startswith("version 2 of cifar10 is skipped for 1: ")


def test_a_store_that_cannot_be_followed_is_named_in_health_until_it_can_be_again(client_with, tmp_path, caplog):
    put(tmp_path, 1)
    caplog.set_level("INFO")
    client, active = client_with(store=tmp_path), tmp_path / NAME / "ACTIVE"
    active.write_text("3")
    assert "has no version 3" in wait_until(lambda: client.get("/health").json()["store_problem"])
    assert "has no version 3" in client.get("/model/versions").json()["store_problem"]
    assert client.get("/health").status_code == 200
    wait_until(lambda: "\ncifar10_store_problem 1.0\n" in client.get("/metrics").text)
    active.unlink()
    wait_until(lambda: client.get("/health").json()["store_problem"] is None)
    wait_until(lambda: "\ncifar10_store_problem 0.0\n" in client.get("/metrics").text)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("the store can be followed again") == 1


def test_a_service_without_a_version_becomes_ready_when_one_is_published(client_with, tmp_path):
    client = client_with(store=tmp_path)
    assert client.get("/health").status_code == 503
    put(tmp_path, 1)
    wait_until(lambda: client.get("/health").status_code == 200)
    assert client.post("/predict", content=png()).status_code == 200


@pytest.mark.parametrize("settings", [{"follow": False}, {"model_version": 1}], ids=["follow", "pinned"])
def test_nothing_follows_where_that_is_ruled_out(client_with, tmp_path, settings):
    put(tmp_path, 1)
    client = client_with(store=tmp_path, **settings)
    assert client.get("/model/versions").json()["follows"] is False
    assert client.app.state.pipeline.follows is False


@needs_reuseport
def test_under_load_all_processes_change_and_no_answer_is_lost_or_misnamed(tmp_path):
    store, image = tmp_path / "store", png()
    put(store, 11)
    put(store, 12, "cifar10")
    rows = []  # status, version, confidence
    stopping = threading.Event()

    def ask(server):
        while not stopping.is_set():
            with httpx2.Client() as client:  # a new connection, which may reach the other process
                for _ in range(20):
                    answer = client.post(server.url("/predict"), content=image)
                    rows.append((answer.status_code, answer.json()["model"]["version"], answer.json()["confidence"]))

    with serving(tmp_path, store=str(store), workers="2", drain_seconds="0") as server:
        processes = wait_until(lambda: ready_processes(server, 2))
        threads = [threading.Thread(target=ask, args=[server]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in (11, 12, 11):
            Store(store).activate(NAME, version)
            wait_until(lambda version=version: serving_processes(server, version) == 2, server.log.read_text)
        stopping.set()
        for thread in threads:
            thread.join()
        assert ready_processes(server, 2) == processes  # none was restarted
        assert stop(server) == 0
    assert {status for status, _, _ in rows} == {200}
    confidences = {
        version: {confidence for _, named, confidence in rows if named == version} for version in ("11", "12")
    }
    assert all(np.ptp(list(values)) < 0.005 for values in confidences.values())  # batch sizes may round differently
    assert abs(np.mean(list(confidences["11"])) - np.mean(list(confidences["12"]))) > 0.02
    assert {line["level"] for line in server.lines()} == {"info"}


def ready_processes(server, count):
    found = server.processes(message="ready")
    return found if len(found) == count else None


def serving_processes(server, version):
    pattern = rf'^cifar10_serving_processes{{model="{NAME}",version="{version}"}} (\d)'
    match = re.search(pattern, httpx2.get(server.url("/metrics")).text, re.MULTILINE)
    return int(match[1]) if match else 0
