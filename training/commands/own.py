"""`own`: one command from a folder of photos to a version that the service can serve.

Runs what `train`, `evaluate` and `publish` run, without the robustness measurement.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from model_store.store import SHIPPED_STORE, Store
from training.commands.arguments import (
    Jobs,
    add_target,
    check_outside,
    positive,
    require_name,
    seed,
    store_to_publish_into,
)
from training.commands.lock import locked
from training.commands.outcome import print_next_steps, report_fits, report_published
from training.commands.train import show_gain, train_to_end
from training.errors import TrainingError
from training.fit.run.directory import Run, RunInfo
from training.fit.sources import Source, read_source
from training.places import RUNS
from training.recipes import get_recipe

RECIPE = "fine-tune"
SHIPPED_MODEL = "cifar10"
MAX_LISTED = 10  # folders


def add_own(jobs: Jobs) -> None:
    """Add the job `own`."""
    job = jobs.add_parser(
        "own",
        help="train on your own photos, evaluate and publish, in one command",
        description=f"Train the recipe {RECIPE} on a folder of photos, evaluate it and publish it. The same command "
        "continues an interrupted one.",
    )
    job.add_argument(
        "photos",
        metavar="PHOTOS",
        type=Path,
        help="folder with one folder of images per class, 10 or more each, or CSV file of files and labels",
    )
    add_target(job, "required")
    job.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="RUN|VERSION",
        help=f"finished run or published version to start from (default: the shipped {SHIPPED_MODEL})",
    )
    job.add_argument("--epochs", type=positive, help="(default: the recipe's)")
    job.add_argument("--seed", type=seed, default=0, help="(default: 0)")
    job.add_argument(
        "--out",
        type=Path,
        metavar="RUN",
        help="run directory to write (default: runs/NAME, or runs/NAME-2 and so on if that holds something else)",
    )
    job.set_defaults(job=run_own, again="run the same command again")


def run_own(options: argparse.Namespace) -> None:
    """Train, evaluate and publish, then print the figures and how to serve the version."""
    _check_photos(options.photos)
    store = store_to_publish_into(options)
    name = require_name(options.name, store, options.photos.absolute().name)
    for option, folder in (("--store", store.root), ("--out", options.out or RUNS / name)):
        check_outside(option, folder, options.photos)
    start = read_source(options.start or _shipped_version())
    from training.data.load import load_dataset
    from training.publish.target import Target

    target = Target(store, name, options.force, "quick")
    dataset = load_dataset(options.photos)
    target.check_same_labels(dataset.labels)
    from training.fit.start import new_info  # loads TensorFlow, which takes seconds
    from training.publish.publish import find_published, publish_run

    recipe = get_recipe(RECIPE)
    recipe = dataclasses.replace(recipe, epochs=options.epochs or recipe.epochs)
    info = new_info(RECIPE, recipe, dataset, options.seed, True, start)
    run = _choose_run(options.out, name, info, start)
    options.out = run.folder  # for the message if the job is interrupted
    with locked(run.folder):
        if not run.begun:
            run.start(info, start.folder)
        elif not run.finished:
            print(f"continuing {run.folder}, which was begun with these photos and settings")
        if run.finished:
            run.remember_data(options.photos)
        else:
            train_to_end(run, options.photos, dataset, start)
        print(f"{run.folder} is trained; on the validation images:")
        show_gain(run)
        version = find_published(run, target, dataset)
        event = "already published as" if version else "published"
        if version:
            print("to train again, pass another --seed or --out")
        else:
            print("evaluating and publishing it", flush=True)
            version = publish_run(run, target, dataset)
    manifest = report_published(target, version, event=event)
    report_fits(manifest, len(dataset.val))
    print_next_steps(store, manifest)


def _check_photos(photos: Path) -> None:
    """Raise TrainingError if the photos do not exist, with what there is instead, or are an empty folder."""
    if photos.is_dir() and not any(photos.iterdir()):
        raise TrainingError(f"{photos} is empty; put one folder of images per class into it")
    if photos.exists():
        return
    parent = next(folder for folder in (*photos.parents, Path()) if folder.is_dir())
    there = sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    listed = ", ".join(there[:MAX_LISTED]) + (
        f" and {len(there) - MAX_LISTED:,} more" if len(there) > MAX_LISTED else ""
    )
    raise TrainingError(f"{photos} does not exist; the folders in {parent.absolute()} are: {listed or '(none)'}")


def _shipped_version() -> Path:
    shipped = Store(SHIPPED_STORE)
    return shipped.folder(SHIPPED_MODEL, shipped.choose_version(SHIPPED_MODEL))


def _choose_run(out: Path | None, name: str, info: RunInfo, start: Source) -> Run:
    """Return the run of the same photos and settings if one has begun, else a new one.

    Raises:
        TrainingError: `out` was passed and holds another run.
    """
    if out:
        if Run(out).begun and not _is_same(Run(out), info, start):
            raise TrainingError(
                f"{out} holds a run of other photos or settings; choose another --out, or leave it out for a new run"
            )
        return Run(out)
    for folder in _default_folders(name):
        if not folder.exists():
            return Run(folder)
        if _is_same(Run(folder), info, start):
            return Run(folder)
    raise AssertionError("the folders never end")


def _default_folders(name: str) -> Iterator[Path]:
    yield RUNS / name
    for number in count(2):
        yield RUNS / f"{name}-{number}"


def _is_same(run: Run, info: RunInfo, start: Source) -> bool:
    """Return True if a run has begun from the same network with the same data and settings, on any machine."""
    from training.fit.start import check_resumed

    if not run.begun:
        return False
    try:
        check_resumed(run, start, ())
        begun, new = (each.model_dump(mode="json", exclude={"environment"}) for each in (run.info, info))
    except TrainingError:
        return False
    return begun == new
