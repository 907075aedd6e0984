"""That the study covers every source and policy, and recommends what it measured to be best."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from training.resize_study import MEAN, REPORT, choices, recommended, study, table

from model_store.manifest import Preprocessing, Resize
from training.data import LABELS, RECORD
from training.errors import TrainingError
from training.run import ARCHITECTURE, WEIGHTS, Run, RunInfo

pytestmark = pytest.mark.slow

IMAGES = 3
CHOICES = {choice.name: choice for choice in choices()}


def twin(folder: Path, hold_out: bool = True) -> Run:
    """A finished run of a tiny untrained network, a random linear map."""
    run = Run(folder)
    run.start(
        RunInfo(
            recipe="tiny",
            recipe_values={},
            labels=LABELS,
            preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(1, 1, 1)),
            output="logits",
            seed=0,
            epochs=0,
            batch_size=1,
            hold_out=hold_out,
            started_from=None,
            data_sha256="",
            images=0,
            environment={},
        )
    )
    layers = {
        "InputLayer": {"batch_shape": [None, 32, 32, 3]},
        "Flatten": {},
        "Dense": {"units": 10, "use_bias": False},
    }
    entries = [
        {"module": "keras.layers", "class_name": kind, "config": {"name": kind.lower(), **config}}
        for kind, config in layers.items()
    ]
    (folder / ARCHITECTURE).write_text(json.dumps({"class_name": "Sequential", "config": {"layers": entries}}))
    with h5py.File(folder / WEIGHTS, "w") as file:
        file["layers/dense/vars/0"] = np.random.default_rng(0).standard_normal((3072, 10), np.float32)
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A last batch of a few images of noise; there is no other, so nothing else can have been looked at."""
    folder = tmp_path_factory.mktemp("data")
    records = np.random.default_rng(0).integers(0, 256, (2 * IMAGES, RECORD), dtype=np.uint8)
    records[:, 0] %= len(LABELS)
    records.tofile(folder / "data_batch_5.bin")
    return folder


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Run, list[dict[str, Any]], list[str]]:
    said: list[str] = []
    run = twin(tmp_path_factory.mktemp("run"))
    return run, study(run, data, IMAGES, said.append), said


@pytest.mark.parametrize("choice", CHOICES)
def test_study_measures_every_source_with_every_policy_once(studied, choice: str) -> None:
    values, sources = CHOICES[choice].values, CHOICES[choice].sources
    names = [*(source.name for source in sources), MEAN]
    assert len(names) == len(set(names))
    measured = [(row["source"], row["value"]) for row in studied[1] if row["choice"] == choice]
    assert measured == [(name, value) for name in names for value in values]


def test_study_covers_every_filter_and_fit() -> None:
    schema = Resize.model_json_schema()["properties"]
    for name in ("filter", "fit"):
        assert list(CHOICES[name].values) == schema[name]["enum"]


def test_study_finds_the_untouched_image_alike_under_every_filter(studied) -> None:
    untouched = [row["accuracy"] for row in studied[1] if row["source"] == "32 px, PNG, untouched"]
    assert len(set(untouched)) == 1


def test_study_states_errors_and_sample_size(studied) -> None:
    for row in studied[1]:
        assert row["n"] == IMAGES
        assert 0 <= row["accuracy"] <= 1
        assert row["behind"] >= 0
        if row["source"] != MEAN:
            expected = np.sqrt(row["accuracy"] * (1 - row["accuracy"]) / IMAGES)
            assert row["standard_error"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("choice", CHOICES)
def test_study_averages_the_realistic_sources_only(studied, choice: str) -> None:
    rows = [row for row in studied[1] if row["choice"] == choice]
    for mean in (row for row in rows if row["source"] == MEAN):
        parts = [r["accuracy"] for r in rows if r["value"] == mean["value"] and r["realistic"] and r["source"] != MEAN]
        assert mean["accuracy"] == pytest.approx(np.mean(parts))


def test_study_recommends_the_highest_mean(studied) -> None:
    run, rows, said = studied
    written = json.loads((run.folder / REPORT).read_text())
    recommendation = Resize.model_validate(written["recommendation"])
    for choice in ("filter", "fit"):
        means = {r["value"]: r["accuracy"] for r in rows if r["choice"] == choice and r["source"] == MEAN}
        assert means[getattr(recommendation, choice)] == max(means.values())
    assert recommendation.jpeg_margin == recommended(rows, "jpeg_margin")
    assert written["rows"] == rows
    assert str(recommendation.model_dump()) in said[-1]


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [((0.9, 0.95, 0.95), 2), ((0.9, 0.949, 0.9495), 2), ((0.9, 0.94, 0.95), 4), ((0.95, 0.9, 0.9), 1)],
    ids=["equal", "within the tolerance", "better by more", "smallest is best"],
)
def test_margin_is_the_smallest_about_as_good_as_the_best(accuracies: tuple[float, ...], expected: int) -> None:
    rows = [
        {"choice": "jpeg_margin", "source": MEAN, "value": value, "accuracy": accuracy}
        for value, accuracy in zip((1, 2, 4), accuracies, strict=True)
    ]
    assert recommended(rows, "jpeg_margin") == expected


def test_study_is_deterministic(studied, data: Path, tmp_path: Path) -> None:
    again = study(twin(tmp_path / "run"), data, IMAGES, lambda _: None)
    assert [row | {"decode_ms": 0} for row in again] == [row | {"decode_ms": 0} for row in studied[1]]


def test_table_has_a_line_for_every_source(studied) -> None:
    lines = table(studied[1]).splitlines()
    for choice in CHOICES.values():
        for source in choice.sources:
            assert any(source.name in line for line in lines)


def test_study_refuses_a_run_that_saw_the_held_out_images(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"held-out.*--hold-out"):
        study(twin(tmp_path / "run", hold_out=False), data)
    other = twin(tmp_path / "other")
    info = other.info.model_copy(update={"labels": (*LABELS[1:], LABELS[0])})
    (other.folder / "run.json").write_text(info.model_dump_json())
    with pytest.raises(TrainingError, match="label 1 is 'automobile' there and 'airplane' here"):
        study(other, data)
