import argparse
import dataclasses
import sys

import pytest

from benchmarks import BenchmarkError
from benchmarks.harness.processes import running, wait_for
from benchmarks.harness.server import ROOT, free_port
from benchmarks.harness.turns import Turn
from benchmarks.load import bodies
from benchmarks.peers.__main__ import _peers
from benchmarks.peers.environments import environment
from benchmarks.peers.rounds import FORM, RAW, _answers, ratios_table, servers_table
from benchmarks.peers.starts import PEERS, PLAIN_PEERS, SERVERS
from model_store.store import Store
from tests.benchmarks.samples import LOAD, cells


def turn(index: int, server: str, requests: int) -> Turn:
    load = dataclasses.replace(LOAD, requests=requests, refused=0)
    return Turn(index, server, 1.0, 200.0, [load])


ROUNDS = [(1, 300, 200, 100), (2, 300, 150, 300), (3, 800, 400, 200)]
TURNS = [
    turn(index, server, requests)
    for index, *rates in ROUNDS
    for server, requests in zip((RAW, FORM, "triton"), rates, strict=True)
]


def test_ratios_are_medians_of_the_rounds_ratios():
    (row,) = cells(ratios_table(TURNS))
    assert (row["requests/s, raw"], row["requests/s, form"]) == ("3.00", "2.00")  # of 3, 1, 4 and of 2, 0.5, 2
    assert row["p99, raw"] == "1.00"


def test_a_round_that_a_peer_missed_is_left_out():
    (row,) = cells(ratios_table([turn for turn in TURNS if (turn.round, turn.server) != (2, "triton")]))
    assert row["requests/s, raw"] == "3.50"


def test_without_any_peer_there_is_no_table_of_ratios():
    assert ratios_table([turn for turn in TURNS if turn.server != "triton"]) == "no peer answered"


def test_servers_are_shown_with_their_medians():
    rates = {row["server"]: row["requests/s"] for row in cells(servers_table(TURNS))}
    assert rates == {RAW: "150", FORM: "100", "triton": "100"}  # in two seconds


@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith("triton")])
def test_every_peer_has_its_server(tmp_path, name):
    command, _ = PEERS[name].command(tmp_path, 8000, tmp_path)
    words = " ".join([*command, (tmp_path / "model-settings.json").read_text() if name.startswith("mlserver") else ""])
    assert [path for path in SERVERS.glob("*.py") if path.stem in words], words
    assert "8000" in words or "8000" in (tmp_path / "settings.json").read_text()


def test_triton_is_told_where_its_binary_and_model_are(tmp_path):
    site = tmp_path / "venv/lib/python3.11/site-packages"
    for folder in ("python_backend_stubs/3.11/triton_python_backend_stub", "backends/python/keep"):
        path = site / "pytriton/tritonserver" / folder
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "venv/bin").mkdir()
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    model = tmp_path / "model"
    model.mkdir()
    command, variables = PEERS["triton"].command(tmp_path / "venv/bin", 8000, model)
    assert command[0] == f"{site}/pytriton/tritonserver/bin/tritonserver"
    assert f"--model-repository={model}" in command and "--http-port=8000" in command
    assert (model / "c/1/model.py").is_file() and (model / "c/config.pbtxt").is_file()
    assert variables["PEER_PATH"] == f"{SERVERS}:{site}"


@pytest.mark.parametrize("name", [name for name in PLAIN_PEERS if name not in ("triton", "naive", "mlserver")])
def test_a_tuned_peer_is_the_same_with_more_processes_and_fewer_threads(tmp_path, name):
    (command, plain), (same, tuned) = (
        PEERS[peer].command(tmp_path, 8000, tmp_path) for peer in (name, f"{name}-tuned")
    )
    assert command == same
    assert [(variables["PROCESSES"], variables["THREADS"]) for variables in (plain, tuned)] == [("1", "2"), ("2", "1")]


def test_the_bare_application_answers_with_our_decoder_batcher_and_network(tmp_path):
    store, port = Store(ROOT / "model_store/models"), free_port()
    model = store.folder("cifar10", store.choose_version("cifar10", None))
    command, variables = PEERS["bare"].command(environment(PEERS["bare"]), port, tmp_path)
    variables |= {"MODEL_FOLDER": str(model), "PRECISION": "float32"}
    with running(command, tmp_path / "log", variables, SERVERS) as process:
        body = PEERS["bare"].body(bodies.pictures()[0])
        wait_for(process, tmp_path / "log", lambda: _answers(port, body))
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_unknown_peer_is_named_with_the_known():
    with pytest.raises(argparse.ArgumentTypeError, match="'trition' is not a peer; choose from triton, litserve"):
        _peers("trition")
    assert _peers("triton,naive") == ["triton", "naive"]


def test_an_environment_that_is_complete_is_not_installed_again(tmp_path):
    (tmp_path / "mosec-ours").mkdir()
    (tmp_path / "mosec-ours/ok").touch()
    assert environment(PEERS["mosec"], tmp_path, python="false") == tmp_path / "mosec-ours/bin"
    assert environment(PEERS["mosec-tuned"], tmp_path, python="false") == tmp_path / "mosec-ours/bin"


def test_a_peer_without_packages_runs_in_this_environment(tmp_path):
    assert environment(PEERS["bare"], tmp_path / "absent", python="/some/bin/python").as_posix() == "/some/bin"


def test_a_failed_installation_is_an_error_with_its_command(tmp_path):
    with pytest.raises(BenchmarkError, match="the command failed: false -m venv"):
        environment(PEERS["naive"], tmp_path, python="false")
