"""The report of a network: `evaluation.json`, and the pictures that `pictures.py` draws of it."""

import json
from pathlib import Path

from training.evaluate.accuracy import Evaluation
from training.evaluate.robustness import Robustness
from training.fit.run_directory import Run
from training.publish import plots

DOCUMENT = "evaluation.json"
History = list[dict[str, float]]


def write_report(folder: Path, evaluation: Evaluation, history: History, robustness: Robustness | None = None) -> None:
    """Write the JSON and every picture there are figures for into `folder`; pictures of an earlier report go.

    Args:
        folder: made where it is missing.
        evaluation: for `confusion.png`, `reliability.png`, `classes.png` and, if there are any, `mistakes.png`.
        history: of the training, for `curves.png`; empty where it is not known.
        robustness: for `corruptions.png` and `photos.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured = {"robustness": robustness.document()} if robustness else {}
    document = evaluation.document() | measured | ({"history": history} if history else {})
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in plots.NAMES:
        (folder / name).unlink(missing_ok=True)
    plots.draw(folder, evaluation, history, robustness)


def read_history(folder: Path) -> History:
    """The training's record, an epoch an item, of a run or of a version whose report has it; else empty."""
    published = folder / "report" / DOCUMENT
    if published.exists():
        history: History = json.loads(published.read_text(encoding="utf-8")).get("history", [])
        return history
    return Run(folder).history
