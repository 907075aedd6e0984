"""`train --seeds`: several seeds, one after another, in processes of their own."""

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.runs import assert_same_weights, interrupt_training, train
from tests.waiting import wait_until
from training.commands.arguments import seeds
from training.commands.lock import locked
from training.commands.seeds import cluster
from training.commands.seeds.process import ATTEMPTS
from training.commands.seeds.run import seed_job
from training.commands.seeds.table import summary, table
from training.commands.train import add_train
from training.errors import TrainingError
from training.fit.run.directory import Run

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "expected"), [("0-7", range(8)), ("3", [3]), ("0,3,5-7", [0, 3, 5, 6, 7]), ("4-4", [4]), ("2,0", [2, 0])]
)
def test_seeds_are_numbers_and_ranges(text, expected):
    assert seeds(text) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a whole number"),
        ("a", "'a' is not a whole number"),
        ("1-", "'' is not a whole number"),
        ("-1", "'' is not a whole number"),
        ("1-2-3", "'2-3' is not a whole number"),
        ("0,,1", "'' is not a whole number"),
        ("4294967296", "'4294967296' is not a whole number from 0 to 4294967295"),
        ("7-0", "'7-0' is not a range of 1 to 1,000 seeds"),
        ("0-4294967295", "'0-4294967295' is not a range of 1 to 1,000 seeds"),
        ("0-3,2", "'0-3,2' names a seed twice"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        seeds(text)


def test_seeds_exclude_seed(data_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(data_folder, tmp_path, "--seeds", "0-1", "--seed", "1")
    assert "argument --seed: not allowed with argument --seeds" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--ray", "local"], ["--cpus-per-seed", "1"]])
def test_a_cluster_is_for_several_seeds(data_folder, tmp_path, capsys, option):
    assert train(data_folder, tmp_path / "run", *option) == 1
    assert "--ray and --cpus-per-seed need --seeds" in capsys.readouterr().err


def test_without_ray_installed_its_group_is_named(data_folder, tmp_path, capsys):
    assert train(data_folder, tmp_path / "runs", "--seeds", "0-1", "--ray", "local") == 1
    assert "--ray needs Ray, which " in (errors := capsys.readouterr().err)
    assert "`pip install --require-hashes -r requirements/ray.txt`" in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("nodes", "backend", "cpus", "expected"),
    [
        ([{"CPU": 8}, {"CPU": 4}, {"memory": 1}], "tensorflow", None, {"num_cpus": 4}),
        ([{"CPU": 8}], "tensorflow", 2, {"num_cpus": 2}),
        ([{"CPU": 8}, {"CPU": 32, "GPU": 4}], "jax", None, {"num_cpus": 8, "num_gpus": 1}),
        ([{"CPU": 8}, {"CPU": 32, "GPU": 4}], "tensorflow", None, {"num_cpus": 8}),
        ([{"CPU": 8}], "jax", None, {"num_cpus": 8}),
        ([{"CPU": 2, "GPU": 4}], "jax", None, {"num_cpus": 1, "num_gpus": 1}),
        ([{"memory": 1}], "tensorflow", None, {"num_cpus": 1}),
    ],
    ids=["smallest node", "chosen", "GPUs shared", "GPUs unused", "no GPUs", "more GPUs than cores", "no cores yet"],
)
def test_a_seed_has_the_resources_of_a_node(monkeypatch, nodes, backend, cpus, expected):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert cluster.choose_resources(nodes, cpus) == expected


def test_more_cores_than_any_node_has_are_refused():
    with pytest.raises(TrainingError, match="--cpus-per-seed 9: the largest node has 8 cores; pass 8 or fewer"):
        cluster.choose_resources([{"CPU": 8}, {"CPU": 4}], 9)


@pytest.fixture
def finished(notebook_run, tmp_path):
    """Three finished seeds in `runs`, with val accuracies of 20, 30 and 70 %."""
    for seed, accuracy in enumerate((0.2, 0.3, 0.7)):
        run = Run(shutil.copytree(notebook_run, tmp_path / "runs" / f"seed-{seed}"))
        (run.folder / "run.json").write_text(run.info.model_copy(update={"seed": seed}).model_dump_json())
        history = (run.folder / "history.json").read_text()
        last = run.history[-1]["watched_accuracy"]
        head, _, tail = history.rpartition(f'"watched_accuracy": {last}')
        (run.folder / "history.json").write_text(f'{head}"watched_accuracy": {accuracy}{tail}')
    return tmp_path / "runs"


@pytest.mark.slow
def test_the_summary_has_mean_spread_and_range(finished):
    runs = {seed: Run(finished / f"seed-{seed}") for seed in range(3)}
    (run_file := finished / "seed-1" / "architecture.json").rename(run_file.with_suffix(".away"))
    columns, rows = table(runs, {1: "the disk is full"})
    assert columns[2] == "val accuracy>"
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("0", "2 of 2", "20.00%", "finished"),
        ("1", "2 of 2", "-", "failed: the disk is full"),
        ("2", "2 of 2", "70.00%", "finished"),
    ]
    text = summary(list(runs.values()))
    assert "val accuracy of 2 seeds: mean 45.00%, standard deviation 35.36 points, range 20.00% to 70.00%" in text


@pytest.mark.slow
def test_finished_seeds_are_not_trained_again(finished, data_folder, capsys):
    assert train(data_folder, finished, "--seeds", "0-2") == 1
    assert "seed-0 already holds a run; continue the seeds with --resume" in capsys.readouterr().err
    assert train(data_folder, finished, "--seeds", "0-2", "--resume") == 0
    output = capsys.readouterr().out
    assert "not trained again: seeds 0, 1, 2" in output and "standard deviation 26.46 points" in output
    assert f"for run in {finished}/seed-0 {finished}/seed-1 {finished}/seed-2; do" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "fast"], "recipe 'notebook', now 'fast'"),
        (["--hold-out"], "hold_out False, now True"),
        (["--set", "label_smoothing=0.5"], "label_smoothing 0.0, now 0.5"),
    ],
)
def test_seeds_are_continued_with_their_own_settings_only(finished, data_folder, capsys, options, message):
    assert train(data_folder, finished, "--seeds", "0-3", "--resume", *options) == 1
    assert "seed-0 began with other settings (" in (errors := capsys.readouterr().err)
    assert message in errors
    assert not (finished / "seed-3").exists()


@pytest.mark.slow
def test_runs_of_different_data_have_no_common_mean(finished, data_folder, capsys):
    run = Run(finished / "seed-1")
    (run.folder / "run.json").write_text(run.info.model_copy(update={"data_sha256": "0" * 64}).model_dump_json())
    assert train(data_folder, finished, "--seeds", "0-2", "--resume") == 1
    assert "were trained with different settings (data_sha256 in run.json)" in capsys.readouterr().err


@pytest.mark.slow
def test_seeds_do_not_go_into_a_run(notebook_run, data_folder, capsys):
    assert train(data_folder, notebook_run, "--seeds", "0-1", "--resume") == 1
    assert "is a run itself and cannot hold those of several seeds" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(600)
def test_seeds_are_trained_continued_and_failed_one_after_another(data_folder, notebook_run, tmp_path, capsys):
    """Seed 0 is interrupted after its first epoch, seed 1 is damaged, seed 2 is new."""
    interrupt_training(data_folder, tmp_path / "runs" / "seed-0", after=1)
    damaged = interrupt_training(data_folder, tmp_path / "damaged", after=1)
    first_epoch = Run(tmp_path / "runs" / "seed-0").history
    shutil.move(damaged.folder, tmp_path / "runs" / "seed-1")
    damaged = Run(tmp_path / "runs" / "seed-1")
    (damaged.folder / "run.json").write_text(damaged.info.model_copy(update={"seed": 1}).model_dump_json())
    (damaged.folder / "state.npz").write_bytes(b"no archive")
    assert train(data_folder, tmp_path / "runs", "--seeds", "0-2", "--resume") == 1
    output, errors = capsys.readouterr()
    assert "seed 0: continuing after epoch 1 of 2" in output
    assert Run(tmp_path / "runs" / "seed-0").history[:1] == first_epoch
    assert_same_weights(tmp_path / "runs" / "seed-0", notebook_run)
    assert f"seed 1: attempt {ATTEMPTS} of {ATTEMPTS} failed: " in output and "state.npz is damaged" in output
    assert Run(tmp_path / "runs" / "seed-2").info.seed == 2
    assert "val accuracy of 2 seeds: mean " in output
    assert "error: 1 of 3 seeds failed: 1; run the same command with --resume to continue them" in errors


@pytest.mark.slow
@pytest.mark.process
def test_a_failure_before_the_first_epoch_is_not_repeated(data_folder, tmp_path, capsys):
    options = ["--seeds", "0", "--teachers", str(tmp_path / "nobody")]
    assert train(data_folder, tmp_path / "runs", *options) == 1
    output = capsys.readouterr().out
    assert "seed 0: attempt 1 of" in output and "attempt 2" not in output
    assert "failed: " in output.splitlines()[-1] and "nobody is neither a run nor a version" in output


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_seed_ends_with_the_process_that_started_it(data_folder, tmp_path):
    """The lock on the run, which the training process holds, is free again."""
    command = [sys.executable, "-m", "training", "train", "--recipe", "notebook", "--epochs", "100000", "--seeds", "5"]
    places = ["--data", str(data_folder), "--out", str(tmp_path / "runs")]
    with subprocess.Popen([*command, *places], cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        assert "epoch 1/100000" in driver.stdout.readline()
        process = int((tmp_path / "runs" / "seed-5" / "lock").read_text().split()[0])
        assert process != driver.pid
        driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not _runs(process))


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_an_interrupted_set_says_how_to_continue(data_folder, tmp_path):
    command = [sys.executable, "-m", "training", "train", "--recipe", "notebook", "--epochs", "100000", "--seeds", "5"]
    places = ["--data", str(data_folder), "--out", str(tmp_path / "runs")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *places], cwd=ROOT, text=True, **pipes) as driver:
        driver.stdout.readline()
        driver.send_signal(signal.SIGTERM)
        assert "interrupted; run the same command with --resume to continue the seeds" in driver.communicate()[1]
    assert driver.returncode == 130
    wait_until(lambda: _is_free(tmp_path / "runs" / "seed-5"))


def _is_free(run: Path) -> bool:
    """True if no process holds the lock on the run; one that was killed leaves the file."""
    try:
        with locked(run):
            return True
    except TrainingError:
        return False


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_options_reach_every_seed(data_folder, tmp_path):
    places = ["--data", str(data_folder), "--out", str(tmp_path), "--teachers", "a", "b", "--tensorboard", "logs"]
    settings = ["--recipe", "small", "--batch-size", "32", "--hold-out", "--set", "label_smoothing=0.1"]
    parser = argparse.ArgumentParser()
    add_train(parser.add_subparsers())
    job = seed_job(parser.parse_args(["train", "--seeds", "3", *settings, *places]), 3, Run(tmp_path / "seed-3"))
    own = ["train", "--out", f"{tmp_path}/seed-3", "--seed", "3", "--resume", "--tensorboard", "logs/seed-3"]
    shared = ["--recipe", "small", "--data", str(data_folder), "--batch-size", "32", "--hold-out"]
    assert list(job.arguments) == [*own, *shared, "--teachers", "a", "b"]
    assert list(job.new_run) == ["--set", "label_smoothing=0.1"]
    assert job.directory == Path.cwd()
