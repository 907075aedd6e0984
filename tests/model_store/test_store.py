"""Versions appear whole or not at all, never change, and are listed, chosen and pruned by number."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import ModelError
from model_store.files import ARCHITECTURE, REQUIRED
from model_store.store import Store
from model_store.version import load

NAME = "cifar10"


def empty_versions(store, *versions, name=NAME):
    for version in versions:
        store.folder(name, version).mkdir(parents=True)


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_store_has_nothing(store):
    assert store.names() == []
    assert store.versions(NAME) == []
    with pytest.raises(ModelError, match=r"no version of 'cifar10'; publish one"):
        store.choose_version(NAME)


def test_only_models_and_versions_are_listed(store):
    empty_versions(store, 1, 10, 9)
    for other in ("0", "01", "1a", "-1", ".incoming-x", "1२", "latest", "1" * 200):
        (store.root / NAME / other).mkdir()
    (store.root / NAME / "11").write_text("a file")
    (store.root / "Not a model").mkdir()
    (store.root / "README").write_text("a file")
    assert store.names() == [NAME]
    assert store.versions(NAME) == [1, 9, 10]


@pytest.mark.parametrize(
    ("pinned", "active", "chosen"),
    [
        pytest.param(None, None, 10, id="highest, by number"),
        pytest.param(None, "2", 2, id="active"),
        pytest.param(None, " 2\n", 2, id="active with a line end"),
        pytest.param(9, None, 9, id="pinned"),
        pytest.param(9, "2", 9, id="pinned before active"),
        pytest.param(9, "nonsense", 9, id="pinned before an unreadable active"),
    ],
)
def test_the_version_that_serves(store, pinned, active, chosen):
    empty_versions(store, 2, 9, 10)
    if active:
        (store.root / NAME / "ACTIVE").write_text(active)
    assert store.choose_version(NAME, pinned) == chosen


@pytest.mark.parametrize(
    ("pinned", "active", "words"),
    [
        pytest.param(3, None, "no version 3; the store holds 1, 2", id="pinned"),
        pytest.param(None, "3", "no version 3; the store holds 1, 2", id="active"),
    ],
)
def test_a_version_that_is_not_there_is_not_replaced_by_another(store, pinned, active, words):
    empty_versions(store, 1, 2)
    if active:
        (store.root / NAME / "ACTIVE").write_text(active)
    with pytest.raises(ModelError, match=words):
        store.choose_version(NAME, pinned)


@pytest.mark.parametrize(
    "content",
    [b"", b"latest", b"0", b"-1", b"1.0", b"../1", b"1 2", b"\xff\xfe", b"9" * 5000],
    ids=["empty", "word", "zero", "negative", "decimal", "path", "two", "not text", "huge"],
)
def test_an_active_file_that_is_no_number_is_refused(store, content):
    empty_versions(store, 1)
    (store.root / NAME / "ACTIVE").write_bytes(content)
    with pytest.raises(ModelError, match="ACTIVE"):
        store.choose_version(NAME)


def test_an_active_that_is_no_file_is_refused(store):
    empty_versions(store, 1)
    (store.root / NAME / "ACTIVE").mkdir()
    with pytest.raises(ModelError, match="ACTIVE"):
        store.choose_version(NAME)


def test_an_active_that_is_a_pipe_is_refused_and_not_waited_for(store):
    empty_versions(store, 1)
    os.mkfifo(store.root / NAME / "ACTIVE")
    with pytest.raises(ModelError, match="ACTIVE cannot be read: it is a named pipe"):
        store.choose_version(NAME)


@pytest.mark.parametrize(
    ("pinned", "active", "candidates"),
    [
        pytest.param(None, None, [10, 9, 2], id="all, newest first"),
        pytest.param(None, "9", [9], id="only the active one"),
        pytest.param(2, "9", [2], id="only the pinned one"),
    ],
)
def test_only_a_version_that_nobody_chose_may_be_replaced_by_an_older_one(store, pinned, active, candidates):
    empty_versions(store, 2, 9, 10)
    if active:
        (store.root / NAME / "ACTIVE").write_text(active)
    assert store.candidates(NAME, pinned) == candidates


def test_each_publication_takes_the_next_number_and_touches_no_other(store, write):
    assert store.publish(NAME, write) == 1
    before = everything(store.folder(NAME, 1))
    assert [store.publish(NAME, write) for _ in range(2)] == [2, 3]
    assert everything(store.folder(NAME, 1)) == before


def test_the_next_number_follows_the_highest_and_fills_no_gap(store, write):
    empty_versions(store, 7)
    assert store.publish(NAME, write) == 8


def test_other_users_may_read_what_was_published(published):
    assert {path.stat().st_mode & 0o777 for path in published.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in (published, published / "report")} == {0o755}


def fails_with(error):
    def write(folder, version):
        (folder / ARCHITECTURE).write_text("half")
        raise error

    return write


ERRORS = [ModelError("diverged"), OSError("disk full"), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_publication_that_fails_leaves_nothing(store, published, error):
    with pytest.raises(type(error)):
        store.publish(NAME, fails_with(error))
    assert [path.name for path in (store.root / NAME).iterdir()] == ["1"]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_first_publication_that_fails_leaves_no_folder_of_the_name(store, error):
    with pytest.raises(type(error)):
        store.publish(NAME, fails_with(error))
    assert not store.root.exists()
    store.root.mkdir()
    with pytest.raises(type(error)):
        store.publish(NAME, fails_with(error))
    assert list(store.root.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(store, write):
    """No file grows beyond a kilobyte, and the weights are larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.publish(NAME, write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not store.root.exists()
    assert store.publish(NAME, write) == 1


def test_a_failure_leaves_what_another_job_published_meanwhile(store, write):
    def overtaken(folder, version):
        assert store.publish(NAME, write) == 1
        raise ModelError("diverged")

    with pytest.raises(ModelError, match="diverged"):
        store.publish(NAME, overtaken)
    assert [path.name for path in (store.root / NAME).iterdir()] == ["1"]


def test_a_folder_that_a_failed_job_removed_is_made_again(store, write, monkeypatch):
    """The other job fails between the making of the folder and of the one inside."""
    make, removed = tempfile.mkdtemp, []

    def late(*arguments, **keywords):
        if not removed:
            removed.append((store.root / NAME).rmdir())
        return make(*arguments, **keywords)

    monkeypatch.setattr(tempfile, "mkdtemp", late)
    assert store.publish(NAME, write) == 1
    assert removed


@pytest.mark.parametrize("forgotten", REQUIRED)
def test_an_incomplete_version_is_not_published(store, write, forgotten):
    def incomplete(folder, version):
        manifest = write(folder, version)
        (folder / forgotten).unlink()
        return manifest

    with pytest.raises(ModelError, match=f"{forgotten} was not written"):
        store.publish(NAME, incomplete)
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["plots/more/a.png", ".DS_Store", "une école.txt"])
def test_a_file_that_no_manifest_can_list_is_not_published(store, write, name):
    def odd(folder, version):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
        return write(folder, version)

    with pytest.raises(ModelError, match="cannot be published"):
        store.publish(NAME, odd)
    assert store.versions(NAME) == []


@pytest.mark.parametrize("name", ["", "..", "../other", "a/b", "Model", "a\n", "a" * 65])
def test_a_name_that_is_not_one_is_refused(store, write, name):
    with pytest.raises(ModelError, match="not a model name"):
        store.publish(name, write)
    assert not store.root.exists()


def test_nothing_is_seen_while_a_version_is_written(store, write):
    seen = []

    def looking(folder, version):
        manifest = write(folder, version)
        seen.append((store.versions(NAME), folder.parent))
        return manifest

    store.publish(NAME, looking)
    assert seen == [([], store.root / NAME)]


def test_publishers_that_want_one_number_get_two(store, write):
    both_have_begun, calls = threading.Barrier(2, timeout=60), []

    def waiting(folder, version):
        calls.append(version)
        if version == 1:
            both_have_begun.wait()
        return write(folder, version)

    with ThreadPoolExecutor(2) as pool:
        versions = [job.result() for job in [pool.submit(store.publish, NAME, waiting) for _ in range(2)]]
    assert sorted(versions) == store.versions(NAME) == [1, 2]
    assert sorted(calls) == [1, 1, 2]
    for version in versions:
        assert load(store.folder(NAME, version), precision="float32").manifest.version == version


PUBLISH = """
import shutil, sys
from pathlib import Path
from model_store.files import MANIFEST
from model_store.manifest import read_manifest
from model_store.store import Store

root, source = Path(sys.argv[1]), Path(sys.argv[2])

def write(folder, version):
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    return read_manifest(source / MANIFEST).model_copy(update={"version": version})

print(*(Store(root).publish("cifar10", write) for _ in range(5)))
"""


def test_processes_publishing_at_once_each_get_their_own_numbers(published, tmp_path):
    command = [sys.executable, "-c", PUBLISH, str(tmp_path / "shared"), str(published)]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert sorted(int(number) for line in printed for number in line.split()) == list(range(1, 16))
    shared = Store(tmp_path / "shared")
    assert shared.versions(NAME) == list(range(1, 16))
    assert [path for path in (shared.root / NAME).iterdir() if path.name.startswith(".")] == []


def test_activate_replaces_the_file_whole_and_none_removes_it(store):
    empty_versions(store, 1, 2)
    for version in (1, 2):
        store.activate(NAME, version)
        assert store.active_version(NAME) == store.choose_version(NAME) == version
        assert sorted(path.name for path in (store.root / NAME).iterdir()) == ["1", "2", "ACTIVE"]
    store.activate(NAME, None)
    store.activate(NAME, None)
    assert store.active_version(NAME) is None


@pytest.mark.parametrize("version", [3, None])
def test_activate_refuses_what_is_not_there(store, version):
    with pytest.raises(ModelError, match=r"has no model 'cifar10'; it holds no version of it"):
        store.activate(NAME, version)
    empty_versions(store, 1, 2)
    with pytest.raises(ModelError, match=r"has no version 3 of 'cifar10'; it holds 1, 2"):
        store.activate(NAME, 3)
    assert store.active_version(NAME) is None


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(1, 40)), st.integers(1, 12), st.none() | st.integers(1, 40))
def test_prune_keeps_the_newest_and_the_active(tmp_path_factory, versions, keep, active):
    store = Store(tmp_path_factory.mktemp("store"))
    empty_versions(store, *versions)
    (store.root / NAME).mkdir(exist_ok=True)
    if active:
        (store.root / NAME / "ACTIVE").write_text(str(active))
    removed = store.prune(NAME, keep)
    remaining = set(sorted(versions)[-keep:]) | ({active} & versions)
    assert set(store.versions(NAME)) == remaining
    assert set(removed) == versions - remaining


def test_prune_leaves_nothing_of_what_it_removes(store, write):
    for _ in range(3):
        store.publish(NAME, write)
    assert store.prune(NAME, 1) == [1, 2]
    assert [path.name for path in (store.root / NAME).iterdir()] == ["3"]
    assert store.publish(NAME, write) == 4


@pytest.mark.parametrize("keep", [0, -1])
def test_prune_always_keeps_something(store, keep):
    empty_versions(store, 1, 2)
    with pytest.raises(ModelError, match=f"at least 1 version, not {keep}"):
        store.prune(NAME, keep)
    assert store.versions(NAME) == [1, 2]


def test_prune_does_not_guess_what_is_active(store):
    empty_versions(store, 1, 2)
    (store.root / NAME / "ACTIVE").write_text("latest")
    with pytest.raises(ModelError, match="ACTIVE"):
        store.prune(NAME, 1)
    assert store.versions(NAME) == [1, 2]
