"""`train --seeds --ray` on clusters of several nodes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.environment import ROOT, SECONDS
from tests.waiting import wait_until
from training.commands.seeds.cluster import train_on_cluster
from training.commands.seeds.process import SeedJob
from training.errors import TrainingError
from training.fit.run.directory import Run

EPOCHS = 40
SMALL = ["--recipe", "teacher", "--set", "network.widths=[8,8,8]", "--set", 'precision="float32"', "--batch-size", "64"]


def train_command(data: Path, out: Path, seeds: str, *options: str, epochs: int = EPOCHS) -> list[str]:
    command = [sys.executable, "-m", "training", "train", *SMALL, "--epochs", str(epochs), "--seeds", seeds]
    return [*command, "--data", str(data), "--out", str(out), *options]


def train(*arguments, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(train_command(*arguments, **options), cwd=ROOT, capture_output=True, text=True)


def test_smoke_seeds_are_trained_on_a_cluster_of_this_machine(data_folder, tmp_path):
    options = ["--ray", "local", "--cpus-per-seed", "1"]
    trained = train(data_folder, tmp_path / "runs", "0,4", *options, epochs=2)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert [Run(tmp_path / "runs" / f"seed-{seed}").info.seed for seed in (0, 4)] == [0, 4]
    assert "2 seeds, each with 1 core of the cluster" in trained.stdout
    assert "seed 4: epoch 2/2  loss" in trained.stdout and "training loss of 2 seeds: mean " in trained.stdout
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["seed-0", "seed-4"]


def test_a_seed_whose_node_is_killed_continues_from_its_checkpoint_on_another(cluster, data_folder, tmp_path):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    runs = [Run(tmp_path / "runs" / f"seed-{seed}") for seed in range(3)]
    options = ["--ray", cluster.address, "--cpus-per-seed", "1"]
    output = (tmp_path / "output.txt").open("w+")
    command = train_command(data_folder, tmp_path / "runs", "0-2", *options)
    with output, subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as driver:
        wait_until(lambda: runs[0].history or driver.poll() is not None, seconds=SECONDS)
        before, process = runs[0].history, int((runs[0].folder / "lock").read_text().split()[0])
        assert len(before) < EPOCHS
        (node,) = [node for node in nodes if raylet(node) in ancestors(process)]
        cluster.remove_node(node, allow_graceful=False)
        code = driver.wait()
        output.seek(0)
        text = output.read()
    assert code == 0, text
    assert all(run.finished and len(run.history) == EPOCHS for run in runs)
    assert "seed 0: continuing after epoch " in text
    assert runs[0].history[: len(before)] == before  # with their durations: these epochs were not trained again


def raylet(node) -> int:
    """The process id of a node's own process, which starts its workers."""
    return node.all_processes["raylet"][0].process.pid


def ancestors(process: int) -> Iterator[int]:
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        yield process


def test_a_worker_that_is_killed_is_started_again(cluster, data_folder, tmp_path):
    cluster.add_node(num_cpus=1)
    run = Run(tmp_path / "runs" / "seed-0")
    command = train_command(data_folder, tmp_path / "runs", "0", "--ray", cluster.address)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        wait_until(lambda: run.history or driver.poll() is not None, seconds=SECONDS)
        worker = next(ancestors(int((run.folder / "lock").read_text().split()[0])))
        os.kill(worker, 9)
        text = driver.communicate()[0]
    assert driver.returncode == 0, text
    assert "seed 0: continuing after epoch " in text and len(run.history) == EPOCHS


def test_an_interrupted_set_is_continued_by_the_same_command(cluster, data_folder, tmp_path):
    cluster.add_node(num_cpus=2)
    run = Run(tmp_path / "runs" / "seed-1")
    options = ["--ray", cluster.address, "--cpus-per-seed", "1"]
    command = train_command(data_folder, tmp_path / "runs", "0-1", *options)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as driver:
        wait_until(lambda: run.history or driver.poll() is not None, seconds=SECONDS)
        driver.terminate()
        assert "interrupted; run the same command with --resume to continue the seeds" in driver.communicate()[1]
    assert driver.returncode == 130
    before = run.history
    refused = train(data_folder, tmp_path / "runs", "0-1", *options)
    assert refused.returncode == 1 and "already holds a run; continue the seeds with --resume" in refused.stderr
    resumed = train(data_folder, tmp_path / "runs", "0-1", *options, "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert run.history[:1] == before[:1] and len(run.history) == EPOCHS


def test_a_seed_that_fails_for_good_leaves_the_others(cluster, data_folder, tmp_path):
    cluster.add_node(num_cpus=1)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "seed-0").touch()  # where a folder is needed
    trained = train(data_folder, tmp_path / "runs", "0-1", "--ray", cluster.address, epochs=1)
    assert trained.returncode == 1
    assert Run(tmp_path / "runs" / "seed-1").finished
    assert "1 of 2 seeds failed: 0; run the same command with --resume" in trained.stderr


def test_an_address_without_a_cluster_is_named(data_folder, tmp_path):
    trained = train(data_folder, tmp_path / "runs", "0-1", "--ray", "127.0.0.1:1")
    assert trained.returncode == 1
    assert "error: --ray 127.0.0.1:1: " in trained.stderr


def test_nodes_that_do_not_see_the_files_are_named_before_a_seed_starts(cluster, tmp_path):
    """On one machine all nodes see the same files, so a file that is nowhere stands for one on the driver only."""
    cluster.add_node(num_cpus=1)
    seeds = train_on_cluster(cluster.address, [SeedJob(0, Path("seed-0"), tmp_path, [])], None, tmp_path, [Path("/no")])
    with pytest.raises(TrainingError, match=r"the node \S+ does not see /no; .+ at the same place"):
        next(seeds)
    assert list(tmp_path.iterdir()) == []
