"""`train` from the command line: its options, and what it refuses."""

import json
import shutil

import pytest
import tensorflow as tf

from model_store.version import load
from tests.training.conftest import write_batch
from tests.training.runs import assert_same_weights, few_val_images, train
from training.__main__ import main
from training.data.cifar10 import TEST_BATCH, TRAIN_BATCHES
from training.fit import device
from training.fit.run.directory import Run
from training.fit.sources import read_source

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_reports", "narrow")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "{run}"], "already holds a run"),
        (["--out", "{run}", "--resume", "--recipe", "fast"], "is a run of 'notebook', not of 'fast'"),
        (["--out", "{new}", "--resume", "--set", "epochs=x"], "epochs"),
        (["--out", "{new}", "--data", "{new}/data"], "-m training fetch`"),
        (["--out", "{new}", "--recipe", "fast", "--batch-size", "1000"], "less than one batch of 1000"),
        (["--out", "{version}"], "holds manifest.json, which a run must not overwrite"),
        (["--out", "/dev/null/run"], "/dev/null/run: Not a directory; check the path: a part of it is a file"),
    ],
    ids=[
        "taken",
        "other recipe",
        "resumed with a wrong option",
        "no data",
        "batch too large",
        "a version",
        "no folder",
    ],
)
def test_train_explains_what_is_wrong(data_folder, notebook_run, published, tmp_path, capsys, options, message):
    version = published / "cifar10" / "1"
    options = [option.format(run=notebook_run, new=tmp_path / "new", version=version) for option in options]
    assert main(["train", "--recipe", "notebook", "--data", str(data_folder), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()  # so that the next try is not told that a run is there
    load(version)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_a_seed_is_a_whole_number_of_32_bits(data_folder, tmp_path, capsys, seed):
    with pytest.raises(SystemExit):
        train(data_folder, tmp_path, "--seed", seed)
    assert "is not a whole number from 0 to 4294967295" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "3"], "began with --epochs 2, received 3; a run resumes with its original settings"),
        (["--batch-size", "32"], "began with --batch-size 64, received 32"),
        (["--seed", "1"], "began with --seed 0, received 1"),
        (["--hold-out"], "began without --hold-out"),
    ],
)
def test_a_run_is_resumed_by_its_own_settings_only(data_folder, notebook_run, capsys, options, message):
    command = ["train", "--recipe", "notebook", "--data", str(data_folder), "--out", str(notebook_run), "--resume"]
    assert main([*command, *options]) == 1
    assert message in capsys.readouterr().err


def test_a_run_that_began_from_nothing_is_resumed_without_from(data_folder, notebook_run, tmp_path, capsys):
    run = shutil.copytree(notebook_run, tmp_path / "run")
    command = ["train", "--recipe", "notebook", "--data", str(data_folder), "--out", str(run), "--resume"]
    assert main([*command, "--from", str(run)]) == 1
    assert "began without --from; leave it out" in capsys.readouterr().err
    assert main([*command, "--epochs", "2", "--seed", "0"]) == 0


def test_resuming_starts_a_run_that_has_not_begun_with_all_its_options(data_folder, notebook_run, tmp_path):
    assert train(data_folder, tmp_path / "run", "--resume", "--seed", "0") == 0
    assert Run(tmp_path / "run").info == Run(notebook_run).info
    assert_same_weights(tmp_path / "run", notebook_run)
    assert not (tmp_path / "run" / "lock").exists()
    assert train(data_folder, tmp_path / "run", "--resume") == 0  # as a container that is restarted


def test_resuming_with_other_data_is_refused(notebook_run, tmp_path, capsys):
    for seed, name in enumerate(TRAIN_BATCHES):
        write_batch(tmp_path / name, seed + 100)
    command = ["train", "--recipe", "notebook", "--data", str(tmp_path), "--out", str(notebook_run), "--resume"]
    assert main(command) == 1
    assert "this is not the data" in capsys.readouterr().err


def test_a_run_of_a_removed_recipe_is_usable_but_not_resumed(data_folder, notebook_run, tmp_path, capsys):
    run = shutil.copytree(notebook_run, tmp_path / "run")
    info = Run(notebook_run).info
    (run / "run.json").write_text(info.model_copy(update={"recipe": "patient"}).model_dump_json())
    data, remedy = ["--data", str(data_folder)], "been removed, use the commit in its run.json, environment.code"
    assert main(["train", "--recipe", "notebook", "--out", str(run), "--resume", *data]) == 1
    errors = capsys.readouterr().err
    assert "unknown recipe 'patient'; choose one of: notebook" in errors and remedy in errors
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--recipe", "patient", "--out", str(run), "--resume", *data])
    assert stopped.value.code == 2 and remedy in capsys.readouterr().err
    assert main(["evaluate", str(run), *data]) == 0
    store = ["--store", str(tmp_path / "store"), "--create", "--name", "cifar10"]
    assert main(["publish", str(run), *store, *data]) == 0
    assert main(["versions", "--store", str(tmp_path / "store")]) == 0
    assert "patient" in capsys.readouterr().out
    assert read_source(tmp_path / "store" / "cifar10" / "1").recipe_values == info.recipe_values


def test_notebook_augmented_starts_from_a_notebook_run(data_folder, tmp_path, notebook_run, capsys):
    assert train(data_folder, tmp_path / "a", recipe="notebook-augmented") == 1
    assert "starts from a run of 'notebook'; pass it as --from" in capsys.readouterr().err
    start = ["--from", str(notebook_run)]
    assert train(data_folder, tmp_path / "b", *start, recipe="notebook-augmented", epochs=1) == 0
    assert Run(tmp_path / "b").info.images == 200
    assert train(data_folder, tmp_path / "b", "--resume", recipe="notebook-augmented", epochs=1) == 1
    assert "began from a run or version of 'notebook'; pass the same --from" in capsys.readouterr().err
    other = ["--resume", "--from", str(tmp_path / "b")]
    assert train(data_folder, tmp_path / "b", *other, recipe="notebook-augmented", epochs=1) == 1
    assert train(data_folder, tmp_path / "b", "--resume", *start, recipe="notebook-augmented", epochs=1) == 0


def test_teachers_are_refused_where_they_do_not_belong(data_folder, tmp_path, capsys, teacher, notebook_run):
    assert train(data_folder, tmp_path / "a", recipe="small") == 1
    assert "pass finished runs or versions as --teachers" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "b", "--teachers", str(teacher), recipe="teacher") == 1
    assert "has no teachers" in capsys.readouterr().err
    assert train(data_folder, tmp_path / "c", "--teachers", str(notebook_run), recipe="small") == 1
    assert "ends in softmax" in capsys.readouterr().err


def test_a_version_teaches_as_the_run_it_was_made_from(data_folder, tmp_path, teacher):
    store = ["--store", str(tmp_path / "store"), "--create", "--name", "cifar10"]
    assert main(["publish", str(teacher), *store, "--data", str(data_folder)]) == 0
    version = tmp_path / "store" / "cifar10" / "1"
    assert train(data_folder, tmp_path / "s", "--teachers", str(version), recipe="small", epochs=1) == 0
    assert Run(tmp_path / "s").info.teachers == (read_source(teacher).weights_sha256(),)
    (version / "model.weights.h5").write_bytes(b"other")
    assert train(data_folder, tmp_path / "t", "--teachers", str(version), recipe="small", epochs=1) == 1
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(("option", "recipe"), [("--teachers", "small"), ("--from", "fine-tune")])
def test_a_run_without_validation_images_takes_nothing_from_a_network_that_saw_them(
    data_folder, tmp_path, capsys, teacher, option, recipe
):
    with few_val_images():
        assert train(data_folder, tmp_path / "a", option, str(teacher), "--hold-out", recipe=recipe, epochs=1) == 1
        assert (
            f"{teacher} was not trained with --hold-out and may have seen the validation images"
            in capsys.readouterr().err
        )
        source = tmp_path / "source"
        assert train(data_folder, source, "--hold-out", recipe="teacher", epochs=1) == 0
        assert train(data_folder, tmp_path / "b", option, str(source), "--hold-out", recipe=recipe, epochs=1) == 0


def test_bfloat16_is_left_to_processors_that_have_it(data_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(device, "has_bfloat16", lambda: False)  # stands for such a processor
    assert train(data_folder, tmp_path / "run", recipe="teacher", epochs=1) == 0
    assert "no bfloat16 instructions: training in float32" in capsys.readouterr().err
    assert Run(tmp_path / "run").info.environment["precision"] == "float32"


def test_tensorboard_gets_every_epoch(data_folder, tmp_path):
    logs = tmp_path / "logs"
    assert train(data_folder, tmp_path / "run", "--tensorboard", str(logs), recipe="teacher") == 0
    events = [
        (event.step, value.tag)
        for file in logs.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert {(step, tag) for step in (1, 2) for tag in ("loss", "accuracy", "seconds")} <= set(events)


def test_a_folder_that_tensorboard_logs_cannot_be_written_to_is_named(data_folder, tmp_path, capsys):
    assert train(data_folder, tmp_path / "run", "--tensorboard", "/dev/null/logs") == 1
    assert "error: --tensorboard /dev/null/logs cannot be written: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_versions_training_is_repeated_from_its_manifest(published, notebook_run, data_folder, tmp_path, capsys):
    version, out = published / "cifar10" / "1", tmp_path / "again"
    command = ["train", "--like", str(version), "--data", str(data_folder), "--out", str(out)]
    assert main(command) == 0
    ours, theirs = Run(out).info, Run(notebook_run).info
    fields = ("recipe", "recipe_values", "seed", "epochs", "batch_size", "hold_out", "data_sha256")
    assert all(getattr(ours, field) == getattr(theirs, field) for field in fields)
    assert_same_weights(out, notebook_run)
    assert "the result will differ" not in capsys.readouterr().err


def test_a_repetition_takes_other_settings_and_names_what_differs(notebook_run, data_folder, tmp_path, capsys):
    for name in (*TRAIN_BATCHES, TEST_BATCH):
        write_batch(tmp_path / name, 50)
    out = tmp_path / "again"
    options = ["--data", str(tmp_path), "--seed", "7", "--epochs", "1", "--hold-out"]
    with few_val_images():
        assert main(["train", "--like", str(notebook_run), "--out", str(out), *options]) == 0
    info = Run(out).info
    assert (info.seed, info.epochs, info.hold_out, info.batch_size) == (7, 1, True, 64)
    assert "--data is not what" in capsys.readouterr().err


def test_an_imported_version_cannot_be_repeated(published, data_folder, tmp_path, capsys):
    version = shutil.copytree(published / "cifar10" / "1", tmp_path / "1")
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["training"] = {"recipe": "imported"}
    (version / "manifest.json").write_text(json.dumps(manifest))
    command = ["train", "--like", str(version), "--data", str(data_folder), "--out", str(tmp_path / "run")]
    assert main(command) == 1
    assert "does not record how it was trained, because it was imported" in capsys.readouterr().err
