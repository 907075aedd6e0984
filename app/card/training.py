"""Training data, recipe, hardware and software of a version, from its manifest."""

from dataclasses import dataclass
from typing import Any, Literal

from app.card.results import Fact
from app.card.values import duration, joined, number, text
from model_store.manifest import Manifest
from model_store.report import Report

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SHA256 = "a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b"  # of its training images

DataSource = Literal["CIFAR-10", "own", "unknown"]


@dataclass(frozen=True)
class TrainingData:
    """Training images, and the version from which training started."""

    source: DataSource
    started_from: str | None
    facts: list[Fact]


def training_data(manifest: Manifest) -> TrainingData:
    """Recognise CIFAR-10's training images by their SHA-256."""
    digest = text(manifest.training, "data_sha256")
    facts = _present({"Training images": _images(manifest.training), "SHA-256 of the data": digest})
    return TrainingData(_source(digest), text(manifest.training, "started_from"), facts)


def training_facts(manifest: Manifest, report: Report | None = None) -> list[Fact]:
    """Collect recipe, duration, hardware and software, as far as they are recorded."""
    training = manifest.training
    teachers = training.get("teachers")
    entries = {
        "Recipe": joined(": ", text(training, "recipe"), text(training, "recipe_values", "description")),
        "Started from": text(training, "started_from") or ("random weights" if "started_from" in training else None),
        "Teachers": f"{len(teachers)} other runs" if isinstance(teachers, list) and teachers else None,
        "Hardware": _hardware(training),
        "Software": _software(training),
        "Code version": text(training, "environment", "code"),
        "Saved by Keras": text(training, "saved_by_keras"),
        "Published from": text(training, "published_from"),
    }
    return _present(entries | _epochs(training, report.kept_epoch if report else None))


def mentions_cifar10(manifest: Manifest) -> bool:
    """Return True if the version was trained on CIFAR-10 or has its labels."""
    return text(manifest.training, "data_sha256") == CIFAR10_SHA256 or manifest.labels == CIFAR10_LABELS


def _source(digest: str | None) -> DataSource:
    if digest is None:
        return "unknown"
    return "CIFAR-10" if digest == CIFAR10_SHA256 else "own"


def _epochs(training: dict[str, Any], kept: int | None) -> dict[str, str | None]:
    if number(training, "epochs") == 0:  # averaged from other networks
        return {}
    counts = {"Epochs": "epochs", "Batch size": "batch_size", "Seed": "seed"}
    seconds = number(training, "seconds")
    facts = {name: _count(training, key) for name, key in counts.items()}
    if facts["Epochs"] and kept is not None:
        facts["Epochs"] += f"; epoch {kept} was kept" if kept else "; none was kept, only the new last layer"
    return facts | {"Took": None if seconds is None else duration(seconds)}


def _count(training: dict[str, Any], key: str) -> str | None:
    count = number(training, key)
    return None if count is None else f"{count:,.0f}"


def _images(training: dict[str, Any]) -> str | None:
    held_out = training.get("hold_out") is True
    count = _count(training, "images")
    return f"{count}, without the validation images" if count and held_out else count


def _hardware(training: dict[str, Any]) -> str | None:
    cores = text(training, "environment", "cores")
    processor, device = (text(training, "environment", key) for key in ("processor", "device"))
    return joined(", ", processor, f"{cores} cores" if cores else None, device)


def _software(training: dict[str, Any]) -> str | None:
    names = "keras", text(training, "environment", "backend") or "", "python"
    versions = [(name, text(training, "environment", name)) for name in names]
    return joined(", ", *(f"{name} {version}" for name, version in versions if version))


def _present(entries: dict[str, str | None]) -> list[Fact]:
    return [(name, value) for name, value in entries.items() if value]
