import pytest

from training.fit.progress import Progress, format_duration


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3_599, "59:59"), (3_723, "1:02:03")])
def test_clock(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"loss": 1.25, "accuracy": 0.5}, "epoch 2/3  loss 1.2500  accuracy 0.5000  "),
        ({"loss": 1.25, "agreement": 0.5}, "epoch 2/3  loss 1.2500  agreement 0.5000  "),
        (
            {"loss": 1.25, "accuracy": 0.5, "watched_accuracy": 0.4},
            "epoch 2/3  loss 1.2500  accuracy 0.5000  val accuracy 0.4000  ",
        ),
    ],
    ids=["train", "distilled", "val"],
)
def test_an_epoch_ends_with_its_figures(capsys, record, text):
    progress = Progress(done=1, epochs=3, images_per_epoch=100, steps_per_epoch=2)
    with progress:
        progress.start(1)
        progress.show(0, {"loss": 2.0, "accuracy": 0.1})  # prints on a terminal only
        progress.stop_clock(1)
        progress.finish(record)
    output = capsys.readouterr().out
    assert output.startswith(text) and " images/s  0:0" in output


def test_a_terminal_shows_a_bar_with_the_speed(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with Progress(done=0, epochs=2, images_per_epoch=100, steps_per_epoch=2) as progress:
        progress.start(0)
        progress.show(0, {"loss": 2.0, "accuracy": 0.1})
        progress.stop_clock(0)
        progress.finish({"loss": 1.5, "accuracy": 0.2})
    output = capsys.readouterr().out
    assert "50/100 images" in output and " images/s  loss 2.0000" in output and "━" in output
    assert "epoch 1/2  loss 1.5000  accuracy 0.2000" in output
