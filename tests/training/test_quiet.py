"""What the jobs write to stderr while TensorFlow or JAX starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.quiet import is_noise, without_noise

ROOT = Path(__file__).parents[2]
LINES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795935692.289342   11638 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1758131045.203198 3722035 cuda_dnn.cc:8579] Unable to register cuDNN factory",
    "2025-09-17 14:44:05.157831: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not find cuda drivers",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow",
)
FATAL = "F0000 00:00:1795935692.289342 11638 a.cc:1] fatal"


def train(data, out, **environment):
    command = [sys.executable, "-m", "training", "train", "--recipe", "notebook", "--epochs", "1"]
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [*command, "--batch-size", "64", "--data", str(data), "--out", str(out)],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_training_job_writes_nothing_to_stderr(data_folder, tmp_path, backend):
    finished = train(data_folder, tmp_path / "run", KERAS_BACKEND=backend)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""


@pytest.mark.slow
@pytest.mark.process
def test_a_user_who_sets_the_level_gets_the_lines(data_folder, tmp_path):
    finished = train(data_folder, tmp_path / "run", KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="0")
    assert finished.returncode == 0, finished.stderr
    assert any(is_noise(line.encode(), 1) for line in finished.stderr.splitlines())


@pytest.mark.parametrize(("level", "kept"), [(1, (LINES[2],)), (2, (LINES[2],)), (3, ())])
def test_lines_above_the_level_and_all_others_are_kept_in_order(capfd, level, kept):
    with without_noise(level):
        for line in ("first", *LINES, FATAL, "last"):
            os.write(2, f"{line}\n".encode())
    assert capfd.readouterr().err.splitlines() == ["first", *kept, FATAL, "last"]


def test_a_failed_import_gives_stderr_back(capfd):
    with pytest.raises(ImportError), without_noise(3):
        raise ImportError
    os.write(2, b"written\n")
    assert capfd.readouterr().err == "written\n"
