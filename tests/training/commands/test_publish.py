"""`publish` from the command line: what it refuses, and what it says of calibration."""

import shutil

import numpy as np
import pytest

from model_store.classifier import Classifier
from tests.training.runs import VAL_IMAGES, few_val_images, train
from training.__main__ import main
from training.data.cifar10 import TRAIN_BATCHES
from training.data.load import load_dataset
from training.fit.run_directory import Run
from training.publish.network import network_from_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_reports", "narrow")]


def test_a_name_that_is_not_a_models_is_refused_before_anything_is_measured(
    notebook_run, data_folder, tmp_path, capsys
):
    store = ["--store", str(tmp_path), "--data", str(data_folder)]
    assert main(["publish", str(notebook_run), "--name", "My Model", *store]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: 'My Model' is not a model name") and "measuring" not in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--calibration-run", "--twin"])
def test_a_calibration_run_is_for_runs_and_must_be_trained_with_hold_out(
    notebook_run, published, data_folder, tmp_path, capsys, option
):
    store = ["--store", str(tmp_path), "--data", str(data_folder)]
    assert main(["publish", str(published / "cifar10" / "1"), option, str(notebook_run), *store]) == 1
    assert "--calibration-run applies only to runs, and" in capsys.readouterr().err
    assert main(["publish", str(notebook_run), option, str(notebook_run), *store]) == 1
    assert "is a run of 'notebook' without --hold-out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_lists_the_option_with_its_older_name(capsys):
    with pytest.raises(SystemExit):
        main(["publish", "--help"])
    assert "--calibration-run RUN, --twin RUN" in capsys.readouterr().out


def test_a_run_without_a_calibration_run_is_published_uncalibrated(teacher, data_folder, tmp_path, capsys):
    assert main(["publish", str(teacher), "--store", str(tmp_path), "--data", str(data_folder)]) == 0
    printed = capsys.readouterr()
    assert f"published {tmp_path / 'cifar10' / '1'}; golden images within" in printed.out
    assert "not calibrated: pass --calibration-run RUN" in printed.err


def test_a_run_that_is_right_on_every_validation_image_is_published_uncalibrated(data_folder, tmp_path, capsys):
    """The validation images get the labels that the network predicts."""
    run, data = Run(tmp_path / "run"), shutil.copytree(data_folder, tmp_path / "data")
    with few_val_images():
        assert train(data, run.folder, "--hold-out", recipe="teacher") == 0
        pixels = load_dataset(data).val.pixels
        predictions = Classifier(network_from_run(run)).predict(pixels).probabilities.argmax(1)
        batch = data / "cifar-10-batches-bin" / TRAIN_BATCHES[-1]
        records = np.frombuffer(batch.read_bytes(), np.uint8).reshape(-1, 3_073).copy()
        records[-VAL_IMAGES:, 0] = predictions
        batch.write_bytes(records.tobytes())
        info = run.info.model_copy(update={"data_sha256": load_dataset(data).sha256})
        (run.folder / "run.json").write_text(info.model_dump_json())
        assert main(["publish", str(run.folder), "--store", str(tmp_path / "store"), "--data", str(data)]) == 0
    assert "not calibrated: the validation images do not limit the confidence" in capsys.readouterr().err
