"""Everything fitted on validation images: temperature, int8, thresholds, and the reference for drift.

They are fitted on the calibration run: a run of the same recipe that was trained without these images. The network to
be published is often trained on them too, and would look better there than it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_store.classifier import Predictions, judge
from model_store.drift import count_reference
from model_store.manifest import Reference
from model_store.network.model import Network
from model_store.network.quantization import quantizable
from training.data.dataset import Dataset
from training.errors import TrainingError
from training.evaluate.accuracy import evaluate
from training.evaluate.calibration import fit_temperature
from training.evaluate.novelty_statistics import fit_gaussian, standard_gaussian, standardise
from training.evaluate.quantization import measure_quantization, quantize
from training.evaluate.simulated_uploads import as_uploads
from training.evaluate.thresholds import count_verdicts, fit_thresholds
from training.fit.run.directory import Run, RunInfo
from training.publish.compare_with_keras import GOLDEN_IMAGES, TOLERANCES
from training.publish.compiled import CompiledNetwork

UPLOADS_SEED = 0
# Validation images that each fit needs. The temperature of `cifar10` 8 has a standard error of 13 % from 200 images and
# of 32 % from 100. With fewer than 600, a confidence at which 99 % are right cannot be found, see `thresholds`. int8
# may cost 0.1 points, one image of a thousand.
MIN_FOR_TEMPERATURE, MIN_FOR_VERDICTS, MIN_FOR_INT8 = 200, 600, 1_000


@dataclass(frozen=True)
class Fitted:
    """A network with its fitted parts, the reference for drift, and the manifest's metrics of the fits."""

    compiled: CompiledNetwork
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


def fit_on_val(network: Network, calibration_network: Network, dataset: Dataset, calibrate: bool) -> Fitted:
    """Add temperature, int8's ranges, thresholds and the reference for drift to a network.

    A network is compiled, and the calibration network predicts the validation images, once for each temperature and
    precision.

    Args:
        network: to be published; without ranges, verdicts and Gaussian.
        calibration_network: the calibration run's, at the same temperature. If it is the same object, each fit that
            both would need is made once.
        dataset: of both.
        calibrate: fit the temperature, too. Needs logits.
    """
    distinct = [network] if calibration_network is network else [network, calibration_network]
    networks = [CompiledNetwork(other) for other in distinct]  # the published one first, the calibration run's last
    metrics: dict[str, Any] = {}
    predictions = networks[-1].served.predict(dataset.val.pixels)
    count = len(dataset.val)
    calibrate = calibrate and count >= MIN_FOR_TEMPERATURE
    calibration = fit_temperature(predictions.probabilities, dataset.val.labels) if calibrate else None
    if calibration:
        metrics["calibration"] = calibration.document()
        metrics["test_uncalibrated"] = evaluate(networks[0].served, dataset.test).summary()
        networks = [compiled.replace(temperature=calibration.temperature) for compiled in networks]
    if network.output == "logits" and count >= MIN_FOR_VERDICTS:
        # Not before: in bfloat16 another output changes what is fused and thereby the rounding.
        networks = _add_gaussians(networks)
    if count >= MIN_FOR_INT8 and quantizable(network.architecture):
        quantized = [_quantize(compiled, dataset) for compiled in networks]
        int8_predictions = quantized[-1].classifier("int8").predict(dataset.val.pixels)
        quantization = measure_quantization(predictions, int8_predictions, dataset.val.labels)
        adopted = quantization.pays and _keeps_golden_images(quantized[0], dataset)
        metrics["quantization"] = quantization.document() | {"adopted": adopted}
        networks = quantized if adopted else [compiled.replace(ranges=None) for compiled in quantized]
    if network.output != "logits" or count < MIN_FOR_VERDICTS:
        return Fitted(networks[0], None, metrics)
    served = networks[-1].served
    predictions = int8_predictions if served.precision == "int8" else served.predict(dataset.val.pixels)
    compiled, reference, metrics["verdicts"] = _fit_verdicts(networks, predictions, dataset)
    return Fitted(compiled, reference, metrics)


def missing_fits(images: int) -> str | None:
    """Say what cannot be fitted on so many validation images; None if all can."""
    needs = {
        "no calibration": MIN_FOR_TEMPERATURE,
        "no verdicts, so `verdict` is null": MIN_FOR_VERDICTS,
        "no int8": MIN_FOR_INT8,
    }
    missing = {what: least for what, least in needs.items() if images < least}
    if not missing:
        return None
    first = next(iter(missing.values()))
    return (
        f"{images:,} validation images are too few: "
        + ", ".join(f"{what} ({least:,} needed)" for what, least in missing.items())
        + f". A tenth of the images are for validation: {first:,} of about {10 * first:,}; a `val` folder may hold more"
    )


def _add_gaussians(networks: list[CompiledNetwork]) -> list[CompiledNetwork]:
    """Let the networks give the features of their early layer, if all have the same one.

    Distances at different layers have different scales.
    """
    gaussians = [standard_gaussian(compiled.network.architecture) for compiled in networks]
    if len({gaussian and gaussian.layer for gaussian in gaussians}) != 1:
        return networks
    return [compiled.replace(gaussian=gaussian) for compiled, gaussian in zip(networks, gaussians, strict=True)]


def _quantize(compiled: CompiledNetwork, dataset: Dataset) -> CompiledNetwork:
    return compiled.replace(ranges=quantize(compiled.network, dataset.train.pixels).ranges)


def _keeps_golden_images(quantized: CompiledNetwork, dataset: Dataset) -> bool:
    """Tell if int8 gives the golden images about the probabilities of float32, as the store checks."""
    golden = dataset.test.pixels[:GOLDEN_IMAGES]
    int8, float32 = (quantized.classifier(precision).predict(golden).probabilities for precision in ("int8", "float32"))
    return float(np.abs(int8 - float32).max()) <= TOLERANCES["int8"]


def _fit_verdicts(
    networks: Sequence[CompiledNetwork], predictions: Predictions, dataset: Dataset
) -> tuple[CompiledNetwork, Reference, dict[str, Any]]:
    """Add Gaussian and thresholds; also return the reference for drift, and how often each verdict is given.

    Thresholds, reference and the Gaussian's scales are of the calibration network's predictions for validation images.
    The Gaussian's mean and whitening are measured in each network, since their channels are unrelated.

    Args:
        networks: the one to be published first, the calibration network last.
        predictions: of the calibration network for validation images, at the served precision.
    """
    val, test, compiled = dataset.val, dataset.test, networks[0]
    calibration = networks[-1]
    uploads = calibration.served.predict(as_uploads(val.pixels, calibration.network.preprocessing, UPLOADS_SEED))
    gaussian = None
    gaussians = [
        fit_gaussian(other.network.gaussian, other.served, dataset.train.pixels)
        for other in networks
        if other.network.gaussian
    ]
    if gaussians:
        gaussian = standardise(gaussians[-1], predictions)
        scaled = replace(gaussians[0], centre=gaussian.centre, spread=gaussian.spread)
        compiled = compiled.replace(gaussian=scaled)
    predictions, uploads = (judge(unscored, gaussian) for unscored in (predictions, uploads))
    verdicts = fit_thresholds(predictions, uploads, val.labels)
    compiled = compiled.replace(verdicts=verdicts)
    shares = {
        "held_out": count_verdicts(predictions, val.labels, verdicts),
        "uploads": count_verdicts(uploads, val.labels, verdicts),
        "test": count_verdicts(compiled.served.predict(test.pixels), test.labels, verdicts),
    }
    reference = count_reference(val.pixels, judge(predictions, gaussian, verdicts), verdicts)
    return compiled, reference, shares
