"""A version is loaded only as it was published: every file hashed, every attribute known."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model_store.errors import ModelError
from model_store.files import ARCHITECTURE, GOLDEN, MANIFEST, NOVELTY, REQUIRED, WEIGHTS
from model_store.network.gaussian import Gaussian, ood_scores, write_gaussian
from model_store.version import load
from tests.model_store.test_golden import rehash

NAME = "cifar10"


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

    predictions = load(store.folder(NAME, store.publish(NAME, fill))).classifier.predict(tiny.images)
    scores = ood_scores(*gaussian.standardise(predictions.energy, predictions.features))
    np.testing.assert_array_equal(predictions.ood_score, scores)
    predictions = load(store.folder(NAME, store.publish(NAME, write))).classifier.predict(tiny.images)
    assert predictions.features is None
    np.testing.assert_array_equal(predictions.ood_score, predictions.energy)


def test_the_precision_of_this_machine_is_within_its_tolerance(published):
    loaded = load(published)
    assert loaded.golden_difference <= loaded.manifest.golden_tolerance[loaded.classifier.precision]


def test_temperature_is_part_of_the_version(store, write, tiny):
    folder = store.folder(NAME, store.publish(NAME, lambda *place: write(*place, temperature=5.0)))
    with pytest.raises(ModelError, match="probabilities of the golden images differ"):
        load(folder, precision="float32")


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


def test_files_that_are_absurdly_large_together_are_not_read(published):
    document = json.loads((published / MANIFEST).read_text())
    document["files"] |= {f"report/{i}.png": {"size": 16_000_000, "sha256": "0" * 64} for i in range(63)}
    (published / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"lists 1,008,0.* bytes of files, the limit is 1,000,000,000"):
        load(published, precision="float32")


@pytest.mark.parametrize("place", ["cifar10/2", "other/1", "cifar10/latest"])
def test_a_copy_of_a_version_is_not_loaded_under_another_name(store, published, place):
    copy = shutil.copytree(published, store.root / place)
    with pytest.raises(ModelError, match=f"is that of cifar10/1, but its folder is {place}; move the folder back"):
        load(copy, precision="float32")


def test_a_versions_folder_may_be_a_link(store, published, monkeypatch):
    published.rename(store.root.parent / "elsewhere")
    published.symlink_to("../../elsewhere")
    assert load(published, precision="float32").manifest.version == 1
    monkeypatch.chdir(published.parent)
    assert load(Path("1"), precision="float32").manifest.version == 1


def test_a_versions_file_may_not_be_a_link_out_of_its_folder(published):
    (published / GOLDEN).rename(published.parent / GOLDEN)
    (published / GOLDEN).symlink_to(f"../{GOLDEN}")
    with pytest.raises(ModelError, match=r"golden\.npz is a link to a file outside the version's folder"):
        load(published, precision="float32")


@pytest.mark.parametrize("name", [MANIFEST, *REQUIRED, "report/table.txt"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(published, name):
    (published / name).unlink()
    os.mkfifo(published / name)
    with pytest.raises(ModelError, match="it is a named pipe, not a regular file"):
        load(published, precision="float32")


@pytest.mark.parametrize("name", [MANIFEST, ARCHITECTURE])
def test_a_document_with_a_key_twice_is_refused(published, name):
    text = (published / name).read_text()
    (published / name).write_text(text.replace("{", '{"name": 1, "name": 2, ', 1))
    if name != MANIFEST:
        rehash(published)
    with pytest.raises(ModelError, match="the key 'name' appears twice"):
        load(published, precision="float32")


def test_a_half_copied_version_is_not_loaded(store, published):
    copy = store.folder(NAME, 2)
    copy.mkdir()
    for name in REQUIRED:
        (copy / name).write_bytes((published / name).read_bytes())
    with pytest.raises(ModelError, match=r"manifest\.json is missing; .* never published"):
        load(copy, precision="float32")


def test_a_precision_without_a_tolerance_is_refused(store, write):
    folder = store.folder(NAME, store.publish(NAME, lambda *place: write(*place, golden_tolerance={"bfloat16": 0.05})))
    with pytest.raises(ModelError, match="this version is not served in float32"):
        load(folder, precision="float32")


def test_labels_that_do_not_fit_the_network_are_refused(store, write):
    folder = store.folder(NAME, store.publish(NAME, lambda *place: write(*place, labels=("a", "b"))))
    with pytest.raises(ModelError, match="3 outputs but there are 2 labels"):
        load(folder, precision="float32")
