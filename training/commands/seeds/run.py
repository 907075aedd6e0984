"""`train --seeds`: start or resume a set of seeds, then print one table."""

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from model_store.command_line import python_command
from training.commands.arguments import choose_data
from training.commands.output import print_table
from training.commands.seeds.process import SeedJob, train_seed
from training.commands.seeds.table import check_same_settings, summary, table
from training.commands.settings import check_settings
from training.errors import TrainingError
from training.fit.run.directory import Run

OPTIONS = {"start": "--from"}
RESUME = "run the same command with --resume"


def run_seeds(options: argparse.Namespace) -> None:
    """Train the seeds in --seeds, each into its run directory below --out, and print a table.

    Raises:
        TrainingError: a seed has begun and --resume was not passed, runs have different settings, or a seed failed.
    """
    runs = {seed: Run(options.out / f"seed-{seed}") for seed in options.seeds}
    _check(options, list(runs.values()))
    if finished := [str(seed) for seed, run in runs.items() if run.finished]:
        print(f"finished before, not trained again: seeds {', '.join(finished)}", flush=True)
    jobs = [seed_job(options, seed, run) for seed, run in runs.items() if not run.finished]
    options.unfinished = f"{RESUME} to continue the seeds from their last saved epochs"  # if it is interrupted
    reasons = {seed: reason for seed, reason in _train(options, jobs) if reason}
    check_same_settings(list(runs.values()))
    print_table(*table(runs, reasons))
    if text := summary(list(runs.values())):
        print(text)
    if reasons:
        seeds = ", ".join(map(str, sorted(reasons)))
        raise TrainingError(f"{len(reasons)} of {len(runs)} seeds failed: {seeds}; {RESUME} to continue them")
    folders = " ".join(shlex.quote(str(run.folder)) for run in runs.values())
    evaluate = python_command("training evaluate")
    print(f"choose no seed by the test set; to measure all on it: for run in {folders}; do {evaluate} $run; done")


def _check(options: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Raise TrainingError if a run exists that must not, or cannot, be continued with these options."""
    if Run(options.out).begun:
        raise TrainingError(
            f"{options.out} is a run itself and cannot hold those of several seeds; choose another --out"
        )
    if begun := [run for run in runs if run.begun]:
        if not options.resume:
            raise TrainingError(
                f"{begun[0].folder} already holds a run; continue the seeds with --resume or choose another --out"
            )
        for run in begun:
            check_settings(run, options)
    for run in runs:
        run.check_overwrites_nothing()
    check_same_settings(runs)


def _train(options: argparse.Namespace, jobs: Sequence[SeedJob]) -> Iterable[tuple[int, str]]:
    """Train seeds. Yields each, as it ends, with the reason if it failed, else an empty text."""
    if not options.ray or not jobs:
        return _one_after_another(jobs)
    from training.commands.seeds.cluster import train_on_cluster

    data = choose_data(options.data, Run(options.like) if options.like else None)
    paths = [*options.teachers, *filter(None, (options.start, options.like)), *([data] if data.exists() else [])]
    return train_on_cluster(options.ray, jobs, options.cpus_per_seed, options.out, paths)


def _one_after_another(jobs: Iterable[SeedJob]) -> Iterator[tuple[int, str]]:
    for job in jobs:
        yield job.seed, train_seed(job)


def seed_job(options: argparse.Namespace, seed: int, run: Run) -> SeedJob:
    """Return the job of a seed: the options of the set, with its own seed, folder and TensorBoard folder."""
    arguments = ["train", "--out", str(run.folder), "--seed", str(seed), "--resume"]
    if options.tensorboard:
        arguments += ["--tensorboard", str(options.tensorboard / run.folder.name)]
    for name in ("recipe", "like", "data", "start", "epochs", "batch_size"):
        if (value := getattr(options, name)) is not None:
            arguments += [OPTIONS.get(name, f"--{name.replace('_', '-')}"), str(value)]
    arguments += ["--hold-out"] if options.hold_out else []
    arguments += ["--teachers", *map(str, options.teachers)] if options.teachers else []
    changes = [argument for change in options.set for argument in ("--set", change)]
    return SeedJob(seed, run.folder, Path.cwd(), arguments, changes)
