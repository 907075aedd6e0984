"""The service does not start before it is said who may use it."""

import pytest

from app.__main__ import main
from app.access.key_file import append_key
from app.access.startup import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost"])
def test_loopback_addresses_need_no_setting(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "nothing.invalid", "a" * 300])
def test_other_addresses_need_one(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("command", [["serve", "--host", "0.0.0.0", "--port", "0"], ["check"]])
def test_an_address_that_others_reach_is_refused_in_one_line_with_both_remedies(capsys, monkeypatch, command):
    monkeypatch.setenv("CIFAR10_BIND_HOST", "0.0.0.0")
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: other machines may reach 0.0.0.0; set CIFAR10_ACCESS=keys and CIFAR10_KEYS_FILE ")
    assert "or CIFAR10_ACCESS=open to let in everybody" in line


def test_check_passes_when_it_is_said(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR10_BIND_HOST", "0.0.0.0")
    monkeypatch.setenv("CIFAR10_ACCESS", "open")
    assert main(["check"]) == 0
    append_key(tmp_path / "keys", "ci")
    monkeypatch.setenv("CIFAR10_ACCESS", "keys")
    monkeypatch.setenv("CIFAR10_KEYS_FILE", str(tmp_path / "keys"))
    assert main(["check"]) == 0
    assert "CIFAR10_ACCESS=keys\n" in capsys.readouterr().out


CONTRADICTIONS = {
    "keys without a file": ({"ACCESS": "keys"}, "CIFAR10_KEYS_FILE is not set"),
    "a file without access": ({"KEYS_FILE": "keys"}, "but CIFAR10_ACCESS is not;"),
    "a file in an open service": ({"ACCESS": "open", "KEYS_FILE": "keys"}, "but CIFAR10_ACCESS is open;"),
    "no such file": ({"ACCESS": "keys", "KEYS_FILE": "gone"}, "gone cannot be read: No such file"),
    "an empty file": ({"ACCESS": "keys", "KEYS_FILE": "/dev/null"}, "is not a regular file"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["check"]], ids=["serve", "check"])
def test_settings_that_contradict_each_other_are_refused(capsys, monkeypatch, name, command):
    settings, message = CONTRADICTIONS[name]
    for setting, value in settings.items():
        monkeypatch.setenv(f"CIFAR10_{setting}", value)
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: CIFAR10_") and message in line
