"""Runs side by side: settings, accuracy and speed, read from their own files."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from training.evaluate.intervals import accuracy_document
from training.fit.run.checkpoints import AGREEMENT, VAL_ACCURACY, VAL_LOSS, History
from training.fit.run.directory import Run, RunInfo
from training.pace import format_duration

ROWS: dict[str, Callable[[RunInfo, History], str]] = {
    "recipe": lambda info, history: info.recipe,
    "seed": lambda info, history: str(info.seed),
    "images": lambda info, history: f"{info.images:,}",
    "teachers": lambda info, history: str(len(info.teachers)),
    "goes on from": lambda info, history: info.started_from or "-",
    "batch size": lambda info, history: str(info.batch_size),
    "epochs": lambda info, history: f"{len(history)} of {info.epochs}",
    "loss": lambda info, history: _last(history, "loss", "{:.4f}"),
    "accuracy": lambda info, history: _last(history, "accuracy", "{:.2%}"),
    "agreement with teachers": lambda info, history: _last(history, AGREEMENT, "{:.2%}"),
    "val loss": lambda info, history: _last(history, VAL_LOSS, "{:.4f}"),
    "val accuracy": lambda info, history: _last(history, VAL_ACCURACY, "{:.2%}"),
    "best val accuracy": lambda info, history: _best(history),
    "training time": lambda info, history: format_duration(sum(record["seconds"] for record in history)),
    "images/s": lambda info, history: _rate(info, history),
    "backend": lambda info, history: info.environment.get("backend", "-"),
    "processor": lambda info, history: info.environment.get("processor", "-"),
    "computed in": lambda info, history: info.environment.get("precision", "-"),
    "code": lambda info, history: info.environment.get("code", "-"),
}


def compare_runs(runs: Sequence[Run]) -> list[list[str]]:
    """Return a row for each property, with a column for each run, then the hyper-parameters that differ.

    Raises:
        TrainingError: a folder is not a run.
    """
    records = [(run.info, run.history) for run in runs]
    rows = [[name, *(value(info, history) for info, history in records)] for name, value in ROWS.items()]
    flat = [_flat(info.recipe_values) for info, _ in records]
    for key in sorted(set().union(*flat)):
        first, *others = values = [settings.get(key, "-") for settings in flat]
        if any(other != first for other in others) and key not in ("description", "epochs", "batch_size"):
            rows.append([key, *map(str, values)])
    return rows


def run_document(run: Run) -> dict[str, Any]:
    """Return a run's settings and figures, unrounded, for `compare --json`.

    Accuracies are as `accuracy_document`; `n` and interval are null for runs that do not record how many validation
    images they have.

    Raises:
        TrainingError: the folder is not a run.
    """
    info, history = run.info, run.history
    last: dict[str, float] = history[-1] if history else {}
    val_images = info.val_images or (run.baselines.images if run.baselines else None)
    val = [(record[VAL_ACCURACY], record["epoch"]) for record in history if VAL_ACCURACY in record]
    seconds = sum(record["seconds"] for record in history)
    return {
        "folder": str(run.folder),
        "recipe": info.recipe,
        "recipe_values": info.recipe_values,
        "seed": info.seed,
        "images": info.images,
        "teachers": len(info.teachers),
        "started_from": info.started_from,
        "batch_size": info.batch_size,
        "epochs": info.epochs,
        "finished_epochs": len(history),
        "loss": _finite(last.get("loss")),
        "accuracy": _accuracy(last.get("accuracy"), info.images),
        "agreement": _accuracy(last.get(AGREEMENT), info.images),
        "val_loss": _finite(last.get(VAL_LOSS)),
        "val_accuracy": _accuracy(last.get(VAL_ACCURACY), val_images),
        "best_val_accuracy": _accuracy(max(val)[0] if val else None, val_images),
        "best_val_epoch": int(max(val)[1]) if val else None,
        "seconds": seconds,
        "images_per_second": info.images * len(history) / seconds if seconds else None,
        "environment": info.environment,
    }


def _accuracy(share: float | None, n: int | None) -> dict[str, Any] | None:
    if share is None:
        return None
    interval = accuracy_document(round(share * n), n)["interval_95"] if n else None
    return {"value": share, "n": n or None, "interval_95": interval}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    parts = [_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in values.items()]
    return {key: value for part in parts for key, value in part.items()}


def _last(history: History, key: str, pattern: str) -> str:
    return pattern.format(history[-1][key]) if history and key in history[-1] else "-"


def _best(history: History) -> str:
    val = [(record[VAL_ACCURACY], record["epoch"]) for record in history if VAL_ACCURACY in record]
    return "{:.2%} in epoch {:.0f}".format(*max(val)) if val else "-"


def _rate(info: RunInfo, history: History) -> str:
    seconds = sum(record["seconds"] for record in history)
    return f"{info.images * len(history) / seconds:,.0f}" if seconds else "-"
