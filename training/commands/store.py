"""`versions` and `prune`: list a store's versions and remove old ones."""

import argparse
from pathlib import Path

from model_store.errors import ModelError
from model_store.files import MANIFEST, WEIGHTS
from model_store.manifest import read_manifest
from model_store.store import Store
from training.commands.arguments import STORE, Jobs, add_store, positive


def add_versions(jobs: Jobs) -> None:
    """Add the job `versions`."""
    job = jobs.add_parser("versions", help="list versions with accuracy, calibration error and size")
    job.add_argument("--store", type=Path, default=STORE, help=f"folder of the model store (default: {STORE})")
    job.set_defaults(job=run_versions)


def add_prune(jobs: Jobs) -> None:
    """Add the job `prune`."""
    job = jobs.add_parser("prune", help="remove all but the newest versions and the active one")
    add_store(job)
    job.add_argument("--keep", type=positive, required=True, metavar="N", help="number of newest versions to keep")
    job.set_defaults(job=run_prune)


def run_versions(options: argparse.Namespace) -> None:
    """Print one line per version of each model."""
    store = Store(options.store)
    print(f"{'model':<20}{'version':>8}{'accuracy':>10}{'ECE':>8}{'weights':>12}  {'recipe':<20}created")
    for name in store.names():
        try:
            active = store.choose_version(name)
        except ModelError as error:  # no version of this model can be served; still list the others
            active = None
            print(f"{name:<20}  {error}")
        for version in store.versions(name):
            mark = "*" if version == active else " "
            print(f"{name:<20}{version:>7}{mark}{_version_line(store.folder(name, version))}")
    print("* marks the active version of each model")


def _version_line(folder: Path) -> str:
    try:
        manifest = read_manifest(folder / MANIFEST)
    except ModelError as error:
        return f"  {error}"
    metrics = manifest.metrics.get("test")
    test = metrics if isinstance(metrics, dict) else {}
    figures = (test.get(key) for key in ("accuracy", "expected_calibration_error"))
    accuracy, calibration = (f"{figure:.2%}" if isinstance(figure, float) else "-" for figure in figures)
    weights, recipe = manifest.files.get(WEIGHTS), str(manifest.training.get("recipe", "?"))
    size = weights.size if weights else 0
    return f"{accuracy:>10}{calibration:>8}{size:>12,}  {recipe:<20}{manifest.created}"


def run_prune(options: argparse.Namespace) -> None:
    """Remove old versions of one model and print their names."""
    removed = Store(options.store).prune(options.name, options.keep)
    print(f"removed: {', '.join(f'{options.name}/{version}' for version in removed) or 'nothing'}")
