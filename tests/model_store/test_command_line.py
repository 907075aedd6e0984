"""Commands in messages can be pasted."""

import sys

import pytest

from model_store.command_line import python_command


@pytest.mark.parametrize(
    ("executable", "prefix", "expected"),
    [
        pytest.param("venv/bin/python", "venv", "venv/bin/python -m app serve", id="an environment below"),
        pytest.param("../elsewhere/python", "elsewhere", "python -m app serve", id="an environment elsewhere"),
        pytest.param("venv/bin/python", sys.base_prefix, "python -m app serve", id="no environment"),
    ],
)
def test_a_command_begins_with_the_interpreter_in_use(tmp_path, monkeypatch, executable, prefix, expected):
    here = tmp_path / "checkout"
    path = here / executable
    for folder in (here, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    path.touch()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "executable", str(path.resolve()))
    monkeypatch.setattr(sys, "prefix", prefix)
    assert python_command("app serve") == expected
