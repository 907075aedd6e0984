import json

import pytest

from app.__main__ import main
from tests.app.conftest import png


def test_check_prints_settings_and_passes(capsys):
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "CIFAR10_MODEL_NAME=cifar10\n" in out and "ok: cifar10 version" in out


def test_check_fails_on_a_store_without_a_model(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR10_STORE", str(tmp_path))
    assert main(["check"]) == 1
    assert "holds no version of 'cifar10'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("ENGINE", "abacus"), ("MAX_FILES", "0"), ("TIMEOUT_SECONDS", "soon")])
def test_a_wrong_setting_is_named(capsys, monkeypatch, name, value):
    monkeypatch.setenv(f"CIFAR10_{name}", value)
    assert main(["check"]) == 2
    assert f"CIFAR10_{name} is '{value}'" in capsys.readouterr().err


def test_classify_prints_a_json_object_a_file_and_names_bad_ones(capsys, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(png())
    bad.write_bytes(b"?")
    assert main(["classify", "--top-k", "2", str(good), str(bad), str(tmp_path / "gone.png")]) == 1
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["file"] == str(good) and len(answer["probabilities"]) == 2
    assert "bad.png: 1 bytes cannot be read" in printed.err and "gone.png" in printed.err
