"""Exit codes, and what is printed when a job fails or is interrupted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from training.data.cifar10 import TRAIN_BATCHES
from training.fit.run_directory import Run

ROOT = Path(__file__).parents[2]


def train_in_a_process(data, out):
    command = [sys.executable, "-m", "training", "train", "--recipe", "notebook", "--epochs", "100000"]
    command += ["--data", str(data), "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_package_that_is_not_installed_is_named_with_its_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "training.data.fetch", raising=False)
    assert main(["fetch", "--to", str(tmp_path)]) == 1
    assert "error: this job needs rich.console, which is not installed; run `make jobs`" in capsys.readouterr().err


@pytest.mark.process
def test_help_imports_no_package_that_takes_long():
    script = "import sys, training.__main__; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax", "matplotlib", "rich"} & set(imported.stdout.split())


@pytest.mark.slow
@pytest.mark.process
def test_a_stopped_container_leaves_a_run_to_resume(data_folder, tmp_path):
    with train_in_a_process(data_folder, tmp_path / "run") as job:
        assert job.stdout is not None and "epoch 1/100000" in job.stdout.readline()
        job.terminate()
        _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "interrupted; run the same command with --resume to continue" in errors and "Traceback" not in errors
    assert Run(tmp_path / "run").history


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupt_before_a_run_has_begun_says_nothing_of_resuming(data_folder, tmp_path):
    data = shutil.copytree(data_folder, tmp_path / "data")
    batch = data / "cifar-10-batches-bin" / TRAIN_BATCHES[0]
    batch.unlink()
    os.mkfifo(batch)
    with train_in_a_process(data, tmp_path / "run") as job, batch.open("wb"):  # opens once the job reads from it
        job.terminate()
        _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert errors.endswith("\ninterrupted\n") and "Traceback" not in errors
