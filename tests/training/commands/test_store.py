"""`versions`, `activate` and `prune`."""

import json
import shutil

import pytest

from model_store.store import Store
from training.__main__ import main

pytestmark = pytest.mark.slow  # trains the run that is published


@pytest.fixture
def store(published, tmp_path):
    """A store with two versions of cifar10."""
    shutil.copytree(published, tmp_path / "store")
    shutil.copytree(published / "cifar10" / "1", tmp_path / "store" / "cifar10" / "2")
    manifest = tmp_path / "store" / "cifar10" / "2" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 2}))
    return tmp_path / "store"


def test_versions_has_a_line_for_each_version_whatever_it_holds(store, capsys):
    assert main(["versions", "--store", str(store)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("notebook") == printed.count("% of 40 ") == 2
    manifest = store / "cifar10" / "1" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"metrics": {"test": {"accuracy": "good"}}}))
    (store / "cifar10" / "3").mkdir()
    assert main(["versions", "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " - " in lines[1] and "notebook" in lines[2]
    assert lines[-1].startswith("cifar10 3: ") and "manifest.json" in lines[-1]


def test_versions_as_json_has_every_version_and_every_problem(store, capsys):
    (store / "cifar10" / "3").mkdir()
    assert main(["versions", "--json", "--store", str(store)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["store"] == str(store)
    assert [(row["name"], row["version"], row["active"]) for row in document["versions"]] == [
        ("cifar10", 1, False),
        ("cifar10", 2, False),
    ]
    assert len(document["problems"]) == 1 and document["problems"][0].startswith("cifar10 3: ")
    first = document["versions"][0]
    recorded = json.loads((store / "cifar10" / "1" / "manifest.json").read_text())["metrics"]["test"]
    assert first["accuracy"]["n"] == recorded["images"] == 40
    assert first["accuracy"]["value"] == pytest.approx(recorded["accuracy"], abs=5e-5)
    low, high = first["accuracy"]["interval_95"]
    assert 0 <= low < first["accuracy"]["value"] < high <= 1
    assert first["recipe"] == "notebook" and first["weights_bytes"] > 1_000_000


def test_versions_lists_other_models_beside_one_with_a_broken_active_file(store, capsys):
    shutil.copytree(store / "cifar10", store / "another")
    for manifest in (store / "another").glob("*/manifest.json"):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": "another"}))
    (store / "another" / "ACTIVE").write_text("newest")
    assert main(["versions", "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["another", "another", "cifar10", "cifar10"]
    assert lines[-1].startswith("another: ") and "must hold a version number" in lines[-1]


def test_prune_keeps_the_newest(store, capsys):
    assert main(["prune", "--store", str(store), "--name", "cifar10", "--keep", "1"]) == 0
    assert capsys.readouterr().out == "removed: cifar10/1; these stay: cifar10/2\n"
    assert Store(store).versions("cifar10") == [2]


def test_prune_without_a_name_removes_nothing_and_proposes_the_models(store, tmp_path, capsys):
    shutil.copytree(store / "cifar10", store / "pets")
    assert main(["prune", "--store", str(store), "--keep", "1"]) == 1
    remedy = "--name is missing; pass --name with one of: cifar10, pets\n"
    assert remedy in capsys.readouterr().err
    assert Store(store).versions("cifar10") == [1, 2]


def test_prune_names_a_model_that_does_not_exist(store, capsys):
    assert main(["prune", "--store", str(store), "--keep", "1", "--name", "cifar"]) == 1
    assert "has no model 'cifar'; pass --name with one of: cifar10" in capsys.readouterr().err
    assert main(["prune", "--store", str(store), "--keep", "1", "--name", "cifar10/in"]) == 1
    assert "has no model 'cifar10/in'" in capsys.readouterr().err
    assert Store(store).versions("cifar10") == [1, 2]


def test_the_store_is_the_one_that_the_environment_names(store, monkeypatch, capsys):
    monkeypatch.setenv("CIFAR10_STORE", str(store))
    assert main(["versions"]) == 0
    assert capsys.readouterr().out.count("notebook") == 2
    monkeypatch.setenv("CIFAR10_STORE", "")  # as Compose passes a variable that is not set
    assert main(["versions"]) == 0
    assert "cifar10-small" in capsys.readouterr().out


@pytest.mark.parametrize("job", [["versions"], ["prune", "--keep", "1"]], ids=lambda job: job[0])
def test_a_store_that_does_not_exist_is_not_an_empty_one(tmp_path, monkeypatch, capsys, job):
    store, remedy = tmp_path / "typo", "pass --store FOLDER, or set CIFAR10_STORE"
    assert main([*job, "--store", str(store)]) == 1
    assert f"the store {store} does not exist; {remedy}" in capsys.readouterr().err
    monkeypatch.setenv("CIFAR10_STORE", str(store))
    assert main(job) == 1
    assert f"the store {store} does not exist; {remedy}" in capsys.readouterr().err
    assert not store.exists()
    store.touch()
    assert main(job) == 1
    assert f"the store {store} is not a folder; {remedy}" in capsys.readouterr().err


def test_activate_tests_a_version_names_what_is_served_and_refuses_what_cannot_be(store, capsys):
    activate, active = ["activate", "--store", str(store), "--name", "cifar10"], store / "cifar10" / "ACTIVE"
    assert main([*activate, "1"]) == 0
    assert active.read_text() == "1\n" and "cifar10 1 is active, until another is activated" in capsys.readouterr().out
    assert main([*activate, "newest"]) == 0
    printed = capsys.readouterr()
    assert not active.exists() and "cifar10 2 is active, the newest is always served" in printed.out and not printed.err
    (store / "cifar10" / "2" / "golden.npz").write_bytes(b"damaged")
    assert main([*activate, "newest"]) == 0
    assert "warning: cifar10 2 cannot be served, so an older version is: " in capsys.readouterr().err
    assert main([*activate, "2"]) == 1
    assert "golden.npz is not the file that was published" in capsys.readouterr().err
    assert main([*activate, "7"]) == 1
    assert "has no version 7 of 'cifar10'; it holds 1, 2" in capsys.readouterr().err
    assert main([*activate[:3], "1"]) == 1
    assert "--name is missing; pass --name with one of: cifar10" in capsys.readouterr().err
    assert not active.exists()
