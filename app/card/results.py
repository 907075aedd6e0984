"""The card's sections of figures: overall, class by class, and for worse or larger pictures.

Decides which figures stand together, and the text where they are missing. Pure, like the rest of the card.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, TypeAlias

from app.card.captions import accuracy_by_corruption, recall_by_class, render_plot
from app.card.markup import Html, facts, paragraph, section, table
from app.card.values import items, number, numbers, percent, points, text
from model_store.manifest import Manifest

Fact: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class ServedVersion:
    """A version, its report's evaluation (empty where it has none), and the engine and precision in use."""

    manifest: Manifest
    evaluation: dict[str, Any]
    engine: str
    precision: str

    def plot(self, name: str) -> Html | None:
        """One of the report's plots."""
        return render_plot(self.manifest, self.evaluation, name)

    def metric(self, *path: str) -> float | None:
        """One of the manifest's figures."""
        return number(self.manifest.metrics, *path)


def quality_section(served: ServedVersion) -> Html:
    """The figures over all classes."""
    title = "How good it is"
    rows = [row for row in (_accuracy(served), _error(served), _likelihood(served), _worst(served)) if row]
    if not rows:
        missing = "Nobody has measured it on test images, or the manifest does not say what came of it."
        return section(title, paragraph(f"{missing} How often it is right is not known."))
    precisions = items(served.manifest.metrics, "accuracy_by_precision")
    by_precision = [
        (name, percent(share)) for name, value in precisions if (share := number({"": value}, "")) is not None
    ]
    return section(
        title,
        facts("On the test images", rows),
        _elsewhere(served),
        table("Accuracy by precision", ("precision", "accuracy"), by_precision) if by_precision else None,
        _eight_bits(served),
        served.plot("reliability.png"),
        served.plot("confusion.png"),
    )


def verdicts_section(served: ServedVersion) -> Html:
    """The thresholds of the verdicts unsure and none of these, and how often they are reached."""
    title, fitted = "When it does not know", served.manifest.verdicts
    if fitted is None:
        return section(title, paragraph("Its answers carry no verdict: it calls every picture one of its kinds."))
    explanation = (
        f"An image that is stranger to it than {percent(fitted.novelty_above)} of the held-out ones is called none of "
        f"these; an answer with less than {percent(fitted.confidence_below)} confidence is called unsure."
    )
    test = {key: served.metric("verdicts", "test", key) for key in ("confident", "confident_accuracy", "unsure")}
    strange = served.metric("verdicts", "test", "none_of_these")
    rows = [("Confident", test["confident"]), ("Confident and right, of these", test["confident_accuracy"])]
    rows += [("Unsure", test["unsure"]), ("None of these, wrongly", strange)]
    shares = [(name, percent(share)) for name, share in rows if share is not None]
    return section(title, paragraph(explanation), facts("On the test images", shares) if shares else None)


def classes_section(served: ServedVersion) -> Html:
    """Recall and precision of each class, beside people where the report has them."""
    by_class = dict(items(served.evaluation, "classes"))
    rows = [(label, by_class[label]) for label in served.manifest.labels if label in by_class]
    if not rows:
        missing = (
            "The version has no report by class: how much better it is at some things than at others is not known."
        )
        return section("Class by class", paragraph(missing))
    columns = {"recall": "recall", "precision": "precision"}
    people = [label for label, values in rows if number(values, "human_accuracy") is not None]
    columns |= {"human_accuracy": "people"} if people else {}
    cells = [(label, *(_share(number(values, key)) for key in columns)) for label, values in rows]
    caption = "Recall: of a class's images, how many were called so. Precision: of those called so, how many were."
    return section(
        "Class by class",
        table(caption, ("class", *columns.values()), cells),
        _people(served, dict(rows)) if people else None,
        served.plot("classes.png"),
        served.plot("mistakes.png"),
    )


def robustness_section(served: ServedVersion) -> Html:
    """Accuracy under our own corruptions and at photo sizes."""
    title = "When pictures get worse or larger"
    means = {
        "untouched": served.metric("robustness", "accuracy"),
        "under our own corruptions (not CIFAR-10-C)": served.metric("robustness", "corruption_accuracy"),
        "enlarged to photo sizes, decoded as here": served.metric("robustness", "photo_accuracy"),
    }
    rows = [(name, percent(mean)) for name, mean in means.items() if mean is not None]
    if not rows:
        missing = (
            "Not measured for this version. Expect it to do worse on noisy, dark, blurred or heavily compressed photos."
        )
        return section(title, paragraph(missing))
    images = served.metric("robustness", "images")
    caption = f"Mean accuracy on the same {images:,.0f} test images" if images else "Mean accuracy"
    return section(
        title,
        table(caption, ("images", "accuracy"), rows),
        _by_corruption(served),
        served.plot("corruptions.png"),
        _by_photo(served),
        served.plot("photos.png"),
    )


def _accuracy(served: ServedVersion) -> Fact | None:
    accuracy, images = served.metric("test", "accuracy"), served.metric("test", "images")
    if accuracy is None:
        return None
    precision = text(served.manifest.metrics, "test", "precision")
    accuracy_text = percent(accuracy) + (f" of {images:,.0f}" if images else "") + ", one look at each"
    accuracy_text += f", computed in {precision}" if precision else ""
    if images and 0 <= accuracy <= 1:
        accuracy_text += f"; standard error {points(sqrt(accuracy * (1 - accuracy) / images), 2)}"
    return "Accuracy", accuracy_text


def _error(served: ServedVersion) -> Fact | None:
    error, before = (served.metric(key, "expected_calibration_error") for key in ("test", "test_uncalibrated"))
    if error is None:
        return None
    definition = "mean distance of confidence from accuracy, in 15 bins"
    return "Calibration error", f"{percent(error)}, {_before(served, before, percent)}; {definition}"


def _likelihood(served: ServedVersion) -> Fact | None:
    loss, before = (served.metric(key, "negative_log_likelihood") for key in ("test", "test_uncalibrated"))
    if loss is None:
        return None
    return "Negative log-likelihood", f"{loss:.4f}, {_before(served, before, '{:.4f}'.format)}"


def _before(served: ServedVersion, value: float | None, format_value: Callable[[float], str]) -> str:
    """The same figure before calibration."""
    if value is None:
        return "not calibrated" if served.manifest.temperature == 1 else "after calibration"
    precision = text(served.manifest.metrics, "test_uncalibrated", "precision")
    return f"{format_value(value)} before calibration" + (f" (in {precision})" if precision else "")


def _worst(served: ServedVersion) -> Fact | None:
    ordered, metrics = recall_by_class(served.evaluation), served.manifest.metrics
    low, label = number(metrics, "test", "worst_class_recall"), text(metrics, "test", "worst_class")
    if low is None:
        return None
    label = label or (ordered[0][0] if ordered else "not named")
    gap = f"; {points(ordered[-1][1] - low)} below the best, {ordered[-1][0]}" if ordered else ""
    return "Weakest class", f"{label}, recall {percent(low)}{gap}"


def _elsewhere(served: ServedVersion) -> Html | None:
    """A warning where this service computes in another precision than the figures were measured in."""
    measured = text(served.manifest.metrics, "test", "precision")
    if measured in (None, served.precision):
        return None
    return paragraph(f"These were measured in {measured}; this service computes in {served.precision}.")


def _eight_bits(served: ServedVersion) -> Html | None:
    before, after = (served.metric("quantization", key) for key in ("accuracy_before", "accuracy_after"))
    if before is None or after is None:
        return None
    adopted = served.manifest.metrics["quantization"].get("adopted") is True
    verdict = "so it may be served in int8" if adopted else "so it is not served in int8"
    return paragraph(
        f"On held-out images int8 gave {percent(after)} where there had been {percent(before)}, {verdict}."
    )


def _people(served: ServedVersion, by_class: dict[str, Any]) -> Html:
    pairs = [(number(values, "recall"), number(values, "human_accuracy")) for values in by_class.values()]
    both = [(recall, people) for recall, people in pairs if recall is not None and people is not None]
    ahead = sum(people > recall for recall, people in both)
    source = text(served.evaluation, "human_source") or "from a source the report does not name"
    return paragraph(f"People: {source}. They are ahead of the network in {ahead} of {len(both)} classes.")


def _by_corruption(served: ServedVersion) -> Html | None:
    kinds = dict(items(served.evaluation, "robustness", "corruptions"))
    rows = [(name, numbers(kinds[name], "accuracy"), mean) for name, mean in accuracy_by_corruption(served.evaluation)]
    if not rows:
        return None
    levels = max(len(shares) for _, shares, _ in rows)
    cells = [
        (name, percent(mean, 1), *([percent(share, 1) for share in shares] + [""] * (levels - len(shares))))
        for name, shares, mean in rows
    ]
    heads = ("corruption", "mean", *(str(level) for level in range(1, levels + 1)))
    return table("Accuracy under each corruption, on average and by its strength", heads, cells)


def _by_photo(served: ServedVersion) -> Html | None:
    photos = served.evaluation["robustness"].get("photos") if items(served.evaluation, "robustness") else None
    rows = [
        (f"{width:.0f}×{height:.0f}", text(photo, "file") or "", percent(share))
        for photo in (photos if isinstance(photos, list) else [])
        if (width := number(photo, "width")) is not None
        and (height := number(photo, "height")) is not None
        and (share := number(photo, "accuracy")) is not None
    ]
    return table("Accuracy at photo sizes", ("pixels", "saved as", "accuracy"), rows) if rows else None


def _share(value: float | None) -> str:
    return "not measured" if value is None else percent(value, 1)
