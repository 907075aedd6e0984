"""The card says what manifest and report say, whatever they hold, and nothing they hold becomes markup."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.card.plots import MAX_CONFUSION_CLASSES, PICTURES, PLOTS
from app.card.render import EVALUATION, render_card
from app.card.results import ServedVersion
from app.card.training import CIFAR10_LABELS, CIFAR10_SHA256
from model_store.manifest import Manifest, read_manifest
from model_store.report import Report, read_report
from model_store.store import SHIPPED_STORE

SHIPPED = sorted(SHIPPED_STORE.glob("*/[0-9]*"))
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of a page; asserts that every element is closed where it must be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).replace("\N{NO-BREAK SPACE}", " ").split())


def check(html: str) -> Page:
    page = Page(html)
    assert len(page.all("h1")) == 1 and page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    captions = {caption["id"] for caption in page.all("figcaption")}
    assert all(plot["role"] == "img" and plot["aria-labelledby"] in captions for plot in page.all("svg"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert not page.all("script") and not page.all("style")
    names = {name for _, attributes in page.tags for name in attributes}
    assert not any(name == "style" or name.startswith("on") for name in names)
    addresses = [attributes.get("href", attributes.get("src", "")) for _, attributes in page.tags]
    assert not any(address.startswith(("/", "http", "javascript")) for address in addresses)
    return page


def read(folder: Path) -> tuple[Manifest, Report]:
    return read_manifest(folder / "manifest.json"), read_report((folder / EVALUATION).read_bytes())


def page_of(manifest: Manifest, report: Report | None = None) -> Page:
    return check(render_card(ServedVersion(manifest, report, "openvino", "float32")))


def bare(**changes) -> Manifest:
    """A version that says nothing but what it must."""
    fields = {
        "name": "mine",
        "version": 7,
        "created": "yesterday",
        "labels": ("apple", "pear"),
        "preprocessing": {"mean": (0, 0, 0), "std": (1, 1, 1)},
        "output": "logits",
        "golden_tolerance": {"float32": 0.1},
        "files": {},
    }
    return Manifest.model_validate(fields | changes)


def share(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_figures_are_the_manifests_and_the_reports(folder):
    manifest, report = read(folder)
    page, test = page_of(manifest, report), manifest.metrics["test"]
    assert f"Model card: {folder.parent.name}, version {folder.name}" in page.text
    assert f"{share(test['accuracy'])} of 10,000" in page.text and f"computed in {test['precision']}" in page.text
    assert share(test["expected_calibration_error"]) in page.text
    assert f"{test['negative_log_likelihood']:.4f}" in page.text
    assert f"cat, recall {share(test['worst_class_recall'])}" in page.text
    assert f"{test['parameters']:,}" in page.text and f"{test['multiply_adds']:,}" in page.text
    for label, figures in report.classes.items():
        row = [label, *(share(value, 1) for value in (figures.recall, figures.precision, figures.human_accuracy))]
        assert "".join(row).replace(" ", "") in page.text.replace(" ", "")


MEASURED = {
    "test": {
        "images": 1_000,
        "accuracy": 0.8,
        "precision": "int8",
        "expected_calibration_error": 0.01,
        "worst_class": "pear",
        "worst_class_recall": 0.7,
    },
    "test_uncalibrated": {"expected_calibration_error": 0.02},
    "robustness": {
        "images": 500,
        "accuracy": 0.79,
        "corruption_accuracy": 0.61,
        "cifar10_c_accuracy": 0.64,
        "photo_accuracy": 0.78,
    },
}
TRAINED = {
    "recipe": "orchard",
    "images": 1_200,
    "epochs": 30,
    "seconds": 227.3,
    "started_from": None,
    "environment": {"processor": "A processor", "cores": "16", "code": "4c7f43a"},
}
REPORT = Report.model_validate(
    {
        "images": 1_000,
        "accuracy": 0.8,
        "mirror_accuracy": 0.8,
        "negative_log_likelihood": 0.5,
        "expected_calibration_error": 0.01,
        "worst_class_recall": 0.7,
        "engine": "openvino",
        "precision": "int8",
        "classes": {
            "apple": {"recall": 0.9, "precision": 0.75, "human_accuracy": 0.95},
            "pear": {"recall": 0.7, "precision": 0.875, "human_accuracy": 0.6},
        },
        "confusion": [[450, 50], [150, 350]],
        "reliability": [[0.81, 0.8, 1_000]],
        "images_per_second": 100,
        "mistakes": [{"index": 3, "is": "pear", "called": "apple", "confidence": 0.99}],
        "robustness": {
            "images": 500,
            "accuracy": 0.79,
            "corruption_accuracy": 0.61,
            "photo_accuracy": 0.78,
            "corruption_standard_error": 0.01,
            "corruptions": {"blur": {"parameter": "px", "strengths": [1, 2], "accuracy": [0.81, 0.23], "mean": 0.52}},
            "corruptions_note": "",
            "photo_difference": -0.01,
            "photo_difference_standard_error": 0.01,
            "photos": [{"width": 640, "height": 480, "file": "JPEG", "accuracy": 0.77}],
        },
        "history": [{"epoch": 30, "loss": 0.1, "accuracy": 0.96}],
    }
)


def report_of(**changes) -> Report:
    return Report.model_validate(REPORT.model_dump() | changes)


def test_what_only_some_versions_have_is_shown_where_it_is():
    text = page_of(bare(metrics=MEASURED, training=TRAINED), REPORT).text
    for fact in (
        "1.00 %, 2.00 % before calibration",
        "measured in int8; this service computes in float32",
        "pear, recall 70.0 % of 500 (95 % interval 65.8 % to 73.9 %); 20.0 points below the best, apple",
        "61.00 %",
        "not CIFAR-10-C",
        "under CIFAR-10-C's corruptions (14 of 15)",
        "64.00 %",
        "23.0 %",
        "640×480",
        "higher than the network's in 1 of 2 classes",
        "orchard",
        "1,200",
        "30",
        "A processor, 16 cores",
        "3 min 47 s",
        "4c7f43a",
        "random weights",
    ):
        assert fact in text, fact


def test_few_test_images_have_a_wide_interval_and_no_weakest_class_where_all_are_alike():
    test = {"images": 12, "accuracy": 1.0, "worst_class": "apple", "worst_class_recall": 1.0}
    classes = {label: {"recall": 1.0, "precision": 1.0} for label in ("apple", "pear")}
    page = page_of(bare(metrics={"test": test}), report_of(classes=classes, confusion=[[6, 0], [0, 6]]))
    assert "100.0 % of 12 (95 % interval 75.8 % to 100.0 %), one forward pass each" in page.text
    assert "Weakest class" not in page.text


@pytest.mark.parametrize(
    ("kept", "epochs", "curves"),
    [
        ((True, False), "2; epoch 1 was kept", "Epoch 1 was kept: after it, 90.0"),
        ((False, False), "2; none was kept, only the new last layer", "No epoch was kept. After 2 epochs 96.0"),
        ((None, None), "2", "After 2 epochs 96.0"),
    ],
    ids=["the first", "none", "unknown"],
)
def test_the_card_names_the_epoch_that_was_kept(kept, epochs, curves):
    accuracies = zip((1, 2), (0.9, 0.96), kept, strict=True)
    history = [{"epoch": n, "loss": 0.1, "accuracy": share, "kept": was} for n, share, was in accuracies]
    page = page_of(bare(training={"epochs": 2}), report_of(history=history))
    assert f"Epochs{epochs}".replace(" ", "") in "".join(page.text.split())
    assert f"Accuracy, epoch by epoch. {curves}" in page.text
    assert ("kept: 1" in page.text) == (kept == (True, False))


FILES = {f"report/{name}": {"size": 0, "sha256": "0" * 64} for name in PICTURES}


def test_every_plot_of_the_report_is_drawn_and_described():
    page = page_of(bare(metrics=MEASURED), REPORT)
    assert [plot["aria-labelledby"] for plot in page.all("svg")] == [f"plot-{name}" for name in PLOTS]
    for said in (
        "Most often pear was taken for apple: 150 times",
        "From pear, 70.0 %, to apple, 90.0 %",
        "from 52.0 % for blur",
        "After 30 epochs 96.0 %",
        "On average the two are 1.00 % apart",
        "not enlarged: 79.0 %",
    ):
        assert said in page.text, said
    assert not page_of(bare(metrics=MEASURED)).all("svg")


def test_pictures_of_images_are_those_that_the_version_has():
    page = page_of(bare(metrics=MEASURED, files=FILES), REPORT)
    images = {image["src"]: image["alt"] for image in page.all("img")}
    assert set(images) == set(FILES)
    assert "The first shows pear, predicted apple" in images["report/mistakes.png"]
    assert not page_of(bare(metrics=MEASURED), REPORT).all("img")


def test_a_report_without_some_figures_has_no_plots_of_them():
    report = report_of(history=(), mistakes=(), reliability=(), robustness=None, confusion=[[5, 0], [0, 5]])
    page = page_of(bare(metrics=MEASURED, files=FILES), report)
    assert [plot["aria-labelledby"] for plot in page.all("svg")] == ["plot-classes"]
    assert page.all("img")[0]["alt"] == "Pictures of the most confident mistakes."
    assert "No class was confused" in page.text


def test_the_confusion_matrix_of_many_classes_is_a_list_of_its_largest_entries():
    labels = [f"kind {number}" for number in range(MAX_CONFUSION_CLASSES + 1)]
    confusion = [[0] * len(labels) for _ in labels]
    confusion[2][5], confusion[3][1] = 7, 1_009
    classes = {label: {"recall": 0.5, "precision": 0.5} for label in labels}
    page = page_of(bare(), report_of(classes=classes, confusion=confusion))
    assert "The most frequent confusions iscalledimages kind 3kind 11,009 kind 2kind 57" in page.text
    assert "Test images by true class" in page_of(bare(), REPORT).text


def test_a_version_that_says_nothing_gets_a_card_that_says_so():
    page = page_of(bare())
    for said in (
        "apple",
        "yesterday",
        "does not say which images",
        "does not say how it was trained",
        "so the accuracy is unknown",
        "has no figures by class",
        "Not measured for this version",
        "confidences are not calibrated",
        "Surveillance",
    ):
        assert said in page.text
    assert "Krizhevsky" not in page.text and "None" not in page.text


def test_an_import_that_was_never_tested_claims_nothing():
    origin = {"recipe": "imported", "saved_by_keras": "2.12.0", "files": {"weights": {"name": "w.h5", "sha256": "0"}}}
    metrics = {"test": {"parameters": 5, "multiply_adds": 6}, "differences_from_keras": {"float32": 1e-6}}
    page = page_of(bare(training=origin, metrics=metrics))
    assert "2.12.0" in page.text and "imported" in page.text and "so the accuracy is unknown" in page.text


def test_a_mean_of_networks_took_no_epochs_and_no_time():
    training = {"recipe": "average", "started_from": "0.5 × a/1 + 0.5 × a/2", "epochs": 0, "seed": 0, "seconds": 0}
    page = page_of(bare(training=training))
    assert "0.5 × a/1 + 0.5 × a/2" in page.text and "average" in page.text
    assert "Epochs" not in page.text and "Took" not in page.text and "Seed" not in page.text


def test_own_data_is_not_called_cifar10s_nor_compared_with_people():
    training = {"recipe": "fine-tune", "data_sha256": "ab" * 32, "images": 80, "started_from": "cifar10/3"}
    classes = {label: {"precision": 0.5, "recall": 0.25} for label in ("apple", "pear")}
    page = page_of(bare(training=training), report_of(classes=classes))
    assert "publisher's own" in page.text and "started from cifar10/3" in page.text and "25.0 %" in page.text
    assert "people" not in [text.strip() for text in page.texts] and "Krizhevsky" not in page.text


def test_what_the_card_knows_of_cifar10_is_what_the_shipped_versions_say():
    for folder in SHIPPED:
        manifest, _ = read(folder)
        assert (manifest.labels, manifest.training["data_sha256"]) == (CIFAR10_LABELS, CIFAR10_SHA256)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>"


def test_nothing_of_a_hostile_version_becomes_markup():
    training = {"recipe": HOSTILE, "started_from": HOSTILE, "data_sha256": HOSTILE, "environment": {"code": HOSTILE}}
    metrics = {"test": {"accuracy": 0.5, "precision": HOSTILE}, "accuracy_by_precision": {HOSTILE: 0.5}}
    metrics["robustness"] = {"accuracy": 0.5}
    figures = {"recall": 0.5, "precision": 0.5, "human_accuracy": 0.5}
    robustness = REPORT.robustness.model_dump()
    robustness["corruptions"] = {HOSTILE: robustness["corruptions"]["blur"]}
    robustness["photos"][0]["file"] = HOSTILE
    report = report_of(
        classes={HOSTILE: figures, "b": figures},
        human_source=HOSTILE,
        robustness=robustness,
        mistakes=[{"index": 0, "is": HOSTILE, "called": HOSTILE, "confidence": 1}],
    )
    labels = (HOSTILE, "b")
    page = page_of(bare(labels=labels, created=HOSTILE, training=training, metrics=metrics, files=FILES), report)
    assert HOSTILE in page.text and len(page.all("img")) == len(PICTURES)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damaged(draw, document):
    """A document with one of its values, anywhere in it, replaced by any other."""
    if isinstance(document, dict) and document and draw(st.integers(0, 7)):
        key = draw(st.sampled_from(sorted(document)))
        return document | {key: draw(damaged(document[key]))}
    if isinstance(document, list) and document and draw(st.booleans()):
        return [draw(damaged(document[0])), *document[1:]]
    return draw(values)


MANIFEST, SHIPPED_REPORT = read(SHIPPED[0])
DOCUMENT = SHIPPED_REPORT.model_copy(update={"history": SHIPPED_REPORT.history[-1:]}).model_dump(by_alias=True)


@hypothesis_settings(max_examples=150, deadline=None)
@given(damaged(MANIFEST.metrics), damaged(MANIFEST.training), st.sampled_from([SHIPPED_REPORT, None]))
def test_any_document_in_the_place_of_figures_makes_a_whole_card(metrics, training, report):
    damage = {"metrics": metrics, "training": training}
    update = {name: value for name, value in damage.items() if isinstance(value, dict)}
    page_of(MANIFEST.model_copy(update=update), report)


@hypothesis_settings(max_examples=150, deadline=None)
@given(damaged(DOCUMENT))
def test_a_damaged_report_is_refused_or_makes_a_whole_card(document):
    try:
        report = Report.model_validate(document)
    except ValidationError:
        return
    page_of(MANIFEST, report)


def test_a_start_does_not_import_the_template_engine():
    code = "import sys, app.main; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_card_says_when_its_version_does_not_know_and_how_often():
    manifest = read_manifest(SHIPPED[-1] / "manifest.json")
    fitted = {"novelty_above": 0.95, "confidence_below": 0.876, "scores": [-9.0, 1.0]}
    measured = {"test": {"confident": 0.84, "confident_accuracy": 0.991, "unsure": 0.1, "none_of_these": 0.06}}
    document = manifest.model_dump() | {"verdicts": fitted, "metrics": manifest.metrics | {"verdicts": measured}}
    said = check(render_card(ServedVersion(Manifest.model_validate(document), None, "openvino", "int8"))).text
    assert "more unusual than 95.00 %" in said and "confidence is below 87.60 %" in said
    assert "99.10 %" in said and "always picks one" not in said
    fitted["rejection_above"] = 2.3
    said = check(render_card(ServedVersion(Manifest.model_validate(document), None, "openvino", "int8"))).text
    assert "no class fits an image well" in said and "more unusual than" not in said
    without = manifest.model_copy(update={"verdicts": None})
    assert "Its answers have no verdict" in check(render_card(ServedVersion(without, None, "openvino", "int8"))).text
