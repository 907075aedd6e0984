"""Users' own images: requirements on the data set, and the way from a folder of photos to the service's prediction."""

import hashlib
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

from model_store.images.decode import decode
from model_store.manifest import UNNORMALISED
from tests.training.pictures import write_pictures
from training.__main__ import main
from training.data.load import load_dataset, load_whole
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


def test_the_sha256_is_of_labels_and_hashes_and_the_split_takes_tenths_of_the_sorted_hashes(tmp_path):
    classes = {"Zebra": 19, "apfel": 20, "\u00e9cole": 35}
    for seed, (label, count) in enumerate(classes.items()):
        write_pictures(tmp_path / label, count, seed)
    dataset = load_dataset(tmp_path)
    hashes = {
        label: sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / label).iterdir())
        for label in classes
    }
    lines = [line for label in classes for line in (label, *hashes[label])]
    assert dataset.sha256 == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    counts = [np.bincount(part.labels).tolist() for part in (dataset.test, dataset.val, dataset.train)]
    assert counts == [[1, 2, 3], [1, 2, 3], [17, 16, 29]]
    first = min(hashes["apfel"][:2] + hashes["Zebra"][:1] + hashes["\u00e9cole"][:3])
    file = next(path for path in tmp_path.glob("*/*") if hashlib.sha256(path.read_bytes()).hexdigest() == first)
    assert (dataset.test.pixels[0] == decode(file.read_bytes(), UNNORMALISED)).all()


def test_a_given_split_changes_the_sha256_and_only_missing_parts_are_split_from_train(tmp_path):
    for seed, label in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "a/train" / label, 20, seed)
        write_pictures(tmp_path / "a/test" / label, 4, seed + 10)
    shutil.copytree(tmp_path / "a/train", tmp_path / "b")
    shutil.copytree(tmp_path / "a/test", tmp_path / "b", dirs_exist_ok=True)
    shutil.copytree(tmp_path / "a/train", tmp_path / "c/train")
    shutil.copytree(tmp_path / "a/test", tmp_path / "c/val")
    split, other = load_dataset(tmp_path / "a"), load_dataset(tmp_path / "c")
    assert (len(split.train), len(split.val), len(split.test)) == (36, 4, 8)
    assert (len(other.train), len(other.val), len(other.test)) == (36, 8, 4)
    assert len({split.sha256, other.sha256, load_dataset(tmp_path / "b").sha256}) == 3


def test_a_given_part_needs_an_image_of_every_class(tmp_path):
    for seed, label in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "train" / label, 10, seed)
    write_pictures(tmp_path / "val/cat", 4, 9)
    with pytest.raises(
        TrainingError, match=r"val of .* has no usable image of its own of dog; add some, or remove val"
    ):
        load_dataset(tmp_path)
    shutil.rmtree(tmp_path / "train/dog")
    with pytest.raises(TrainingError, match="2 to 1,000"):
        load_dataset(tmp_path)
    write_pictures(tmp_path / "val/dog", 20, 8)
    with pytest.raises(TrainingError, match=r"these in train of .* have fewer: dog \(0\)"):
        load_dataset(tmp_path)


def test_the_numbers_of_images_used_and_skipped_are_told(photos, tmp_path, capsys):
    for path in photos.glob("*/*"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    red = tmp_path / "red"
    for name in ("notes.txt", "readme.md"):
        (red / name).write_text("no image")
    (red / "cut.png").write_bytes((photos / "red" / "0.png").read_bytes()[:100])
    (red / "zero.jpg").touch()
    (red / ".DS_Store").write_bytes(b"hidden")
    (red / "copy.png").write_bytes((photos / "red" / "0.png").read_bytes())
    dataset = load_dataset(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": 8 bytes")[0] for line in lines] == [
        f"skipped: hidden and system files (1): {red / '.DS_Store'}",
        f"skipped: images that are damaged or over a limit (1): {red / 'cut.png'}: the PNG file ends early or is "
        "damaged",
        f"skipped: files that are not images of an accepted type (2), such as {red / 'notes.txt'}",
        f"skipped: empty files (1): {red / 'zero.jpg'}: it has no bytes",
        f"skipped: copies of images (1): {red / 'copy.png'}, which is {red / '0.png'}",
        f"{tmp_path}: 120 different images of 3 classes: blue 40, green 40, red 40",
        "96 in train, 12 in val, 12 in test",
    ]
    assert dataset.sha256 == load_dataset(photos).sha256


def test_every_image_of_a_folder_is_read_however_few_a_class_has(photos, tmp_path):
    for number, label in enumerate(("red", "green", "blue")):
        (tmp_path / label).mkdir()
        for path in sorted((photos / label).glob("*.png"))[: number + 1]:
            (tmp_path / label / path.name).write_bytes(path.read_bytes())
    whole = load_whole(tmp_path)
    assert whole.labels == ("blue", "green", "red") and np.bincount(whole.images.labels).tolist() == [3, 2, 1]
    assert load_whole(photos).sha256 == load_dataset(photos).sha256


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
    with pytest.raises(TrainingError, match="found one folder, many; put the images of each class into a folder"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"x" * 65])
def test_a_folder_whose_name_is_no_label_is_refused_before_images_are_read(photos, tmp_path, capsys, name):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / os.fsdecode(name)).mkdir()
    (tmp_path / "photos" / "red" / "notes.txt").write_text("no image")
    assert main(["train", "--recipe", "fast", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]) == 1
    stderr = capsys.readouterr().err
    assert "is not a valid class name; rename it to up to 64 printable characters" in stderr and "skipped" not in stderr


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
