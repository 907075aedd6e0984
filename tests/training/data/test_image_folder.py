"""Users' own images: requirements on the data set, and the way from a folder of photos to the service's prediction."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from training.__main__ import main
from training.data.load import load_dataset
from training.errors import TrainingError

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "model_store" / "models" / "cifar10-small" / "2"
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}

pytestmark = pytest.mark.usefixtures("short_reports")


def photo(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = rng.integers(20, 200, 2)
    pixels = np.clip(rng.normal(colour, 25, (*size, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three classes of 40 photos, of several sizes and types."""
    folder = tmp_path_factory.mktemp("photos")
    for index, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir()
        for number in range(40):
            file = folder / name / f"{number}.{('png', 'jpg', 'webp')[number % 3]}"
            photo(file, colour, seed=100 * index + number)
    return folder


def test_the_split_is_by_content_and_covers_every_class(photos, tmp_path):
    dataset = load_dataset(photos)
    assert dataset.labels == ("blue", "green", "red")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (96, 12, 12)
    for part in (dataset.train, dataset.val, dataset.test):
        assert len(set(np.bincount(part.labels))) == 1 and part.pixels.shape[1:] == (32, 32, 3)
    ends = dataset.train[:20], dataset.train[-20:]  # of which whitening sees one, and validation the other
    assert all(len(set(end.labels)) == 3 for end in ends)
    renamed = tmp_path / "renamed"
    for path in photos.glob("*/*"):
        (renamed / path.parent.name).mkdir(parents=True, exist_ok=True)
        (renamed / path.parent.name / f"other-{path.name}").write_bytes(path.read_bytes())
    again = load_dataset(renamed)
    assert again.sha256 == dataset.sha256 and (again.test.pixels == dataset.test.pixels).all()


def test_broken_files_are_named_and_skipped_and_copies_count_once(photos, tmp_path, capsys):
    for path in photos.glob("*/*"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "red" / "notes.txt").write_text("no image")
    (tmp_path / "red" / "cut.png").write_bytes((photos / "red" / "0.png").read_bytes()[:100])
    (tmp_path / "red" / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / "red" / "copy.png").write_bytes((photos / "red" / "0.png").read_bytes())
    assert load_dataset(tmp_path).sha256 == load_dataset(photos).sha256
    stderr = capsys.readouterr().err
    assert "notes.txt: 8 bytes cannot be read" in stderr and "cut.png: the PNG file ends early" in stderr
    assert "DS_Store" not in stderr


def test_too_few_images_or_classes_are_refused(photos, tmp_path):
    for name in ("many", "few"):
        (tmp_path / name).mkdir()
        for number in range(12 if name == "many" else 9):
            photo(tmp_path / name / f"{number}.png", (90, 90, 90), number + 100 * len(name))
    with pytest.raises(TrainingError, match=r"needs 10 different usable images; .* fewer: few \(9\)"):
        load_dataset(tmp_path)
    for path in (tmp_path / "few").iterdir():
        path.unlink()
    (tmp_path / "few").rmdir()
    with pytest.raises(TrainingError, match="holds 1 folders; it needs one per class, 2 to 1,000"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"x" * 65])
def test_a_folder_whose_name_is_no_label_is_refused_before_images_are_read(photos, tmp_path, capsys, name):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / os.fsdecode(name)).mkdir()
    (tmp_path / "photos" / "red" / "notes.txt").write_text("no image")
    assert main(["train", "--recipe", "fast", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]) == 1
    stderr = capsys.readouterr().err
    assert "is not named like a class; rename it to up to 64 printable characters" in stderr and "skipped" not in stderr


def test_one_image_in_two_classes_is_refused(photos, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(12):
            photo(tmp_path / name / f"{number}.png", (90, 90, 90), number)
    with pytest.raises(TrainingError, match="the same image file is in"):
        load_dataset(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)  # trains the shipped network, which takes a busy machine a while
def test_a_folder_of_photos_becomes_a_served_model(photos, tmp_path, capsys):
    run, store = tmp_path / "run", tmp_path / "store"
    train = ["train", "--recipe", "fine-tune", "--data", str(photos), "--out", str(run), "--hold-out", "--epochs", "6"]
    assert main(train) == 1
    assert "starts from a published version or a finished run; pass it as --from" in capsys.readouterr().err
    assert main([*train, "--batch-size", "16", "--from", str(SHIPPED)]) == 0
    assert json.loads((run / "run.json").read_text())["started_from"] == "cifar10-small/2"
    assert main(["evaluate", str(run), "--data", str(photos)]) == 0
    publish = ["publish", str(run), "--store", str(store), "--create", "--name", "colours", "--data", str(photos)]
    assert main(publish) == 0
    photo(tmp_path / "unseen.jpg", COLOURS["green"], 999)
    environment = {"CIFAR10_STORE": str(store), "CIFAR10_MODEL_NAME": "colours", "PATH": ""}
    command = [sys.executable, "-m", "app", "classify", str(tmp_path / "unseen.jpg")]
    prediction = json.loads(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    assert prediction["label"] == "green" and set(prediction["probabilities"]) == set(COLOURS)
    assert prediction["model"] == {"name": "colours", "version": "1"}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            [layers.Conv2D(3, 1, name="last"), layers.GlobalAveragePooling2D()],
            "must be Dense, it is 'last' (Conv2D)",
        ),
        (
            [layers.Flatten(), layers.Dense(3), layers.BatchNormalization(name="last")],
            "it is 'last' (BatchNormalization)",
        ),
    ],
    ids=["no dense", "something after it"],
)
def test_a_network_without_a_last_dense_layer_is_not_fine_tuned(photos, tmp_path, capsys, head, message):
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3, strides=4), *head])
    model.save_weights(tmp_path / "start.weights.h5")
    (tmp_path / "start.json").write_text(model.to_json())
    files = ["--architecture", str(tmp_path / "start.json"), "--weights", str(tmp_path / "start.weights.h5")]
    options = ["--labels", "a", "b", "c", "--store", str(tmp_path), "--name", "start", "--data", str(photos)]
    assert main(["import", *files, *options]) == 0
    command = ["train", "--recipe", "fine-tune", "--data", str(photos), "--from", str(tmp_path / "start" / "1")]
    assert main([*command, "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_evaluate_refuses_data_with_other_labels(data_folder, photos, capsys):
    assert main(["evaluate", str(SHIPPED), "--data", str(photos)]) == 1
    assert "pass the --data it was trained on" in capsys.readouterr().err
