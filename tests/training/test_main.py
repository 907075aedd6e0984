"""Exit codes, and what is printed when a job fails or is interrupted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model_store.command_line import python_command
from tests.app.service import MOUNTING, needs_mounts
from training.__main__ import main
from training.data.cifar10 import TRAIN_BATCHES
from training.fit.run.directory import Run

ROOT = Path(__file__).parents[2]


def train_in_a_process(data, out, **environment):
    command = [sys.executable, "-m", "training", "train", "--recipe", "notebook", "--epochs", "100000"]
    command += ["--data", str(data), "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, text=True, **pipes)


def run_on_a_disk(folder, options, command):
    """Run a job with `folder` as a small disk of its own, and list the files on it at the end."""
    script = 'mount -t tmpfs -o "$1" disk "$0"; shift; "$@"; code=$?; find "$0" -mindepth 1; exit $code'
    job = [sys.executable, "-m", "training", *command]
    script_and_arguments = ["bash", "-c", script, str(folder), options, *job]
    return subprocess.run([*MOUNTING, *script_and_arguments], cwd=ROOT, capture_output=True, text=True)


def test_a_package_that_is_not_installed_is_named_with_its_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "training.data.fetch", raising=False)
    assert main(["fetch", "--to", str(tmp_path)]) == 1
    assert f"error: {sys.executable} has no rich.console; `make jobs` installs it" in capsys.readouterr().err


@pytest.mark.process
def test_without_any_package_the_remedy_is_one_sentence(tmp_path):
    """An interpreter without site-packages stands for a Python in which nothing is installed."""
    command = [sys.executable, "-S", "-m", "training", "versions"]
    job = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={})
    assert job.returncode == 1 and job.stderr.count("\n") == 1
    assert job.stderr.startswith(f"error: {sys.executable} has no ") and "`make jobs` installs it" in job.stderr


@pytest.mark.process
def test_help_imports_no_package_that_takes_long():
    script = "import sys, training.__main__; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax", "matplotlib", "rich"} & set(imported.stdout.split())


@pytest.mark.slow
@pytest.mark.process
def test_a_stopped_container_leaves_a_run_to_resume(data_folder, tmp_path):
    log = tmp_path / "termination-log"
    log.touch()
    with train_in_a_process(data_folder, tmp_path / "run", TERMINATION_LOG=str(log)) as job:
        assert job.stdout is not None and "epoch 1/100000" in job.stdout.readline()
        job.terminate()
        _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "interrupted; run the same command with --resume to continue" in errors and "Traceback" not in errors
    assert Run(tmp_path / "run").history
    assert log.read_text().startswith("interrupted; run the same command with --resume to continue")
    assert not (tmp_path / "run" / "lock").exists()


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


@pytest.mark.process
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_has_ended_ends_the_job_quietly(options):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "training", "versions", *options]
    job = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (job.returncode, job.stderr) == (141, "")


@pytest.mark.slow
@pytest.mark.process
def test_a_training_whose_reader_ends_stops_as_quietly_and_can_be_resumed(data_folder, tmp_path):
    with train_in_a_process(data_folder, tmp_path / "run") as job:
        job.stdout.close()
        errors = job.stderr.read()
    assert (job.returncode, errors) == (141, "")
    assert Run(tmp_path / "run").history and not (tmp_path / "run" / "lock").exists()


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_output_that_cannot_be_written_is_one_sentence():
    command = [sys.executable, "-m", "training", "versions"]
    with Path("/dev/full").open("w") as full:
        job = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    python = python_command("training").removesuffix(" -m training")
    assert job.returncode == 1
    assert job.stderr.startswith(f"error: {python} -m training versions: No space left on device; free some space")
    assert job.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.process
@needs_mounts
def test_a_full_disk_is_one_sentence_about_the_file_that_found_no_room(data_folder, tmp_path):
    command = ["train", "--recipe", "notebook", "--epochs", "2", "--data", str(data_folder)]
    job = run_on_a_disk(tmp_path, "size=3m", [*command, "--out", str(tmp_path / "run")])
    assert job.returncode == 1
    assert job.stderr == (
        f"error: {tmp_path}/run/state.npz: No space left on device; "
        "free some space there (`df -h`, `df -i`) or choose another folder\n"
    )
    files = [line.rpartition("/run/")[2] for line in job.stdout.splitlines() if line.startswith(f"{tmp_path}/run/")]
    assert sorted(files) == ["data.json", "history.json", "run.json"]


@pytest.mark.slow
@pytest.mark.process
@needs_mounts
def test_a_full_store_holds_nothing_of_the_version_that_found_no_room(tmp_path):
    command = ["publish", "model_store/models/cifar10/8", "--store", str(tmp_path / "store"), "--create"]
    job = run_on_a_disk(tmp_path, "size=3m", command)
    assert job.returncode == 1
    assert job.stderr.startswith(f"error: {tmp_path}/store/cifar10/") and job.stderr.count("\n") == 1
    assert "/model.weights.h5: No space left on device; free some space there" in job.stderr
    assert job.stdout == ""


@pytest.mark.process
@needs_mounts
@pytest.mark.parametrize(
    "command",
    [["train", "--recipe", "notebook", "--data", "{data}", "--out", "{disk}/run"], ["fetch", "--to", "{disk}/data"]],
    ids=lambda command: command[0],
)
def test_a_read_only_disk_is_one_sentence_with_its_remedy(data_folder, tmp_path, command):
    job = run_on_a_disk(tmp_path, "ro", [word.format(data=data_folder, disk=tmp_path) for word in command])
    assert job.returncode == 1
    remedy = "Read-only file system; mount the file system for writing or choose another folder\n"
    assert job.stderr == f"error: {command[-1].format(disk=tmp_path)}: {remedy}"
