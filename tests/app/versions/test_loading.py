"""The newest version that can be served is served, unless another was asked for, and /health says what was skipped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import httpx2
import pytest

from app.__main__ import main
from app.settings import Settings
from app.versions.loading import choose
from model_store.errors import ModelError
from model_store.store import SHIPPED_STORE
from tests.app.conftest import png
from tests.app.service import ROOT, Server, answering_processes, default_signals, needs_reuseport, serving, stop
from tests.waiting import DEADLINE_SECONDS, wait_until

NAME = "cifar10"


def copy(store, number, **changes):
    """Put the small shipped model into the store as this version, with changes to its manifest."""
    folder = shutil.copytree(SHIPPED_STORE / "cifar10-small" / "2", store / NAME / str(number))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"name": NAME, "version": number} | changes))
    return folder


def of_another_number(store, number):
    copy(store, number, version=1)


def of_another_name(store, number):
    copy(store, number, name="cifar10-small")


def of_a_newer_schema(store, number):
    copy(store, number, schema_version=3, colours="many")


def altered(store, number):
    with (copy(store, number) / "golden.npz").open("r+b") as file:
        file.write(b"\0")


def half_copied(store, number):
    (copy(store, number) / "manifest.json").unlink()


BAD = {
    of_another_number: "manifest.json is that of cifar10/1, but its folder is cifar10/3; move the folder back",
    of_another_name: "manifest.json is that of cifar10-small/3, but its folder is cifar10/3; move the folder back",
    of_a_newer_schema: "manifest.json has schema_version 3, but this release reads up to 2; serve it with",
    altered: "golden.npz is not the file that was published: its SHA-256 begins",
    half_copied: "manifest.json is missing; a version without a manifest was never published",
}


@pytest.mark.parametrize(("spoil", "reason"), BAD.items(), ids=[spoil.__name__ for spoil in BAD])
def test_the_next_older_version_serves_and_health_says_why(client_with, tmp_path, caplog, spoil, reason):
    copy(tmp_path, 2)
    spoil(tmp_path, 3)
    client = client_with(store=tmp_path)
    health = client.get("/health").json()
    assert health["model"] == {"name": NAME, "version": "2"}
    (skipped,) = health["skipped"]
    assert skipped["version"] == "3" and skipped["reason"].startswith(reason)
    assert client.post("/predict", content=png()).json()["model"]["version"] == "2"
    (line,) = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert line.startswith(f"version 3 of cifar10 is skipped for 2: {tmp_path}/")


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("chosen_by", ["pinned", "ACTIVE"])
def test_a_version_that_was_asked_for_is_not_replaced(client_with, tmp_path, spoil, chosen_by):
    copy(tmp_path, 2)
    spoil(tmp_path, 3)
    if chosen_by == "ACTIVE":
        (tmp_path / NAME / "ACTIVE").write_text("3")
    client = client_with(store=tmp_path, model_version=3 if chosen_by == "pinned" else None)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.json()["detail"].startswith(f"version 3: {BAD[spoil][:60]}")


def test_health_lists_nothing_while_the_newest_version_serves(client):
    assert client.get("/health").json()["skipped"] == []


def test_a_store_without_a_good_version_names_the_newest_ones(tmp_path):
    for number in range(1, 6):
        half_copied(tmp_path, number)
    with pytest.raises(ModelError, match=r"^version 5: .*; version 4: .*; version 3: .*; nor can 2 older ones$"):
        choose(Settings(store=tmp_path))


def test_what_health_lists_is_bounded(client_with, tmp_path):
    copy(tmp_path, 1)
    for number in range(2, 9):
        copy(tmp_path, number, output="x" * 1_000, labels=["y" * 10_000])
    skipped = client_with(store=tmp_path).get("/health").json()["skipped"]
    assert [item["version"] for item in skipped] == ["8", "7", "6"]
    assert all(len(item["reason"]) <= 500 for item in skipped)


def unreadable(store):
    (store / NAME).mkdir(parents=True)
    (store / NAME / "ACTIVE").write_text("latest")
    copy(store, 1)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda store: None, id="an empty store"),
        pytest.param(unreadable, id="ACTIVE"),
        *[pytest.param(lambda store, spoil=spoil: spoil(store, 3), id=spoil.__name__) for spoil in BAD],
    ],
)
def test_answers_name_no_path_of_the_server_and_the_log_does(client_with, tmp_path, caplog, prepare):
    prepare(tmp_path)
    client = client_with(store=tmp_path)
    for path in ("/health", "/health/ready", "/model", "/model/card", "/model/drift", "/model/report/classes.png"):
        answer = client.get(path)
        assert answer.status_code == 503 and str(tmp_path) not in answer.text
    assert str(tmp_path) in caplog.text


def test_the_command_line_warns_of_a_skipped_version(capsys, monkeypatch, tmp_path):
    copy(tmp_path, 2)
    of_a_newer_schema(tmp_path, 3)
    (tmp_path / "image.png").write_bytes(png())
    monkeypatch.setenv("CIFAR10_STORE", str(tmp_path))
    for command in (["check"], ["classify", "--format", "jsonl", str(tmp_path / "image.png")]):
        assert main(command) == 0
        assert (
            f"warning: version 3 is skipped: {tmp_path}/cifar10/3/manifest.json has schema" in capsys.readouterr().err
        )


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """A store with version 7, of a release that ships version 8 of the model."""
    copy(tmp_path / "package", 8)
    copy(tmp_path / "volume", 7)
    monkeypatch.setattr("app.versions.loading.SHIPPED_STORE", tmp_path / "package")
    return tmp_path / "volume"


def warnings_of_hidden(caplog):
    return [record for record in caplog.records if "this release ships" in record.getMessage()]


def test_a_store_without_the_shipped_version_is_warned_of_once_and_the_command_adds_it(client_with, volume, caplog):
    client = client_with(store=volume)
    assert client.get("/health").json()["model"]["version"] == "7"
    (record,) = warnings_of_hidden(caplog)
    message = record.getMessage()
    assert record.levelname == "WARNING"
    assert message.startswith(f"this release ships version 8 of cifar10, but 7 is served from {volume}; ")
    command = re.search(r"`(cp -r [^`]+)`", message)[1].split()
    assert f"docker compose run --rm --entrypoint cp training {' '.join(command[1:])}`" in message
    subprocess.run(command, check=True)
    caplog.clear()
    assert client_with(store=volume).get("/health").json()["model"]["version"] == "8"
    assert warnings_of_hidden(caplog) == []


@pytest.mark.parametrize("chosen_by", ["pinned", "ACTIVE"])
def test_a_version_that_was_asked_for_is_served_without_a_warning(volume, chosen_by):
    if chosen_by == "ACTIVE":
        (volume / NAME / "ACTIVE").write_text("7")
    choice = choose(Settings(store=volume, model_version=7 if chosen_by == "pinned" else None))
    assert (choice.loaded.manifest.version, choice.hidden) == (7, None)


def test_a_store_with_a_version_as_new_is_not_warned_of_even_if_an_older_one_serves(volume):
    half_copied(volume, 8)
    choice = choose(Settings(store=volume))
    assert (choice.loaded.manifest.version, [*choice.errors], choice.hidden) == (7, [8], None)


def test_a_model_that_the_release_does_not_ship_is_served_without_a_warning(volume):
    shutil.rmtree(volume.parent / "package")
    assert choose(Settings(store=volume)).hidden is None


def test_a_checkout_serves_its_own_store_without_a_warning():
    assert choose(Settings()).hidden is None


def test_check_warns_of_a_store_without_the_shipped_version(volume, capsys, monkeypatch):
    monkeypatch.setenv("CIFAR10_STORE", str(volume))
    assert main(["check"]) == 0
    assert "warning: this release ships version 8 of cifar10, but 7 is served from" in capsys.readouterr().err


@pytest.mark.process
@needs_reuseport
def test_every_process_serves_the_same_older_version_and_says_so(tmp_path):
    store = tmp_path / "store"
    copy(store, 2)
    of_another_number(store, 3)
    with serving(tmp_path, workers="2", store=str(store)) as server:
        wait_until(lambda: len(answering_processes(server)) == 2, server.log.read_text)
        answers = {httpx2.get(server.url("/health")).text for _ in range(20)}
        assert len(answers) == 1
        assert [item["version"] for item in json.loads(answers.pop())["skipped"]] == ["3"]
        assert [line for line in server.lines() if line["message"] == "a worker process ended"] == []


# A disk that hangs: opening a file that stands for it never returns, in the processes of one kind.
HANG = """
import os, pathlib, sys, threading
really_open = pathlib.Path.open
def open(path, *arguments, **options):
    if path.name == "golden.npz" and os.environ["HANGING"] in sys.orig_argv:
        pathlib.Path(os.environ["HANGS"]).touch()
        threading.Event().wait()
    return really_open(path, *arguments, **options)
pathlib.Path.open = open
"""


@pytest.mark.process
@needs_reuseport
@pytest.mark.parametrize("kind", ["serve", "worker"])
def test_sigterm_stops_processes_whose_disk_hangs(tmp_path, kind):
    (tmp_path / "sitecustomize.py").write_text(HANG)
    hangs, log = tmp_path / "hangs", tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "HANGING": kind, "HANGS": str(hangs)}
    environment |= {"CIFAR10_WORKERS": "2", "CIFAR10_DRAIN_SECONDS": "0"}
    with log.open("w") as out, default_signals():
        command = [sys.executable, "-m", "app", "serve", "--port", "0"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        wait_until(hangs.exists, log.read_text)
        assert stop(Server(process, 0, log), signal.SIGTERM) == 0
        if kind == "serve":
            assert log.read_text().count("the model is still being loaded") == 1
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
