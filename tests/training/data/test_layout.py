import pytest

from tests.training.pictures import write_picture, write_pictures
from training.data.image_folder import load_images
from training.data.layout import EXPECTED, list_images
from training.errors import TrainingError


def test_images_in_folders_below_a_class_belong_to_it(tmp_path):
    for seed, place in enumerate(("cat", "cat/day2/evening", "dog", "dog/day2")):
        write_pictures(tmp_path / place, 10, seed)
    listing = list_images(tmp_path)
    assert listing.labels == ("cat", "dog") and len(listing.files) == 40
    assert {file.label for file in listing.files if "day2" in str(file.path)} == {"cat", "dog"}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train", "val", "test"), ["train", "val", "test"]),
        (("Training", "validation", "testing"), ["train", "val", "test"]),
        (("train", "valid"), ["train", "val"]),
        (("TRAIN", "test"), ["train", "test"]),
        (("train",), ["train"]),
    ],
    ids="/".join,
)
def test_folders_named_like_parts_of_a_split_are_the_split(tmp_path, names, parts):
    for name in names:
        write_picture(tmp_path / name / "cat/more/1.png", 1)
        write_picture(tmp_path / name / "dog/2.png", 2)
    listing = list_images(tmp_path)
    assert listing.labels == ("cat", "dog")
    assert {(file.part, file.label) for file in listing.files} == {
        (p, label) for p in parts for label in ("cat", "dog")
    }


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "car", "test"):
        write_picture(tmp_path / name / "1.png", 1)
    (tmp_path / "train/more").mkdir()
    assert list_images(tmp_path).labels == ("car", "test", "train")


def test_images_outside_class_folders_and_a_further_csv_are_named(tmp_path):
    for place in ("train/cat", "train/dog", "train", "test", "."):
        write_picture(tmp_path / place / "1.png", 1)
    for name in ("labels.csv", "README.md"):
        (tmp_path / name).touch()
    assert list_images(tmp_path).skipped.lines() == [
        f"skipped: images outside the class folders (3), such as {tmp_path / 'test/1.png'}",
        f"skipped: other files outside the class folders (1): {tmp_path / 'README.md'}",
        f"skipped: CSV files beside class folders (1): {tmp_path}/labels.csv; pass it as --data if it has the labels",
    ]


def test_a_folder_of_a_split_that_is_taken_as_a_class_is_doubted_with_the_folder_to_pass(tmp_path):
    for place in ("clean", "clean/day1", "messy", "split/train/clean", "split/val/clean"):
        write_picture(tmp_path / place / "1.png", 1)
    assert list_images(tmp_path).doubts == (
        "warning: split is taken as one class, though it holds train and val; to use that as a split, pass "
        f"{tmp_path / 'split'}",
        "images in folders of a class folder count as that class: clean/day1",
    )
    assert list_images(tmp_path / "split").doubts == ()


def test_classes_above_the_parts_of_a_split_are_doubted_once(tmp_path):
    for place in ("cat/train", "cat/test", "dog/train"):
        write_picture(tmp_path / place / "1.png", 1)
    (doubt,) = list_images(tmp_path).doubts
    assert doubt.endswith("it holds test and train; a split needs them on top: train/cat")


@pytest.mark.parametrize(
    ("files", "description"),
    [
        (["1.jpg"], "found 1 image but no class folders"),
        (["1.jpg", "2.PNG", "notes.txt"], "found 2 images but no class folders"),
        (["notes.txt"], "found 1 file but no images"),
        (["Thumbs.db"], "found no files"),
        (["cat/1.png"], "found one folder, cat"),
        (["photos/cat/1.png", "photos/dog/1.png"], "found one folder, photos"),
        (["train/1.png", "val/1.png"], "found 2 folders, train and val, without class folders in them"),
        (["val/cat/1.png", "test/cat/1.png"], "found 2 folders, test and val, without one for train"),
        ([f"{name}/.x" for name in "abcdefg"], "found 7 folders, a, b, c, d, e and 2 more, without files in them"),
        (["images/1.png", "a.csv", "b.csv"], "found one folder, images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_arrangement_is_described_as_it_is(tmp_path, files, description):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(TrainingError) as error:
        list_images(tmp_path)
    assert str(error.value) == f"{tmp_path}: {description}; {EXPECTED}"


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/cat", "val/cat", "raw"], "has raw beside train, which holds folders; if train is part of a split"),
        (["train/cat", "val/cat", "valid/cat"], "has two folders for val: val, valid; merge them"),
    ],
    ids=["others", "twice"],
)
def test_an_ambiguous_split_is_refused(tmp_path, folders, message):
    for folder in folders:
        write_picture(tmp_path / folder / "1.png", 1)
    with pytest.raises(TrainingError, match=message):
        list_images(tmp_path)


def test_a_file_that_is_no_csv_is_refused(tmp_path):
    (tmp_path / "photos.zip").touch()
    with pytest.raises(TrainingError, match=r"photos\.zip is a file; pass a folder of images, or a CSV file"):
        list_images(tmp_path / "photos.zip")


def test_folders_with_the_same_name_in_either_unicode_form_are_one_class(tmp_path):
    write_pictures(tmp_path / "caf\u00e9", 10, seed=1)
    write_pictures(tmp_path / "cafe\u0301", 10, seed=2)
    write_pictures(tmp_path / "bar", 10, seed=3)
    dataset = load_images(tmp_path)
    assert dataset.labels == ("bar", "caf\u00e9")
    assert [sum(part.labels == 1) for part in (dataset.train, dataset.val, dataset.test)] == [16, 2, 2]
