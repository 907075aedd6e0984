"""Publish a finished run or a version as the next version in a store."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from model_store.drift import count_reference
from model_store.errors import ModelError
from model_store.files import GOLDEN, MANIFEST, WEIGHTS
from model_store.golden import read_golden
from model_store.manifest import UNNORMALISED, Manifest, read_manifest
from model_store.network.model import Network
from model_store.version import read_network, read_placed_manifest, verify
from training.data.dataset import Dataset, check_labels, compose, same_labels
from training.errors import TrainingError
from training.evaluate.out_of_distribution import read_folder
from training.evaluate.robustness import ShowProgress, show_nothing
from training.evaluate.thresholds import count_verdicts, fit_rejection
from training.fit.run.directory import Run
from training.fit.sources import read_source
from training.publish.candidate import LEFT_OUT, LEFT_OUT_OF_REPORT, Candidate, publish_candidate, timestamp
from training.publish.compare_with_keras import check_served, keras_probabilities
from training.publish.compiled import CompiledNetwork
from training.publish.fitting import Fitted, check_calibration_run, fit_on_val
from training.publish.network import network_from_run
from training.publish.report import read_history
from training.publish.target import COMPARED, Target

EMPTY = np.empty((0, *UNNORMALISED.shape), np.uint8)


def publish_run(
    run: Run,
    target: Target,
    dataset: Dataset,
    calibration_run: Run | None = None,
    show: ShowProgress = show_nothing,
) -> int:
    """Fit what is fitted on validation images, evaluate on the test images, and publish. Returns the version.

    Args:
        calibration_run: a run of the same recipe trained with --hold-out, on which temperature, int8 and thresholds are
            fitted. A run that was itself trained with it needs no other.
        show: receives progress, see `measure_robustness`.

    Raises:
        TrainingError: the service could not load the network or would give other probabilities than Keras, the
            calibration run does not match the run, or the network must not replace the version in service.
    """
    network, info, history = network_from_run(run), run.info, read_history(run.folder)
    calibration_run = calibration_run or (run if info.hold_out else None)
    target.check_same_labels(info.labels)
    check_labels(run.folder, info.labels, dataset.labels)
    fitted = Fitted(CompiledNetwork(network), None, {})
    if calibration_run:
        if info.data_sha256 != dataset.sha256:
            raise TrainingError(
                f"{run.folder} was trained on other data than this, whose validation images it may have seen; "
                "pass its --data"
            )
        check_calibration_run(calibration_run, info)
        calibration_network = network if calibration_run is run else network_from_run(calibration_run)
        fitted = fit_on_val(network, calibration_network, dataset, calibrate=network.output == "logits")
    training = info.model_dump(mode="json") | {"seconds": sum(record["seconds"] for record in history)}
    candidate = Candidate(run.folder, fitted.compiled, training, history, fitted.metrics, fitted.reference)
    return publish_candidate(candidate, target, dataset.test.pixels, dataset.test, show)


def find_published(run: Run, target: Target, dataset: Dataset) -> int | None:
    """Return the newest version that equals what publishing the run, without a calibration run, would make.

    It has the run's weights and record, was fitted on the same images, and has a report as full as the target's.
    """
    info = run.require_finished().info
    if dataset.sha256 != info.data_sha256:
        return None
    sha256, record = read_source(run.folder).weights_sha256(), info.model_dump(mode="json")
    for version in reversed(target.store.versions(target.name)):
        try:
            manifest = read_placed_manifest(target.store.folder(target.name, version))
        except ModelError:
            continue
        weights, left_out = manifest.files.get(WEIGHTS), manifest.metrics.get(LEFT_OUT, [])
        if not weights or weights.sha256 != sha256 or not manifest.training.items() >= record.items():
            continue
        calibrated_by_another = not info.hold_out and (manifest.temperature != 1 or manifest.reference is not None)
        if set(left_out) <= set(LEFT_OUT_OF_REPORT[target.report]) and not calibrated_by_another:
            return version
    return None


def publish_version(
    folder: Path,
    target: Target,
    dataset: Dataset | None = None,
    photographs: Path | None = None,
    show: ShowProgress = show_nothing,
) -> int:
    """Publish an existing version as the next one of a store, after the same checks. Returns the version.

    Args:
        dataset: the one it was trained on. If given, all that is fitted on validation images, which it must not have
            seen, is fitted again except the temperature, and all that is measured on test images is measured again.
        photographs: a folder of each label's photographs, which the version has not seen. If given with `dataset`, only
            the threshold of the verdict `none_of_these` is fitted again, on these.
        show: receives progress, see `measure_robustness`.

    Raises:
        TrainingError: the version is damaged, gives other probabilities than Keras, cannot be fitted on the dataset
            or the photographs, or must not replace the version in service.
    """
    try:
        manifest = read_manifest(folder / MANIFEST)
        files = verify(folder, manifest)
        network, golden = read_network(manifest, files), read_golden(files[GOLDEN], manifest.preprocessing.shape)
    except ModelError as error:
        raise TrainingError(f"{folder} cannot be published: {error}") from None
    target.check_same_labels(manifest.labels)
    training = manifest.training | {"published_from": f"{manifest.name}/{manifest.version}"}
    if dataset:
        _check_trained_here(folder, manifest)
        if photographs:
            fitted = _fit_on_photographs(folder, manifest, network, dataset, photographs)
        else:
            _check_fittable(folder, manifest, dataset)
            bare = replace(network, ranges=None, verdicts=None, gaussian=None)
            fitted = fit_on_val(bare, bare, dataset, calibrate=False)
        metrics = manifest.metrics | fitted.metrics
        candidate = Candidate(folder, fitted.compiled, training, read_history(folder), metrics, fitted.reference)
        return publish_candidate(candidate, target, dataset.test.pixels, dataset.test, show)
    target.check_manifest(manifest)
    references = keras_probabilities(folder, network, golden.images)
    check_served(CompiledNetwork(network).by_precision(), golden.images, references)

    def write(copy: Path, version: int) -> Manifest:
        for name in manifest.files:
            (copy / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, copy / name)
        metrics = {key: value for key, value in manifest.metrics.items() if key != COMPARED}
        update = {"name": target.name, "version": version, "created": timestamp(), "training": training}
        update["metrics"] = metrics
        return manifest.model_copy(update=update)

    return target.store.publish(target.name, write)


def _fit_on_photographs(
    folder: Path, manifest: Manifest, network: Network, dataset: Dataset, photographs: Path
) -> Fitted:
    """Fit the rejection threshold on photographs; the reference for drift is counted on the test images."""
    if network.verdicts is None or not same_labels(manifest.labels, dataset.labels):
        raise TrainingError(f"{folder} has no verdicts, or other labels than the data; leave out --photographs")
    if not photographs.is_dir():
        raise TrainingError(f"{photographs} is not a folder; pass one with a folder of photographs for each label")
    compiled = CompiledNetwork(network)
    folders = [(compose(path.name), path) for path in sorted(photographs.iterdir()) if path.is_dir()]
    known = [compose(label) for label in network.labels]
    if unknown := sorted({label for label, _ in folders} - set(known)):
        raise TrainingError(f"{photographs} holds a folder {unknown[0]!r}, which is not a label of {folder}; remove it")
    images = [read_folder(path, network.preprocessing) for _, path in folders]
    labels = np.repeat([known.index(label) for label, _ in folders], [len(pixels) for pixels in images])
    predictions = compiled.served.predict(np.concatenate(images) if images else EMPTY)
    verdicts = fit_rejection(predictions, network.verdicts)
    compiled = compiled.replace(verdicts=verdicts)
    test = compiled.served.predict(dataset.test.pixels)
    shares = {
        "photographs": count_verdicts(predictions, labels, verdicts),
        "test": count_verdicts(test, dataset.test.labels, verdicts),
    }
    return Fitted(compiled, count_reference(dataset.test.pixels, test, verdicts), {"verdicts": shares})


def _check_trained_here(folder: Path, manifest: Manifest) -> None:
    if manifest.preprocessing.schema_version != 1:
        raise TrainingError(
            f"{folder} takes {manifest.preprocessing.describe()}, and only networks of 32×32 RGB pixels, "
            "as are trained here, can be fitted and measured again; leave out --data"
        )


def _check_fittable(folder: Path, manifest: Manifest, dataset: Dataset) -> None:
    """Check that a version's verdicts can be fitted on the validation images.

    Raises:
        TrainingError: it has seen them, has no logits, or was trained on other data.
    """
    if not manifest.training.get("hold_out"):
        raise TrainingError(
            f"{folder} was not trained with --hold-out: it has seen the validation images, on which verdicts are "
            "fitted; publish its run with a --calibration-run, or leave out --data to publish it as it is"
        )
    if manifest.output != "logits":
        raise TrainingError(f"{folder} ends in softmax and has no energy to fit verdicts on; leave out --data")
    if not same_labels(manifest.labels, dataset.labels) or manifest.training.get("data_sha256") != dataset.sha256:
        raise TrainingError(f"{folder} was trained on other data; pass that as --data, or leave --data out")
