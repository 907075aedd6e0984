"""`publish` and `import`: put a network into a store as its next version."""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from model_store.manifest import Manifest, Preprocessing
from model_store.version import load
from training.commands.arguments import Jobs, add_data, add_store, default_data, open_store
from training.commands.output import progress_line
from training.errors import TrainingError
from training.fit.run_directory import Run


def add_publish(jobs: Jobs) -> None:
    """Add the job `publish`."""
    job = jobs.add_parser("publish", help="put a run or a version into a store as its next version")
    job.add_argument("folder", metavar="RUN|VERSION", type=Path)
    add_store(job)
    add_data(job, "; for a version, no default: recalibrate and evaluate it on these images")
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
    job.set_defaults(job=run_publish, data=None)


def run_publish(options: argparse.Namespace) -> None:
    """Publish a run or a version, and report if it is not calibrated."""
    from training.data.load import load_dataset
    from training.publish.publish import publish_run, publish_version

    store, run = open_store(options), Run(options.folder)
    if options.photographs and (run.begun or not options.data):
        raise TrainingError("--photographs applies to a version and needs its --data; pass both, or leave it out")
    if run.begun:
        calibration_run = Run(options.calibration_run) if options.calibration_run else None
        dataset = load_dataset(options.data or default_data())
        with progress_line() as show:
            version = publish_run(run, store, options.name, dataset, calibration_run, show)
    else:
        if options.calibration_run:
            raise TrainingError(
                f"--calibration-run applies only to runs, and {options.folder} is not a run; leave it out"
            )
        # Ignores $CIFAR10_DATA: a version is recalibrated only if --data is passed.
        new_data = load_dataset(options.data) if options.data else None
        with progress_line() as show:
            version = publish_version(options.folder, store, options.name, new_data, options.photographs, show)
    manifest = _check_published(store.folder(options.name, version))
    if manifest.temperature == 1 and manifest.output == "logits":
        remedy = "pass --calibration-run RUN, a run of the same recipe with --hold-out"
        if manifest.reference:  # there were validation images
            remedy = "the validation images do not limit the confidence, usually because all are right; add more images"
        print(f"not calibrated: {remedy}", file=sys.stderr)


def add_import(jobs: Jobs) -> None:
    """Add the job `import`."""
    job = jobs.add_parser(
        "import",
        help="put a network that Keras 2 or 3 saved into a store as its next version",
        description="Convert a network, compare it with Keras, evaluate it if the data has its labels, and publish it.",
    )
    job.add_argument("--architecture", type=Path, required=True, metavar="FILE.json", help="written by to_json()")
    job.add_argument(
        "--weights", type=Path, required=True, metavar="FILE.h5", help="written by save_weights() or save()"
    )
    job.add_argument(
        "--labels",
        required=True,
        nargs="+",
        metavar="LABEL",
        help="labels in the order of the outputs, or a text file with one per line",
    )
    scale = "of pixel / 255 in red, green and blue, as in training"
    job.add_argument(
        "--mean", type=float, nargs=3, default=(0, 0, 0), metavar="M", help=f"mean {scale} (default: 0 0 0)"
    )
    job.add_argument(
        "--std",
        type=float,
        nargs=3,
        default=(1, 1, 1),
        metavar="S",
        help=f"standard deviation {scale} (default: 1 1 1)",
    )
    add_store(job)
    add_data(job)
    job.set_defaults(job=run_import)


def run_import(options: argparse.Namespace) -> None:
    """Import two Keras files, and report if the network was not evaluated."""
    from training.data.load import load_dataset
    from training.publish.import_keras import publish_import, read_labels, read_saved

    labels, preprocessing = read_labels(options.labels), _preprocessing(options)
    store, saved = open_store(options), read_saved(options.architecture, options.weights)
    dataset = load_dataset(options.data) if options.data.exists() else None
    with progress_line() as show:
        version = publish_import(saved, labels, preprocessing, store, options.name, dataset, show)
    if dataset is None:
        print(f"not evaluated: {options.data} does not exist", file=sys.stderr)
    elif dataset.labels != labels:
        print(f"not evaluated: the labels are not those of {options.data}, in the same order", file=sys.stderr)
    _check_published(store.folder(options.name, version))


def _preprocessing(options: argparse.Namespace) -> Preprocessing:
    try:
        return Preprocessing(mean=tuple(options.mean), std=tuple(options.std))
    except ValidationError:
        raise TrainingError(
            f"--mean and --std take three finite numbers each, --std above 0; received {options.mean} and {options.std}"
        ) from None


def _check_published(folder: Path) -> Manifest:
    """Load a new version as the service does, and print the largest difference of its golden images."""
    loaded = load(folder)
    print(f"published {folder}; golden images within {loaded.golden_difference:.1e} in {loaded.classifier.precision}")
    return loaded.manifest
