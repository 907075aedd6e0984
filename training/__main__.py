"""Command line of the offline jobs: `python -m training JOB --help`.

Owns arguments, exit codes and what is printed; every job itself is a function elsewhere, imported when it is asked for.
"""

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, get_args

from pydantic import ValidationError

from model_store.classifier import Classifier, PrecisionChoice
from model_store.errors import ModelError
from model_store.files import ARCHITECTURE, MANIFEST, WEIGHTS
from model_store.manifest import Manifest, Preprocessing, read_manifest
from model_store.network.model import Network
from model_store.store import Store, check_name
from model_store.version import load, read_network, verify
from training.errors import TrainingError
from training.export.export import CONTRACT, FORMATS, export
from training.fit.run_directory import Run
from training.fit.sources import check_version, read_source
from training.recipes import RECIPES, Pretrained, recipe

STORE = Path("model_store/models")
OWN = "training", "model_store"
VERSION_HAS = ARCHITECTURE, MANIFEST  # together; others write a manifest.json, too
INSTALL = "`make jobs` installs all that jobs need into .venv, `make jobs GPU=1` with JAX and CUDA"


def main(argv: list[str] | None = None) -> int:
    """Run one job. Returns 0, 1 for a job that failed, 2 for a wrong command line, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        options.job(options)
    except (TrainingError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; see to its permissions and to free space", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] in OWN:
            raise
        print(f"error: {error.name} is not installed, and this job needs it; {INSTALL}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted{_how_to_resume(options)}", file=sys.stderr)
        return 130
    return 0


def _how_to_resume(options: argparse.Namespace) -> str:
    if "recipe" not in options or not Run(options.out).begun:
        return ""
    return "; the same command with --resume goes on from the last epoch that was saved"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Offline jobs around CIFAR-10 networks.")
    jobs = parser.add_subparsers(required=True, metavar="JOB")
    for add in (
        _add_fetch,
        _add_train,
        _add_compare,
        _add_evaluate,
        _add_foreign,
        _add_publish,
        _add_import,
        _add_versions,
        _add_prune,
        _add_export,
    ):
        add(jobs)
    return parser


Jobs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_fetch(jobs: Jobs) -> None:
    job = jobs.add_parser("fetch", help="get CIFAR-10 and verify it")
    job.add_argument("--to", type=Path, default=Path("data"), help="folder to put it in (default: data)")
    job.add_argument("--from", dest="source", type=Path, help="a folder or .tar.gz you have already")
    job.set_defaults(job=_fetch)


def _add_train(jobs: Jobs) -> None:
    described = "; ".join(f"{name}: {chosen.description}" for name, chosen in RECIPES.items())
    job = jobs.add_parser("train", help="train a recipe into a run directory", description=described)
    job.add_argument("--recipe", required=True, type=_recipe_name, choices=RECIPES)
    _add_data(job)
    job.add_argument("--out", type=Path, required=True, metavar="RUN", help="run directory to write")
    job.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="RUN|VERSION",
        help="a finished run or a published version to go on from",
    )
    job.add_argument(
        "--teachers",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN|VERSION",
        help="finished runs or published versions to learn from (best, small)",
    )
    job.add_argument("--epochs", type=_positive, help="instead of the recipe's")
    job.add_argument("--batch-size", type=_positive, help="instead of the recipe's")
    job.add_argument("--seed", type=_seed, help="(default: 0)")
    job.add_argument(
        "--hold-out",
        action="store_true",
        help="leave out the images on which choices are made: the last 5,000, of own data a tenth",
    )
    job.add_argument(
        "--tensorboard", type=Path, metavar="FOLDER", help="also write each epoch's figures for TensorBoard"
    )
    job.add_argument("--resume", action="store_true", help="go on with the run in --out, by the settings it began with")
    job.set_defaults(job=_train)


def _add_compare(jobs: Jobs) -> None:
    job = jobs.add_parser("compare", help="print runs side by side")
    job.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    job.set_defaults(job=_compare)


def _add_evaluate(jobs: Jobs) -> None:
    job = jobs.add_parser("evaluate", help="measure a version or a run as it is served")
    job.add_argument("what", metavar="VERSION|RUN", type=Path, help="directory of a version or of a run")
    _add_data(job)
    job.add_argument("--split", choices=("test", "held-out"), default="test")
    job.add_argument("--precision", choices=get_args(PrecisionChoice), default="auto")
    job.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="also measure corruptions and photo sizes, and write the report there",
    )
    job.set_defaults(job=_evaluate)


def _add_foreign(jobs: Jobs) -> None:
    job = jobs.add_parser("foreign", help="measure how many images of something else a version recognises as such")
    job.add_argument("what", metavar="VERSION", type=Path)
    job.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="image files of one kind, at any depth")
    _add_data(job)
    job.set_defaults(job=_foreign)


def _add_publish(jobs: Jobs) -> None:
    job = jobs.add_parser("publish", help="put a run or a version into a store as its next version")
    job.add_argument("what", metavar="RUN|VERSION", type=Path)
    _add_store(job)
    _add_data(job, "; for a version, which has no default: fit and measure anew on it")
    job.add_argument("--twin", type=Path, metavar="RUN", help="run of the same recipe with --hold-out, for calibration")
    job.set_defaults(job=_publish, data=None)


def _add_import(jobs: Jobs) -> None:
    job = jobs.add_parser(
        "import",
        help="put a network that Keras 2 or 3 saved into a store as its next version",
        description="Converts, compares with Keras, evaluates where the labels are the data's, and publishes.",
    )
    job.add_argument("--architecture", type=Path, required=True, metavar="FILE.json", help="what to_json() returned")
    job.add_argument("--weights", type=Path, required=True, metavar="FILE.h5", help="by save_weights() or save()")
    job.add_argument(
        "--labels", required=True, nargs="+", metavar="LABEL", help="in the outputs' order, or a text file"
    )
    scale = "of pixel / 255 in red, green, blue, as the network was trained"
    job.add_argument("--mean", type=float, nargs=3, default=(0, 0, 0), metavar="M", help=f"{scale} (default: 0 0 0)")
    job.add_argument("--std", type=float, nargs=3, default=(1, 1, 1), metavar="S", help=f"{scale} (default: 1 1 1)")
    _add_store(job)
    _add_data(job)
    job.set_defaults(job=_import)


def _add_versions(jobs: Jobs) -> None:
    job = jobs.add_parser("versions", help="list a store's versions with their figures")
    job.add_argument("--store", type=Path, default=STORE)
    job.set_defaults(job=_versions)


def _add_prune(jobs: Jobs) -> None:
    job = jobs.add_parser("prune", help="remove all but the newest versions and the active one")
    _add_store(job)
    job.add_argument("--keep", type=_positive, required=True, metavar="N")
    job.set_defaults(job=_prune)


def _add_export(jobs: Jobs) -> None:
    job = jobs.add_parser("export", help="write a version's network for another server", description=CONTRACT)
    job.add_argument("what", metavar="VERSION|RUN", type=Path, help="directory of a version or of a run")
    titles = "; ".join(f"{name}: {chosen.title}" for name, chosen in FORMATS.items())
    job.add_argument("--format", choices=FORMATS, required=True, help=titles)
    endings = "; ".join(f"{name}: {chosen}" for name, chosen in FORMATS.items())
    job.add_argument("--out", type=Path, required=True, metavar="PATH", help=f"must not exist yet. {endings}")
    job.set_defaults(job=_export)


def _add_data(job: argparse.ArgumentParser, also: str = "") -> None:
    described = "folder that `fetch` made, or one folder of images for each class (default: $CIFAR10_DATA, else data)"
    job.add_argument("--data", type=Path, default=_default_data(), help=described + also)


def _default_data() -> Path:
    return Path(os.environ.get("CIFAR10_DATA") or "data")


def _add_store(job: argparse.ArgumentParser) -> None:
    job.add_argument("--store", type=Path, default=STORE, help=f"(default: {STORE})")
    job.add_argument("--name", default="cifar10", help="model name (default: cifar10)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _recipe_name(text: str) -> str:
    try:
        recipe(text)
    except TrainingError as error:  # says more than argparse's list of choices
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _fetch(options: argparse.Namespace) -> None:
    from training.data.fetch import fetch

    fetch(options.to, source=options.source)


def _train(options: argparse.Namespace) -> None:
    from training.data.load import load_dataset
    from training.fit.device import computed_precision
    from training.fit.loop import train
    from training.fit.start import new_info, recipe_of, split
    from training.fit.tensorboard import TensorBoard

    run, start = Run(options.out), read_source(options.start) if options.start else None
    dataset = load_dataset(options.data)
    teachers = [read_source(folder) for folder in options.teachers]
    log = TensorBoard(options.tensorboard).write if options.tensorboard else None
    if not options.resume:
        chosen = recipe(options.recipe)
        overrides = {"epochs": options.epochs, "batch_size": options.batch_size}
        chosen = dataclasses.replace(chosen, **{key: value for key, value in overrides.items() if value})
        info = new_info(options.recipe, chosen, dataset, options.seed or 0, options.hold_out, start, teachers)
        run.start(info, start.folder if start and isinstance(chosen.network, Pretrained) else None)
    chosen = recipe_of(run.info)
    if options.resume:
        _require_same_settings(run, options)
    if computed_precision(chosen) != chosen.precision:
        print("this processor has no bfloat16 instructions: training in float32", file=sys.stderr)
    images, watched = split(run, dataset)
    train(run, images, watched, start, teachers, log)
    print(f"{run.folder} is finished; next: python -m training evaluate {run.folder} --data {options.data}")


def _require_same_settings(run: Run, options: argparse.Namespace) -> None:
    """Raises TrainingError where a run is to be resumed by other settings than it began with."""
    info = run.info
    if info.recipe != options.recipe:
        raise TrainingError(f"{run.folder} is a run of {info.recipe!r}, not of {options.recipe!r}")
    for name in ("epochs", "batch_size", "seed"):
        given, kept = getattr(options, name), getattr(info, name)
        if given is not None and given != kept:
            option = f"--{name.replace('_', '-')}"
            raise TrainingError(
                f"{run.folder} began with {option} {kept}, received {given}; a run is resumed as it began: leave out "
                f"{option}, or start another one with another --out"
            )
    if options.hold_out and not info.hold_out:
        raise TrainingError(
            f"{run.folder} began without --hold-out and has learned from the images that it leaves out; "
            "leave it out, or start another run with another --out"
        )


def _compare(options: argparse.Namespace) -> None:
    from training.evaluate.compare import table

    print(table([Run(folder) for folder in options.runs]))


def _evaluate(options: argparse.Namespace) -> None:
    from training.data.dataset import check_labels
    from training.data.load import load_dataset
    from training.evaluate.accuracy import evaluate, measure_cost
    from training.evaluate.robustness import measure_robustness
    from training.publish.report import read_history, write_report

    dataset, network = load_dataset(options.data), _network(options.what)
    check_labels(options.what, network.labels, dataset.labels)
    if options.split == "held-out" and read_source(options.what).saw_val(dataset.sha256):
        raise TrainingError(f"{options.what} has learned from the held-out images; evaluate its twin on them")
    if options.out and (inside := _version_around(options.out)):
        raise TrainingError(f"{options.out} is in the version {inside}, in which nothing changes; choose another --out")
    images = dataset.test if options.split == "test" else dataset.val
    classifier = Classifier(network, precision=options.precision)
    evaluation = evaluate(classifier, images)
    print(evaluation.table())
    print(measure_cost(classifier, network.architecture, (options.what / WEIGHTS).stat().st_size), flush=True)
    if options.out:
        with _progress_line() as show:
            robustness = measure_robustness(classifier, images, network.preprocessing.resize, show)
        write_report(options.out, evaluation, read_history(options.what), robustness)
        print(f"\n{robustness.table()}\n\nwritten: {options.out}/evaluation.json and pictures")


def _version_around(folder: Path) -> Path | None:
    absolute = folder.resolve()
    has_both = (each for each in (absolute, *absolute.parents) if all((each / name).exists() for name in VERSION_HAS))
    return next(has_both, None)


@contextmanager
def _progress_line() -> Iterator[Callable[[str, float], None]]:
    """What is being measured and how much is done, live on a terminal, elsewhere as a line for each kind of thing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description:<27}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task, shown = progress.add_task("", total=1.0), set[str]()

        def show(what: str, share: float) -> None:
            progress.update(task, description=f"measuring {what}", completed=share)
            if not console.is_terminal and what not in shown:
                shown.add(what)
                console.print(f"{share:4.0%} done, measuring {what}")

        yield show


def _foreign(options: argparse.Namespace) -> None:
    from training.data.dataset import check_labels
    from training.data.load import load_dataset
    from training.evaluate.out_of_distribution import HEADER, measure_foreign

    network, dataset = _network(options.what), load_dataset(options.data)
    check_labels(options.what, network.labels, dataset.labels)
    print(HEADER)
    measure_foreign(Classifier(network), dataset.test.pixels, network.preprocessing.resize, options.folders)


def _network(folder: Path) -> Network:
    """The network of a version or a run, whichever the folder is."""
    from training.publish.publish import read_run

    if Run(folder).begun:
        return read_run(Run(folder))
    check_version(folder)
    manifest = read_manifest(folder / MANIFEST)
    return read_network(manifest, verify(folder, manifest))


def _publish(options: argparse.Namespace) -> None:
    from training.data.load import load_dataset
    from training.publish.publish import publish_run, publish_version

    store = _store(options)
    if Run(options.what).begun:
        twin, dataset = Run(options.twin) if options.twin else None, load_dataset(options.data or _default_data())
        with _progress_line() as show:
            version = publish_run(Run(options.what), store, options.name, dataset, twin, show)
    else:
        if options.twin:
            raise TrainingError(f"--twin calibrates a run, and {options.what} is none; leave it out")
        given = (
            load_dataset(options.data) if options.data else None
        )  # fits only where asked to, so not by $CIFAR10_DATA
        with _progress_line() as show:
            version = publish_version(options.what, store, options.name, given, show)
    manifest = _say_published(store.folder(options.name, version))
    if manifest.temperature == 1 and manifest.output == "logits":
        remedy = "pass --twin RUN, a run of the same recipe with --hold-out"
        if manifest.reference:  # there were held-out images
            remedy = "the held-out images do not bound the confidence, as where every one is right; more images may"
        print(f"not calibrated: {remedy}", file=sys.stderr)


def _store(options: argparse.Namespace) -> Store:
    """The store to publish into, once the model's name is known to be one: what is measured first takes minutes."""
    check_name(options.name)
    return Store(options.store)


def _import(options: argparse.Namespace) -> None:
    from training.data.load import load_dataset
    from training.publish.import_keras import publish_import, read_labels, read_saved

    labels, preprocessing = read_labels(options.labels), _preprocessing(options)
    store, saved = _store(options), read_saved(options.architecture, options.weights)
    dataset = load_dataset(options.data) if options.data.exists() else None
    with _progress_line() as show:
        version = publish_import(saved, labels, preprocessing, store, options.name, dataset, show)
    if dataset is None:
        print(f"not evaluated: {options.data} does not exist", file=sys.stderr)
    elif dataset.labels != labels:
        print(f"not evaluated: the labels are not those of {options.data}, in their order", file=sys.stderr)
    _say_published(store.folder(options.name, version))


def _preprocessing(options: argparse.Namespace) -> Preprocessing:
    try:
        return Preprocessing(mean=tuple(options.mean), std=tuple(options.std))
    except ValidationError:
        raise TrainingError(
            f"--mean and --std take three finite numbers each, a std above 0; received {options.mean} and {options.std}"
        ) from None


def _say_published(folder: Path) -> Manifest:
    loaded = load(folder)
    print(f"published {folder}; golden images within {loaded.golden_difference:.1e} in {loaded.classifier.precision}")
    return loaded.manifest


def _versions(options: argparse.Namespace) -> None:
    store = Store(options.store)
    print(f"{'model':<20}{'version':>8}{'accuracy':>10}{'ECE':>8}{'weights':>12}  {'recipe':<20}created")
    for name in store.names():
        try:
            serving = store.choose(name)
        except ModelError as error:  # nothing is served of it, and the others are still to be seen
            serving = None
            print(f"{name:<20}  {error}")
        for version in store.versions(name):
            mark = "*" if version == serving else " "
            print(f"{name:<20}{version:>7}{mark}{_version_line(store.folder(name, version))}")
    print("* is what its model's name stands for")


def _version_line(folder: Path) -> str:
    """A version's figures, or why it cannot be served."""
    try:
        manifest = read_manifest(folder / MANIFEST)
    except ModelError as error:
        return f"  {error}"
    measured = manifest.metrics.get("test")
    test = measured if isinstance(measured, dict) else {}
    figures = (test.get(key) for key in ("accuracy", "expected_calibration_error"))
    accuracy, calibration = (f"{figure:.2%}" if isinstance(figure, float) else "-" for figure in figures)
    weights, by = manifest.files.get(WEIGHTS), str(manifest.training.get("recipe", "?"))
    size = weights.size if weights else 0
    return f"{accuracy:>10}{calibration:>8}{size:>12,}  {by:<20}{manifest.created}"


def _prune(options: argparse.Namespace) -> None:
    removed = Store(options.store).prune(options.name, options.keep)
    print(f"removed: {', '.join(f'{options.name}/{version}' for version in removed) or 'nothing'}")


def _export(options: argparse.Namespace) -> None:
    difference = export(_network(options.what), options.format, options.out)
    print(f"written {options.out}; it agrees with the served network within {difference:.1e}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how containers and systemd interrupt
    sys.exit(main())
