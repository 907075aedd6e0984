"""The plots of a version's report that a card shows, with their captions and alternative texts.

The texts are made from the report's figures, so that people who cannot see a plot get its message.
"""

from collections.abc import Callable

from app.card.markup import Html, figure
from app.card.values import items, number, numbers, percent, text
from model_store.manifest import Manifest

REPORT_FOLDER = "report/"
EvaluationDocument = dict[str, object]


def render_plot(manifest: Manifest, evaluation: EvaluationDocument, name: str) -> Html | None:
    """One plot of the report, if the version has it; its address is relative to the card's."""
    if REPORT_FOLDER + name not in manifest.files:
        return None
    caption, describe = PLOTS[name]
    return figure(REPORT_FOLDER + name, f"{caption}. {describe(evaluation)}".strip(), caption)


def recall_by_class(evaluation: EvaluationDocument) -> list[tuple[str, float]]:
    """Pairs of class and recall, lowest first."""
    recalls = [(label, number(values, "recall")) for label, values in items(evaluation, "classes")]
    return sorted([(label, recall) for label, recall in recalls if recall is not None], key=lambda pair: pair[1])


def accuracy_by_corruption(evaluation: EvaluationDocument) -> list[tuple[str, float]]:
    """Pairs of corruption and mean accuracy, lowest first."""
    means = [(name, number(values, "mean")) for name, values in items(evaluation, "robustness", "corruptions")]
    return sorted([(name, mean) for name, mean in means if mean is not None], key=lambda pair: pair[1])


def _confusion(evaluation: EvaluationDocument) -> str:
    """The commonest confusion. Rows of the matrix are true classes, columns predicted ones."""
    labels, rows = [label for label, _ in items(evaluation, "classes")], evaluation.get("confusion")
    counts = [numbers({"": row}, "") for row in rows] if isinstance(rows, list) else []
    if not labels or [len(row) for row in counts] != [len(labels)] * len(labels):
        return ""
    wrong = [(n, labels[i], labels[j]) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j]
    count, true, called = max(wrong, default=(0.0, "", ""))
    return f"Most often {true} was called {called}: {count:,.0f} times." if count else "Nothing was confused."


def _reliability(evaluation: EvaluationDocument) -> str:
    error = number(evaluation, "expected_calibration_error")
    return "" if error is None else f"On average the two are {percent(error)} apart."


def _classes(evaluation: EvaluationDocument) -> str:
    ordered = recall_by_class(evaluation)
    if not ordered:
        return ""
    (worst, low), (best, high) = ordered[0], ordered[-1]
    return f"From {worst}, {percent(low, 1)}, to {best}, {percent(high, 1)}."


def _mistakes(evaluation: EvaluationDocument) -> str:
    mistakes = evaluation.get("mistakes")
    first = mistakes[0] if isinstance(mistakes, list) and mistakes else None
    true, called, confidence = text(first, "is"), text(first, "called"), number(first, "confidence")
    if true is None or called is None or confidence is None:
        return ""
    return f"The first is {true}, called {called} with a confidence of {percent(confidence, 1)}."


def _corruptions(evaluation: EvaluationDocument) -> str:
    mean, ordered = number(evaluation, "robustness", "corruption_accuracy"), accuracy_by_corruption(evaluation)
    if mean is None or not ordered:
        return ""
    (worst, low), (best, high) = ordered[0], ordered[-1]
    return f"On average {percent(mean, 1)}: from {percent(low, 1)} for {worst} to {percent(high, 1)} for {best}."


def _photos(evaluation: EvaluationDocument) -> str:
    mean, untouched = (number(evaluation, "robustness", key) for key in ("photo_accuracy", "accuracy"))
    if mean is None or untouched is None:
        return ""
    return f"On average {percent(mean, 1)}; the same images untouched: {percent(untouched, 1)}."


def _curves(evaluation: EvaluationDocument) -> str:
    history = evaluation.get("history")
    last = history[-1] if isinstance(history, list) and history else None
    epoch, accuracy = number(last, "epoch"), number(last, "accuracy")
    if epoch is None or accuracy is None:
        return ""
    return f"After {epoch:.0f} epochs {percent(accuracy, 1)} of the training images were called by their names."


PLOTS: dict[str, tuple[str, Callable[[EvaluationDocument], str]]] = {
    "curves.png": ("Loss and accuracy, epoch by epoch", _curves),
    "confusion.png": ("What the images of each class were called", _confusion),
    "reliability.png": ("Accuracy against confidence", _reliability),
    "classes.png": ("Recall of each class, with its 95 % interval", _classes),
    "mistakes.png": ("The most confident mistakes", _mistakes),
    "corruptions.png": ("Accuracy under our own corruptions, which are not CIFAR-10-C", _corruptions),
    "photos.png": ("Accuracy on test images enlarged to the sizes of photos", _photos),
}
