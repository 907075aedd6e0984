import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from model_store.classifier import Classifier
from model_store.manifest import UNNORMALISED, Verdicts
from tests.model_store.network.keras_models import random_images, tiny_model
from training.errors import TrainingError
from training.evaluate.out_of_distribution import GENERATORS, auroc, measure_out_of_distribution, read_folder

REJECT_ALL = Verdicts(novelty_above=0.95, confidence_below=0.0, scores=(-100.0, -90.0))


@pytest.mark.parametrize(
    ("known", "foreign", "area"),
    [
        pytest.param([1, 2, 3], [4, 5], 1.0, id="all stranger"),
        pytest.param([1, 2, 3], [0, 0.5], 0.0, id="all less strange"),
        pytest.param([1, 2], [1, 2], 0.5, id="the same"),
        pytest.param([1, 2, 3, 4], [2.5, 9], 0.75, id="between"),
    ],
)
def test_auroc_is_how_often_a_foreign_image_is_stranger(known, foreign, area):
    assert auroc(np.array(known, np.float32), np.array(foreign, np.float32)) == pytest.approx(area)


def test_folders_and_drawn_kinds_are_measured_and_files_that_are_not_images_are_skipped(tmp_path):
    (tmp_path / "kind/deep").mkdir(parents=True)
    for index, pixels in enumerate(random_images(3)):
        Image.fromarray(pixels).save(tmp_path / f"kind/deep/{index}.png")
    (tmp_path / "kind/notes.txt").write_text("no image")
    classifier = Classifier(tiny_model().network(verdicts=REJECT_ALL), precision="float32")
    results = list(measure_out_of_distribution(classifier, random_images(4, seed=1), [tmp_path / "kind"]))
    assert [result.kind for result in results] == [*(f"{kind} (generated)" for kind in GENERATORS), "kind"]
    assert results[-1].images == 3 and results[-1].rejected == 1 and results[-1].confident == 0


def test_heic_is_read_and_skipped_files_are_counted_by_reason(tmp_path, monkeypatch, capsys):
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "photo.heic")
    (tmp_path / "notes.txt").write_text("no image")
    assert read_folder(tmp_path, UNNORMALISED).shape == (1, 32, 32, 3)
    assert capsys.readouterr().err.startswith("skipped: files that are not images of an accepted type (1): ")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    with pytest.raises(TrainingError, match="contains no image that can be read"):
        read_folder(tmp_path, UNNORMALISED)
    assert "skipped: HEIC photos, which can be read after `pip install pillow-heif` (1)" in capsys.readouterr().err


def test_a_folder_without_images_and_a_version_without_verdicts_are_refused(tmp_path):
    known, classifier = random_images(2), Classifier(tiny_model().network(verdicts=REJECT_ALL))
    with pytest.raises(TrainingError, match="contains no image"):
        list(measure_out_of_distribution(classifier, known, [tmp_path]))
    missing = [tmp_path, tmp_path / "missing"]
    with pytest.raises(TrainingError, match="missing is not a folder; pass one folder of image files for each kind"):
        list(measure_out_of_distribution(classifier, known, missing))
    with pytest.raises(TrainingError, match="has no verdicts; publish its run again"):
        list(measure_out_of_distribution(Classifier(tiny_model().network()), known, []))
