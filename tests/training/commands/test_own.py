"""`own`: from a folder of photos to a served version, in one command."""

import shutil

import numpy as np
import pytest
from PIL import Image

from model_store.store import Store
from model_store.version import load
from tests.training import linear
from training.__main__ import main
from training.fit.progress import Progress
from training.fit.run.directory import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with twenty pictures of two classes, the fewest that are accepted."""
    folder, random = tmp_path_factory.mktemp("photos") / "my pets", np.random.default_rng(0)
    for label, colour in (("cat", 40), ("dog", 160)):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(colour, colour + 60, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The default store, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR10_STORE", "models")
    monkeypatch.setenv("CIFAR10_DATA", "absent")
    return Store(tmp_path / "models")


def own(photos, start, *options, epochs=2):
    return main(["own", str(photos), "--name", "pets", "--from", str(start), "--epochs", str(epochs), *options])


def test_photos_become_a_served_version_that_tells_nobody_where_they_are(photos, store, capsys):
    assert main(["own", str(photos), "--name", "pets", "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    for text in (
        "published models/pets/1; tested as it is served, in ",
        "accuracy on the test images: ",
        " of 2 (95% interval ",
        "runs/pets is trained; on the validation images:\nthe network you started from ",
        "with a new last layer only ",
        "\nserved       within seconds by services with CIFAR10_MODEL_NAME=pets\n",
        "models/pets/1/report: confusion matrix",
        f"\nserve 1      CIFAR10_STORE={store.root} CIFAR10_MODEL_NAME=pets python -m app serve\n",
        " CIFAR10_MODEL_NAME=pets make run\n",
        "curl -F file=@photo.jpg http://127.0.0.1:8000/predict",
    ):
        assert text in printed.out
    assert (
        "2 validation images are too few: no calibration (200 needed), no verdicts, so `verdict` is null (600"
        in printed.err
    )
    version, run = load(store.folder("pets", 1)), Run(store.root.parent / "runs" / "pets")
    assert version.manifest.labels == ("cat", "dog") and version.manifest.training["started_from"].startswith(
        "cifar10/"
    )
    assert version.manifest.metrics["left_out"] == ["robustness"]
    assert {"report/confusion.png", "report/reliability.png", "report/curves.png"} <= version.manifest.files.keys()
    assert run.data == photos
    for path in store.root.rglob("*"):
        assert path.is_dir() or str(photos).encode() not in path.read_bytes()


def test_the_same_command_does_nothing_twice_and_other_settings_get_a_run_of_their_own(photos, teacher, store, capsys):
    assert own(photos, teacher) == 0
    first = capsys.readouterr().out
    assert own(photos, teacher) == 0
    second = capsys.readouterr().out
    assert "to train again, pass another --seed or --out\nalready published as models/pets/1; tested" in second
    assert second.endswith(first[first.index("published models/pets/1") + len("published") :].partition(";")[2])
    assert main(["publish", "runs/pets", "--name", "pets", "--no-report"]) == 0
    printed = capsys.readouterr().out
    assert "runs/pets is identical to version 1; not published (--force publishes it again)\n" in printed
    assert store.versions("pets") == [1]
    assert own(photos, teacher, "--seed", "1", "--force", "--store", "models") == 0
    assert store.versions("pets") == [1, 2] and Run(store.root.parent / "runs" / "pets-2").info.seed == 1
    assert own(photos, teacher, "--seed", "2", "--out", "runs/pets") == 1
    assert "runs/pets holds a run of other photos or settings; choose another --out" in capsys.readouterr().err


def test_the_same_command_continues_an_interrupted_training(photos, teacher, store, monkeypatch, capsys):
    def interrupt(progress, record):
        if progress.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "finish", interrupt)
        assert own(photos, teacher, epochs=3) == 130
    assert "interrupted; run the same command again to continue" in capsys.readouterr().err
    assert own(photos, teacher, epochs=3) == 0
    printed = capsys.readouterr().out
    assert "continuing runs/pets, which was begun with these photos and settings\n" in printed
    assert "epoch 1/3" not in printed and "epoch 3/3" in printed
    assert store.versions("pets") == [1] and len(Run(store.root.parent / "runs" / "pets").history) == 3


def test_the_same_command_publishes_what_an_interrupted_one_has_trained(photos, teacher, store, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("training.publish.candidate.evaluate", interrupt)
        assert own(photos, teacher) == 130
    moved = shutil.copytree(photos, store.root.parent / "moved")
    capsys.readouterr()
    assert own(moved, teacher, "--store", "elsewhere", "--create") == 0
    printed = capsys.readouterr().out
    assert "epoch 1/2" not in printed and Run(store.root.parent / "runs" / "pets").data == moved
    assert f"CIFAR10_STORE={store.root.parent / 'elsewhere'} CIFAR10_MODEL_NAME=pets python -m app serve" in printed


def test_what_cannot_be_published_is_refused_before_training(photos, teacher, store, capsys):
    assert main(["own", str(photos), "--from", str(teacher)]) == 1
    assert "--name is missing; pass the name of a new model, such as --name my-pets\n" in capsys.readouterr().err
    linear.publish(store, "pets")
    assert own(photos, teacher) == 1
    assert "label 1 is 'airplane' there and 'cat' here; give the new one a --name of its own" in capsys.readouterr().err
    assert own(photos / "gone", teacher) == 1
    assert f"gone does not exist; the folders in {photos} are: cat, dog\n" in capsys.readouterr().err
    for option in ("--out", "--store"):
        assert own(photos, teacher, option, str(photos / "x"), "--create") == 1
        assert f"{option} {photos / 'x'} is inside {photos}, where it would be taken for a" in capsys.readouterr().err
    assert not (store.root.parent / "runs").exists()
