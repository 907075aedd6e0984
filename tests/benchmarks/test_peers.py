import argparse
import dataclasses

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.peers import environments
from benchmarks.peers.__main__ import _counts, _peers
from benchmarks.peers.environments import environment
from benchmarks.peers.rounds import FORM, RAW, Comparison, Turn, ratios_table, servers_table
from benchmarks.peers.starts import PEERS, SERVERS
from tests.benchmarks.made import LOAD, MACHINE
from tests.benchmarks.test_tables import cells


def turn(index: int, server: str, requests: int) -> Turn:
    load = dataclasses.replace(LOAD, requests=requests, refused=0)
    return Turn(index, server, 1.0, 200.0, [load])


ROUNDS = [(1, 300, 200, 100), (2, 300, 150, 300), (3, 800, 400, 200)]
TURNS = [
    turn(index, server, requests)
    for index, *rates in ROUNDS
    for server, requests in zip((RAW, FORM, "triton"), rates, strict=True)
]
FOUND = Comparison(MACHINE, "cifar10 3", "int8", 6, TURNS)


def test_ratios_are_medians_of_the_rounds_ratios():
    (row,) = cells(ratios_table(FOUND))
    assert (row["requests/s, raw"], row["requests/s, form"]) == ("3.00", "2.00")  # of 3, 1, 4 and of 2, 0.5, 2
    assert row["p99, raw"] == "1.00"


def test_a_round_that_a_peer_missed_is_left_out():
    without = [each for each in TURNS if (each.round, each.server) != (2, "triton")]
    (row,) = cells(ratios_table(dataclasses.replace(FOUND, turns=without)))
    assert row["requests/s, raw"] == "3.50"


def test_servers_are_shown_with_their_medians():
    rates = {row["server"]: row["requests/s"] for row in cells(servers_table(FOUND))}
    assert rates == {RAW: "150", FORM: "100", "triton": "100"}  # in two seconds


@pytest.mark.parametrize("name", [name for name in PEERS if name != "triton"])
def test_every_peer_has_its_server(tmp_path, name):
    command, _ = PEERS[name].command(tmp_path, 8000, tmp_path)
    named = " ".join([*command, (tmp_path / "model-settings.json").read_text() if name == "mlserver" else ""])
    assert [path for path in SERVERS.glob("*.py") if path.stem in named], named
    assert "8000" in named or "8000" in (tmp_path / "settings.json").read_text()


def test_an_unknown_peer_is_named_with_the_known():
    with pytest.raises(argparse.ArgumentTypeError, match="'trition' is no peer; choose from triton, litserve"):
        _peers("trition")
    assert _peers("triton,naive") == ["triton", "naive"]
    assert _counts("1,32") == [1, 32]


def test_an_environment_that_is_there_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "HOME", tmp_path)
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton/ok").touch()
    assert environment("triton", ["no such package"]) == tmp_path / "triton/bin"


def test_what_cannot_be_installed_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(environments.sys, "executable", "false")
    monkeypatch.setattr(environments, "HOME", tmp_path)
    with pytest.raises(BenchmarkError, match="naive cannot be installed; the end of what false wrote"):
        environment("naive", [])
