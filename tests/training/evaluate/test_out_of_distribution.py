import numpy as np
import pytest
from PIL import Image

from model_store.classifier import Classifier
from model_store.manifest import Resize, Verdicts
from tests.model_store.network.keras_models import random_images, tiny_model
from training.errors import TrainingError
from training.evaluate.out_of_distribution import MADE, auroc, measure_foreign

NOBODY = Verdicts(novelty_above=0.95, confidence_below=0.0, scores=(-100.0, -90.0))  # whom such a network knows


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


def test_folders_and_made_kinds_are_measured_and_what_is_no_image_is_passed_over(tmp_path):
    (tmp_path / "kind/deep").mkdir(parents=True)
    for index, pixels in enumerate(random_images(3)):
        Image.fromarray(pixels).save(tmp_path / f"kind/deep/{index}.png")
    (tmp_path / "kind/notes.txt").write_text("no image")
    lines = []
    classifier = Classifier(tiny_model().network(verdicts=NOBODY), precision="float32")
    rows = measure_foreign(classifier, random_images(4, seed=1), Resize(), [tmp_path / "kind"], lines.append)
    assert [row.kind for row in rows] == [*(f"{kind} (made here)" for kind in MADE), "kind"]
    assert rows[-1].images == 3 and rows[-1].rejected == 1 and rows[-1].confident == 0
    assert len(lines) == len(rows) and lines[-1].startswith("kind ") and "100.0%" in lines[-1]


def test_a_folder_without_images_and_a_version_without_verdicts_are_refused(tmp_path):
    known = random_images(2)
    with pytest.raises(TrainingError, match="holds no image"):
        measure_foreign(Classifier(tiny_model().network(verdicts=NOBODY)), known, Resize(), [tmp_path], lambda _: None)
    missing = [tmp_path, tmp_path / "missing"]
    with pytest.raises(TrainingError, match="missing is not a folder; pass folders of image files"):
        measure_foreign(Classifier(tiny_model().network(verdicts=NOBODY)), known, Resize(), missing, lambda _: None)
    with pytest.raises(TrainingError, match="has no verdicts; publish its run anew"):
        measure_foreign(Classifier(tiny_model().network()), known, Resize(), [], lambda _: None)
