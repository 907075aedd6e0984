"""`train`: start a run or resume one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model_store.command_line import python_command
from training.commands.arguments import (
    DEFAULT_DATA,
    Jobs,
    add_data,
    check_outside,
    choose_data,
    load_data,
    positive,
    seed,
    seeds,
)
from training.commands.lock import locked
from training.commands.seeds.run import run_seeds
from training.commands.settings import check_resumed_settings, choose_settings
from training.data.cifar10 import Cifar10
from training.errors import TrainingError
from training.fit.run.checkpoints import VAL_ACCURACY
from training.fit.run.directory import Run, RunInfo, best_epoch
from training.fit.sources import Source, read_record, read_source
from training.recipes import RECIPES, Pretrained, get_recipe

if TYPE_CHECKING:
    from training.data.dataset import Dataset
    from training.fit.loop import OnEpoch


def add_train(jobs: Jobs) -> None:
    """Add the job `train`."""
    descriptions = "; ".join(f"{name}: {recipe.description}" for name, recipe in RECIPES.items())
    job = jobs.add_parser("train", help="train a recipe into a run directory", description=descriptions)
    recipe = job.add_mutually_exclusive_group(required=True)
    recipe.add_argument("--recipe", type=_recipe_name, choices=RECIPES)
    recipe.add_argument(
        "--like",
        type=Path,
        metavar="RUN|VERSION",
        help="repeat the training of a run or version: its recipe, seed, epochs, batch size and --hold-out",
    )
    add_data(job, f"with --resume or --like RUN what that run was trained on, else {DEFAULT_DATA}")
    job.add_argument("--out", type=Path, required=True, metavar="RUN", help="run directory to write")
    job.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="RUN|VERSION",
        help="finished run or published version to start from",
    )
    job.add_argument(
        "--teachers",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN|VERSION",
        help="finished runs or published versions to distil from (recipes best and small)",
    )
    job.add_argument("--epochs", type=positive, help="(default: the recipe's)")
    job.add_argument("--batch-size", type=positive, help="the learning rate is adapted to it (default: the recipe's)")
    chosen = job.add_mutually_exclusive_group()
    chosen.add_argument("--seed", type=seed, help="(default: 0)")
    chosen.add_argument(
        "--seeds",
        type=seeds,
        metavar="0-7",
        help="train several, such as 0-7 or 0,3,5-7, each into its run directory --out/seed-N, and compare them",
    )
    job.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="train the seeds as tasks of this Ray cluster: auto, HOST:PORT, ray://HOST:10001, or local for one of "
        "this machine (default: one seed after another, without Ray)",
    )
    job.add_argument(
        "--cpus-per-seed",
        type=positive,
        metavar="N",
        help="cores of a Ray task (default: all of a node's, on nodes with GPUs its share for each GPU)",
    )
    job.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help='change an option of the recipe, such as label_smoothing=0.1 or mixing={"method":"mixup"}; repeatable',
    )
    job.add_argument(
        "--hold-out",
        action="store_true",
        help="do not train on the validation images: the last 5,000 of CIFAR-10, a tenth of your own data",
    )
    job.add_argument(
        "--tensorboard",
        type=Path,
        metavar="FOLDER",
        help="also write each epoch's figures to this folder for TensorBoard",
    )
    job.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out with its original settings, or start it if it has not begun",
    )
    job.set_defaults(job=run_train, again="run the same command with --resume")


def _recipe_name(text: str) -> str:
    try:
        get_recipe(text)
    except TrainingError as error:  # more helpful than argparse's list of choices
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def run_train(options: argparse.Namespace) -> None:
    """Train the run in --out, or the runs of --seeds, to the end. Other jobs cannot write to them meanwhile."""
    if options.seeds:
        run_seeds(options)
        return
    if options.ray or options.cpus_per_seed:
        raise TrainingError("--ray and --cpus-per-seed need --seeds; a cluster trains several, such as --seeds 0-7")
    run = Run(options.out)
    run.check_overwrites_nothing()
    with locked(run.folder):
        _train(run, options)


def _train(run: Run, options: argparse.Namespace) -> None:
    from training.fit.run.tensorboard import TensorBoard
    from training.fit.start import new_info, recipe_from_info

    resumed = options.resume and run.begun
    start = read_source(options.start) if options.start else None
    other = run if resumed else Run(options.like) if options.like else None
    dataset = load_data(options.data, other)
    if not isinstance(dataset, Cifar10):
        check_outside("--out", run.folder, choose_data(options.data, other))
    teachers = [read_source(folder) for folder in options.teachers]
    log = TensorBoard(options.tensorboard).write if options.tensorboard else None
    if not resumed:
        record = read_record(options.like) if options.like else None
        name, settings, hold_out = choose_settings(options, record)
        seed = options.seed if options.seed is not None else record.seed if record else 0
        info = new_info(name, settings, dataset, seed, hold_out, start, teachers)
        if record:
            _name_differences(options.like, record, info)
        run.start(info, start.folder if start and isinstance(settings.network, Pretrained) else None)
    else:
        recipe_from_info(run.info)  # raises if the recipe is gone
        check_resumed_settings(run, options)
    train_to_end(run, choose_data(options.data, other), dataset, start, teachers, log)
    show_gain(run)
    print(f"{run.folder} is finished; next: {python_command(f'training evaluate {run.folder}')}")


def train_to_end(
    run: Run,
    data: Path,
    dataset: "Dataset",
    start: Source | None,
    teachers: Sequence[Source] = (),
    log: "OnEpoch | None" = None,
) -> None:
    """Train a run that has begun to its end, and remember the place of its data."""
    from training.fit.device import computed_precision
    from training.fit.loop import train
    from training.fit.start import recipe_from_info, split_images

    settings = recipe_from_info(run.info)
    if computed_precision(settings) != settings.precision:
        print("this processor has no bfloat16 instructions: training in float32", file=sys.stderr)
    images, val = split_images(run, dataset)
    run.remember_data(data)
    train(run, images, val, start, teachers, log)


def show_gain(run: Run) -> None:
    """Print what fine-tuning was worth on the validation images, if it was measured, and say if that was nothing."""
    from training.evaluate.intervals import accuracy_with_interval

    if not (baselines := run.baselines):
        return
    history, epoch = run.history, best_epoch(run.history, baselines)
    result = history[epoch - 1][VAL_ACCURACY] if epoch else baselines.probe
    rows = [("the network you started from", baselines.start)] if baselines.start is not None else []
    rows.append(("with a new last layer only", baselines.probe))
    if epoch:
        rows.append((f"kept: epoch {epoch} of {len(history)} (lowest loss)", result))
    for name, accuracy in rows:
        right = round(accuracy * baselines.images)
        print(f"{name:<36}{accuracy_with_interval(right, baselines.images)}")
    if not epoch:
        print("no epoch had a lower loss, so the run keeps the new last layer only")
    if baselines.start is not None and baselines.start > result:
        print("the network you started from is better: publish that, or train on more images", file=sys.stderr)
    elif max(baselines.start or 0, baselines.probe) >= result and epoch:
        print(f"training all layers was worth nothing that {baselines.images:,} images can show")


def _name_differences(folder: Path, record: RunInfo, info: RunInfo) -> None:
    """Name on stderr the inputs in which a repetition differs from the recorded training."""
    differences = {
        "--data": record.data_sha256 != info.data_sha256,
        "--teachers": record.teachers != info.teachers,
        "--from": record.start_sha256 != info.start_sha256,
    }
    for option in (option for option, differs in differences.items() if differs):
        print(f"{option} is not what {folder} was trained with; the result will differ", file=sys.stderr)
