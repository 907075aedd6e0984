"""Every published report reads and is written back as it was; a damaged one is refused with the field's name."""

import json
from pathlib import Path

import pytest

import model_store
from model_store.errors import ModelError
from model_store.report import read_report, report_to_json

SHIPPED = sorted((Path(model_store.__file__).parent / "models").glob("*/[0-9]*/report/evaluation.json"))


def class_figures(**changes) -> dict:
    return {"precision": 0.75, "recall": 0.5} | changes


OLDEST = {  # the first version published had these keys
    "images": 4,
    "accuracy": 0.5,
    "mirror_accuracy": 0.5,
    "negative_log_likelihood": 0.7,
    "expected_calibration_error": 0.1,
    "worst_class_recall": 0.5,
    "engine": "tensorflow",
    "precision": "float32",
    "classes": {"apple": class_figures(), "pear": class_figures()},
    "confusion": [[1, 1], [1, 1]],
    "reliability": [[0.6, 0.5, 4]],
    "images_per_second": 100,
}


def encode(**changes) -> bytes:
    return json.dumps(OLDEST | changes).encode()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "/".join(path.parts[-4:-2]))
def test_a_published_report_is_written_as_it_was_read(path):
    content = path.read_bytes()
    assert report_to_json(read_report(content)) == content


def test_a_report_of_the_first_version_reads_and_gains_no_keys():
    report = read_report(encode())
    assert report.robustness is None and report.history == () and report.mistakes == ()
    assert json.loads(report_to_json(report)) == OLDEST


def test_keys_of_newer_versions_are_ignored():
    classes = {"apple": class_figures(hue=0.3), "pear": class_figures()}
    assert read_report(encode(classes=classes, colours=[1])) == read_report(encode())


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "the document"),
        (b"[1]", "the document"),
        (b"NaN", "the document"),
        (b"[" * 100_000, "the document"),
        (b"\xff", "the document"),
        (encode(accuracy=1.5), "accuracy"),
        (encode(images="x"), "images"),
        (encode(images=-1), "images"),
        (encode(images=True), "images"),
        (encode(images=1.0), "images"),
        (encode()[:-1] + b', "images": 8}', "the key 'images' appears twice"),
        (encode(negative_log_likelihood=float("nan")), "negative_log_likelihood"),
        (encode(classes={"apple": class_figures(), "pear": class_figures(recall=None)}), "classes.pear.recall"),
        (encode(confusion=[[1, 1]]), "confusion must have 2 rows"),
        (encode(confusion=[[1, 1], [1]]), "confusion must have 2 rows"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_damaged_report_is_refused_with_the_name_of_the_field(content, field):
    with pytest.raises(ModelError, match=field):
        read_report(content)
