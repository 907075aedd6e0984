"""A service that follows the store serves what the store chooses now, and keeps what it has if that fails."""

import json
import shutil

import pytest

from app.settings import Settings
from app.versions.follow import RETRY_SECONDS, Follower
from model_store.store import SHIPPED_STORE, Store

NAME = "cifar10"


def put(store, version, **changes):
    """Put the small shipped model into the store as this version, with changes to its manifest."""
    folder = shutil.copytree(SHIPPED_STORE / "cifar10-small" / "2", store / NAME / str(version))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"name": NAME, "version": version} | changes))
    return folder


@pytest.fixture
def follow(tmp_path, clock):
    """Makes a follower of a store with the given versions, the last of which is served."""

    def make(*versions, served=None):
        for version in versions:
            put(tmp_path, version)
        return Follower(Settings(store=tmp_path), served=served or max(versions, default=None), clock=clock)

    return make


def version_of(look):
    return look.loaded and look.loaded.manifest.version


def test_a_version_that_appears_is_loaded_once(follow, tmp_path):
    follower = follow(1)
    assert version_of(follower.look()) is None
    put(tmp_path, 2)
    assert version_of(follower.look()) == 2
    assert follower.look() == (look := follower.look()) and (look.loaded, look.errors, look.problem) == (None, {}, None)


def test_active_leads_back_and_forwards(follow, tmp_path):
    follower, store = follow(1, 2), Store(tmp_path)
    store.activate(NAME, 1)
    assert version_of(follower.look()) == 1
    assert version_of(follower.look()) is None
    store.activate(NAME, 2)
    assert version_of(follower.look()) == 2
    store.activate(NAME, 1)
    assert version_of(follower.look()) == 1
    store.activate(NAME, None)
    assert version_of(follower.look()) == 2


def test_a_version_that_is_being_copied_is_not_reported_and_served_when_it_is_complete(follow, tmp_path):
    follower, whole = follow(1), put(tmp_path / "elsewhere", 2)
    folder = tmp_path / NAME / "2"
    folder.mkdir()
    for path in sorted(whole.iterdir()):
        look = follower.look()
        assert (look.loaded, look.errors, look.refused) == (None, {}, {})
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    assert version_of(follower.look()) == 2


def test_a_bad_version_is_refused_once_and_listed_for_as_long_as_it_is_there(follow, tmp_path):
    follower, folder = follow(1), put(tmp_path, 2)
    (folder / "golden.npz").write_bytes(b"damaged")
    assert not follower.look().errors  # it may still be being copied
    look = follower.look()
    assert list(look.errors) == list(look.refused) == [2] and "golden.npz" in str(look.errors[2])
    look = follower.look()
    assert list(look.errors) == [2] and not look.refused
    shutil.rmtree(folder)
    assert not follower.look().errors


def test_a_bad_version_does_not_hide_a_good_one_below_it(follow, tmp_path):
    follower, folder = follow(1), put(tmp_path, 3)
    (folder / "golden.npz").write_bytes(b"damaged")
    put(tmp_path, 2)
    assert version_of(follower.look()) == 2
    assert list(follower.look().refused) == [3]


def test_a_version_that_failed_is_loaded_again_when_it_changes_or_after_a_while(follow, tmp_path, clock, monkeypatch):
    follower, folder = follow(1), put(tmp_path, 2)
    (folder / "golden.npz").rename(tmp_path / "golden.npz")
    follower.look(), follower.look()
    shutil.copy(tmp_path / "golden.npz", folder / "golden.npz")
    assert version_of(follower.look()) == 2

    put(tmp_path, 3, output="unknown")
    follower.look()
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", None)  # nothing is read
        assert list(follower.look().errors) == [3]
    clock.now += RETRY_SECONDS
    look = follower.look()
    assert list(look.errors) == [3] and not look.refused  # tried again, and reported once


def test_the_served_version_stays_when_its_files_are_damaged(follow, tmp_path):
    follower = follow(1, 2)
    follower.look()
    (tmp_path / NAME / "2" / "golden.npz").write_bytes(b"damaged")
    follower.look()
    look = follower.look()
    assert look.loaded is None and list(look.errors) == [2]


def test_a_number_that_is_published_again_is_loaded_again(follow, tmp_path):
    follower = follow(1, 2)
    shutil.rmtree(tmp_path / NAME / "2")
    put(tmp_path, 2, created="2030-01-01")
    look = follower.look()
    assert look.loaded and look.loaded.manifest.created == "2030-01-01"


def test_when_the_served_version_is_removed_the_next_older_one_is_served(follow, tmp_path):
    follower = follow(1, 2)
    shutil.rmtree(tmp_path / NAME / "2")
    assert version_of(follower.look()) == 1


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(lambda store: (store / NAME / "ACTIVE").write_text("7"), "has no version 7", id="ACTIVE"),
        pytest.param(
            lambda store: (store / NAME / "ACTIVE").write_text("new"), "must hold a version", id="ACTIVE text"
        ),
        pytest.param(lambda store: (store / NAME).rename(store / "gone"), "holds no version of", id="a lost folder"),
    ],
)
def test_a_store_that_names_no_version_is_a_problem_and_nothing_changes(follow, tmp_path, spoil, problem):
    follower = follow(1)
    spoil(tmp_path)
    look = follower.look()
    assert look.loaded is None and problem in str(look.problem)


def test_a_service_that_began_without_a_version_gets_the_first_one(follow, tmp_path):
    follower = follow()
    assert "holds no version" in str(follower.look().problem)
    put(tmp_path, 1)
    assert version_of(follower.look()) == 1


def test_a_look_without_news_loads_nothing_and_reads_no_file(follow, monkeypatch):
    follower = follow(1)
    follower.look()
    monkeypatch.setattr("pathlib.Path.open", None)
    assert follower.look() == follower.look()
