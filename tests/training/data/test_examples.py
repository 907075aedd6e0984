import itertools
import shutil

import pytest

from tests.training.pictures import write_picture, write_pictures
from training.data.examples import read_examples
from training.data.image_folder import load_images
from training.data.layout import list_images
from training.errors import TrainingError


@pytest.mark.parametrize(("copies", "more"), [(3, None), (23, "and 3 more")], ids=["few", "many"])
def test_all_images_in_two_classes_are_named_with_both_paths(tmp_path, copies, more):
    cats = write_pictures(tmp_path / "cat", 30, seed=1)
    write_pictures(tmp_path / "dog/day2", 30, seed=2)
    for cat in cats[:copies]:
        shutil.copy(cat, tmp_path / "dog" / f"copy-{cat.name}")
    with pytest.raises(TrainingError) as error:
        load_images(tmp_path)
    head, *lines = str(error.value).split("\n  ")
    assert head == f"{copies} images are in two or more classes; keep each in one:"
    named = lines[:-1] if more else lines
    assert named[0] == f"{cats[0]} (cat) and {tmp_path / 'dog/copy-0.png'} (dog)" and len(named) == min(copies, 20)
    assert more is None or lines[-1] == more


def test_every_copy_of_an_image_in_two_classes_is_named_after_the_skipped_files(tmp_path, capsys):
    cats = write_pictures(tmp_path / "cat", 12, seed=1)
    write_pictures(tmp_path / "dog", 12, seed=2)
    copies = [shutil.copy(cats[0], tmp_path / place) for place in ("cat/0 copy.png", "dog/0.png")]
    (tmp_path / "dog/empty.png").touch()
    with pytest.raises(TrainingError) as error:
        load_images(tmp_path)
    assert str(error.value) == (
        "1 image is in two or more classes; keep each in one:\n  "
        f"{copies[0]} (cat) and {cats[0]} (cat) and {copies[1]} (dog)"
    )
    assert "skipped: empty files (1)" in capsys.readouterr().err


def test_an_image_in_two_parts_stays_in_train_only_and_is_reported(tmp_path, capsys):
    for seed, label in enumerate(("cat", "dog")):
        train = write_pictures(tmp_path / "train" / label, 12, seed)
        write_pictures(tmp_path / "val" / label, 3, seed + 10)
        write_picture(tmp_path / "test" / label / "own.png", seed + 99)
        shutil.copy(train[0], tmp_path / "val" / label / "leak.png")
        shutil.copy(tmp_path / "val" / label / "0.png", tmp_path / "test" / label / "leak.png")
    dataset = load_images(tmp_path)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (24, 6, 2)
    stderr = capsys.readouterr().err
    for part, first, name in (("val", "train", "0"), ("test", "val", "0")):
        paths = f"{tmp_path / part / 'cat/leak.png'}, which is {tmp_path / first / f'cat/{name}.png'}"
        assert f"skipped: {part} images that are in {first}, too (2), such as {paths}\n" in stderr


def test_a_part_without_an_image_of_its_own_is_split_from_train(tmp_path, capsys):
    for seed, label in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "train" / label, 20, seed)
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    dataset = load_images(tmp_path)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (32, 4, 4)
    assert "val has no image of its own and is split from train\n" in capsys.readouterr().err
    assert dataset.sha256 == load_images(tmp_path / "train").sha256


def test_reading_many_images_prints_a_line_a_minute_to_stderr(tmp_path, capsys):
    for seed, label in enumerate(("cat", "dog")):
        write_pictures(tmp_path / label, 20, seed)
    _, files, skipped, _ = list_images(tmp_path)
    ticks = itertools.count(0.0, 5.0)
    assert len(read_examples(files, skipped, lambda: next(ticks))) == 40
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0] == "11/40 images read, 2:51 left" and len(lines) == 3 and printed.out == ""
