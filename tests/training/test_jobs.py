"""The jobs from the command line, on a small made-up data set: train, interrupt, resume, evaluate, publish, export."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from model_store.classifier import Classifier
from model_store.manifest import read_manifest
from model_store.store import Store, load, read_network, verify
from training.__main__ import main
from training.data import cifar10
from training.data.load import load_dataset
from training.evaluate.accuracy import evaluate
from training.fit import loop
from training.fit.distillation import Teachers
from training.fit.run_directory import Run, read_source
from training.publish import candidate
from training.publish.network import network_from_run
from training.publish.report import write_report
from training.recipes import RECIPES, Distillation

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_reports")]


def train(data, out, *options, recipe="notebook", epochs=2):
    base = ["train", "--recipe", recipe, "--data", str(data), "--out", str(out)]
    return main([*base, "--epochs", str(epochs), "--batch-size", "64", *options])


def weights(folder):
    found = {}
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.fixture(scope="module")
def run(data_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "notebook"
    assert train(data_folder, folder) == 0
    return folder


@pytest.fixture(scope="module")
def store(data_folder, run, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    assert main(["publish", str(run), "--store", str(root), "--data", str(data_folder)]) == 0
    return root


def newest(store):
    """The folder of the last version that a test has published."""
    return Store(store).folder("cifar10", Store(store).versions("cifar10")[-1])


@pytest.fixture
def narrow_fast():
    network = dataclasses.replace(RECIPES["fast"].network, widths=(16, 32, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "fast", dataclasses.replace(RECIPES["fast"], network=network))
        yield


@pytest.mark.parametrize("recipe", ["notebook", "fast"])
@pytest.mark.usefixtures("narrow_fast")
def test_interrupted_training_resumes_exactly(data_folder, tmp_path, monkeypatch, capsys, recipe):
    assert train(data_folder, tmp_path / "straight", recipe=recipe, epochs=3) == 0
    checkpoint = Run.checkpoint

    def interrupted(self, variables, history):
        checkpoint(self, variables, history)
        if len(history) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", interrupted)
    assert train(data_folder, tmp_path / "broken", recipe=recipe, epochs=3) == 130
    assert "--resume" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "broken"), "--data", str(data_folder)]) == 1
    assert "has finished 1 of 3 epochs" in capsys.readouterr().err
    monkeypatch.undo()
    assert train(data_folder, tmp_path / "broken", "--resume", recipe=recipe, epochs=3) == 0
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    assert straight.keys() == resumed.keys()
    for name, value in straight.items():
        np.testing.assert_allclose(resumed[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_kill_between_the_two_files_of_a_checkpoint_loses_no_state(data_folder, tmp_path, monkeypatch):
    assert train(data_folder, tmp_path / "straight", epochs=3) == 0
    write = np.savez

    def killed(file, **arrays):
        if arrays["epoch"] == 3:
            raise KeyboardInterrupt
        write(file, **arrays)

    monkeypatch.setattr(np, "savez", killed)
    assert train(data_folder, tmp_path / "broken", epochs=3) == 130
    monkeypatch.undo()
    assert len(Run(tmp_path / "broken").history) == 3 and Run(tmp_path / "broken").restore()[1] == 1
    assert train(data_folder, tmp_path / "broken", "--resume", epochs=3) == 0
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    for name, value in straight.items():
        np.testing.assert_allclose(resumed[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_stopped_container_leaves_a_run_to_resume(data_folder, tmp_path):
    command = [sys.executable, "-m", "training", "train", "--recipe", "notebook", "--epochs", "100000"]
    command += ["--data", str(data_folder), "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None and "epoch 1/100000" in job.stdout.readline()
        job.terminate()
        _, said = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "interrupted; the same command with --resume goes on" in said and "Traceback" not in said
    assert Run(tmp_path / "run").history


def test_what_has_not_begun_is_not_resumed(data_folder, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "new_info", interrupted)
    assert train(data_folder, tmp_path / "run") == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", "3"], "began with --epochs 2, received 3; a run is resumed as it began"),
        (["--batch-size", "32"], "began with --batch-size 64, received 32"),
        (["--seed", "1"], "began with --seed 0, received 1"),
        (["--hold-out"], "began without --hold-out"),
    ],
)
def test_a_run_is_resumed_by_its_own_settings_only(data_folder, run, capsys, options, said):
    command = ["train", "--recipe", "notebook", "--data", str(data_folder), "--out", str(run), "--resume"]
    assert main([*command, *options]) == 1
    assert said in capsys.readouterr().err
    assert main([*command, "--from", str(run)]) == 1
    assert "began from nothing; leave out --from" in capsys.readouterr().err
    assert main([*command, "--epochs", "2", "--seed", "0"]) == 0


def test_a_run_of_a_removed_recipe_is_usable_but_not_resumed(data_folder, run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "run.json").write_text(Run(run).info.model_copy(update={"recipe": "patient"}).model_dump_json())
    given, remedy = ["--data", str(data_folder)], "is resumed by the code that began it: the commit is in its run.json"
    assert main(["train", "--recipe", "notebook", "--out", str(copy), "--resume", *given]) == 1
    said = capsys.readouterr().err
    assert "there is no recipe 'patient'; choose one of: notebook" in said and remedy in said
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--recipe", "patient", "--out", str(copy), "--resume", *given])
    assert stopped.value.code == 2 and remedy in capsys.readouterr().err
    assert main(["evaluate", str(copy), *given]) == 0
    assert main(["publish", str(copy), "--store", str(tmp_path / "store"), *given]) == 0
    assert main(["versions", "--store", str(tmp_path / "store")]) == 0
    assert "patient" in capsys.readouterr().out
    assert read_source(tmp_path / "store" / "cifar10" / "1").recipe_values == Run(run).info.recipe_values


def test_quick_epochs_are_not_saved_one_by_one(data_folder, tmp_path, monkeypatch):
    saved, checkpoint = [], Run.checkpoint

    def counted(self, variables, history):
        saved.append(len(history))
        checkpoint(self, variables, history)

    monkeypatch.setattr(Run, "checkpoint", counted)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 600.0)
    assert train(data_folder, tmp_path / "run", epochs=3) == 0
    assert saved == [1, 3] and len(Run(tmp_path / "run").history) == 3


def test_the_notebook_recipe_is_the_notebooks_network(run):
    architecture = json.loads((run / "architecture.json").read_text())
    kinds = [layer["class_name"] for layer in architecture["config"]["layers"][1:]]
    block = ["Conv2D", "Activation", "Conv2D", "Activation", "MaxPooling2D", "Dropout"]
    assert kinds == block * 2 + ["Flatten", "Dense", "Activation", "Dropout", "Dense", "Activation"]
    trained = [value for name, value in weights(run).items() if "seed_generator" not in name]
    assert sum(value.size for value in trained) == 1_676_842


def test_the_notebook_keeps_its_last_fifth_for_validation(run):
    assert Run(run).info.images == 160
    assert "watched_accuracy" in Run(run).history[-1]


def test_notebook_augmented_starts_from_a_notebook_run(data_folder, tmp_path, run, capsys):
    assert train(data_folder, tmp_path / "a", recipe="notebook-augmented") == 1
    assert "goes on from a run of 'notebook'; pass it as --from" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "b", "--from", str(run), recipe="notebook-augmented", epochs=1) == 0
    assert Run(tmp_path / "b").info.images == 200
    again = ["--resume", "--from"]
    assert train(data_folder, tmp_path / "b", "--resume", recipe="notebook-augmented", epochs=1) == 1
    assert "began from a network of 'notebook'; pass the same --from" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "b", *again, str(tmp_path / "b"), recipe="notebook-augmented", epochs=1) == 1
    assert train(data_folder, tmp_path / "b", *again, str(run), recipe="notebook-augmented", epochs=1) == 0


@pytest.mark.usefixtures("narrow_fast")
def test_training_learns(data_folder, tmp_path):
    assert train(data_folder, tmp_path / "run", recipe="fast", epochs=12) == 0
    history = Run(tmp_path / "run").history
    assert history[-1]["loss"] < history[0]["loss"] - 0.3


def test_bfloat16_is_left_to_processors_that_have_it(data_folder, tmp_path, monkeypatch, narrow, capsys):
    for instructions, devices, precision in (
        (True, ["cpu:0"], "mixed_bfloat16"),
        (False, ["gpu:0"], "mixed_bfloat16"),
        (False, ["cpu:0"], "float32"),
    ):
        monkeypatch.setattr(loop, "has_bfloat16", lambda has=instructions: has)
        monkeypatch.setattr("keras.distribution.list_devices", lambda listed=devices: listed)
        assert loop.computed_precision(RECIPES["fast"]) == precision
        assert loop.computed_precision(RECIPES["notebook"]) == "float32"
    assert train(data_folder, tmp_path / "run", recipe="teacher", epochs=1) == 0
    assert "no bfloat16 instructions: training in float32" in capsys.readouterr().err
    assert Run(tmp_path / "run").info.environment["precision"] == "float32"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "{run}"], "already holds a run"),
        (["--out", "{run}", "--resume", "--recipe", "fast"], "is a run of 'notebook', not of 'fast'"),
        (["--out", "{new}", "--resume"], "is not a training run"),
        (["--out", "{new}", "--data", "{new}"], "does not exist; run `python -m training fetch`"),
        (["--out", "{new}", "--recipe", "fast", "--batch-size", "1000"], "less than one batch of 1000"),
        (["--out", "{version}"], "holds manifest.json, which no run may overwrite"),
        (["--out", "/dev/null/run"], "/dev/null/run: Not a directory"),
    ],
    ids=["taken", "other recipe", "nothing to resume", "no data", "batch too large", "a version", "no folder"],
)
def test_train_explains_what_is_wrong(data_folder, run, store, tmp_path, capsys, options, said):
    named = [option.format(run=run, new=tmp_path / "new", version=store / "cifar10" / "1") for option in options]
    assert main(["train", "--recipe", "notebook", "--data", str(data_folder), *named]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()  # so that the next try is not told that a run is there
    load(store / "cifar10" / "1")


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_a_seed_is_one_that_there_is(data_folder, tmp_path, capsys, seed):
    with pytest.raises(SystemExit):
        train(data_folder, tmp_path, "--seed", seed)
    assert "is not a whole number from 0 to 4294967295" in capsys.readouterr().err


def test_a_run_is_finished_when_all_of_its_network_is_there(data_folder, tmp_path, monkeypatch, capsys):
    def killed(self, architecture):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "finish", killed)
    assert train(data_folder, tmp_path / "run") == 130
    monkeypatch.undo()
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(data_folder)]) == 1
    assert "has finished 2 of 2 epochs; continue it" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "run", "--resume") == 0
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(data_folder)]) == 0


def test_weights_are_written_whole_or_not_at_all(tmp_path, full_disk):
    network = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    with full_disk(), pytest.raises(OSError, match="File too large"):
        loop.write_weights(network, tmp_path / "model.weights.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["state.npz", "history.json"])
def test_a_damaged_record_of_a_run_is_named(data_folder, tmp_path, monkeypatch, capsys, name):
    def killed(self, architecture):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "finish", killed)
    assert train(data_folder, tmp_path / "run") == 130
    monkeypatch.undo()
    whole = (tmp_path / "run" / name).read_bytes()
    for cut in (0, len(whole) // 2):
        (tmp_path / "run" / name).write_bytes(whole[:cut])
        assert train(data_folder, tmp_path / "run", "--resume") == 1
        assert f"{name} is damaged" in capsys.readouterr().err
    (tmp_path / "run" / name).write_bytes(whole)
    assert train(data_folder, tmp_path / "run", "--resume") == 0


def test_resuming_with_other_data_is_refused(data_folder, run, tmp_path, capsys):
    from tests.training.conftest import write_batch
    from training.data.cifar10 import TRAIN_BATCHES

    for seed, name in enumerate(TRAIN_BATCHES):
        write_batch(tmp_path / name, seed + 100)
    assert main(["train", "--recipe", "notebook", "--data", str(tmp_path), "--out", str(run), "--resume"]) == 1
    assert "this is not the data" in capsys.readouterr().err


def test_evaluate_writes_table_json_and_plots(data_folder, run, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")  # of anything
    assert main(["evaluate", str(run), "--data", str(data_folder), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    for words in (
        "negative log-likelihood",
        "people",
        "worst class: ",
        "mean under corruptions",
        "mean at photo sizes",
    ):
        assert words in said.out
    assert "measuring blur" in said.err and "measuring 640×480 px" in said.err
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert np.sum(document["confusion"]) == document["images"] == 40
    assert document["accuracy"] == pytest.approx(np.trace(document["confusion"]) / 40, abs=1e-4)
    for name in ("confusion.png", "reliability.png", "curves.png", "classes.png", "corruptions.png", "photos.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_what_is_not_installed_is_named_with_its_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "training.data.fetch", raising=False)
    assert main(["fetch", "--to", str(tmp_path)]) == 1
    assert "error: rich.console is not installed, and this job needs it; `make jobs`" in capsys.readouterr().err


def test_evaluate_without_a_report_leaves_out_what_takes_long(data_folder, run, capsys):
    assert main(["evaluate", str(run), "--data", str(data_folder)]) == 0
    said = capsys.readouterr()
    assert "worst class: " in said.out
    assert "corruptions" not in said.out and "measuring" not in said.err


def test_a_published_run_is_complete_and_loads(store):
    folder = Store(store).folder("cifar10", 1)
    loaded = load(folder)
    assert loaded.manifest.training["recipe"] == "notebook"
    assert set(loaded.manifest.files) >= {"architecture.json", "model.weights.h5", "golden.npz", "report/confusion.png"}
    assert loaded.manifest.metrics["differences_from_keras"]["float32"] < 1e-4
    document = json.loads((folder / "report/evaluation.json").read_text())
    assert loaded.manifest.metrics["robustness"].items() <= document["robustness"].items()
    assert document["history"] and "report/corruptions.png" in loaded.manifest.files


def test_a_published_version_opens_in_keras_with_two_lines(store):
    folder = Store(store).folder("cifar10", 1)
    model = keras.models.model_from_json((folder / "architecture.json").read_text())
    model.load_weights(folder / "model.weights.h5")
    assert model.count_params() == 1_676_842


def test_publishing_a_version_adds_the_next_and_changes_nothing(store, data_folder, capsys):
    first = Store(store).folder("cifar10", 1)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert main(["publish", str(first), "--store", str(store)]) == 0
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    assert load(Store(store).folder("cifar10", 2)).manifest.training["published_from"] == "cifar10/1"
    capsys.readouterr()
    assert main(["versions", "--store", str(store)]) == 0
    assert capsys.readouterr().out.count("notebook") == 2
    altered = json.loads((first / "manifest.json").read_text()) | {"metrics": {"test": {"accuracy": "good"}}}
    (first / "manifest.json").write_text(json.dumps(altered))
    (store / "cifar10" / "3").mkdir()
    assert main(["versions", "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  -  " in lines[1] and "notebook" in lines[2] and "manifest.json" in lines[3]
    (store / "cifar10" / "3").rmdir()
    assert main(["prune", "--store", str(store), "--keep", "1"]) == 0
    assert Store(store).versions("cifar10") == [2]


def test_a_version_that_is_not_served_as_keras_has_it_is_not_published(run, data_folder, tmp_path, monkeypatch, capsys):
    honest = loop.normalise
    monkeypatch.setattr(loop, "normalise", lambda pixels, how: 1 - honest(pixels, how))
    assert main(["publish", str(run), "--store", str(tmp_path), "--data", str(data_folder)]) == 1
    assert "differ from Keras's by" in capsys.readouterr().err
    assert Store(tmp_path).versions("cifar10") == []


def test_what_publish_cannot_use_is_refused_before_anything_is_measured(run, store, data_folder, tmp_path, capsys):
    given = ["--store", str(tmp_path), "--data", str(data_folder)]
    assert main(["publish", str(run), "--name", "My Model", *given]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: 'My Model' is not a model name") and "measuring" not in said
    assert main(["publish", str(newest(store)), "--twin", str(run), *given]) == 1
    assert "--calibration-run is for runs, and" in capsys.readouterr().err
    assert main(["publish", str(run), "--twin", str(run), *given]) == 1
    assert "is a run of 'notebook' without --hold-out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_prune_does_not_find_is_named_and_a_bad_active_hides_no_other(store, tmp_path, capsys):
    assert main(["prune", "--store", str(store), "--keep", "1", "--name", "cifar"]) == 1
    assert "holds no model 'cifar'; it holds cifar10" in capsys.readouterr().err
    assert main(["prune", "--store", str(store), "--keep", "1", "--name", "cifar10/in"]) == 1
    assert "is not a model name" in capsys.readouterr().err
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(store / "cifar10", tmp_path / "store" / "another")
    (tmp_path / "store" / "another" / "ACTIVE").write_text("newest")
    assert main(["versions", "--store", str(tmp_path / "store")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "must hold a version number" in lines[1] and [line.split()[0] for line in lines[2:4]] == [
        "another",
        "cifar10",
    ]


@pytest.mark.parametrize("job", [["evaluate"], ["export", "--format", "onnx", "--out", "net.onnx"]])
def test_what_is_neither_run_nor_version_is_named(data_folder, tmp_path, monkeypatch, capsys, job):
    monkeypatch.setenv("CIFAR10_DATA", str(data_folder))
    for folder, said in ((tmp_path / "gone", "it does not exist"), (tmp_path, "it has no run.json")):
        assert main([*job, str(folder)]) == 1
        assert f"{folder} is neither a run nor a version: {said}" in capsys.readouterr().err


def test_what_saw_the_held_out_images_is_not_evaluated_on_them(run, data_folder, capsys):
    assert main(["evaluate", str(run), "--data", str(data_folder), "--split", "held-out"]) == 1
    assert f"{run} has learned from the validation images" in capsys.readouterr().err


def test_a_model_keeps_its_labels(store, run, data_folder, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    info = Run(run).info.model_copy(update={"labels": tuple("abcdefghij")})
    (tmp_path / "run" / "run.json").write_text(info.model_dump_json())
    assert main(["publish", str(tmp_path / "run"), "--store", str(store), "--data", str(data_folder)]) == 1
    said = capsys.readouterr().err
    assert (
        "the new version would know 10, and label 1 is 'airplane' there and 'a' here; give the new one a --name" in said
    )
    shutil.copytree(store, tmp_path / "store")
    for broken in (tmp_path / "store" / "cifar10").glob("*/manifest.json"):
        broken.write_text("{}")  # whoever publishes anew because of it is not to be stopped
    candidate.check_same_labels(Store(tmp_path / "store"), "cifar10", tuple("abcdefghij"))


def test_a_report_is_not_written_into_a_version(store, data_folder, capsys):
    version = newest(store)
    for out in (version, version / "report", version / "report" / "new"):
        assert main(["evaluate", str(version), "--data", str(data_folder), "--out", str(out)]) == 1
        assert "which must not change; choose another --out" in capsys.readouterr().err
    load(version)


def test_a_damaged_run_is_not_published(run, data_folder, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    text = (copy / "architecture.json").read_text()
    (copy / "architecture.json").write_text(text.replace('"same"', '"causal"', 1))
    assert main(["publish", str(copy), "--store", str(tmp_path / "s"), "--data", str(data_folder)]) == 1
    assert "the service cannot load" in capsys.readouterr().err


def test_export_agrees_with_what_is_served(run, tmp_path, capsys):
    import openvino as ov

    assert main(["export", str(run), "--format", "openvino", "--out", str(tmp_path / "net.xml")]) == 0
    model = ov.Core().read_model(tmp_path / "net.xml")
    assert model.input(0).element_type == ov.Type.f32
    assert model.input(0).partial_shape.to_string() == "[?,32,32,3]"
    assert main(["export", str(run), "--format", "openvino", "--out", str(tmp_path / "net.onnx")]) == 1
    assert "NAME.xml" in capsys.readouterr().err


def test_calibration_error_is_the_weighted_gap():
    from training.evaluate.accuracy import calibration_error, reliability_bins

    rows = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], np.float32)
    labels = np.array([0, 1, 0, 1], np.int32)
    assert calibration_error(reliability_bins(rows, labels)) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4, abs=1e-6)


@pytest.fixture(scope="module")
def narrow():
    """The recipes of teaching, with networks that train in a second."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("teacher", "small"):
            network = dataclasses.replace(RECIPES[name].network, widths=(8, 8, 8))
            patch.setitem(RECIPES, name, dataclasses.replace(RECIPES[name], network=network))
        yield


@pytest.fixture(scope="module")
def teacher(data_folder, tmp_path_factory, narrow):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    assert train(data_folder, folder, recipe="teacher", epochs=2) == 0
    return folder


def test_a_taught_run_learns_its_teachers_answers(data_folder, tmp_path, monkeypatch, capsys, teacher):
    """With the teacher's own probabilities as targets, the loss of a copy of the teacher is their entropy."""
    copy = dataclasses.replace(RECIPES["small"], network=RECIPES["teacher"].network)
    monkeypatch.setitem(RECIPES, "small", copy)
    assert train(data_folder, tmp_path / "s", "--teachers", str(teacher), "--from", str(teacher), recipe="small") == 0
    info = Run(tmp_path / "s").info
    assert info.teachers == (read_source(teacher).weights_sha256(),)
    pixels = load_dataset(data_folder).trainval.pixels
    with loop.dtype_policy(loop.computed_precision(RECIPES["small"])):
        warm = Teachers([read_source(teacher)], info.labels, Distillation(2.0, mirrored=False, views=1)).targets(pixels)
        cold = Teachers([read_source(teacher)] * 2, info.labels, Distillation(1.0, mirrored=False, views=1)).targets(
            pixels
        )
    np.testing.assert_allclose(warm.sum(1), 1, atol=1e-5)
    assert warm.shape == (200, 10) and (warm.max(1) < cold.max(1)).all()
    entropy = -(warm * np.log(warm)).sum(1).mean()
    assert Run(tmp_path / "s").history[-1]["loss"] == pytest.approx(entropy, rel=0.15)
    assert "agreement" in Run(tmp_path / "s").history[-1] and "accuracy" not in Run(tmp_path / "s").history[-1]
    assert main(["compare", str(tmp_path / "s"), str(teacher)]) == 0
    rows = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows["accuracy"][0] == rows["agreement with teachers"][1] == "-"
    evaluation = evaluate(Classifier(network_from_run(Run(tmp_path / "s"))), load_dataset(data_folder).test)
    write_report(tmp_path / "report", evaluation, Run(tmp_path / "s").history)
    assert (tmp_path / "report" / "curves.png").stat().st_size > 5_000


def test_teachers_are_asked_for_and_refused_where_they_do_not_belong(data_folder, tmp_path, capsys, teacher, run):
    assert train(data_folder, tmp_path / "a", recipe="small") == 1
    assert "pass finished runs or versions as --teachers" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "b", "--teachers", str(teacher), recipe="teacher") == 1
    assert "has no teachers" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "c", "--teachers", str(run), recipe="small") == 1
    assert "ends in softmax" in capsys.readouterr().err


def test_a_taught_run_resumes_with_its_own_teachers_only(data_folder, tmp_path, monkeypatch, capsys, teacher):
    checkpoint = Run.checkpoint

    def interrupted(self, variables, history):
        checkpoint(self, variables, history)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", interrupted)
    assert train(data_folder, tmp_path / "s", "--teachers", str(teacher), recipe="small") == 130
    monkeypatch.undo()
    assert train(data_folder, tmp_path / "s", "--resume", recipe="small") == 1
    assert "began with other teachers" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "s", "--resume", "--teachers", str(teacher), recipe="small") == 0
    assert len(Run(tmp_path / "s").history) == 2


def read_version(folder):
    manifest = read_manifest(folder / "manifest.json")
    return read_network(manifest, verify(folder, manifest))


def without_verdicts(version, folder, **changes):
    """A copy as an older release would have published it, before there were verdicts, with changes to its manifest."""
    shutil.copytree(version, folder, ignore=shutil.ignore_patterns("novelty.npz"))
    document = json.loads((folder / "manifest.json").read_text())
    del document["files"]["novelty.npz"]
    document |= {"verdicts": None, "reference": None} | changes
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def held_out_version(data_folder, tmp_path_factory, narrow):
    root = tmp_path_factory.mktemp("held-out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "VAL_IMAGES", 20)
        assert train(data_folder, root / "run", "--hold-out", recipe="teacher") == 0
        assert main(["publish", str(root / "run"), "--store", str(root), "--data", str(data_folder)]) == 0
    return Store(root).folder("cifar10", 1)


@pytest.fixture
def few_held_out(monkeypatch):
    """The made-up set has 200 images; its last 20 stand for the last 5,000."""
    monkeypatch.setattr(cifar10, "VAL_IMAGES", 20)


def test_a_mirrored_teacher_answers_alike_for_an_image_and_its_mirror_image(data_folder, teacher):
    source, pixels = read_source(teacher), load_dataset(data_folder).trainval.pixels
    with loop.dtype_policy("float32"):
        one_way = Teachers([source], source.labels, Distillation(1.0, mirrored=False, views=1)).targets
        both_ways = Teachers([source], source.labels, Distillation(1.0, mirrored=True, views=1)).targets
    here, there = both_ways(pixels), both_ways(pixels[:, :, ::-1])
    np.testing.assert_allclose(here, there, atol=1e-6)
    np.testing.assert_allclose(here, (one_way(pixels) + one_way(pixels[:, :, ::-1])) / 2, atol=1e-6)
    assert np.abs(here - one_way(pixels)).max() > 1e-4


def test_teachers_are_asked_once_about_a_view_that_recurs(data_folder, tmp_path, monkeypatch, teacher):
    chosen = dataclasses.replace(RECIPES["small"], distillation=Distillation(2.0, mirrored=False, views=2))
    monkeypatch.setitem(RECIPES, "small", chosen)
    asked, targets = [], Teachers.targets
    monkeypatch.setattr(Teachers, "targets", lambda self, pixels: asked.append(pixels) or targets(self, pixels))
    assert train(data_folder, tmp_path / "s", "--teachers", str(teacher), recipe="small", epochs=4) == 0
    assert len(asked) == 2 and not np.array_equal(*asked)
    with loop.dtype_policy(loop.computed_precision(RECIPES["small"])):
        anew = targets(
            Teachers(
                [read_source(teacher)], Run(tmp_path / "s").info.labels, Distillation(2.0, mirrored=False, views=1)
            ),
            asked[1],
        )
    kept = Run(tmp_path / "s").answers(1)
    assert kept is not None
    np.testing.assert_allclose(kept, anew, atol=1e-6)
    (tmp_path / "s" / "answers-1.npy").write_bytes(b"")  # of a machine that stopped
    assert Run(tmp_path / "s").answers(1) is None


def test_a_version_teaches_as_the_run_it_was_made_from(data_folder, tmp_path, teacher):
    store = Store(tmp_path / "store")
    assert main(["publish", str(teacher), "--store", str(tmp_path / "store"), "--data", str(data_folder)]) == 0
    version = store.folder("cifar10", 1)
    assert train(data_folder, tmp_path / "s", "--teachers", str(version), recipe="small", epochs=1) == 0
    assert Run(tmp_path / "s").info.teachers == (read_source(teacher).weights_sha256(),)
    (version / "model.weights.h5").write_bytes(b"other")
    assert train(data_folder, tmp_path / "t", "--teachers", str(version), recipe="small", epochs=1) == 1
    assert not (tmp_path / "t").exists()


@pytest.mark.usefixtures("few_held_out")
@pytest.mark.parametrize(("option", "recipe"), [("--teachers", "small"), ("--from", "fine-tune")])
def test_what_saw_the_held_out_images_has_no_part_in_a_run_without_them(
    data_folder, tmp_path, capsys, teacher, option, recipe
):
    assert train(data_folder, tmp_path / "a", option, str(teacher), "--hold-out", recipe=recipe, epochs=1) == 1
    assert f"{teacher} was not trained with --hold-out and may have seen the images" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "twin", "--hold-out", recipe="teacher", epochs=1) == 0
    source = str(tmp_path / "twin")
    assert train(data_folder, tmp_path / "b", option, source, "--hold-out", recipe=recipe, epochs=1) == 0


@pytest.mark.usefixtures("few_held_out")
def test_a_held_out_run_is_published_calibrated(data_folder, tmp_path, capsys, monkeypatch, narrow):
    assert train(data_folder, tmp_path / "twin", "--hold-out", recipe="teacher") == 0
    assert train(data_folder, tmp_path / "full", recipe="teacher") == 0
    publishing = ["publish", "--store", str(tmp_path / "store"), "--data", str(data_folder)]
    assert main([*publishing, str(tmp_path / "twin")]) == 0
    assert main([*publishing, str(tmp_path / "full")]) == 0
    assert "not calibrated: pass --calibration-run RUN" in capsys.readouterr().err
    assert main([*publishing, str(tmp_path / "full"), "--twin", str(tmp_path / "twin")]) == 0
    store = Store(tmp_path / "store")
    own, without, taken = (load(store.folder("cifar10", version)).manifest for version in (1, 2, 3))
    assert own.temperature == taken.temperature != 1 == without.temperature
    assert own.metrics["calibration"]["fitted_on_images"] == 20
    assert own.verdicts == taken.verdicts and own.verdicts and not without.verdicts
    assert own.reference == taken.reference and own.reference and not without.reference
    foreign = tmp_path / "foreign"
    shutil.copytree(tmp_path / "twin", foreign)
    info = json.loads((foreign / "run.json").read_text()) | {"data_sha256": "0" * 64}
    (foreign / "run.json").write_text(json.dumps(info))
    assert main([*publishing, str(tmp_path / "full"), "--twin", str(foreign)]) == 1
    assert "was trained on other data than the run" in capsys.readouterr().err
    assert main([*publishing, str(foreign)]) == 1
    assert "was trained on other data than this" in capsys.readouterr().err
    monkeypatch.setattr("training.publish.fitting.fit_temperature", lambda probabilities, labels: None)
    assert main([*publishing, str(tmp_path / "twin")]) == 0
    assert "not calibrated: the validation images do not bound the confidence" in capsys.readouterr().err
    assert sum(own.reference.counts["class"]) == 20
    assert own.metrics["verdicts"]["held_out"]["none_of_these"] == pytest.approx(1 / 20)  # of these, 95 % are kept
    twins, fulls = (read_version(store.folder("cifar10", version)).gaussian for version in (1, 3))
    assert twins.layer == fulls.layer == "add"
    np.testing.assert_array_equal(twins.centre, fulls.centre)  # taken over, as the thresholds are
    assert not np.array_equal(twins.mean, fulls.mean)  # but each network has its own channels
    assert taken.metrics["test"]["accuracy"] == without.metrics["test"]["accuracy"]
    assert taken.metrics["test_uncalibrated"] == {
        key: value for key, value in without.metrics["test"].items() if key not in ("parameters", "multiply_adds")
    }
    assert main([*publishing, str(tmp_path / "full"), "--twin", str(tmp_path / "full")]) == 1
    assert "without --hold-out" in capsys.readouterr().err


@pytest.mark.usefixtures("few_held_out")
def test_a_version_is_fitted_and_measured_anew_on_images_that_it_has_not_seen(held_out_version, data_folder, tmp_path):
    old, store = without_verdicts(held_out_version, tmp_path / "old"), Store(tmp_path / "store")
    publishing = ["publish", str(old), "--store", str(store.root)]
    assert main(publishing) == 0  # as it is
    assert main([*publishing, "--data", str(data_folder)]) == 0
    copied, anew = (load(store.folder("cifar10", version)).manifest for version in (1, 2))
    first = read_manifest(held_out_version / "manifest.json")
    assert copied.verdicts is None
    assert (anew.verdicts, anew.reference) == (first.verdicts, first.reference) and anew.verdicts
    assert anew.metrics == first.metrics and anew.temperature == first.temperature
    timed = {"report/evaluation.json": None}  # holds the images a second
    assert anew.files | timed == first.files | timed
    assert anew.training == first.training | {"published_from": "cifar10/1"}


@pytest.mark.usefixtures("few_held_out")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": {"hold_out": False}}, "it has seen the validation images"),
        ({"training": {}}, "it has seen the validation images"),
        ({"training": {"hold_out": True, "data_sha256": "0" * 64}}, "was trained on other data"),
        ({"labels": list("abcdefghij")}, "was trained on other data"),
        ({"output": "probabilities", "temperature": 1, "training": {"hold_out": True}}, "ends in softmax"),
    ],
    ids=["saw them", "who knows", "other data", "other labels", "no logits"],
)
def test_verdicts_are_not_fitted_where_they_would_mean_nothing(
    held_out_version, data_folder, tmp_path, changes, said, monkeypatch, capsys
):
    monkeypatch.setattr(candidate, "check_served", lambda *_: {})
    version = without_verdicts(held_out_version, tmp_path / "old", **changes)
    assert main(["publish", str(version), "--store", str(tmp_path / "store"), "--data", str(data_folder)]) == 1
    assert said in capsys.readouterr().err
    assert Store(tmp_path / "store").versions("cifar10") == []


def test_compare_prints_runs_side_by_side_and_what_differs(run, teacher, capsys):
    assert main(["compare", str(run), str(teacher)]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["recipe"].split() == ["recipe", "notebook", "teacher"]
    assert lines["epochs"].split("  ")[-1].strip() == "2 of 2"
    assert lines["images"].split() == ["images", "160", "200"]
    assert "RMSprop" not in lines and "optimizer.learning_rate" in lines and "labels" not in lines
    assert main(["compare", str(run.parent)]) == 1
    assert "is not a training run" in capsys.readouterr().err


def test_tensorboard_gets_every_epoch(data_folder, tmp_path, narrow):
    logs = tmp_path / "logs"
    assert train(data_folder, tmp_path / "run", "--tensorboard", str(logs), recipe="teacher") == 0
    events = [
        (event.step, value.tag)
        for file in logs.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert {(step, tag) for step in (1, 2) for tag in ("loss", "accuracy", "seconds")} <= set(events)


def test_evaluate_prints_what_a_network_costs(data_folder, run, capsys):
    assert main(["evaluate", str(run), "--data", str(data_folder), "--precision", "float32"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    size, rates = said.removeprefix("cost: ").split("; on this machine ")
    megabytes = (run / "model.weights.h5").stat().st_size / 1e6
    assert size == f"23.9 M multiply-adds, 1.68 M parameters, {megabytes:.1f} MB"
    alone, together = re.fullmatch(r"([\d.]+) ms for one image, ([\d,]+) images/s in batches of 32", rates).groups()
    assert float(alone) > 0 and float(together.replace(",", "")) > 0
