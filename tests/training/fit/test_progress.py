import pytest

from training.fit.progress import Progress

FIGURES = {"loss": 2.0, "accuracy": 0.1}


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
        progress.show(0, FIGURES)  # prints on a terminal only
        progress.stop_clock(1)
        progress.finish(record)
    output = capsys.readouterr().out
    assert output.startswith(text) and " images/s  0:0" in output


def run(epochs, seconds_per_step, val_accuracy=None):
    """Show every epoch of ten steps on a clock of their own."""
    now = 0.0
    with Progress(0, epochs, 1_000, 10, clock=lambda: now) as progress:
        for epoch in range(epochs):
            progress.start(epoch)
            for step in range(10):
                now += seconds_per_step
                progress.show(step, FIGURES)
            progress.stop_clock(epoch)
            progress.finish(FIGURES | ({"watched_accuracy": val_accuracy} if val_accuracy else {}))


def test_a_log_gets_one_line_a_minute_within_a_long_epoch(capsys):
    run(epochs=2, seconds_per_step=25.0, val_accuracy=0.4)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2  30%  loss 2.0000  accuracy 0.1000  4 images/s  7:05 left",
        "epoch 1/2  60%  loss 2.0000  accuracy 0.1000  4 images/s  5:50 left",
        "epoch 1/2  90%  loss 2.0000  accuracy 0.1000  4 images/s  4:35 left",
        "epoch 1/2  loss 2.0000  accuracy 0.1000  val accuracy 0.4000  4 images/s  4:10 left",
        "epoch 2/2  30%  loss 2.0000  accuracy 0.1000  val accuracy 0.4000 after epoch 1  4 images/s  2:55 left",
        "epoch 2/2  60%  loss 2.0000  accuracy 0.1000  val accuracy 0.4000 after epoch 1  4 images/s  1:40 left",
        "epoch 2/2  90%  loss 2.0000  accuracy 0.1000  val accuracy 0.4000 after epoch 1  4 images/s  0:25 left",
        "epoch 2/2  loss 2.0000  accuracy 0.1000  val accuracy 0.4000  4 images/s  0:00 left",
    ]


def test_a_log_of_short_epochs_has_the_first_the_last_and_one_a_minute(capsys):
    run(epochs=30, seconds_per_step=0.7)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "epoch 1/30",
        "epoch 10/30",
        "epoch 19/30",
        "epoch 27/30",
        "epoch 30/30",
    ]


def test_a_log_tells_what_an_epoch_waits_for(capsys):
    now = 0.0
    with Progress(0, 3, 1_000, 10, clock=lambda: now) as progress:
        progress.start(0)
        progress.show_status("computing soft targets")
        now = 60.0
        progress.start(1)
        progress.show_status("computing soft targets")
    assert capsys.readouterr().out == "epoch 2/3  computing soft targets\n"


def test_a_terminal_shows_a_bar_with_the_speed_and_every_epoch(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    run(epochs=3, seconds_per_step=0.1)
    output = capsys.readouterr().out
    assert "1,000/1,000 images  1,000 images/s  loss 2.0000" in output and "━" in output
    assert all(f"epoch {number}/3  loss 2.0000  accuracy 0.1000" in output for number in (1, 2, 3))
