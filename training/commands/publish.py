"""`publish` and `import`: put a network into a store as its next version."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from model_store.files import MANIFEST
from model_store.manifest import UNNORMALISED, read_manifest
from training.commands.arguments import (
    DATA_OF_RUN,
    Jobs,
    add_data,
    add_no_report,
    add_target,
    choose_data,
    load_data,
    require_name,
    store_to_publish_into,
)
from training.commands.outcome import print_next_steps, report_fits, report_imported, report_published
from training.commands.output import progress_line
from training.errors import TrainingError
from training.fit.run.directory import Run
from training.fit.sources import check_version

if TYPE_CHECKING:
    from training.publish.import_preprocessing import Before
    from training.publish.target import Target

UNFINISHED = "nothing was published; run it again"  # if the job is interrupted


def add_publish(jobs: Jobs) -> None:
    """Add the job `publish`."""
    job = jobs.add_parser("publish", help="put a run or a version into a store as its next version")
    job.add_argument("folder", metavar="RUN|VERSION", type=Path)
    add_target(job, "default for a version: its own name")
    add_no_report(job)
    add_data(job, f"{DATA_OF_RUN}; for a version none: recalibrate and evaluate it on these images")
    job.add_argument(
        "--calibration-run",
        "--twin",  # old name, still accepted
        type=Path,
        metavar="RUN",
        help="run of the same recipe with --hold-out, used to fit temperature and thresholds",
    )
    job.add_argument(
        "--photographs",
        type=Path,
        metavar="FOLDER",
        help="for a version, with --data: fit the verdict none_of_these on photographs it has not seen, a folder for "
        "each label",
    )
    job.set_defaults(job=run_publish, unfinished=UNFINISHED)


def run_publish(options: argparse.Namespace) -> None:
    """Publish a run or a version, and report if it is not calibrated."""
    from training.publish.publish import find_published, publish_run, publish_version

    run = Run(options.folder)
    if options.photographs and (run.begun or not options.data):
        raise TrainingError("--photographs applies to a version and needs its --data; pass both, or leave it out")
    target = _target(options, options.folder.absolute().name, None if run.begun else _own_name(options.folder))
    if run.begun:
        calibration_run = Run(options.calibration_run) if options.calibration_run else None
        dataset = load_data(options.data, run)
        existing = None if options.force or calibration_run else find_published(run, target, dataset)
        if existing:
            print(f"{options.folder} is identical to version {existing}; not published (--force publishes it again)")
            print_next_steps(target.store, read_manifest(target.store.folder(target.name, existing) / MANIFEST))
            return
        val_images = len(dataset.val) if calibration_run or run.info.hold_out else 0  # that something is fitted on
        with progress_line() as show:
            version = publish_run(run, target, dataset, calibration_run, show)
    else:
        if options.calibration_run:
            raise TrainingError(
                f"--calibration-run applies only to runs, and {options.folder} is not a run; leave it out"
            )
        if options.no_report and not options.data:
            raise TrainingError(
                "--no-report applies where something is measured, and a version without --data is copied with its "
                "report; pass --data, or leave --no-report out"
            )
        # Ignores $CIFAR10_DATA: a version is recalibrated only if --data is passed.
        new_data = load_data(options.data) if options.data else None
        training = read_manifest(options.folder / MANIFEST).training
        recorded = training.get("val_images") if training.get("hold_out") else 0
        val_images = len(new_data.val) if new_data else recorded if isinstance(recorded, int) else 0
        with progress_line() as show:
            version = publish_version(options.folder, target, new_data, options.photographs, show)
    options.unfinished = ""
    manifest = report_published(target, version)
    report_fits(manifest, val_images, run.begun)
    print_next_steps(target.store, manifest)


def add_import(jobs: Jobs) -> None:
    """Add the job `import`."""
    job = jobs.add_parser(
        "import",
        help="put a network that Keras 2 or 3 saved into a store as its next version",
        description="Convert a network, compare it with Keras, evaluate it if the data has its labels, and publish it. "
        "No code from its files runs.",
    )
    job.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="a .keras or whole .h5, written by save()")
    job.add_argument("--architecture", type=Path, metavar="FILE.json", help="instead of MODEL: written by to_json()")
    job.add_argument("--weights", type=Path, metavar="FILE.h5", help="with --architecture: written by save_weights()")
    job.add_argument(
        "--labels",
        required=True,
        nargs="+",
        metavar="LABEL",
        help="labels in the order of the outputs, or a text file with one per line",
    )
    scale = "of pixel / 255 before the network, one number for each channel in its order, or one for all"
    job.add_argument("--mean", type=float, nargs="+", metavar="M", help=f"mean {scale} (default: 0)")
    job.add_argument("--std", type=float, nargs="+", metavar="S", help=f"standard deviation {scale} (default: 1)")
    job.add_argument("--channel-order", choices=("RGB", "BGR"), help="order of the channels it takes (default: RGB)")
    job.add_argument(
        "--preprocess-input",
        choices=("raw", "tf", "torch", "caffe"),
        help="instead of these, what keras.applications' preprocess_input did before the network; raw: nothing "
        "(EfficientNet, MobileNetV3), tf: MobileNet, MobileNetV2, ResNetV2, torch: DenseNet, caffe: ResNet, VGG",
    )
    add_target(job, "required")
    add_no_report(job)
    add_data(job)
    job.set_defaults(job=run_import, unfinished=UNFINISHED)


def run_import(options: argparse.Namespace) -> None:
    """Import what Keras saved; report what was read, how it compares with Keras, and what is doubtful."""
    from training.publish.import_keras import publish_import, read_labels, read_model, read_saved

    if bool(options.model) == bool(options.architecture or options.weights):
        raise TrainingError("pass either a whole MODEL (.keras or .h5), or --architecture with --weights")
    if not options.model and not (options.architecture and options.weights):
        raise TrainingError("--architecture and --weights go together; pass both, or a whole MODEL (.keras or .h5)")
    labels, before = read_labels(options.labels), _before(options)
    target = _target(options, (options.model or options.architecture).stem)
    saved = read_model(options.model) if options.model else read_saved(options.architecture, options.weights)
    data = choose_data(options.data)
    height, width, _ = saved.architecture.input
    size = UNNORMALISED.model_copy(update={"height": height, "width": width})
    dataset = load_data(data, preprocessing=size) if data.exists() else None
    with progress_line() as show:
        version = publish_import(saved, labels, before, target, dataset, show)
    unevaluated = f"{data} does not exist"
    if dataset:
        unevaluated = f"the labels are not those of {data}, in the same order"
    options.unfinished = ""
    manifest = report_published(target, version, unevaluated)
    report_imported(manifest, saved.architecture.input, said=before is not None)
    print_next_steps(target.store, manifest)


def _before(options: argparse.Namespace) -> "Before | None":
    """Return what the options say was done before the network; None if they say nothing."""
    from training.publish.import_preprocessing import PREPROCESS_INPUT, Before

    given = options.mean, options.std, options.channel_order
    if options.preprocess_input:
        if any(given):
            raise TrainingError(
                "--preprocess-input says --mean, --std and --channel-order at once; pass either it or those"
            )
        return Before(*PREPROCESS_INPUT[options.preprocess_input])
    if not any(given):
        return None
    mean, std = tuple(options.mean or (0,)), tuple(options.std or (1,))
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise TrainingError(
            f"--mean and --std take finite numbers, --std above 0; received {' '.join(map(str, (*mean, *std)))}"
        )
    _check_range("--mean", mean, all(0 <= value <= 1 for value in mean), "from 0 to 1")
    # Values in [0, 1] deviate from their mean by at most 0.5; 1 is the default, which divides by nothing.
    _check_range("--std", std, all(value <= 0.5 or value == 1 for value in std), "above 0 and up to 0.5, or exactly 1")
    return Before(mean, std, options.channel_order or "RGB")


def _check_range(option: str, values: tuple[float, ...], possible: bool, allowed: str) -> None:
    if possible:
        return
    remedy = "pass that of the training images, of pixel / 255"
    if max(values) > 1:
        remedy = f"divide by 255 what was computed from pixels of 0 to 255: {option} "
        remedy += " ".join(f"{value / 255:.4g}" for value in values)
    received = " ".join(f"{value:g}" for value in values)
    raise TrainingError(f"{option} is that of pixels from 0 to 1, each number {allowed}; received {received}; {remedy}")


def _target(options: argparse.Namespace, proposal: str, own_name: str | None = None) -> "Target":
    from training.publish.target import Target

    store = store_to_publish_into(options)
    name = require_name(options.name or own_name, store, proposal)
    return Target(store, name, options.force, "figures" if options.no_report else "full")


def _own_name(folder: Path) -> str:
    """Return the name of the model that a version belongs to."""
    check_version(folder)
    return read_manifest(folder / MANIFEST).name
