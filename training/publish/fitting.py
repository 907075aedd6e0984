"""Everything fitted on validation images: temperature, int8, thresholds, and the reference for drift.

They are fitted on the calibration run: a run of the same recipe that was trained without these images. The network to
be published is often trained on them too, and would look better there than it is.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_store.classifier import Classifier
from model_store.drift import count_reference
from model_store.manifest import Reference
from model_store.network.model import Network
from model_store.network.quantization import quantizable
from model_store.novelty import novelty
from training.data.dataset import Dataset, Images
from training.errors import TrainingError
from training.evaluate.accuracy import predict_probabilities
from training.evaluate.calibration import Calibration, fit_temperature
from training.evaluate.novelty_statistics import fit_gaussian, standardise
from training.evaluate.quantization import measure_quantization, quantize
from training.evaluate.thresholds import count_verdicts, fit_thresholds
from training.fit.run_directory import Run, RunInfo
from training.publish.compare_with_keras import GOLDEN_IMAGES, TOLERANCES
from training.publish.network import network_from_run


@dataclass(frozen=True)
class Fitted:
    """A network with its fitted parts, the reference for drift, and the manifest's metrics of the fits."""

    network: Network
    reference: Reference | None
    metrics: dict[str, Any]


def check_calibration_run(calibration_run: Run, info: RunInfo) -> None:
    """Check that a run can calibrate the run of `info`.

    Raises:
        TrainingError: it has seen the validation images, or is of another recipe or of other data.
    """
    other = calibration_run.info
    if not other.hold_out or other.recipe_values != info.recipe_values:
        raise TrainingError(
            f"{calibration_run.folder} is a run of {other.recipe!r} {'with' if other.hold_out else 'without'} "
            f"--hold-out; {info.recipe!r} is calibrated on a run of it, with the same settings and --hold-out"
        )
    if (other.labels, other.data_sha256) != (info.labels, info.data_sha256):
        raise TrainingError(
            f"{calibration_run.folder} was trained on other data than the run; pass a run on the same --data"
        )


def calibrate(calibration_run: Run, val: Images) -> Calibration | None:
    """Fit the temperature of a calibration run on the validation images; None where no temperature fits best."""
    return fit_temperature(predict_probabilities(Classifier(network_from_run(calibration_run)), val.pixels), val.labels)


def fit_on_val(network: Network, calibration_network: Network, dataset: Dataset) -> Fitted:
    """Add int8's ranges, thresholds and the reference for drift to a network.

    Args:
        network: to be published; without ranges, verdicts and Gaussian.
        calibration_network: the calibration run's, at the same temperature; may be the same one.
        dataset: of both.
    """
    metrics: dict[str, Any] = {}
    if quantizable(network.architecture):
        network, metrics["quantization"] = _fit_int8(network, calibration_network, dataset)
    if network.output != "logits":
        return Fitted(network, None, metrics)
    if network.ranges:
        calibration_network = quantize(calibration_network, dataset.train.pixels)
    network, reference, metrics["verdicts"] = _fit_verdicts(network, calibration_network, dataset)
    return Fitted(network, reference, metrics)


def _fit_int8(network: Network, calibration_network: Network, dataset: Dataset) -> tuple[Network, dict[str, Any]]:
    """Add int8's ranges if the calibration network loses nothing by them; else return the network unchanged.

    Also returns the measurements.
    """
    result = measure_quantization(quantize(calibration_network, dataset.train.pixels), dataset.val)
    quantized = quantize(network, dataset.train.pixels)
    golden = dataset.test.pixels[:GOLDEN_IMAGES]
    int8 = Classifier(quantized, precision="int8").predict(golden).probabilities
    float32 = Classifier(quantized, precision="float32").predict(golden).probabilities
    adopted = result.pays and float(np.abs(int8 - float32).max()) <= TOLERANCES["int8"]
    return quantized if adopted else network, result.document() | {"adopted": adopted}


def _fit_verdicts(
    network: Network, calibration_network: Network, dataset: Dataset
) -> tuple[Network, Reference, dict[str, Any]]:
    """Add Gaussian and thresholds; also return the reference for drift, and how often each verdict is given.

    Thresholds, reference and the Gaussian's scales are of the calibration network's predictions for validation images.
    The Gaussian's mean and whitening are measured in each network, since their channels are unrelated.
    """
    val, test, train_pixels = dataset.val, dataset.test, dataset.train.pixels
    network = fit_gaussian(network, train_pixels)
    calibration_network = fit_gaussian(calibration_network, train_pixels)
    if (network.gaussian and network.gaussian.layer) != (
        calibration_network.gaussian and calibration_network.gaussian.layer
    ):  # distances at different layers have different scales
        network, calibration_network = replace(network, gaussian=None), replace(calibration_network, gaussian=None)
    predictions = Classifier(calibration_network).predict(val.pixels)
    if network.gaussian and calibration_network.gaussian:
        gaussian = standardise(calibration_network.gaussian, predictions)
        assert predictions.energy is not None and predictions.features is not None
        predictions = replace(predictions, ood_score=gaussian.scores(predictions.energy, predictions.features))
        scaled = replace(network.gaussian, centre=gaussian.centre, spread=gaussian.spread)
        network = replace(network, gaussian=scaled)
    assert predictions.ood_score is not None
    verdicts = fit_thresholds(predictions, val.labels)
    shares = {
        "held_out": count_verdicts(predictions, val.labels, verdicts),
        "test": count_verdicts(Classifier(network).predict(test.pixels), test.labels, verdicts),
    }
    predictions = replace(predictions, novelty=novelty(predictions.ood_score, np.array(verdicts.scores)))
    return replace(network, verdicts=verdicts), count_reference(val.pixels, predictions, verdicts), shares
