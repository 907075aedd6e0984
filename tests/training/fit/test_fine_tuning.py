"""Fine-tuning: a linear probe first, then all layers; the epoch that does best on the validation images is kept."""

import json

import pytest

from tests.training.runs import assert_same_weights, few_val_images, narrow_recipes, train
from training.commands.train import show_gain
from training.fit.run.directory import Baselines, Run, best_epoch
from training.publish.report import read_history

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def few():
    with few_val_images():
        yield


@pytest.fixture(scope="module")
def start(data_folder, tmp_path_factory):
    """A finished run on a narrow network, with the labels of the data."""
    folder = tmp_path_factory.mktemp("runs") / "start"
    with narrow_recipes("teacher"):
        assert train(data_folder, folder, "--hold-out", recipe="teacher") == 0
    return folder


def fine_tune(data_folder, out, start, *options) -> int:
    return train(data_folder, out, "--from", str(start), *options, recipe="fine-tune", epochs=3)


def test_validation_images_are_held_out_and_what_training_is_worth_is_shown(data_folder, start, tmp_path, capsys):
    assert fine_tune(data_folder, tmp_path / "run", start) == 0
    run, output = Run(tmp_path / "run"), capsys.readouterr().out
    assert run.info.hold_out and run.info.start_labels == run.info.labels
    assert run.baselines.images == 20
    for text in ("of 20 (95% interval", "the network you started from", "with a new last layer only"):
        assert text in output


def test_training_that_does_harm_is_undone_and_said(data_folder, start, tmp_path, capsys):
    assert fine_tune(data_folder, tmp_path / "run", start, "--set", "optimizer.learning_rate=30") == 0
    run = Run(tmp_path / "run")
    assert best_epoch(run.history, run.baselines) == 0
    output = capsys.readouterr().out
    assert "no epoch had a lower loss, so the run keeps the new last layer only" in output
    assert fine_tune(data_folder, tmp_path / "still", start, "--set", "optimizer.learning_rate=0.0") == 0
    assert_same_weights(run.folder, tmp_path / "still")


def test_a_better_start_is_recommended(data_folder, start, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.fit.loop.start_accuracy", lambda *_: 1.0)
    monkeypatch.setattr("training.fit.loop.fit_head", lambda *_: None)
    assert fine_tune(data_folder, tmp_path / "run", start, "--set", "optimizer.learning_rate=30") == 0
    assert "the network you started from is better: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "probe", "kept", "said"),
    [
        (0.5, 0.6, 0.7, None),
        (None, 0.6, 0.7, None),
        (0.5, 0.7, 0.7, "training all layers was worth nothing that 20 images can show"),
        (1.0, 1.0, 1.0, "training all layers was worth nothing that 20 images can show"),
    ],
)
def test_what_training_brought_is_said_only_if_it_was_nothing(tmp_path, capsys, start, probe, kept, said):
    run = Run(tmp_path)
    run.write_baselines(Baselines(images=20, start=start, probe_loss=0.5, probe=probe))
    records = [{"epoch": epoch, "watched_loss": 0.1 * epoch, "watched_accuracy": kept} for epoch in (1, 2)]
    (tmp_path / "history.json").write_text(json.dumps(records))
    show_gain(run)
    lines = capsys.readouterr().out.splitlines()
    assert f"kept: epoch 1 of 2 (lowest loss)    {kept:.1%} of 20" in "\n".join(lines)
    assert (lines[-1] == said) if said else "worth nothing" not in "\n".join(lines)
    assert [record["kept"] for record in read_history(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([1.0, 1.1], 0),
        ([0.4, 0.3, 0.35], 2),
        ([0.4, 0.4], 1),
        ([], 0),
    ],
)
def test_the_best_epoch_has_the_lowest_loss(history, expected):
    records = [{"watched_loss": loss} for loss in history]
    baselines = Baselines(images=20, start=None, probe_loss=0.5, probe=0.6)
    assert best_epoch(records, baselines) == expected
