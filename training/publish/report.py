"""The report of a network: `evaluation.json`, and the pictures that `plots.py` draws of it."""

import json
from pathlib import Path

from training.evaluate.accuracy import Evaluation
from training.evaluate.robustness import Robustness
from training.fit.checkpoints import History
from training.fit.run_directory import Run
from training.publish import plots

DOCUMENT = "evaluation.json"


def write_report(folder: Path, evaluation: Evaluation, history: History, robustness: Robustness | None = None) -> None:
    """Write the JSON and every picture that has figures into `folder`, and remove pictures of an earlier report.

    Args:
        folder: created if missing.
        evaluation: for `confusion.png`, `reliability.png`, `classes.png` and, if there are any, `mistakes.png`.
        history: of the training, for `curves.png`; empty if unknown.
        robustness: for `corruptions.png` and `photos.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"robustness": robustness.document()} if robustness else {}
    document = evaluation.document() | figures | ({"history": history} if history else {})
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in plots.NAMES:
        (folder / name).unlink(missing_ok=True)
    plots.draw(folder, evaluation, history, robustness)


def read_history(folder: Path) -> History:
    """Read the training history, one record per epoch, of a run or of a version's report; empty if it has none."""
    published = folder / "report" / DOCUMENT
    if published.exists():
        history: History = json.loads(published.read_text(encoding="utf-8")).get("history", [])
        return history
    return Run(folder).history
