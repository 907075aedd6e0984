"""A version that takes other images than 32×32 RGB, through the jobs; and which jobs refuse it."""

import json

import numpy as np
import pytest
from PIL import Image

from model_store.manifest import read_manifest
from model_store.version import load
from tests.other_inputs import INPUTS, LABELS, Input, publish
from training.__main__ import main
from training.data.dataset import as_inputs
from training.data.load import load_dataset

GREY = INPUTS[2]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folders of pictures of each label, larger than most inputs."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, label in enumerate(LABELS):
        (folder / label).mkdir()
        for seed in range(12):
            pixels = np.random.default_rng([number, seed]).integers(0, 256, (5, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((140, 100)).save(folder / label / f"{seed}.png")
    return folder


@pytest.fixture(scope="module", params=INPUTS, ids=str)
def given(request):
    return request.param


@pytest.fixture(scope="module")
def folder(given, pictures, tmp_path_factory):
    return publish(tmp_path_factory.mktemp("input"), given, "--data", str(pictures))


def test_an_import_is_compared_with_keras_and_measured_on_images_of_its_size(given, folder):
    manifest = read_manifest(folder / "manifest.json")
    assert manifest.preprocessing.shape == given.shape and manifest.schema_version == 2
    assert manifest.metrics["differences_from_keras"]["float32"] < 1e-3
    assert manifest.metrics["test"]["images"] == 3 and manifest.metrics["left_out"] == ["robustness"]


def test_data_is_resized_from_the_files_as_the_service_does(given, folder, pictures):
    loaded = load(folder, precision="float32")
    preprocessing = loaded.manifest.preprocessing
    pixels = load_dataset(pictures, preprocessing).test.pixels
    assert pixels.shape == (3, *given.shape[:2], 3)
    inputs = as_inputs(pixels, preprocessing)
    assert inputs.shape == (3, *given.shape)
    if "BGR" in given.options:
        assert np.array_equal(inputs, pixels[..., ::-1])


def test_both_engines_give_the_golden_probabilities(folder):
    for engine in ("openvino", "tensorflow"):
        assert load(folder, engine, "float32").golden_difference < 1e-4


def test_evaluate_measures_it_and_leaves_robustness_out(folder, pictures, tmp_path, capsys):
    assert main(["evaluate", str(folder), "--data", str(pictures), "--json", "--out", str(tmp_path / "report")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 3 and "robustness" not in document
    assert (tmp_path / "report" / "evaluation.json").exists()


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_an_export_gives_the_served_probabilities(folder, tmp_path, kind):
    out = tmp_path / ("net.xml" if kind == "openvino" else "net.onnx")
    assert main(["export", str(folder), "--format", kind, "--out", str(out)]) == 0  # which compares them


def test_a_version_is_published_again_as_it_is(folder, tmp_path):
    target = ["--name", "copy", "--store", str(tmp_path / "other"), "--create"]
    assert main(["publish", str(folder), *target]) == 0
    assert load(tmp_path / "other" / "copy" / "1").classifier.shape == load(folder).classifier.shape


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("grey"), GREY)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (["own", "{pictures}", "--from", "{grey}", "--name", "mine", "--store", "{new}", "--create"], "training is on"),
        (["publish", "{grey}", "--data", "{pictures}", "--name", "again", "--store", "{new}", "--create"], "leave out"),
    ],
    ids=["own", "publish"],
)
def test_a_job_that_needs_32x32_rgb_says_so(grey, pictures, tmp_path, job, message, capsys):
    places = {"grey": grey, "pictures": pictures, "new": tmp_path / "new"}
    assert main([argument.format(**places) for argument in job]) == 1
    error = capsys.readouterr().err
    assert "takes 28×28 grey pixels" in error and message in error


@pytest.mark.parametrize("kind", ["keras", "saved_model", "litert"])
def test_tensorflows_formats_take_a_grey_image(grey, tmp_path, kind):
    out = tmp_path / {"keras": "net.keras", "saved_model": "net", "litert": "net.tflite"}[kind]
    assert main(["export", str(grey), "--format", kind, "--out", str(out)]) == 0


@pytest.mark.parametrize(
    ("options", "received"),
    [
        (["--mean", ".5", ".5", ".5"], "--mean has 3 numbers, but the network's images have 1 channel; pass one"),
        (["--channel-order", "BGR"], "--channel-order BGR needs images of three channels"),
    ],
)
def test_means_that_do_not_fit_the_channels_are_refused(tmp_path, options, received, capsys):
    with pytest.raises(AssertionError):
        publish(tmp_path, Input(GREY.shape, tuple(options)))
    assert received in capsys.readouterr().err
