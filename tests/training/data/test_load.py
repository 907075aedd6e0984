import pytest

from tests.training.pictures import write_pictures
from training.data.image_folder import OwnImages
from training.data.load import load_dataset
from training.errors import TrainingError


@pytest.mark.parametrize(("name", "reason"), [("missing", "does not exist"), (".", "is empty")])
def test_without_data_both_kinds_are_offered(tmp_path, name, reason):
    (tmp_path / ".gitkeep").touch()
    with pytest.raises(TrainingError, match=f"{reason}; run `.*python -m training fetch` .* one folder of images per"):
        load_dataset(tmp_path / name)


def test_a_folder_without_batches_is_not_taken_for_cifar10(tmp_path):
    write_pictures(tmp_path, 3, seed=1)
    with pytest.raises(TrainingError, match="found 3 images but no class folders") as error:
        load_dataset(tmp_path)
    assert "data_batch" not in str(error.value)


def test_a_batch_deep_in_a_class_folder_does_not_make_it_cifar10(tmp_path):
    for seed, label in enumerate(("cat", "dog")):
        write_pictures(tmp_path / label, 10, seed)
    (tmp_path / "cat/data_batch_1.bin").touch()
    assert isinstance(load_dataset(tmp_path), OwnImages)
