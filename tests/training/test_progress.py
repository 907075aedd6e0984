"""The time that a run is said to have left."""

import pytest

from training.progress import Progress


@pytest.fixture
def progress(monkeypatch):
    now = iter([100.0, 110.0])  # an epoch begins, and ends ten seconds later
    monkeypatch.setattr("training.progress.time.monotonic", lambda: next(now))
    made = Progress([0.5, 0.5, 1.0], 1_000)
    made.start(0)
    made.on_epoch_end(0)
    return made


def test_epochs_that_cost_more_are_expected_to_take_longer(progress, capsys):
    progress.finish({"loss": 1.5, "accuracy": 0.4})
    said = capsys.readouterr().out
    assert said.startswith("epoch 1/3  loss 1.5000  accuracy 0.4000  100 images/s  0:30 left")


def test_the_last_epoch_leaves_nothing(progress, capsys):
    progress.epoch = 2
    progress.finish({"loss": 1.5, "accuracy": 0.4, "watched_accuracy": 0.3})
    assert "watched accuracy 0.3000  100 images/s  0:00 left" in capsys.readouterr().out
