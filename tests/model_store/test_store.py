"""Versions appear whole or not at all, never change, and are served only as they were published."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import ModelError
from model_store.manifest import Manifest
from model_store.novelty import Gaussian, write_gaussian
from model_store.store import (
    ARCHITECTURE,
    GOLDEN,
    MANIFEST,
    NOVELTY,
    REQUIRED,
    WEIGHTS,
    Golden,
    Store,
    hash_files,
    load,
    read_golden,
    write_golden,
)
from tests.model_store.network.keras_models import PREPROCESSING, random_images

NAME = "cifar10"


def manifest_of(version, **changes):
    fields = {
        "name": NAME,
        "version": version,
        "created": "2026-11-23T10:00:00+00:00",
        "labels": ("a", "b", "c"),
        "preprocessing": PREPROCESSING,
        "output": "logits",
        "golden_tolerance": {"float32": 1e-4, "bfloat16": 0.05},
        "files": {},
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def write(tiny):
    """Fills a version's folder with the tiny model, a report and its manifest."""

    def fill(folder: Path, version: int, **changes) -> Manifest:
        (folder / ARCHITECTURE).write_text(tiny.architecture)
        (folder / WEIGHTS).write_bytes(tiny.weights)
        write_golden(Golden(tiny.images, tiny.probabilities), folder / GOLDEN)
        (folder / "report").mkdir()
        (folder / "report" / "table.txt").write_text(f"version {version}")
        return manifest_of(version, **changes)

    return fill


@pytest.fixture
def published(store, write):
    """The folder of a published version 1."""
    return store.folder(NAME, store.publish(NAME, write))


def empty_versions(store, *versions, name=NAME):
    for version in versions:
        store.folder(name, version).mkdir(parents=True)


def rehash(folder):
    """Make the manifest agree with the files again, as whoever can write both would."""
    document = json.loads((folder / MANIFEST).read_text())
    document["files"] = {name: file.model_dump() for name, file in hash_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(document))


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_what_was_published_is_loaded_and_answers_the_same(tiny, published, engine):
    loaded = load(published, engine, "float32")
    assert (loaded.manifest.name, loaded.manifest.version) == (NAME, 1)
    assert set(loaded.manifest.files) == {*REQUIRED, "report/table.txt"}
    assert loaded.golden_difference <= 1e-5
    answer = loaded.classifier.predict(tiny.images).probabilities
    np.testing.assert_allclose(answer, tiny.probabilities, atol=1e-5)


def test_a_version_with_a_gaussian_scores_by_it_and_one_without_by_the_energy(store, write, tiny):
    centre, spread = np.zeros(2, np.float32), np.ones(2, np.float32)
    gaussian = Gaussian("conv2d", np.zeros(6, np.float32), np.eye(6, dtype=np.float32), centre, spread)

    def fill(folder, version):
        write_gaussian(gaussian, folder / NOVELTY)
        return write(folder, version, verdicts={"novelty_above": 0.9, "confidence_below": 0.5, "scores": [-9, 9]})

    said = load(store.folder(NAME, store.publish(NAME, fill))).classifier.predict(tiny.images)
    np.testing.assert_array_equal(said.ood_score, gaussian.scores(said.energy, said.features))
    said = load(store.folder(NAME, store.publish(NAME, write))).classifier.predict(tiny.images)
    assert said.features is None
    np.testing.assert_array_equal(said.ood_score, said.energy)


def test_the_precision_of_this_machine_is_within_its_tolerance(published):
    loaded = load(published)
    assert loaded.golden_difference <= loaded.manifest.golden_tolerance[loaded.classifier.precision]


def test_temperature_is_part_of_the_version(store, write, tiny):
    folder = store.folder(NAME, store.publish(NAME, lambda *place: write(*place, temperature=5.0)))
    with pytest.raises(ModelError, match="golden images give probabilities that differ"):
        load(folder, precision="float32")


def test_an_empty_store_has_nothing(store):
    assert store.names() == []
    assert store.versions(NAME) == []
    with pytest.raises(ModelError, match=r"no version of 'cifar10'; publish one"):
        store.choose(NAME)


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
    assert store.choose(NAME, pinned) == chosen


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
        store.choose(NAME, pinned)


@pytest.mark.parametrize(
    "content",
    [b"", b"latest", b"0", b"-1", b"1.0", b"../1", b"1 2", b"\xff\xfe", b"9" * 5000],
    ids=["empty", "word", "zero", "negative", "decimal", "path", "two", "not text", "huge"],
)
def test_an_active_file_that_is_no_number_is_refused(store, content):
    empty_versions(store, 1)
    (store.root / NAME / "ACTIVE").write_bytes(content)
    with pytest.raises(ModelError, match="ACTIVE"):
        store.choose(NAME)


def test_an_active_that_is_no_file_is_refused(store):
    empty_versions(store, 1)
    (store.root / NAME / "ACTIVE").mkdir()
    with pytest.raises(ModelError, match="ACTIVE"):
        store.choose(NAME)


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


@pytest.mark.parametrize("error", [ModelError("diverged"), OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_publication_that_fails_leaves_nothing(store, published, error):
    with pytest.raises(type(error)):
        store.publish(NAME, fails_with(error))
    assert [path.name for path in (store.root / NAME).iterdir()] == ["1"]


@pytest.mark.parametrize("forgotten", REQUIRED)
def test_an_incomplete_version_is_not_published(store, write, forgotten):
    def incomplete(folder, version):
        manifest = write(folder, version)
        (folder / forgotten).unlink()
        return manifest

    with pytest.raises(ModelError, match=f"{forgotten} was not written"):
        store.publish(NAME, incomplete)
    assert list((store.root / NAME).iterdir()) == []


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
from model_store.manifest import read_manifest
from model_store.store import MANIFEST, Store

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


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(1, 40)), st.integers(1, 12), st.none() | st.integers(1, 40))
def test_prune_keeps_the_newest_and_the_active(tmp_path_factory, versions, keep, active):
    store = Store(tmp_path_factory.mktemp("store"))
    empty_versions(store, *versions)
    (store.root / NAME).mkdir(exist_ok=True)
    if active:
        (store.root / NAME / "ACTIVE").write_text(str(active))
    removed = store.prune(NAME, keep)
    kept = set(sorted(versions)[-keep:]) | ({active} & versions)
    assert set(store.versions(NAME)) == kept
    assert set(removed) == versions - kept


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


def flip_last(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("name", [*REQUIRED, "report/table.txt"])
@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(flip_last, id="one bit"),
        pytest.param(lambda content: content[:-1], id="shorter"),
        pytest.param(lambda content: content + b"\0", id="longer"),
        pytest.param(lambda content: b"", id="empty"),
    ],
)
def test_an_altered_file_is_refused_by_name(published, name, tamper):
    path = published / name
    path.write_bytes(tamper(path.read_bytes()))
    with pytest.raises(ModelError, match="is not the file that was published") as refusal:
        load(published, precision="float32")
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("name", [*REQUIRED, "report/table.txt"])
def test_a_missing_file_is_refused_by_name(published, name):
    (published / name).unlink()
    with pytest.raises(ModelError, match="cannot be read: No such file") as refusal:
        load(published, precision="float32")
    assert str(published / name) in str(refusal.value)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_manifest_that_lists_too_little_is_refused(published, name):
    document = json.loads((published / MANIFEST).read_text())
    del document["files"][name]
    (published / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=f"does not list {name}"):
        load(published, precision="float32")


@pytest.mark.parametrize("name", ["../../../secret", "/etc/hostname", "report/../../x"])
def test_a_manifest_cannot_reach_outside_its_folder(published, name):
    document = json.loads((published / MANIFEST).read_text())
    document["files"][name] = document["files"][GOLDEN]
    (published / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="files"):
        load(published, precision="float32")


def test_a_field_nobody_knows_is_refused(published):
    document = json.loads((published / MANIFEST).read_text())
    (published / MANIFEST).write_text(json.dumps(document | {"threshold": 0.5}))
    with pytest.raises(ModelError, match="threshold"):
        load(published, precision="float32")


def test_a_file_said_to_be_absurdly_large_is_not_read(published):
    document = json.loads((published / MANIFEST).read_text())
    document["files"][WEIGHTS]["size"] = 10**12
    (published / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="the limit is 500,000,000"):
        load(published, precision="float32")


def test_a_half_copied_version_is_not_loaded(store, published):
    copy = store.folder(NAME, 2)
    copy.mkdir()
    for name in REQUIRED:
        (copy / name).write_bytes((published / name).read_bytes())
    with pytest.raises(ModelError, match=r"manifest\.json is missing; .* never published"):
        load(copy, precision="float32")


def golden_with(tiny, path, **arrays):
    np.savez(path, **{"images": tiny.images, "probabilities": tiny.probabilities, **arrays})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        pytest.param(lambda t: {"probabilities": t.probabilities[:, ::-1]}, "differ by", id="other classes"),
        pytest.param(lambda t: {"probabilities": t.probabilities + np.float32(2e-4)}, "differ by", id="a little off"),
        pytest.param(lambda t: {"probabilities": t.probabilities * np.float32("nan")}, "differ by nan", id="NaN"),
        pytest.param(lambda t: {"images": random_images(5, seed=9)}, "differ by", id="other images"),
        pytest.param(
            lambda t: {"probabilities": t.probabilities[:-1]}, r"\(4, 3\), the network gives", id="a row short"
        ),
        pytest.param(lambda t: {"probabilities": t.probabilities[0]}, r"\(3,\), the network gives", id="one row"),
        pytest.param(lambda t: {"probabilities": t.probabilities.astype(str)}, "not float32", id="text"),
        pytest.param(lambda t: {"probabilities": t.probabilities.astype("f8")}, "not float32", id="float64"),
        pytest.param(lambda t: {"images": t.images.astype("f4")}, "float32", id="float images"),
        pytest.param(lambda t: {"images": t.images[:0], "probabilities": t.probabilities[:0]}, r"\(0, 32", id="none"),
        pytest.param(lambda t: {"images": np.uint8(1)}, r"uint8 \(\)", id="a number"),
        pytest.param(lambda t: {"images": np.array([object()])}, "golden.npz cannot be read", id="pickles"),
    ],
)
def test_golden_examples_that_are_wrong_are_refused_though_their_hash_is_right(tiny, published, arrays, words):
    golden_with(tiny, published / GOLDEN, **arrays(tiny))
    rehash(published)
    with pytest.raises(ModelError, match=words):
        load(published, precision="float32")


def test_a_precision_without_a_tolerance_is_refused(store, write):
    folder = store.folder(NAME, store.publish(NAME, lambda *place: write(*place, golden_tolerance={"bfloat16": 0.05})))
    with pytest.raises(ModelError, match="the tolerance for float32 is None"):
        load(folder, precision="float32")


def test_labels_that_do_not_fit_the_network_are_refused(store, write):
    folder = store.folder(NAME, store.publish(NAME, lambda *place: write(*place, labels=("a", "b"))))
    with pytest.raises(ModelError, match="3 outputs but there are 2 labels"):
        load(folder, precision="float32")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x05\x06" + bytes(18), id="an empty archive"),
        pytest.param(b"PK\x03\x04", id="a broken archive"),
        pytest.param(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }", id="one array"
        ),
        pytest.param(b"\x80\x04K\x01.", id="a pickle"),
    ],
)
def test_what_holds_no_golden_examples_is_refused(content):
    with pytest.raises(ModelError, match=r"golden\.npz"):
        read_golden(content)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_golden_examples_are_read_or_refused(tiny, published_golden, data):
    content = bytearray(published_golden)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        golden = read_golden(bytes(content))
    except ModelError:
        return
    assert golden.images.dtype == np.uint8
    assert golden.images.shape[1:] == (32, 32, 3)


@pytest.fixture(scope="module")
def published_golden(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / GOLDEN
    write_golden(Golden(tiny.images[:1], tiny.probabilities[:1]), path)
    return path.read_bytes()
