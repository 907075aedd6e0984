"""Options that jobs share: the data that a run remembers."""

import json
import shutil

import pytest

from tests.training.pictures import write_pictures
from training.__main__ import main
from training.commands.arguments import choose_data, load_data
from training.data.load import load_dataset
from training.errors import TrainingError
from training.fit.run.directory import Run

pytestmark = pytest.mark.slow  # trains a run


@pytest.fixture
def run(notebook_run, tmp_path, monkeypatch):
    """A finished run; $CIFAR10_DATA names other data than its own."""
    for seed, label in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "other" / label, 10, seed)
    monkeypatch.setenv("CIFAR10_DATA", str(tmp_path / "other"))
    return Run(shutil.copytree(notebook_run, tmp_path / "run"))


def test_the_data_of_a_run_is_found_again_without_an_option(run, data_folder, tmp_path, capsys):
    assert run.data == data_folder and str(data_folder) not in (run.folder / "run.json").read_text()
    assert main(["evaluate", str(run.folder)]) == 0
    store = ["--store", str(tmp_path / "store"), "--create", "--name", "found", "--no-report"]
    assert main(["publish", str(run.folder), *store]) == 0
    assert main(["train", "--recipe", "notebook", "--out", str(run.folder), "--resume"]) == 0
    assert capsys.readouterr().out.endswith(f"python -m training evaluate {run.folder}\n")
    like = ["--like", str(run.folder), "--out", str(tmp_path / "again"), "--epochs", "1"]
    assert main(["train", *like]) == 0
    assert Run(tmp_path / "again").data == data_folder
    for path in (tmp_path / "store").rglob("*"):
        assert path.is_dir() or str(data_folder).encode() not in path.read_bytes()


def test_data_that_is_passed_wins_and_is_remembered_by_a_resumed_run(run, data_folder, tmp_path, monkeypatch, capsys):
    assert main(["evaluate", str(run.folder), "--data", str(tmp_path / "other")]) == 1
    assert "knows 10 labels, the data has 2" in capsys.readouterr().err
    assert run.data == data_folder
    shutil.copytree(data_folder, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--recipe", "notebook", "--out", str(run.folder), "--resume", "--data", "moved"]) == 0
    assert run.data == tmp_path / "moved"


def test_data_that_is_gone_or_has_changed_is_named(run, data_folder, tmp_path):
    moved = shutil.copytree(data_folder, tmp_path / "moved")
    run.remember_data(moved)
    batch = moved / "cifar-10-batches-bin" / "data_batch_1.bin"
    batch.write_bytes(bytes(3073) + batch.read_bytes()[3073:])
    with pytest.raises(TrainingError, match=rf"was trained on {moved}, which has changed since: .*; pass .* as --data"):
        load_data(None, run)
    assert load_data(moved, run).sha256 == load_dataset(moved).sha256
    shutil.rmtree(moved)
    with pytest.raises(TrainingError, match=f"was trained on {moved}, which does not exist any more; pass --data"):
        load_data(None, run)
    moved.mkdir()  # as a drive that is not mounted
    with pytest.raises(
        TrainingError, match=f"was trained on {moved}, which cannot be used any more; pass other --data"
    ):
        load_data(None, run)


def test_a_run_of_an_earlier_release_takes_the_default_data(run, tmp_path, monkeypatch):
    (run.folder / "data.json").unlink()
    assert choose_data(None, run) == tmp_path / "other"
    monkeypatch.setenv("CIFAR10_DATA", "")
    assert str(choose_data(None, run)) == "data"
    (run.folder / "data.json").write_text(json.dumps(["elsewhere"]))
    with pytest.raises(TrainingError, match=r"data\.json is damaged; delete it, and pass --data"):
        load_data(None, run)
    assert choose_data(tmp_path, run) == tmp_path
