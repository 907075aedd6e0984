"""Today's code beside what commit 40509f2 answered, printed, accepted and wrote.

Wording may change; endpoints, statuses, codes, fields, metrics, settings, options, exit codes and the keys of files may
not. What was removed on purpose is listed here, and docs/api.md says by which rule.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from model_store.network.processor import has_bfloat16
from tests.contract.recording import RECORDED, ROOT, record_command_lines, record_service, run

WORDING = {"description", "summary", "title", "detail", "example", "version"}
pytestmark = [pytest.mark.slow, pytest.mark.process]
CLOSE = 2e-3  # probabilities in float32 differ between processors by less
REMOVED_JOBS = {"average", "costs", "resize-study"}
REMOVED_WORDS = {"patient", "patient-more", "patient-taught"}
ALIASES = {"--twin", "held-out"}  # accepted, though the usage line has --calibration-run and val
OF_THE_VERSION = {"model", "model drift", "model report, json"}  # these values change with the shipped version
REMOVED_SETTINGS = {"CIFAR10_MAX_BATCH", "CIFAR10_MAX_WAITING_IMAGES"}


# The page's documents are made at start, so they have no ranges and no date.
REMOVED_HEADERS = {
    f"{page}.headers.{name} is gone" for page in ("index", "docs") for name in ("accept-ranges", "last-modified")
}


REMOVED_FIGURES = {
    # The verdicts of the shipped version are fitted on photographs, not on validation images.
    "model.body.manifest.metrics.verdicts.held_out is gone",
    # An empty body is refused while it is received.
    "predict, empty.stages was ['receive', 'total'], is ['total']",
}


# An address that other machines may reach needs CIFAR10_ACCESS, and is refused as an invalid setting without it.
CHANGED_EXITS = {"app.address of nobody.exit_code was 1, is 2"}


# What the recorded run lacks since its validation images count as too few.
FITTED_ON_MANY = (
    "verdicts ",
    "reference ",
    "files.novelty.npz ",
    "files.quantization.npz ",
    "metrics.calibration ",
    "metrics.quantization ",
    "metrics.test_uncalibrated ",
    "metrics.verdicts ",
    "metrics.accuracy_by_precision.int8 ",
    "metrics.differences_from_keras.int8 ",
)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))


def missing(expected: Any, received: Any, where: str = "") -> list[str]:
    """What was recorded and is not there any more; additions are welcome."""
    if where.endswith(".allow"):
        return [f"{where} lacks {method}" for method in set(expected.split(", ")) - set(received.split(", "))]
    if where.endswith("Answer.required"):
        return [f"{where} lacks {name}" for name in set(expected) - set(received)]
    if where.endswith(".parameters") and isinstance(expected, list):  # of a path: by name, since there may be more
        expected, received = ({each["name"]: each for each in side} for side in (expected, received))
    match expected, received:
        case dict(), dict():
            lost = [f"{where}.{key} is gone" for key in expected.keys() - received.keys()]
            kept = [key for key in expected if key in received and key not in WORDING]
            return lost + [line for key in kept for line in missing(expected[key], received[key], f"{where}.{key}")]
        case list(), list() if len(expected) == len(received):
            pairs = enumerate(zip(expected, received, strict=True))
            return [line for index, pair in pairs for line in missing(*pair, f"{where}[{index}]")]
        case (float() | int(), float() | int()) if abs(expected - received) <= CLOSE:
            return []
    if expected == "NoneType":  # what was null may have a value
        return []
    return [] if expected == received else [f"{where} was {expected!r:.200}, is {received!r:.200}"]


def keys(document: Any) -> Any:
    """The document with the type of every value in place of the value; of a list the first item speaks for all."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items()}
    if isinstance(document, list):
        return [keys(document[0])] if document else []
    return "number" if isinstance(document, int | float) else type(document).__name__


def words(usage: str) -> set[str]:
    return set(re.findall(r"[\w.|-]+", usage))


def test_a_change_would_be_noticed():
    before = {"label": "cat", "confidence": 0.9, "detail": "some words", "classes": [1, 2]}
    assert missing(before, before | {"confidence": 0.9001, "detail": "other words", "new": 1}) == []
    assert missing(before, {"label": "dog", "confidence": 0.8, "detail": "", "classes": [1]}) == [
        ".label was 'cat', is 'dog'",
        ".confidence was 0.9, is 0.8",
        ".classes was [1, 2], is [1]",
    ]
    assert missing({"a": {"b": 1}}, {"a": {}}) == [".a.b is gone"]
    assert missing(keys({"a": None}), keys({"a": 1})) == [] != missing(keys({"a": 1}), keys({"a": None}))


@pytest.fixture(scope="module")
def service():
    return record_service(ROOT)


@pytest.fixture(scope="module")
def command_lines():
    return record_command_lines(ROOT)


def test_the_openapi_document_has_all_that_it_had(service):
    assert missing(recorded("service.json")["openapi"], service["openapi"]) == []


@pytest.mark.parametrize("name", recorded("service.json")["answers"])
def test_every_request_gets_the_answer_that_it_got(service, name):
    before, now = recorded("service.json")["answers"][name], service["answers"][name]
    if name in OF_THE_VERSION:
        before, now = (answer | {"body": keys(answer["body"])} for answer in (before, now))
    assert set(missing(before, now, name)) <= REMOVED_HEADERS | REMOVED_FIGURES


def test_every_metric_has_its_name_type_and_labels(service):
    for name, before in recorded("service.json")["metrics"].items():
        now = service["metrics"][name]
        assert now["type"] == before["type"]
        for label, values in before["labels"].items():
            assert set(values) <= set(now["labels"][label]), (name, label)


def test_every_setting_is_one(command_lines):
    assert set(recorded("command_lines.json")["settings"]) - REMOVED_SETTINGS <= set(command_lines["settings"])


@pytest.mark.parametrize("command", recorded("command_lines.json")["usage"])
def test_every_command_takes_the_options_that_it_took(command_lines, command):
    if command.removeprefix("training ") in REMOVED_JOBS:
        assert command not in command_lines["usage"]
        return
    before, now = recorded("command_lines.json")["usage"][command], command_lines["usage"][command]
    assert words(before) - REMOVED_WORDS - ALIASES <= words(now)


@pytest.mark.parametrize("part", ["app", "training", "wrong setting", "model absent", "stopped"])
def test_every_command_ends_as_it_ended(command_lines, part):
    assert set(missing(recorded("command_lines.json")[part], command_lines[part], part)) <= CHANGED_EXITS


def test_a_run_that_was_interrupted_is_resumed_evaluated_and_published(tmp_path):
    """The run in `recorded/run` was stopped after two of forty epochs: `--recipe fine-tune --hold-out`."""
    shutil.copytree(RECORDED / "run", tmp_path / "run")
    photos, folder, store = str(RECORDED / "photos"), str(tmp_path / "run"), str(tmp_path / "store")
    train = run(ROOT, "training", "train", "--recipe", "fine-tune", "--data", photos, "--out", folder, "--resume")
    assert train.returncode == 0, train.stderr
    evaluate = run(ROOT, "training", "evaluate", folder, "--data", photos, "--split", "held-out")
    assert evaluate.returncode == 0, evaluate.stderr
    options = "--data", photos, "--store", store, "--name", "colours"
    refused = run(ROOT, "training", "publish", folder, *options)  # a misspelt path made a store
    assert refused.returncode == 1 and "pass --create" in refused.stderr
    publish = run(ROOT, "training", "publish", folder, *options, "--create")
    assert publish.returncode == 0, publish.stderr
    gone = missing(recorded("files.json"), documents(tmp_path / "run", tmp_path / "store/colours/1"))
    # The processor of the recording has bfloat16.
    gone = [line for line in gone if has_bfloat16() or "bfloat16" not in line]
    assert [line for line in gone if not line.removeprefix(".manifest.json.").startswith(FITTED_ON_MANY)] == []


def documents(run_directory: Path, version: Path) -> dict[str, Any]:
    """The keys of every document that a run and a version have, and the names of their files."""
    paths = {
        "run.json": run_directory / "run.json",
        "history.json": run_directory / "history.json",
        "manifest.json": version / "manifest.json",
        "evaluation.json": version / "report/evaluation.json",
    }
    read = {name: keys(json.loads(path.read_text(encoding="utf-8"))) for name, path in paths.items()}
    folders = {"run": run_directory, "version": version}
    names = {
        name: {path.relative_to(folder).as_posix(): "" for path in sorted(folder.rglob("*")) if path.is_file()}
        for name, folder in folders.items()
    }
    return read | names
