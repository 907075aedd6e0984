"""`publish` and `import` from the command line: what they refuse, and what they say at the end."""

import re
import shutil

import numpy as np
import pytest

from app.card.render import render_card
from app.card.results import ServedVersion
from model_store.classifier import Classifier
from model_store.command_line import python_command
from model_store.report import read_report
from model_store.store import Store, check_name
from model_store.version import load
from tests.training import linear
from tests.training.runs import VAL_IMAGES, few_val_images, train
from training.__main__ import main
from training.commands.arguments import require_name
from training.data.cifar10 import LABELS, TEST_BATCH, TRAIN_BATCHES
from training.data.load import load_dataset
from training.errors import TrainingError
from training.evaluate.accuracy import evaluate
from training.fit.run.directory import Run
from training.publish import fitting
from training.publish.network import network_from_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_reports", "narrow")]


def test_a_name_that_is_not_a_models_is_refused_before_anything_is_measured(
    notebook_run, data_folder, tmp_path, capsys
):
    store = ["--store", str(tmp_path), "--data", str(data_folder)]
    assert main(["publish", str(notebook_run), "--name", "My Model", *store]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: 'My Model' is not a model name") and "measuring" not in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--calibration-run", "--twin"])
def test_a_calibration_run_is_for_runs_and_must_be_trained_with_hold_out(
    notebook_run, published, data_folder, tmp_path, capsys, option
):
    store = ["--store", str(tmp_path), "--name", "cifar10", "--data", str(data_folder)]
    assert main(["publish", str(published / "cifar10" / "1"), option, str(notebook_run), *store]) == 1
    assert "--calibration-run applies only to runs, and" in capsys.readouterr().err
    assert main(["publish", str(notebook_run), option, str(notebook_run), *store]) == 1
    assert "is a run of 'notebook' without --hold-out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The two files of the linear network, and those of one that takes two classes for each other, to be imported."""
    folder = tmp_path_factory.mktemp("files")
    for name, confused in (("Linear Net", 0), ("confused", 2)):
        (folder / f"{name}.json").write_bytes(linear.architecture())
        (folder / f"{name}.h5").write_bytes(linear.weights(confused))
    return folder


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    """Data in CIFAR-10's format that the linear network classifies better than chance."""
    folder = tmp_path_factory.mktemp("patterns")
    images = linear.images(200)
    planes = images.pixels.transpose(0, 3, 1, 2).reshape(200, -1)
    (folder / TEST_BATCH).write_bytes(np.column_stack([images.labels.astype(np.uint8), planes]).tobytes())
    return folder


def import_network(files, store, *options, network="Linear Net", labels=LABELS):
    architecture, weights = str(files / f"{network}.json"), str(files / f"{network}.h5")
    base = ["import", "--architecture", architecture, "--weights", weights, "--store", str(store)]
    return main([*base, "--labels", *labels, "--mean", "0.5", "0.5", "0.5", *options])


def test_without_a_name_nothing_is_published_and_names_are_proposed(files, patterns, notebook_run, tmp_path, capsys):
    data = ["--data", str(patterns)]
    assert import_network(files, tmp_path, *data) == 1
    assert "--name is missing; pass the name of a new model, such as --name linear-net\n" in capsys.readouterr().err
    linear.publish(Store(tmp_path), "linear-net")
    assert import_network(files, tmp_path, *data) == 1
    proposal = f"such as --name my-linear-net, or one of {tmp_path} to add its next version: linear-net\n"
    assert proposal in capsys.readouterr().err
    assert main(["publish", str(notebook_run), "--store", str(tmp_path), *data]) == 1
    assert "such as --name notebook, or one of" in capsys.readouterr().err
    assert Store(tmp_path).names() == ["linear-net"] and Store(tmp_path).versions("linear-net") == [1]


@pytest.mark.parametrize("name", ["Ünï cödé", "...", "x" * 300, "a"])
def test_a_proposed_name_is_a_model_name(tmp_path, name):
    with pytest.raises(TrainingError) as refused:
        require_name(None, Store(tmp_path), name)
    check_name(str(refused.value).rsplit(" ", 1)[1])


def test_a_version_is_published_under_its_own_name_if_no_other_is_given(tmp_path, capsys):
    linear.publish(Store(tmp_path), "patterns")
    version = str(tmp_path / "patterns" / "1")
    assert main(["publish", version, "--store", str(tmp_path / "other"), "--create"]) == 0
    assert main(["publish", version, "--store", str(tmp_path / "other"), "--name", "more"]) == 0
    assert Store(tmp_path / "other").names() == ["more", "patterns"]
    printed = capsys.readouterr()
    assert "served       within seconds by services with CIFAR10_MODEL_NAME=patterns\n" in printed.out
    assert "not evaluated: its manifest has no accuracy" in printed.err
    assert main(["publish", str(tmp_path / "absent"), "--store", str(tmp_path / "other")]) == 1
    assert f"{tmp_path / 'absent'} is neither a run nor a version: it does not exist" in capsys.readouterr().err


def test_a_store_is_created_only_if_that_was_asked_for_or_it_is_the_default(tmp_path, monkeypatch, capsys):
    linear.publish(Store(tmp_path), "patterns")
    publish, store = ["publish", str(tmp_path / "patterns" / "1")], tmp_path / "typo"
    assert main([*publish, "--store", str(store)]) == 1
    assert (
        f"the store {store} does not exist; pass --create to create it, or another --store" in capsys.readouterr().err
    )
    assert not store.exists()
    (tmp_path / "file").touch()
    assert main([*publish, "--store", str(tmp_path / "file"), "--create"]) == 1
    assert f"the store {tmp_path / 'file'} is not a folder" in capsys.readouterr().err
    monkeypatch.setenv("CIFAR10_STORE", str(store))
    assert main(publish) == 0
    assert Store(store).versions("patterns") == [1]


def test_a_worse_import_replaces_the_version_in_service_by_force_only(files, patterns, tmp_path, capsys):
    data = ["--name", "patterns", "--data", str(patterns), "--no-report"]
    assert import_network(files, tmp_path, *data) == 0
    printed = capsys.readouterr().out
    right = evaluate(linear.classifier(), linear.images(200)).hits.sum()
    assert f"accuracy on the test images: {right / 200:.1%} of 200 (95% interval " in printed
    assert "served       within seconds by services with CIFAR10_MODEL_NAME=patterns\n" in printed
    assert import_network(files, tmp_path, *data, network="confused") == 1
    errors = capsys.readouterr().err
    assert (
        "the new network is worse than patterns 1: " in errors and "pass --force to publish it all the same" in errors
    )
    unevaluated = ["--name", "patterns", "--data", str(tmp_path / "absent")]
    assert import_network(files, tmp_path, *unevaluated) == 1
    assert "the new network is not evaluated" in capsys.readouterr().err
    assert Store(tmp_path).versions("patterns") == [1]
    assert import_network(files, tmp_path, *data, "--force", network="confused") == 0
    printed = capsys.readouterr().out
    assert re.search(r"compared with patterns 1 on the same 200 images: \d+ fewer right\n", printed)
    assert "\nserve 2      CIFAR10_STORE=" in printed and "/patterns/2/report\n" in printed


def test_the_version_that_active_names_stays_in_service(tmp_path, capsys):
    linear.publish(Store(tmp_path), "patterns", metrics={"test": {"accuracy": 0.95, "images": 10_000}})
    active = tmp_path / "patterns" / "ACTIVE"
    active.write_text("1")
    assert main(["publish", str(tmp_path / "patterns" / "1"), "--store", str(tmp_path), "--force"]) == 0
    activate = python_command(f"training activate 2 --name patterns --store {tmp_path}")
    settings = f"CIFAR10_STORE={tmp_path} CIFAR10_MODEL_NAME=patterns"
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "accuracy on the test images: 95.00% of 10,000 (95% interval 94.56% to 95.41%)",
        "",
        f"not served   you chose 1 with `activate`; to serve 2: {activate}",
        f"serve 1      {settings} {python_command('app serve')}",
        f"or           {settings} make run",
    ]
    active.write_text("newest")
    assert main(["publish", str(tmp_path / "patterns" / "1"), "--store", str(tmp_path), "--force"]) == 0
    assert "no version of patterns can be served: " in capsys.readouterr().err


def test_without_a_report_robustness_and_plots_are_left_out_and_the_card_says_so(files, patterns, tmp_path, capsys):
    data = ["--name", "patterns", "--data", str(patterns)]
    assert import_network(files, tmp_path, *data, "--no-report") == 0
    assert "measuring" not in capsys.readouterr().err
    version = load(Store(tmp_path).folder("patterns", 1))
    assert [name for name in version.manifest.files if name.startswith("report/")] == ["report/evaluation.json"]
    assert version.manifest.metrics["left_out"] == ["robustness", "plots"]
    assert {"test", "accuracy_by_precision"} <= version.manifest.metrics.keys() >= {"differences_from_keras"}
    assert "robustness" not in version.manifest.metrics
    report = read_report(version.read("report/evaluation.json"))
    assert report.robustness is None and report.accuracy == version.manifest.metrics["test"]["accuracy"]
    card = render_card(ServedVersion(version.manifest, report, "openvino", "float32"))
    assert "Not measured for this version." in card and "<img" not in card and "Recall: share of" in card
    assert import_network(files, tmp_path, *data) == 0
    full = load(Store(tmp_path).folder("patterns", 2)).manifest
    assert "left_out" not in full.metrics and "robustness" in full.metrics and "report/photos.png" in full.files


def test_a_copied_version_keeps_its_report(published, tmp_path, capsys):
    assert main(["publish", str(published / "cifar10" / "1"), "--store", str(tmp_path), "--no-report"]) == 1
    assert "a version without --data is copied with its report; pass --data, or leave" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["training.publish.candidate.evaluate", "training.publish.report.report_to_json"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=repr)
def test_a_publication_that_fails_leaves_no_folder(files, patterns, tmp_path, monkeypatch, capsys, stage, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(stage, fail)
    options = ["--name", "patterns", "--data", str(patterns), "--no-report", "--create"]
    assert import_network(files, tmp_path / "store", *options) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert not (tmp_path / "store").exists()
    said = "interrupted; nothing was published; run it again" in capsys.readouterr().err
    assert said == isinstance(error, KeyboardInterrupt)


def test_a_version_of_few_photos_is_not_told_to_pass_a_calibration_run(tmp_path, capsys):
    linear.publish(Store(tmp_path), "pets", training={"hold_out": True, "val_images": 12})
    assert main(["publish", str(tmp_path / "pets" / "1"), "--store", str(tmp_path), "--force"]) == 0
    errors = capsys.readouterr().err
    assert "12 validation images are too few: no calibration (200 needed)" in errors
    assert "--calibration-run" not in errors


def test_help_lists_the_option_with_its_older_name(capsys):
    with pytest.raises(SystemExit):
        main(["publish", "--help"])
    assert "--calibration-run RUN, --twin RUN" in capsys.readouterr().out


def test_a_run_without_a_calibration_run_is_published_uncalibrated(teacher, data_folder, tmp_path, capsys):
    store = ["--store", str(tmp_path), "--name", "cifar10", "--data", str(data_folder)]
    assert main(["publish", str(teacher), *store]) == 0
    printed = capsys.readouterr()
    assert f"published {tmp_path / 'cifar10' / '1'}; tested as it is served, in " in printed.out
    assert "not calibrated: pass --calibration-run RUN" in printed.err


def test_a_run_that_is_right_on_every_validation_image_is_published_uncalibrated(data_folder, tmp_path, capsys):
    """The validation images get the labels that the network predicts."""
    run, data = Run(tmp_path / "run"), shutil.copytree(data_folder, tmp_path / "data")
    with few_val_images():
        assert train(data, run.folder, "--hold-out", recipe="teacher") == 0
        pixels = load_dataset(data).val.pixels
        predictions = Classifier(network_from_run(run)).predict(pixels).probabilities.argmax(1)
        batch = data / "cifar-10-batches-bin" / TRAIN_BATCHES[-1]
        records = np.frombuffer(batch.read_bytes(), np.uint8).reshape(-1, 3_073).copy()
        records[-VAL_IMAGES:, 0] = predictions
        batch.write_bytes(records.tobytes())
        info = run.info.model_copy(update={"data_sha256": load_dataset(data).sha256})
        (run.folder / "run.json").write_text(info.model_dump_json())
        store = ["--store", str(tmp_path / "store"), "--create", "--name", "cifar10", "--data", str(data)]
        assert main(["publish", str(run.folder), *store]) == 0
    assert "not calibrated: the validation images do not limit the confidence" in capsys.readouterr().err


def test_what_too_few_validation_images_cannot_fit_is_said_and_left_out(data_folder, tmp_path, capsys):
    run, store = tmp_path / "run", tmp_path / "store"
    with few_val_images():
        assert train(data_folder, run, "--hold-out", recipe="teacher") == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "MIN_FOR_VERDICTS", VAL_IMAGES + 1)
            patch.setattr(fitting, "MIN_FOR_INT8", 1_000)
            options = ["--store", str(store), "--create", "--name", "few", "--data", str(data_folder)]
            assert main(["publish", str(run), *options]) == 0
    error = capsys.readouterr().err
    assert (
        "20 validation images are too few: no verdicts, so `verdict` is null (21 needed), no int8 (1,000 needed). "
        in error
    )
    manifest = load(store / "few" / "1").manifest
    assert manifest.verdicts is None and manifest.reference is None
    assert not {"verdicts", "quantization"} & set(manifest.metrics)
