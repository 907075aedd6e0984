"""A wrong path gets a proposal."""

from pathlib import Path

import pytest

from model_store.errors import ModelError
from model_store.store import Store
from tests.training import linear
from training.errors import TrainingError
from training.fit.sources import check_version
from training.places import guess


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The default store in the working directory, with versions 1 and 2 of `clean`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR10_STORE", "store")
    store = Store(tmp_path / "store")
    for _ in range(2):
        linear.publish(store, "clean")
    return store


@pytest.mark.parametrize("wrong", ["store/clean", "store", "clean", "store/clean/3", "stor/clean"])
def test_what_holds_or_names_a_version_gets_it_proposed(store, wrong):
    expected = "" if wrong == "stor/clean" else "; did you mean store/clean/2?"
    assert guess(Path(wrong)) == expected


def test_the_served_version_is_proposed(store):
    store.activate("clean", 1)
    assert guess(store.root / "clean") == f"; did you mean {store.root}/clean/1?"


def test_a_shipped_model_and_a_run_are_found_by_name(store):
    assert "/cifar10/" in guess(Path("cifar10"))
    run = store.root.parent / "runs" / "pets"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"it does not exist; did you mean runs/pets\?$"):
        check_version(Path("pets"))


def test_a_similar_name_is_proposed_and_no_other(tmp_path):
    for name in ("pets", "clean"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    assert guess(tmp_path / "pest") == f"; did you mean {tmp_path / 'pets'}?"
    assert guess(tmp_path / "vehicles") == ""


def test_nothing_is_proposed_where_nothing_is_alike(tmp_path):
    (tmp_path / "file").touch()
    assert guess(tmp_path / "gone" / "further") == guess(tmp_path / "file") == ""


def test_a_model_that_is_missing_is_answered_with_those_in_the_store(store):
    with pytest.raises(
        ModelError, match="holds no version of 'claen'; it holds clean; choose one of them, or"
    ) as error:
        store.choose_version("claen")
    assert "clean;" not in error.value.public
