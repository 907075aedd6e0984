"""`versions`, `activate` and `prune`: list a store's versions, choose the one to serve, and remove old ones."""

import argparse
import sys
from typing import Any

from model_store.errors import ModelError
from model_store.files import WEIGHTS
from model_store.manifest import Manifest
from model_store.version import load, read_placed_manifest
from training.commands.arguments import Jobs, add_store, existing_store, positive, require_existing_name
from training.commands.output import add_json, print_json, print_table

NEWEST = "newest"


def add_versions(jobs: Jobs) -> None:
    """Add the job `versions`."""
    job = jobs.add_parser("versions", help="list versions with accuracy, calibration error and size")
    add_store(job)
    add_json(job)
    job.set_defaults(job=run_versions)


def add_activate(jobs: Jobs) -> None:
    """Add the job `activate`."""
    job = jobs.add_parser(
        "activate", help="choose the version that is served; running services follow within seconds, forwards and back"
    )
    job.add_argument("version", metavar="N|newest", type=_version, help="`newest`: always the highest, the default")
    add_store(job)
    job.add_argument("--name", help="model name (required)")
    job.set_defaults(job=run_activate)


def _version(text: str) -> int | None:
    return None if text == NEWEST else positive(text)


def add_prune(jobs: Jobs) -> None:
    """Add the job `prune`."""
    job = jobs.add_parser("prune", help="remove all but the newest versions and the active one")
    add_store(job)
    job.add_argument("--name", help="model name (required)")
    job.add_argument("--keep", type=positive, required=True, metavar="N", help="number of newest versions to keep")
    job.set_defaults(job=run_prune)


def run_versions(options: argparse.Namespace) -> None:
    """Print a row or a JSON object for each version that can be read, then what is wrong with the others."""
    store, rows, problems = existing_store(options.store), list[tuple[str, ...]](), list[str]()
    documents = list[dict[str, Any]]()
    for name in store.names():
        try:
            active = store.choose_version(name)
        except ModelError as error:  # no version of this model can be served; still list the others
            active = None
            problems.append(f"{name}: {error}")
        for version in store.versions(name):
            mark = "*" if version == active else " "
            try:
                manifest = read_placed_manifest(store.folder(name, version))
            except ModelError as error:
                problems.append(f"{name} {version}: {error}")
            else:
                rows.append((name, f"{version}{mark}", *_figures(manifest)))
                documents.append(_version_document(manifest, version == active))
    if options.json:
        print_json({"store": str(store.root), "versions": documents, "problems": problems})
        return
    print_table(("model", "version>", "accuracy>", "calibration error>", "weights>", "recipe", "created"), rows)
    print("* marks the active version of each model")
    for problem in problems:
        print(problem)


def _version_document(manifest: Manifest, active: bool) -> dict[str, Any]:
    """Return a version's figures for `versions --json`; a figure that the manifest lacks is null."""
    from training.evaluate.intervals import accuracy_document
    from training.publish.target import measured_accuracy

    measured, metrics = measured_accuracy(manifest), manifest.metrics.get("test")
    calibration = metrics.get("expected_calibration_error") if isinstance(metrics, dict) else None
    weights = manifest.files.get(WEIGHTS)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "active": active,
        "accuracy": accuracy_document(round(measured[0] * measured[1]), measured[1]) if measured else None,
        "expected_calibration_error": calibration if isinstance(calibration, float) else None,
        "weights_bytes": weights.size if weights else None,
        "recipe": manifest.training.get("recipe"),
        "created": manifest.created,
    }


def _figures(manifest: Manifest) -> tuple[str, ...]:
    from training.evaluate.intervals import accuracy_of
    from training.publish.target import measured_accuracy

    measured, metrics = measured_accuracy(manifest), manifest.metrics.get("test")
    accuracy = accuracy_of(round(measured[0] * measured[1]), measured[1]) if measured else "-"
    error = metrics.get("expected_calibration_error") if isinstance(metrics, dict) else None
    calibration = f"{error:.2%}" if isinstance(error, float) else "-"
    weights, recipe = manifest.files.get(WEIGHTS), str(manifest.training.get("recipe", "?"))
    return accuracy, calibration, f"{weights.size if weights else 0:,}", recipe, manifest.created


def run_activate(options: argparse.Namespace) -> None:
    """Test the version as the service does, then write or remove ACTIVE."""
    store, version = existing_store(options.store), options.version
    name = require_existing_name(options.name, store)
    if version in store.versions(name):
        load(store.folder(name, version))
    store.activate(name, version)
    served = store.choose_version(name)
    if version is None:
        try:
            load(store.folder(name, served))
        except ModelError as error:
            print(f"warning: {name} {served} cannot be served, so an older version is: {error}", file=sys.stderr)
    rule = "the newest is always served" if version is None else "until another is activated"
    print(f"{name} {served} is active, {rule}; running services follow within seconds and restarts keep it")
    print("(not services with CIFAR10_MODEL_VERSION, another CIFAR10_MODEL_NAME, or CIFAR10_FOLLOW=false)")


def run_prune(options: argparse.Namespace) -> None:
    """Remove old versions of one model and print their names."""
    store = existing_store(options.store)
    name = require_existing_name(options.name, store)
    removed = store.prune(name, options.keep)
    removed_names, kept = (
        ", ".join(f"{name}/{version}" for version in these) for these in (removed, store.versions(name))
    )
    print(f"removed: {removed_names or 'nothing'}; these stay: {kept}")
