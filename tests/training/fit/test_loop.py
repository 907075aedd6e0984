"""The training loop: networks, history, and what an interrupt or a crash leaves behind."""

import dataclasses
import json
import math
import shutil

import keras
import numpy as np
import pytest

from tests.training.runs import assert_same_weights, interrupt_training, narrow_recipes, read_arrays, train
from training.__main__ import main
from training.fit import device, loop
from training.fit.run.checkpoints import load_checkpoint
from training.fit.run.directory import Run
from training.recipes import RECIPES, RMSprop

pytestmark = pytest.mark.slow


@pytest.fixture
def narrow_fast():
    with narrow_recipes("fast", widths=(16, 32, 32)):
        yield


@pytest.mark.parametrize("recipe", ["notebook", "fast"])
@pytest.mark.usefixtures("narrow_fast")
def test_interrupted_training_resumes_exactly(data_folder, tmp_path, recipe):
    assert train(data_folder, tmp_path / "straight", recipe=recipe, epochs=3) == 0
    run = interrupt_training(data_folder, tmp_path / "broken", after=1, recipe=recipe, epochs=3)
    assert len(run.history) == 1
    assert train(data_folder, run.folder, "--resume", recipe=recipe, epochs=3) == 0
    assert_same_weights(run.folder, tmp_path / "straight")


def test_a_kill_between_the_two_files_of_a_checkpoint_loses_no_state(data_folder, tmp_path, monkeypatch):
    assert train(data_folder, tmp_path / "straight", epochs=3) == 0
    write = np.savez

    def crash(file, **arrays):  # after history.json is written, and before state.npz is
        if arrays["epoch"] == 3:
            raise KeyboardInterrupt
        write(file, **arrays)

    monkeypatch.setattr(np, "savez", crash)
    assert train(data_folder, tmp_path / "broken", epochs=3) == 130
    monkeypatch.undo()
    run = Run(tmp_path / "broken")
    assert len(run.history) == 3 and load_checkpoint(run.folder).epochs == 1
    assert train(data_folder, run.folder, "--resume", epochs=3) == 0
    assert_same_weights(run.folder, tmp_path / "straight")


def test_a_run_is_finished_when_all_of_its_network_is_there(data_folder, tmp_path, capsys):
    run = interrupt_training(data_folder, tmp_path / "run", after=2)
    # As a kill while `finish` puts the files in their places leaves them:
    (run.folder / "architecture.json").write_text("{}")
    run.partial_weights.write_bytes(b"the first half")
    assert main(["evaluate", str(run.folder), "--data", str(data_folder)]) == 1
    assert "has finished 2 of 2 epochs; continue it" in capsys.readouterr().err
    assert train(data_folder, run.folder, "--resume") == 0
    assert run.finished and read_arrays(run.folder)
    assert json.loads((run.folder / "architecture.json").read_text())["class_name"]


@pytest.mark.parametrize("name", ["state.npz", "history.json"])
def test_a_damaged_record_of_a_run_is_named(data_folder, interrupted, tmp_path, capsys, name):
    path = shutil.copytree(interrupted, tmp_path / "run") / name
    whole = path.read_bytes()
    for length in (0, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert train(data_folder, tmp_path / "run", "--resume") == 1
        assert f"{name} is damaged" in capsys.readouterr().err
    path.write_bytes(whole)
    assert train(data_folder, tmp_path / "run", "--resume") == 0


@pytest.fixture(scope="module")
def interrupted(data_folder, tmp_path_factory):
    """A run after its last epoch, without a network."""
    return interrupt_training(data_folder, tmp_path_factory.mktemp("runs") / "interrupted", after=2).folder


def test_quick_epochs_are_not_saved_one_by_one(data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 600.0)
    run = interrupt_training(data_folder, tmp_path / "run", after=2, epochs=3)
    assert len(run.history) == load_checkpoint(run.folder).epochs == 1
    assert train(data_folder, run.folder, "--resume", epochs=3) == 0
    assert len(run.history) == load_checkpoint(run.folder).epochs == 3


def test_weights_are_written_whole_or_not_at_all(tmp_path, full_disk):
    network = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    with full_disk(), pytest.raises(OSError, match="File too large"):
        loop.write_weights(network, tmp_path / "model.weights.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_notebook_recipe_is_the_notebooks_network(notebook_run):
    architecture = json.loads((notebook_run / "architecture.json").read_text())
    kinds = [layer["class_name"] for layer in architecture["config"]["layers"][1:]]
    block = ["Conv2D", "Activation", "Conv2D", "Activation", "MaxPooling2D", "Dropout"]
    assert kinds == block * 2 + ["Flatten", "Dense", "Activation", "Dropout", "Dense", "Activation"]
    trained = [array for name, array in read_arrays(notebook_run).items() if "seed_generator" not in name]
    assert sum(array.size for array in trained) == 1_676_842


def test_the_notebook_keeps_its_last_fifth_for_validation(notebook_run):
    assert Run(notebook_run).info.images == 160
    assert "watched_accuracy" in Run(notebook_run).history[-1]


@pytest.mark.usefixtures("narrow_fast")
def test_training_learns(data_folder, tmp_path):
    assert train(data_folder, tmp_path / "run", recipe="fast", epochs=12) == 0
    history = Run(tmp_path / "run").history
    assert history[-1]["loss"] < history[0]["loss"] - 0.3


def test_a_loss_that_is_not_finite_stops_the_run_with_its_epoch(data_folder, tmp_path, monkeypatch, capsys):
    diverging = dataclasses.replace(RECIPES["notebook"], optimizer=RMSprop(1e30))
    monkeypatch.setitem(RECIPES, "notebook", diverging)
    assert train(data_folder, tmp_path / "run", epochs=5) == 1
    error = capsys.readouterr().err
    assert "training diverged: the loss is " in error and " in epoch " in error
    assert all(math.isfinite(record["loss"]) for record in Run(tmp_path / "run").history)


@pytest.mark.parametrize(
    ("has_bfloat16", "devices", "precision"),
    [
        (True, ["cpu:0"], "mixed_bfloat16"),
        (False, ["gpu:0"], "mixed_bfloat16"),
        (False, ["cpu:0"], "float32"),
    ],
    ids=["a CPU that has bfloat16", "a GPU", "a CPU that has none"],
)
def test_a_cpu_without_bfloat16_instructions_trains_in_float32(monkeypatch, has_bfloat16, devices, precision):
    monkeypatch.setattr(device, "has_bfloat16", lambda: has_bfloat16)  # stands for other processors
    monkeypatch.setattr("keras.distribution.list_devices", lambda: devices)
    assert device.computed_precision(RECIPES["fast"]) == precision
    assert device.computed_precision(RECIPES["notebook"]) == "float32"
