"""The report of a network: `evaluation.json`, and the pictures that `plots.py` draws of it."""

from pathlib import Path
from typing import Any

from model_store.os_errors import naming
from model_store.report import REPORT_FILE, REPORT_FOLDER, EpochReport, read_report, report_to_json
from training.evaluate.accuracy import Evaluation
from training.evaluate.robustness import Robustness
from training.fit.run.checkpoints import History
from training.fit.run.directory import Run, best_epoch
from training.publish import plots


def write_report(
    folder: Path,
    evaluation: Evaluation,
    history: History,
    robustness: Robustness | None = None,
    pictures: bool = True,
) -> None:
    """Write the JSON and every picture that has figures into `folder`, and remove pictures of an earlier report.

    Args:
        folder: created if missing.
        evaluation: for `confusion.png`, `reliability.png`, `classes.png` and, if there are any, `mistakes.png`.
        history: of the training, for `curves.png`; empty if unknown.
        robustness: for `corruptions.png` and `photos.png`.
        pictures: False to write the JSON alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    epochs = tuple(EpochReport.model_validate(record) for record in history)
    measured: dict[str, Any] = {"robustness": robustness.report()} if robustness else {}
    report = evaluation.report().model_copy(update=measured | ({"history": epochs} if epochs else {}))
    with naming(folder / REPORT_FILE):
        (folder / REPORT_FILE).write_bytes(report_to_json(report))
    for name in plots.NAMES:
        (folder / name).unlink(missing_ok=True)
    if pictures:
        plots.draw(folder, evaluation, epochs, robustness)


def read_history(folder: Path) -> History:
    """Read the training history, one record per epoch, of a run or of a version's report; empty if it has none.

    Records say which epoch was `kept`, if not always the last one is.

    Raises:
        ModelError: the version's report is damaged.
    """
    published = folder / REPORT_FOLDER / REPORT_FILE
    if published.exists():
        epochs = read_report(published.read_bytes()).history
        return [epoch.model_dump(by_alias=True, exclude_unset=True) for epoch in epochs]
    run = Run(folder)
    history, baselines = run.history, run.baselines
    if not baselines:  # the last epoch is the result
        return history
    best = best_epoch(history, baselines)
    return [record | {"kept": record["epoch"] == best} for record in history]
