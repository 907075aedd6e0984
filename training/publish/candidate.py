"""Publish a candidate as the next version in a store.

Before the version appears in the store, it is compared with Keras on the same files, at every precision.
"""

import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.files import ARCHITECTURE, GOLDEN, NOVELTY, QUANTIZATION, WEIGHTS
from model_store.golden import Golden, write_golden
from model_store.manifest import Manifest, Precision, Reference
from model_store.network.gaussian import write_gaussian
from model_store.network.model import Network
from model_store.network.quantization import write_ranges
from model_store.report import REPORT_FOLDER
from training.data.dataset import Images, as_inputs
from training.evaluate.accuracy import Evaluation, evaluate, predict_probabilities
from training.evaluate.robustness import Robustness, ShowProgress, measure_robustness, show_nothing
from training.publish.compare_with_keras import (
    COMPARED_IMAGES,
    GOLDEN_IMAGES,
    TOLERANCES,
    check_served,
    keras_probabilities,
)
from training.publish.compiled import CompiledNetwork
from training.publish.report import write_report
from training.publish.target import COMPARED, ReportChoice, Target

ROBUSTNESS, LEFT_OUT = "robustness", "left_out"  # keys of the manifest's metrics
LEFT_OUT_OF_REPORT: dict[ReportChoice, list[str]] = {
    "full": [],
    "quick": [ROBUSTNESS],
    "figures": [ROBUSTNESS, "plots"],
}


@dataclass(frozen=True)
class Candidate:
    """A network to be published: the folder of its architecture and weights, the network, and its training record."""

    folder: Path
    compiled: CompiledNetwork
    training: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)  # from the fits on validation images
    reference: Reference | None = None

    @property
    def network(self) -> Network:
        """The network itself."""
        return self.compiled.network


@dataclass(frozen=True)
class Measurements:
    """A candidate's figures on the test images. Only a full report has robustness."""

    report: ReportChoice
    evaluation: Evaluation
    robustness: Robustness | None
    accuracy_by_precision: dict[Precision, float]
    compared: dict[str, float] | None  # with the version in service


def publish_candidate(
    candidate: Candidate,
    target: Target,
    pixels: NDArray[np.uint8],
    test: Images | None,
    show: ShowProgress = show_nothing,
) -> int:
    """Compare the candidate with Keras, evaluate it on the test images, and publish it. Returns the version.

    Args:
        pixels: (N, H, W, 3) RGB; the first 512 are compared with Keras, the first 16 become the golden images.
        test: None to skip the evaluation, because the data has other labels.
        show: receives progress, see `measure_robustness`.

    Raises:
        TrainingError: the service's probabilities would differ from Keras's, or the candidate must not replace the
            version in service.
    """
    if test is None:
        target.check_unevaluated()  # before it takes time
    compared = as_inputs(pixels[:COMPARED_IMAGES], candidate.network.preprocessing)
    references = keras_probabilities(candidate.folder, candidate.network, compared)
    classifiers = candidate.compiled.by_precision()
    differences = check_served(classifiers, compared, references)
    refused = {classifier.precision for classifier in classifiers} - differences.keys()
    verified = candidate.compiled.replace(precisions=candidate.network.precisions - refused)
    candidate = replace(candidate, compiled=verified)
    measurements = _measure(candidate.compiled, target, test, show) if test else None
    golden = Golden(compared[:GOLDEN_IMAGES], references[:GOLDEN_IMAGES])
    earlier = {key: value for key, value in candidate.metrics.items() if key not in (ROBUSTNESS, LEFT_OUT, COMPARED)}
    metrics = earlier | _metrics(candidate.network, measurements) | {"differences_from_keras": differences}

    def write(folder: Path, version: int) -> Manifest:
        _write_files(candidate, golden, measurements, folder)
        return _manifest(candidate, target.name, version, metrics)

    return target.store.publish(target.name, write)


def _measure(compiled: CompiledNetwork, target: Target, test: Images, show: ShowProgress) -> Measurements:
    *others, served = compiled.by_precision()
    evaluation = evaluate(served, test)
    compared = target.check_evaluation(evaluation, test)
    report, robustness = target.report, None
    if report == "full":
        robustness = measure_robustness(served, test, show)
        report = "full" if robustness else "quick"
    accuracies = {
        other.precision: float((predict_probabilities(other, test.pixels).argmax(1) == test.labels).mean())
        for other in others
    }
    accuracies[served.precision] = evaluation.accuracy
    return Measurements(report, evaluation, robustness, accuracies, compared)


def _metrics(network: Network, measurements: Measurements | None) -> dict[str, Any]:
    size = {"parameters": network.architecture.parameters, "multiply_adds": network.architecture.multiply_adds}
    if not measurements:
        return {"test": size}
    robustness, left_out = measurements.robustness, LEFT_OUT_OF_REPORT[measurements.report]
    return {
        "test": measurements.evaluation.summary() | size,
        "accuracy_by_precision": measurements.accuracy_by_precision,
        **({ROBUSTNESS: robustness.summary()} if robustness else {LEFT_OUT: left_out}),
        **({COMPARED: measurements.compared} if measurements.compared else {}),
    }


def _write_files(candidate: Candidate, golden: Golden, measurements: Measurements | None, folder: Path) -> None:
    for file in (ARCHITECTURE, WEIGHTS):
        shutil.copyfile(candidate.folder / file, folder / file)
    write_golden(golden, folder / GOLDEN)
    if candidate.network.ranges:
        write_ranges(candidate.network.ranges, folder / QUANTIZATION)
    if candidate.network.gaussian:
        write_gaussian(candidate.network.gaussian, folder / NOVELTY)
    if measurements:
        write_report(
            folder / REPORT_FOLDER,
            measurements.evaluation,
            candidate.history,
            measurements.robustness,
            pictures=measurements.report != "figures",
        )


def _manifest(candidate: Candidate, name: str, version: int, metrics: dict[str, Any]) -> Manifest:
    network = candidate.network
    return Manifest(
        schema_version=network.preprocessing.schema_version,
        name=name,
        version=version,
        created=timestamp(),
        labels=network.labels,
        preprocessing=network.preprocessing,
        output=network.output,
        temperature=network.temperature,
        verdicts=network.verdicts,
        reference=candidate.reference,
        golden_tolerance={name: value for name, value in TOLERANCES.items() if name in network.precisions},
        files={},  # the store hashes them
        metrics=metrics,
        training=candidate.training,
    )


def timestamp() -> str:
    """Return the current UTC time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
