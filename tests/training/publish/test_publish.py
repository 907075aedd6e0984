"""Runs and versions become the next version of a store, or are refused."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace

import keras
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from model_store.classifier import Classifier
from model_store.manifest import read_manifest
from model_store.store import Store
from model_store.version import load
from tests.model_store.network.keras_models import random_images
from tests.training import linear
from tests.training.runs import VAL_IMAGES, few_val_images, narrow_recipes, train
from training.__main__ import main
from training.data.cifar10 import LABELS
from training.data.dataset import Dataset, Images
from training.data.load import load_dataset
from training.errors import TrainingError
from training.fit.run.directory import Run
from training.publish.candidate import Candidate, publish_candidate
from training.publish.compiled import CompiledNetwork
from training.publish.network import network_from_folder, network_from_run
from training.publish.publish import publish_version
from training.publish.target import Target

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_reports", "val_images")]


@pytest.fixture(scope="module")
def val_images():
    with few_val_images():
        yield


def test_a_published_run_is_complete_and_loads(published):
    folder = published / "cifar10" / "1"
    manifest = load(folder).manifest
    assert manifest.training["recipe"] == "notebook"
    assert set(manifest.files) >= {"architecture.json", "model.weights.h5", "golden.npz", "report/confusion.png"}
    assert manifest.metrics["differences_from_keras"]["float32"] < 1e-4
    document = json.loads((folder / "report/evaluation.json").read_text())
    assert manifest.metrics["robustness"].items() <= document["robustness"].items()
    assert document["history"] and "report/corruptions.png" in manifest.files


def test_a_published_version_opens_in_keras_with_two_lines(published):
    folder = published / "cifar10" / "1"
    model = keras.models.model_from_json((folder / "architecture.json").read_text())
    model.load_weights(folder / "model.weights.h5")
    assert model.count_params() == 1_676_842


def test_publishing_a_version_adds_the_next_and_changes_nothing(published, tmp_path):
    store = Store(shutil.copytree(published, tmp_path / "store"))
    first = store.folder("cifar10", 1)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert main(["publish", str(first), "--store", str(store.root)]) == 0
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    assert load(store.folder("cifar10", 2)).manifest.training["published_from"] == "cifar10/1"


def test_a_network_that_is_not_served_as_keras_has_it_is_not_published(notebook_run, data_folder, tmp_path):
    network, test = network_from_run(Run(notebook_run)), load_dataset(data_folder).test
    last = next(reversed(network.weights))
    negated = network.weights | {last: {name: -array for name, array in network.weights[last].items()}}
    candidate = Candidate(notebook_run, CompiledNetwork(replace(network, weights=negated)), training={})
    with pytest.raises(TrainingError, match="differ from Keras's by"):
        publish_candidate(candidate, Target(Store(tmp_path), "cifar10"), test.pixels, test)
    assert Store(tmp_path).versions("cifar10") == []


def test_a_version_has_no_figures_that_were_measured_on_an_earlier_one(tmp_path):
    (tmp_path / "architecture.json").write_bytes(linear.architecture())
    (tmp_path / "model.weights.h5").write_bytes(linear.weights())
    earlier = {"robustness": {"accuracy": 0.5}, "left_out": ["robustness"], "calibration": {"temperature": 2.0}}
    candidate = Candidate(tmp_path, CompiledNetwork(linear.network()), training={}, metrics=earlier)
    test, store = linear.images(40), Store(tmp_path / "store")
    targets = [Target(store, "patterns", report=report) for report in ("figures", "quick", "full")]
    metrics = [
        read_manifest(store.folder("patterns", version) / "manifest.json").metrics
        for version in [publish_candidate(candidate, target, test.pixels, test) for target in targets]
    ]
    assert "robustness" not in metrics[0] and metrics[0]["left_out"] == ["robustness", "plots"]
    assert "robustness" not in metrics[1] and metrics[1]["left_out"] == ["robustness"]
    assert "left_out" not in metrics[2] and metrics[2]["robustness"].keys() > {"accuracy"}
    assert all(version["calibration"] == earlier["calibration"] for version in metrics)


def test_a_damaged_run_is_not_published(notebook_run, data_folder, tmp_path, capsys):
    run = shutil.copytree(notebook_run, tmp_path / "run")
    text = (run / "architecture.json").read_text()
    (run / "architecture.json").write_text(text.replace('"same"', '"causal"', 1))
    store = ["--store", str(tmp_path), "--name", "cifar10", "--data", str(data_folder)]
    assert main(["publish", str(run), *store]) == 1
    assert "the service cannot load" in capsys.readouterr().err


def test_a_model_keeps_its_labels(published, notebook_run, data_folder, tmp_path, capsys):
    run = Run(shutil.copytree(notebook_run, tmp_path / "run"))
    info = run.info.model_copy(update={"labels": tuple("abcdefghij")})
    (run.folder / "run.json").write_text(info.model_dump_json())
    store = ["--store", str(published), "--name", "cifar10", "--data", str(data_folder)]
    assert main(["publish", str(run.folder), *store]) == 1
    assert (
        "the new version would know 10, and label 1 is 'airplane' there and 'a' here; give the new one a --name"
        in capsys.readouterr().err
    )


def test_a_broken_version_does_not_keep_its_repair_from_being_published(published, tmp_path):
    store = Store(shutil.copytree(published, tmp_path / "store"))
    for manifest in (store.root / "cifar10").glob("*/manifest.json"):
        manifest.write_text("{}")
    Target(store, "cifar10").check_same_labels(tuple("abcdefghij"))


@pytest.fixture(scope="module")
def calibration_run(data_folder, tmp_path_factory, val_images):
    """A run on the training images without the last 20."""
    folder = tmp_path_factory.mktemp("runs") / "calibration"
    with narrow_recipes("teacher"):
        assert train(data_folder, folder, "--hold-out", recipe="teacher") == 0
    return folder


@pytest.fixture(scope="module")
def calibrated(data_folder, teacher, calibration_run, tmp_path_factory, short_reports, val_images):
    """Version 1 is the calibration run itself, 2 `teacher` without and 3 with it, however good each is."""
    store = tmp_path_factory.mktemp("calibrated")
    publish = ["publish", "--store", str(store), "--name", "cifar10", "--force", "--data", str(data_folder)]
    assert main([*publish, str(calibration_run)]) == 0
    assert main([*publish, str(teacher)]) == 0
    assert main([*publish, str(teacher), "--calibration-run", str(calibration_run)]) == 0
    return Store(store)


@contextmanager
def record_compilations():
    """Record the network and the precision of every classifier that is compiled."""
    compilations, compile_network = [], Classifier.__init__

    def record(classifier, network, *options, **keywords):
        compile_network(classifier, network, *options, **keywords)
        compilations.append((network, classifier.precision))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "__init__", record)
        yield compilations


@pytest.mark.parametrize(
    ("calibrated_on_itself", "limit"), [(True, 6), (False, 8)], ids=["its own calibration run", "another one"]
)
def test_publishing_compiles_a_network_once_for_each_temperature_and_precision(
    calibrated_on_itself, limit, calibration_run, teacher, data_folder, tmp_path
):
    run = [str(calibration_run)] if calibrated_on_itself else [str(teacher), "--calibration-run", str(calibration_run)]
    with record_compilations() as compilations:
        store = ["--store", str(tmp_path), "--name", "cifar10", "--data", str(data_folder)]
        assert main(["publish", *store, *run]) == 0
    keys = {
        (id(network.weights), network.temperature, network.gaussian is None, precision)
        for network, precision in compilations
    }
    assert len(keys) == len(compilations) <= limit


def test_temperature_verdicts_and_reference_are_those_of_the_calibration_run(calibrated):
    own, uncalibrated, full = (load(calibrated.folder("cifar10", version)).manifest for version in (1, 2, 3))
    assert own.temperature == full.temperature != 1 == uncalibrated.temperature
    assert own.metrics["calibration"]["fitted_on_images"] == VAL_IMAGES
    assert own.verdicts == full.verdicts and own.verdicts and not uncalibrated.verdicts
    assert own.reference == full.reference and own.reference and not uncalibrated.reference
    assert sum(own.reference.counts["class"]) == VAL_IMAGES
    # 95 % of the validation images are accepted, as they are and as uploads together.
    rejected = sum(own.metrics["verdicts"][kind]["none_of_these"] for kind in ("held_out", "uploads"))
    assert rejected / 2 == pytest.approx(1 / VAL_IMAGES)


def test_the_gaussian_has_the_scales_of_the_calibration_run_and_the_channels_of_its_own_network(calibrated):
    own, full = (network_from_folder(calibrated.folder("cifar10", version)).gaussian for version in (1, 3))
    assert own.layer == full.layer == "add"
    np.testing.assert_array_equal(own.centre, full.centre)
    assert not np.array_equal(own.mean, full.mean)


def test_a_calibrated_version_has_the_figures_it_had_without(calibrated):
    uncalibrated, full = (load(calibrated.folder("cifar10", version)).manifest for version in (2, 3))
    one_image = 1 / full.metrics["test"]["images"]  # whose label int8 may change
    accuracies = [manifest.metrics["test"]["accuracy"] for manifest in (full, uncalibrated)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1.1 * one_image)
    size = ("parameters", "multiply_adds")
    summary = {key: value for key, value in uncalibrated.metrics["test"].items() if key not in size}
    assert full.metrics["test_uncalibrated"] == summary


def test_a_calibration_run_of_other_data_is_refused(calibration_run, teacher, data_folder, tmp_path, capsys):
    foreign = Run(shutil.copytree(calibration_run, tmp_path / "foreign"))
    (foreign.folder / "run.json").write_text(
        foreign.info.model_copy(update={"data_sha256": "0" * 64}).model_dump_json()
    )
    publish = ["publish", "--store", str(tmp_path), "--name", "cifar10", "--data", str(data_folder)]
    assert main([*publish, str(teacher), "--calibration-run", str(foreign.folder)]) == 1
    assert "was trained on other data than the run" in capsys.readouterr().err
    assert main([*publish, str(foreign.folder)]) == 1
    assert "was trained on other data than this" in capsys.readouterr().err


def without_verdicts(version, folder, **changes):
    """Copy a version as an older release would have published it, before there were verdicts, with other fields."""
    shutil.copytree(version, folder, ignore=shutil.ignore_patterns("novelty.npz"))
    document = json.loads((folder / "manifest.json").read_text())
    del document["files"]["novelty.npz"]
    document |= {"verdicts": None, "reference": None} | changes
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def test_a_version_is_fitted_and_measured_anew_on_images_that_it_has_not_seen(calibrated, data_folder, tmp_path):
    version, store = calibrated.folder("cifar10", 1), Store(tmp_path / "store")
    publish = ["publish", str(without_verdicts(version, tmp_path / "old")), "--store", str(store.root), "--create"]
    assert main(publish) == 0  # as it is
    assert main([*publish, "--data", str(data_folder)]) == 0
    copied, fitted = (load(store.folder("cifar10", number)).manifest for number in (1, 2))
    original = read_manifest(version / "manifest.json")
    assert copied.verdicts is None
    assert (fitted.verdicts, fitted.reference) == (original.verdicts, original.reference) and fitted.verdicts
    compared = {"compared_with": fitted.metrics["compared_with"]}
    assert fitted.metrics == original.metrics | compared and fitted.temperature == original.temperature
    timed = {"report/evaluation.json": None}  # has the images per second
    assert fitted.files | timed == original.files | timed
    assert fitted.training == original.training | {"published_from": "cifar10/1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"hold_out": False}}, "it has seen the validation images"),
        ({"training": {}}, "it has seen the validation images"),
        ({"training": {"hold_out": True, "data_sha256": "0" * 64}}, "was trained on other data"),
        ({"labels": list("abcdefghij")}, "was trained on other data"),
        ({"output": "probabilities", "temperature": 1, "training": {"hold_out": True}}, "ends in softmax"),
    ],
    ids=["saw them", "unknown", "other data", "other labels", "no logits"],
)
def test_verdicts_are_not_fitted_where_they_would_mean_nothing(
    calibrated, data_folder, tmp_path, changes, message, capsys
):
    version = without_verdicts(calibrated.folder("cifar10", 1), tmp_path / "old", **changes)
    assert (
        main(["publish", str(version), "--store", str(tmp_path / "new"), "--create", "--data", str(data_folder)]) == 1
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with sixty pictures of two labels."""
    folder = tmp_path_factory.mktemp("photographs")
    for label in ("cat", "ship"):
        (folder / label).mkdir()
        for index, pixels in enumerate(random_images(30, seed=len(label))):
            Image.fromarray(pixels).resize((64, 48)).save(folder / label / f"{index}.png")
    return folder


def test_a_version_that_saw_the_validation_images_is_fitted_on_photographs(
    calibrated, data_folder, photographs, tmp_path
):
    version, store = calibrated.folder("cifar10", 3), Store(tmp_path / "store")
    publish = ["publish", str(version), "--store", str(store.root), "--create", "--data", str(data_folder)]
    assert main([*publish, "--photographs", str(photographs)]) == 0
    old, new = read_manifest(version / "manifest.json"), load(store.folder("cifar10", 1)).manifest
    assert new.metrics["verdicts"]["photographs"] | {"unsure": 0, "confident": 0, "confident_accuracy": 0} == {
        "images": 60,
        "none_of_these": 0.1,
        "unsure": 0,
        "confident": 0,
        "confident_accuracy": 0,
    }
    kept = old.verdicts.model_copy(update={"rejection_above": new.verdicts.rejection_above})
    assert new.verdicts == kept != old.verdicts and new.temperature == old.temperature
    assert sum(new.reference.counts["class"]) == new.metrics["verdicts"]["test"]["images"]


def test_photographs_may_be_heic_in_folders_with_decomposed_names(calibrated, data_folder, photographs, tmp_path):
    labels = [f"{label}\u00e9" for label in LABELS]
    version = shutil.copytree(calibrated.folder("cifar10", 3), tmp_path / "version")
    manifest = json.loads((version / "manifest.json").read_text()) | {"labels": [f"{label}e\u0301" for label in LABELS]}
    (version / "manifest.json").write_text(json.dumps(manifest))
    folder = shutil.copytree(photographs, tmp_path / "photographs")
    for photograph in (folder / "cat").iterdir():
        pillow_heif.from_pillow(Image.open(photograph)).save(photograph.with_suffix(".heic"))
        photograph.unlink()
    (folder / "cat").rename(folder / "cate\u0301")
    (folder / "ship").rename(folder / "ship\u00e9")
    shutil.copytree(folder / "ship\u00e9", folder / "shipe\u0301")
    dataset = RelabelledData(load_dataset(data_folder), tuple(labels))
    target = Target(Store(tmp_path / "store"), "cifar10", report="figures")
    publish_version(version, target, dataset, folder)
    assert load(tmp_path / "store" / "cifar10" / "1").manifest.metrics["verdicts"]["photographs"]["images"] == 90


@dataclass(frozen=True)
class RelabelledData:
    """The test images of a data set with other labels."""

    data: Dataset
    labels: tuple[str, ...]

    @property
    def test(self) -> Images:
        return self.data.test


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder.joinpath("lion").mkdir(), "holds a folder 'lion', which is not a label of"),
        (
            lambda folder: shutil.rmtree(folder / "cat"),
            "30 photographs are too few to fit a threshold; pass 50 or more",
        ),
        (shutil.rmtree, "is not a folder; pass one with a folder of photographs for each label"),
    ],
    ids=["another label", "too few", "no folder"],
)
def test_photographs_that_do_not_fit_are_refused(
    calibrated, data_folder, photographs, tmp_path, capsys, prepare, message
):
    folder = shutil.copytree(photographs, tmp_path / "photographs")
    prepare(folder)
    publish = ["publish", str(calibrated.folder("cifar10", 3)), "--store", str(tmp_path)]
    assert main([*publish, "--data", str(data_folder), "--photographs", str(folder)]) == 1
    assert message in capsys.readouterr().err
    assert main([*publish, "--photographs", str(folder)]) == 1
    assert "--photographs applies to a version and needs its --data" in capsys.readouterr().err
