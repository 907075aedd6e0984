"""Training on teachers' predictions."""

import dataclasses
import shutil

import numpy as np
import pytest

from model_store.classifier import Classifier
from tests.training.runs import interrupt_training, train
from training.__main__ import main
from training.data.load import load_dataset
from training.evaluate.accuracy import evaluate
from training.fit import device
from training.fit.augmentation import augment
from training.fit.distillation import Teachers
from training.fit.run.checkpoints import load_soft_targets, save_soft_targets
from training.fit.run.directory import Run
from training.fit.sources import read_source
from training.fit.views import make_views
from training.publish.network import network_from_run
from training.publish.report import write_report
from training.recipes import RECIPES, Distillation, Mixing

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow")]


def targets(teachers, pixels, temperature=1.0, mirrored=False):
    """The mean predictions of runs for images."""
    sources = [read_source(folder) for folder in teachers]
    return Teachers(sources, sources[0].labels, Distillation(temperature, mirrored=mirrored, views=1)).soft_targets(
        pixels
    )


def test_a_taught_run_learns_its_teachers_predictions(data_folder, tmp_path, monkeypatch, capsys, teacher):
    """With the teacher's own probabilities as targets, the loss of a copy of the teacher is their entropy."""
    copy = dataclasses.replace(RECIPES["small"], network=RECIPES["teacher"].network)
    monkeypatch.setitem(RECIPES, "small", copy)
    run = Run(tmp_path / "run")
    assert train(data_folder, run.folder, "--teachers", str(teacher), "--from", str(teacher), recipe="small") == 0
    assert run.info.teachers == (read_source(teacher).weights_sha256(),)
    pixels = load_dataset(data_folder).trainval.pixels
    with device.dtype_policy(device.computed_precision(RECIPES["small"])):
        warm = targets([teacher], pixels, temperature=2.0)
        cold = targets([teacher] * 2, pixels)
    np.testing.assert_allclose(warm.sum(1), 1, atol=1e-5)
    assert warm.shape == (200, 10) and (warm.max(1) < cold.max(1)).all()
    entropy = -(warm * np.log(warm)).sum(1).mean()
    assert run.history[-1]["loss"] == pytest.approx(entropy, rel=0.15)
    assert "agreement" in run.history[-1] and "accuracy" not in run.history[-1]
    assert main(["compare", str(run.folder), str(teacher)]) == 0
    rows = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows["accuracy"][0] == rows["agreement with teachers"][1] == "-"
    evaluation = evaluate(Classifier(network_from_run(run)), load_dataset(data_folder).test)
    write_report(tmp_path / "report", evaluation, run.history)
    assert (tmp_path / "report" / "curves.png").stat().st_size > 5_000


def test_a_taught_run_resumes_with_its_own_teachers_only(data_folder, tmp_path, capsys, teacher):
    run = interrupt_training(data_folder, tmp_path / "run", after=1, recipe="small", teachers=[teacher])
    assert train(data_folder, run.folder, "--resume", recipe="small") == 1
    assert "began with other teachers" in capsys.readouterr().err
    assert train(data_folder, run.folder, "--resume", "--teachers", str(teacher), recipe="small") == 0
    assert len(run.history) == 2


def test_a_mirrored_teacher_predicts_alike_for_an_image_and_its_mirror_image(data_folder, teacher):
    pixels = load_dataset(data_folder).trainval.pixels
    mirror_images = pixels[:, :, ::-1]
    with device.dtype_policy("float32"):
        mirrored = targets([teacher], pixels, mirrored=True)
        plain = targets([teacher], pixels)
        np.testing.assert_allclose(mirrored, targets([teacher], mirror_images, mirrored=True), atol=1e-6)
        np.testing.assert_allclose(mirrored, (plain + targets([teacher], mirror_images)) / 2, atol=1e-6)
    assert np.abs(mirrored - plain).max() > 1e-4


def test_teachers_are_asked_once_about_a_view_that_recurs(data_folder, tmp_path, monkeypatch, teacher):
    recipe = dataclasses.replace(RECIPES["small"], distillation=Distillation(2.0, mirrored=False, views=2))
    monkeypatch.setitem(RECIPES, "small", recipe)
    run = interrupt_training(data_folder, tmp_path / "run", after=2, recipe="small", epochs=4, teachers=[teacher])
    first, second = (load_soft_targets(run.folder, view) for view in (0, 1))
    assert not np.array_equal(first, second)
    view = augment(load_dataset(data_folder).trainval.pixels, recipe.augmentation, 0, 1)
    with device.dtype_policy(device.computed_precision(recipe)):
        np.testing.assert_allclose(second, targets([teacher], view, temperature=2.0), atol=1e-6)
    mark = np.full_like(first, 0.1)  # would be replaced if the teachers were asked again
    save_soft_targets(run.folder, 0, mark)
    assert train(data_folder, run.folder, "--resume", "--teachers", str(teacher), recipe="small", epochs=4) == 0
    np.testing.assert_array_equal(load_soft_targets(run.folder, 0), mark)
    np.testing.assert_array_equal(load_soft_targets(run.folder, 1), second)


def test_unreadable_predictions_of_teachers_count_as_missing(data_folder, tmp_path, teacher):
    run = Run(shutil.copytree(teacher, tmp_path / "run"))
    save_soft_targets(run.folder, 1, np.full((200, 10), 0.1, np.float32))
    (run.folder / "answers-1.npy").write_bytes(b"")  # as a machine that stopped leaves it
    assert load_soft_targets(run.folder, 1) is None


def test_a_student_of_fresh_views_learns_what_its_teachers_predict_for_mixed_images(
    data_folder, tmp_path, monkeypatch, teacher
):
    fresh = Distillation(2.0, mirrored=False)
    recipe = dataclasses.replace(RECIPES["small"], distillation=fresh, mixing=Mixing("mixup"))
    monkeypatch.setitem(RECIPES, "small", recipe)
    seen = []
    predict = Teachers.soft_targets
    monkeypatch.setattr(Teachers, "soft_targets", lambda self, pixels: seen.append(pixels) or predict(self, pixels))
    run = Run(tmp_path / "run")
    assert train(data_folder, run.folder, "--teachers", str(teacher), recipe="small", epochs=2) == 0
    views = make_views(load_dataset(data_folder).trainval.pixels, dataclasses.replace(recipe, epochs=2), 0, 0, 192)
    for view, pixels in zip(views, seen, strict=True):
        np.testing.assert_array_equal(pixels, view.shuffled)
    assert not list(run.folder.glob("answers-*"))
