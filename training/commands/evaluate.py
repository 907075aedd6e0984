"""`evaluate`, `compare` and `foreign`: measure networks and compare runs."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from model_store.classifier import Classifier, PrecisionChoice
from model_store.command_line import python_command
from model_store.files import ARCHITECTURE, MANIFEST, WEIGHTS
from model_store.network.architecture import Architecture
from training.commands.arguments import DATA_OF_RUN, Jobs, add_data, load_data
from training.commands.output import add_json, print_json, print_table, progress_line
from training.errors import TrainingError
from training.fit.run.directory import Run
from training.fit.sources import read_source

if TYPE_CHECKING:
    from model_store.network.model import Network
    from training.data.dataset import Images
    from training.evaluate.speed import Speed

VERSION_FILES = ARCHITECTURE, MANIFEST  # both, because other programs also write a manifest.json
SPLITS = "test", "val", "all"
NOT_MEASURED = "robustness is measured for networks of 32×32×3 only"
OLD_SPLITS = {"held-out": "val"}  # still accepted


def add_evaluate(jobs: Jobs) -> None:
    """Add the job `evaluate`."""
    job = jobs.add_parser("evaluate", help="measure a version or a run as it is served")
    job.add_argument("folder", metavar="VERSION|RUN", type=Path, help="directory of a version or of a run")
    add_data(job, DATA_OF_RUN)
    job.add_argument(
        "--split",
        type=lambda text: OLD_SPLITS.get(text, text),
        choices=SPLITS,
        default="test",
        help="`all`: every image of --data (default: test)",
    )
    job.add_argument("--precision", choices=get_args(PrecisionChoice), default="auto", help="(default: auto)")
    job.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="also measure robustness to corruptions and photo sizes (networks of 32×32×3), and write a report to this "
        "folder",
    )
    add_json(job)
    job.set_defaults(job=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> None:
    """Print accuracy, size and speed, as text or as JSON; with --out also write the report."""
    from training.evaluate.accuracy import evaluate
    from training.evaluate.robustness import measure_robustness
    from training.evaluate.speed import measure_speed
    from training.publish.network import network_from_folder
    from training.publish.report import read_history, write_report

    network = network_from_folder(options.folder)
    images = _choose_images(options, network)
    if options.out and (version := _version_around(options.out)):
        raise TrainingError(
            f"{options.out} is inside the version {version}, which must not change; choose another --out"
        )
    classifier = Classifier(network, precision=options.precision)
    say = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
    evaluation = evaluate(classifier, images)
    say(evaluation.table())
    file_bytes, speed = (options.folder / WEIGHTS).stat().st_size, measure_speed(classifier)
    say(_cost_line(network.architecture, file_bytes, speed))
    document = {"folder": str(options.folder), "split": options.split} | evaluation.document()
    document["cost"] = _cost_document(network.architecture, file_bytes, speed)
    if options.out:
        with progress_line() as show:
            robustness = measure_robustness(classifier, images, show)
        write_report(options.out, evaluation, read_history(options.folder), robustness)
        table = robustness.table() if robustness else NOT_MEASURED
        say(f"\n{table}\n\nwritten: {options.out}/evaluation.json and plots")
        if robustness:
            document["robustness"] = robustness.document()
    if options.json:
        print_json(document)
    elif Run(options.folder).begun:
        print(f"next: {python_command(f'training publish {options.folder} --name NAME')}")


def _choose_images(options: argparse.Namespace, network: "Network") -> "Images":
    """Return the images to measure, and say on stderr if they may be among those that the network was trained on.

    Raises:
        TrainingError: it was trained on them, or they have other labels.
    """
    from training.data.cifar10 import Cifar10
    from training.data.dataset import check_labels
    from training.data.load import load_whole

    source, labels = read_source(options.folder), network.labels
    if options.split == "all":
        if not options.data:
            raise TrainingError("--split all measures a folder of images; pass it as --data")
        whole = load_whole(options.data, network.preprocessing)
        check_labels(options.folder, labels, whole.labels)
        if whole.sha256 == source.data_sha256:
            raise TrainingError(f"{options.folder} was trained on {options.data}; leave out --split all")
        print(f"if {options.folder} was trained on some of these images, it looks too good", file=sys.stderr)
        return whole.images
    dataset = load_data(options.data, Run(options.folder), labels, network.preprocessing)
    check_labels(options.folder, labels, dataset.labels)
    if options.split == "val" and source.saw_val(dataset.sha256):
        raise TrainingError(
            f"{options.folder} was trained on the validation images; evaluate its calibration run on them"
        )
    images = dataset.test if options.split == "test" else dataset.val
    if source.data_sha256 not in (None, dataset.sha256):
        every = "" if isinstance(dataset, Cifar10) else "; --split all measures every image"
        print(
            f"this is not the data that {options.folder} was trained on; where they share images, it looks too good. "
            f"Measuring {len(images):,} images{every}",
            file=sys.stderr,
        )
    return images


def _version_around(folder: Path) -> Path | None:
    """Return the version directory that is or contains `folder`."""
    absolute = folder.resolve()
    candidates = (absolute, *absolute.parents)
    return next((path for path in candidates if all((path / name).exists() for name in VERSION_FILES)), None)


def _cost_line(architecture: Architecture, file_bytes: int, speed: "Speed") -> str:
    return (
        f"cost: {architecture.multiply_adds / 1e6:.1f} M multiply-adds, {architecture.parameters / 1e6:.2f} M "
        f"parameters, {file_bytes / 1e6:.1f} MB; on this machine {speed}"
    )


def _cost_document(architecture: Architecture, file_bytes: int, speed: "Speed") -> dict[str, float]:
    return {
        "multiply_adds": architecture.multiply_adds,
        "parameters": architecture.parameters,
        "weights_bytes": file_bytes,
        **speed._asdict(),
    }


def add_compare(jobs: Jobs) -> None:
    """Add the job `compare`."""
    job = jobs.add_parser("compare", help="compare runs in a table")
    job.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    add_json(job)
    job.set_defaults(job=run_compare)


def run_compare(options: argparse.Namespace) -> None:
    """Print a table with a column for each run, or JSON."""
    from training.evaluate.compare import compare_runs, run_document

    runs = [Run(folder) for folder in options.runs]
    if options.json:
        print_json({"runs": [run_document(run) for run in runs]})
    else:
        print_table(("", *(folder.name for folder in options.runs)), compare_runs(runs))


def add_foreign(jobs: Jobs) -> None:
    """Add the job `foreign`."""
    job = jobs.add_parser("foreign", help="measure how many out-of-distribution images a version detects")
    job.add_argument("folder", metavar="VERSION", type=Path)
    job.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="folder of image files of one kind, at any depth"
    )
    add_data(job, DATA_OF_RUN)
    job.set_defaults(job=run_foreign)


def run_foreign(options: argparse.Namespace) -> None:
    """Print one line per kind of out-of-distribution image."""
    from training.data.dataset import check_labels
    from training.evaluate.out_of_distribution import measure_out_of_distribution
    from training.publish.network import network_from_folder

    network = network_from_folder(options.folder)
    dataset = load_data(options.data, Run(options.folder), network.labels, network.preprocessing)
    check_labels(options.folder, network.labels, dataset.labels)
    classifier = Classifier(network)
    results = measure_out_of_distribution(classifier, dataset.test.pixels, options.folders)
    rows = [
        (kind, f"{images:,}", f"{rejected:.1%}", f"{auroc:.3f}", f"{confident:.1%}")
        for kind, images, rejected, auroc, confident in results
    ]
    print_table(("", "images>", "rejected>", "AUROC>", "confident>"), rows)
