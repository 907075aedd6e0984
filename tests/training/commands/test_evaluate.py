"""`evaluate`, `compare` and `foreign` from the command line."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_store.store import Store
from model_store.version import load
from tests.training import linear
from tests.training.pictures import write_pictures
from tests.training.runs import few_val_images, interrupt_training, train
from training.__main__ import main
from training.data.cifar10 import TRAIN_BATCHES
from training.data.load import load_whole

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_reports", "narrow")]


def test_evaluate_writes_table_json_and_plots(data_folder, notebook_run, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")  # another program's
    assert main(["evaluate", str(notebook_run), "--data", str(data_folder), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    for text in ("negative log-likelihood", "people", "worst class: ", "mean at photo sizes"):
        assert text in printed.out
    assert "mean under corruptions" in printed.out and "mean under CIFAR-10-C's" in printed.out
    assert "  0% done, measuring gaussian noise\n" in printed.err
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert np.sum(document["confusion"]) == document["images"] == 40
    assert document["accuracy"] == pytest.approx(np.trace(document["confusion"]) / 40, abs=1e-4)
    for name in ("confusion.png", "reliability.png", "curves.png", "classes.png", "corruptions.png", "photos.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_without_out_evaluate_measures_no_corruptions_and_ends_with_the_cost(data_folder, notebook_run, capsys):
    assert main(["evaluate", str(notebook_run), "--data", str(data_folder), "--precision", "float32"]) == 0
    printed = capsys.readouterr()
    assert "worst class: " in printed.out
    assert "corruptions" not in printed.out and "measuring" not in printed.err
    *_, cost, following = printed.out.splitlines()
    assert following.endswith(f"-m training publish {notebook_run} --name NAME")
    size, speed = cost.split("; on this machine ")
    megabytes = (notebook_run / "model.weights.h5").stat().st_size / 1e6
    assert size == f"cost: 23.9 M multiply-adds, 1.68 M parameters, {megabytes:.1f} MB"
    assert re.fullmatch(r"[\d.]+ ms for one image, [\d,]+ images/s in batches of 32", speed)


def accuracies(document):
    """Every accuracy in a document."""
    if isinstance(document, dict) and "interval_95" in document:
        return [document]
    values = document.values() if isinstance(document, dict) else document if isinstance(document, list) else []
    return [found for value in values for found in accuracies(value)]


def test_evaluate_prints_one_json_document_and_nothing_else(data_folder, notebook_run, tmp_path, capsys):
    command = ["evaluate", str(notebook_run), "--data", str(data_folder), "--json", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert "negative log-likelihood" in printed.err and "mean under corruptions" in printed.err
    confusion = np.array(document["confusion"])
    right = int(np.trace(confusion))
    assert document["accuracy"]["value"] == right / 40 and document["accuracy"]["n"] == 40
    assert document["cost"]["multiply_adds"] == 23_876_608
    assert [row["recall"]["n"] for row in document["classes"]] == confusion.sum(1).tolist()
    assert document["robustness"]["corruption_accuracy"]["n"] == 4
    assert {len(levels) for levels in document["robustness"]["corruptions"].values()} == {5}
    found = accuracies(document)
    assert len(found) == 2 + 2 * 10 + 4 + 5 * (6 + 14) + 9
    for accuracy in found:
        low, high = accuracy["interval_95"] or (0, 1)
        assert accuracy["n"] == 0 or 0 <= low <= accuracy["value"] <= high <= 1


def documented_keys(job):
    """The keys that docs/training.md lists for `job --json`."""
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    return set(re.findall(r"`(\w+)`", re.search(rf"^\| `{job}` \| (.*) \|$", text, re.MULTILINE)[1]))


def test_every_key_of_the_json_is_documented_and_no_other_is(data_folder, notebook_run, published, tmp_path, capsys):
    def printed(*command):
        assert main([*command, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def keys(document, *inner):
        return set(document) | {key for name in inner for key in document[name]}

    evaluated = printed("evaluate", str(notebook_run), "--data", str(data_folder), "--out", str(tmp_path))
    evaluated["classes"] = evaluated["classes"][0]
    evaluated["photos"] = evaluated["robustness"]["photos"][0]
    assert keys(evaluated, "classes", "cost", "robustness", "photos") == documented_keys("evaluate")
    compared = printed("compare", str(notebook_run))
    assert keys(compared) | keys(compared["runs"][0]) == documented_keys("compare")
    listed = printed("versions", "--store", str(published))
    assert keys(listed) | keys(listed["versions"][0]) == documented_keys("versions")


@pytest.mark.parametrize("split", ["val", "held-out"])
def test_a_network_that_saw_the_validation_images_is_not_evaluated_on_them(notebook_run, data_folder, capsys, split):
    assert main(["evaluate", str(notebook_run), "--data", str(data_folder), "--split", split]) == 1
    assert f"{notebook_run} was trained on the validation images" in capsys.readouterr().err


def test_data_that_a_network_was_not_trained_on_is_said_before_its_figures(notebook_run, data_folder, tmp_path, capsys):
    data = shutil.copytree(data_folder, tmp_path / "data")
    batch = data / "cifar-10-batches-bin" / TRAIN_BATCHES[0]
    records = np.frombuffer(batch.read_bytes(), np.uint8).reshape(-1, 3_073).copy()
    records[:, 0] = 0
    batch.write_bytes(records.tobytes())
    assert main(["evaluate", str(notebook_run), "--data", str(data_folder)]) == 0
    assert "not the data" not in capsys.readouterr().err
    assert main(["evaluate", str(notebook_run), "--data", str(data)]) == 0
    assert f"this is not the data that {notebook_run} was trained on" in capsys.readouterr().err


def test_the_whole_of_a_folder_is_measured_unless_it_was_trained_on(tmp_path, capsys):
    labels = tuple("abcdefghij")
    for seed, label in enumerate(labels):
        write_pictures(tmp_path / "photos" / label, 3, seed)
    whole = load_whole(tmp_path / "photos")
    for name, sha256 in (("others", "0" * 64), ("same", whole.sha256)):
        linear.publish(Store(tmp_path), name, labels=labels, training={"data_sha256": sha256})
    evaluate = "evaluate", "--split", "all", "--data", str(tmp_path / "photos"), str(tmp_path / "others" / "1")
    capsys.readouterr()
    assert main([*evaluate]) == 0
    printed = capsys.readouterr()
    assert (
        " of 30 (95% interval" in printed.out
        and "was trained on some of these images, it looks too good" in printed.err
    )
    assert main([*evaluate[:-1], str(tmp_path / "same" / "1")]) == 1
    assert f"1 was trained on {tmp_path / 'photos'}; leave out --split all" in capsys.readouterr().err
    assert main([*evaluate[:3], evaluate[-1]]) == 1
    assert "--split all measures a folder of images; pass it as --data" in capsys.readouterr().err


@pytest.mark.parametrize("job", ["evaluate", "foreign"])
def test_a_version_of_own_images_asks_for_them_and_not_for_cifar10(tmp_path, monkeypatch, capsys, job):
    linear.publish(Store(tmp_path), "pets", labels=tuple("abcdefghij"))
    monkeypatch.setenv("CIFAR10_DATA", str(tmp_path / "gone"))
    assert main([job, str(tmp_path / "pets" / "1")]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/pets/1 does not record where its images are; pass --data with them\n"
    )


@pytest.mark.parametrize("split", ["val", "held-out"])
def test_a_calibration_run_is_evaluated_on_the_validation_images(calibration_run, data_folder, capsys, split):
    with few_val_images():
        assert main(["evaluate", str(calibration_run), "--data", str(data_folder), "--split", split]) == 0
    assert capsys.readouterr().out.startswith("openvino in ")


def test_an_unknown_split_is_refused(notebook_run, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(notebook_run), "--split", "train"])
    assert "invalid choice: 'train'" in capsys.readouterr().err


def test_a_report_is_not_written_into_a_version(published, data_folder, capsys):
    version = published / "cifar10" / "1"
    for out in (version, version / "report", version / "report" / "new"):
        assert main(["evaluate", str(version), "--data", str(data_folder), "--out", str(out)]) == 1
        assert "which must not change; choose another --out" in capsys.readouterr().err
    load(version)


@pytest.mark.parametrize("job", [["evaluate"], ["export", "--format", "onnx", "--out", "net.onnx"]])
def test_a_folder_that_is_neither_run_nor_version_is_named(data_folder, tmp_path, monkeypatch, capsys, job):
    monkeypatch.setenv("CIFAR10_DATA", str(data_folder))
    for folder, reason in ((tmp_path / "gone", "it does not exist"), (tmp_path, "it has no run.json")):
        assert main([*job, str(folder)]) == 1
        assert f"{folder} is neither a run nor a version: {reason}" in capsys.readouterr().err


def test_an_unfinished_run_is_not_evaluated(data_folder, unfinished_run, capsys):
    assert main(["evaluate", str(unfinished_run), "--data", str(data_folder)]) == 1
    assert "has finished 1 of 3 epochs; continue it" in capsys.readouterr().err


def test_compare_prints_runs_side_by_side_and_the_settings_that_differ(notebook_run, teacher, capsys):
    assert main(["compare", str(notebook_run), str(teacher)]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["recipe"].split() == ["recipe", "notebook", "teacher"]
    assert lines["epochs"].rstrip().endswith("2 of 2")
    assert lines["images"].split() == ["images", "160", "200"]
    assert "val accuracy" in lines
    assert "RMSprop" not in lines and "optimizer.learning_rate" in lines and "labels" not in lines
    assert main(["compare", str(notebook_run.parent)]) == 1
    assert "is not a training run" in capsys.readouterr().err


def test_settings_that_are_equal_numbers_do_not_differ(notebook_run, tmp_path, capsys):
    run = shutil.copytree(notebook_run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    info["recipe_values"]["clip"] = 8
    other = info | {"recipe_values": info["recipe_values"] | {"clip": 8.0}}
    (run / "run.json").write_text(json.dumps(info))
    other_run = shutil.copytree(run, tmp_path / "other")
    (other_run / "run.json").write_text(json.dumps(other))
    assert main(["compare", str(run), str(other_run)]) == 0
    assert "clip" not in capsys.readouterr().out


def test_compare_as_json_has_unrounded_figures_of_each_run(notebook_run, teacher, capsys):
    assert main(["compare", str(notebook_run), str(teacher), "--json"]) == 0
    ours, other = json.loads(capsys.readouterr().out)["runs"]
    last = json.loads((notebook_run / "history.json").read_text())[-1]
    assert ours["recipe"] == "notebook" and other["recipe"] == "teacher"
    assert ours["loss"] == last["loss"] and ours["val_accuracy"]["value"] == last["watched_accuracy"]
    assert ours["val_accuracy"]["n"] == 40 and len(ours["val_accuracy"]["interval_95"]) == 2
    assert other["val_accuracy"] is other["best_val_epoch"] is None
    assert ours["epochs"] == ours["finished_epochs"] == 2


def test_a_run_that_does_not_record_its_validation_images_has_no_interval(notebook_run, tmp_path, capsys):
    run = shutil.copytree(notebook_run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    del info["val_images"]
    (run / "run.json").write_text(json.dumps(info))
    assert main(["compare", str(run), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)["runs"]
    assert document["val_accuracy"]["n"] is document["val_accuracy"]["interval_95"] is None
    assert document["accuracy"]["n"] == 160


def test_foreign_prints_a_line_for_each_kind(calibration_run, data_folder, tmp_path, capsys):
    (tmp_path / "grey").mkdir()
    Image.new("L", (40, 30)).save(tmp_path / "grey" / "1.png")
    store = ["--store", str(tmp_path / "store"), "--create", "--name", "cifar10", "--data", str(data_folder)]
    with few_val_images():
        assert main(["publish", str(calibration_run), *store]) == 0
    capsys.readouterr()
    version = tmp_path / "store" / "cifar10" / "1"
    assert main(["foreign", str(version), str(tmp_path / "grey"), "--data", str(data_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["images", "rejected", "AUROC", "confident"]
    assert lines[1].split()[:3] == ["noise", "(generated)", "500"] and lines[-1].split()[:2] == ["grey", "1"]


@pytest.fixture(scope="module")
def calibration_run(data_folder, tmp_path_factory, narrow):
    folder = tmp_path_factory.mktemp("runs") / "calibration"
    with few_val_images():
        assert train(data_folder, folder, "--hold-out", recipe="teacher") == 0
    return folder


@pytest.fixture(scope="module")
def unfinished_run(data_folder, tmp_path_factory):
    return interrupt_training(data_folder, tmp_path_factory.mktemp("runs") / "unfinished", after=1, epochs=3).folder
