"""A finished run, an imported network or a published version → the next version in a store.

Owns what is checked before anything is visible: the service's own reader takes the files, and what it would serve
agrees with Keras on the same files.
"""

import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier
from model_store.drift import reference_of
from model_store.errors import ModelError
from model_store.files import ARCHITECTURE, GOLDEN, MANIFEST, NOVELTY, QUANTIZATION, WEIGHTS
from model_store.golden import Golden, read_golden, write_golden
from model_store.manifest import Manifest, Precision, Preprocessing, Reference, Resize, read_manifest
from model_store.network.architecture import parse_architecture
from model_store.network.gaussian import write_gaussian
from model_store.network.model import Network
from model_store.network.quantization import quantizable, write_ranges
from model_store.network.weights import read_weights
from model_store.novelty import novelty
from model_store.store import Store
from model_store.version import read_network, verify
from training.data.dataset import Dataset, Images, check_labels
from training.errors import TrainingError
from training.evaluate.accuracy import evaluate, predict
from training.evaluate.calibration import Calibration, fit_temperature
from training.evaluate.novelty_statistics import standardised, with_gaussian
from training.evaluate.quantization import measure, quantized
from training.evaluate.robustness import Show, measure_robustness, quiet
from training.evaluate.thresholds import fit_verdicts, judged
from training.fit.run_directory import Run, RunInfo
from training.publish.report import read_history, write_report

# The largest difference of any probability from Keras in float32. float32 engines differ in the order of sums only;
# bfloat16 keeps eight bits of each product's factors. int8 moves a few images of thousands far without harm to
# accuracy, so its tolerance is for the golden images alone.
TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.2}
COMPARED = 512
GOLDEN_IMAGES = 16


@dataclass(frozen=True)
class Candidate:
    """What is to become a version: two files in a folder, the network they hold, and how it was made."""

    folder: Path
    network: Network
    training: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)  # what has been measured before
    reference: Reference | None = None


def read_run(run: Run) -> Network:
    """The network of a finished run, through the reader the service uses.

    Raises:
        TrainingError: the run is not finished, or the service could not load its network.
    """
    info = run.require_finished().info
    # The policy for uploads is chosen apart from any training: what a run began with may have been replaced.
    preprocessing = info.preprocessing.model_copy(update={"resize": Resize()})
    return read_files(run.folder, info.labels, preprocessing, info.output)


def read_files(
    folder: Path, labels: tuple[str, ...], preprocessing: Preprocessing, output: Literal["logits", "probabilities"]
) -> Network:
    """The network of the two files in a folder, through the reader the service uses.

    Raises:
        TrainingError: the service could not load it.
    """
    try:
        architecture = parse_architecture((folder / ARCHITECTURE).read_bytes())
        weights = read_weights((folder / WEIGHTS).read_bytes(), architecture)
        return Network(architecture, weights, labels, preprocessing, output)
    except ModelError as error:
        raise TrainingError(f"the service cannot load {folder}: {error}") from None


def publish_run(
    run: Run, store: Store, name: str, dataset: Dataset, twin: Run | None = None, show: Show = quiet
) -> int:
    """Evaluate a run on the test images and publish it. Returns the version.

    Args:
        twin: a run of the same recipe trained with --hold-out, whose temperature on the held-out images is taken over.
            A run that was itself trained so needs none.
        show: takes what is being measured and how far that is, as `measure_robustness` says it.

    Raises:
        TrainingError: the service could not load the network, would give other answers than Keras, or the twin is none.
    """
    network, info, history = read_run(run), run.info, run.history
    twin = twin or (run if info.hold_out else None)
    check_same_labels(store, name, info.labels)
    check_labels(run.folder, info.labels, dataset.labels)
    if twin and info.data_sha256 != dataset.sha256:
        raise TrainingError(
            f"{run.folder} was trained on other data than this, whose held-out images it may have seen; pass its --data"
        )
    if twin:
        check_twin(twin, info)
    calibration = calibrate(twin, dataset.val) if twin and info.output == "logits" else None
    metrics: dict[str, Any] = {}
    if calibration:
        uncalibrated = evaluate(Classifier(network), dataset.test).summary()
        metrics = {"calibration": calibration.document(), "test_uncalibrated": uncalibrated}
        network = replace(network, temperature=calibration.temperature)
    reference = None
    if twin:
        served = replace(read_run(twin), temperature=network.temperature)
        network, reference, fitted = _fitted(network, served, dataset)
        metrics |= fitted
    training = info.model_dump(mode="json") | {"seconds": sum(record["seconds"] for record in history)}
    candidate = Candidate(run.folder, network, training, history, metrics, reference)
    return publish_candidate(candidate, store, name, dataset.test.pixels, dataset.test, show)


def check_same_labels(store: Store, name: str, labels: tuple[str, ...]) -> None:
    """Refuse other labels than a model's served version has, if any is: whoever asks that model expects these.

    Raises:
        TrainingError: they are others.
    """
    try:
        served = store.folder(name, store.choose(name))
        known = read_manifest(served / MANIFEST).labels
    except ModelError:
        return
    check_labels(served, known, labels, "give the new one a --name of its own", "the new version would know")


def _fitted(network: Network, twin: Network, dataset: Dataset) -> tuple[Network, Reference | None, dict[str, Any]]:
    """The network with all that its twin's answers to the held-out images decide: int8, verdicts, drift's reference."""
    metrics: dict[str, Any] = {}
    if quantizable(network.architecture):
        network, metrics["quantization"] = _in_eight_bits(network, twin, dataset)
    if network.output != "logits":
        return network, None, metrics
    served = quantized(twin, dataset.train.pixels) if network.ranges else twin
    network, reference, metrics["verdicts"] = _judging(network, served, dataset)
    return network, reference, metrics


def _in_eight_bits(network: Network, twin: Network, dataset: Dataset) -> tuple[Network, dict[str, Any]]:
    """The network with its ranges if its twin loses nothing by them, else as it was; and what was measured."""
    trial = measure(quantized(twin, dataset.train.pixels), dataset.val)
    rounded = quantized(network, dataset.train.pixels)
    golden = dataset.test.pixels[:GOLDEN_IMAGES]
    served, exact = (Classifier(rounded, precision=each).predict(golden) for each in ("int8", "float32"))
    moved = float(np.abs(served.probabilities - exact.probabilities).max())
    adopted = trial.pays and moved <= TOLERANCE["int8"]
    return rounded if adopted else network, trial.document() | {"adopted": adopted}


def _judging(network: Network, twin: Network, dataset: Dataset) -> tuple[Network, Reference, dict[str, Any]]:
    """The network with the verdicts fitted on its twin's answers to the held-out images, and how these are judged.

    The reference for drift is made of the same answers. What training images look like to an early layer is measured in
    each of the two networks, since their channels have nothing to do with each other.
    """
    held_out, test, pixels = dataset.val, dataset.test, dataset.train.pixels
    network, twin = with_gaussian(network, pixels), with_gaussian(twin, pixels)
    if (network.gaussian and network.gaussian.layer) != (twin.gaussian and twin.gaussian.layer):
        network, twin = replace(network, gaussian=None), replace(twin, gaussian=None)  # one's scale is not the other's
    said = Classifier(twin).predict(held_out.pixels)
    if network.gaussian and twin.gaussian:
        fitted = standardised(twin.gaussian, said)
        assert said.energy is not None and said.features is not None
        said = replace(said, ood_score=fitted.scores(said.energy, said.features))
        network = replace(network, gaussian=replace(network.gaussian, centre=fitted.centre, spread=fitted.spread))
    assert said.ood_score is not None
    verdicts = fit_verdicts(said, held_out.labels)
    figures = {
        "held_out": judged(said, held_out.labels, verdicts),
        "test": judged(Classifier(network).predict(test.pixels), test.labels, verdicts),
    }
    said = replace(said, novelty=novelty(said.ood_score, np.array(verdicts.scores)))
    return replace(network, verdicts=verdicts), reference_of(held_out.pixels, said, verdicts), figures


def publish_candidate(
    candidate: Candidate, store: Store, name: str, pixels: NDArray[np.uint8], test: Images | None, show: Show = quiet
) -> int:
    """Compare with Keras on some images, evaluate on the test images, if there are any, and publish.

    Args:
        pixels: (N, 32, 32, 3); the first of them become the golden images.
        show: takes what is being measured and how far that is, as `measure_robustness` says it.

    Raises:
        TrainingError: the service would give other answers than Keras.
    """
    network = candidate.network
    references = keras_probabilities(candidate.folder, network, pixels[:COMPARED])
    differences = check_served(network, pixels[:COMPARED], references)
    classifier = Classifier(network)
    evaluation = evaluate(classifier, test) if test else None
    robustness = measure_robustness(classifier, test, network.preprocessing.resize, show) if test else None
    figures = (evaluation.summary() if evaluation else {}) | _costs(network)
    measured: dict[str, Any] = {"robustness": robustness.summary()} if robustness else {}
    if test:
        measured["accuracy_by_precision"] = {
            each.precision: float((predict(each, test.pixels).argmax(1) == test.labels).mean())
            for each in _classifiers(network)
        }

    def write(target: Path, version: int) -> Manifest:
        for file in (ARCHITECTURE, WEIGHTS):
            shutil.copyfile(candidate.folder / file, target / file)
        write_golden(Golden(pixels[:GOLDEN_IMAGES], references[:GOLDEN_IMAGES]), target / GOLDEN)
        if network.ranges:
            write_ranges(network.ranges, target / QUANTIZATION)
        if network.gaussian:
            write_gaussian(network.gaussian, target / NOVELTY)
        if evaluation:
            write_report(target / "report", evaluation, candidate.history, robustness)
        return Manifest(
            name=name,
            version=version,
            created=_now(),
            labels=network.labels,
            preprocessing=network.preprocessing,
            output=network.output,
            temperature=network.temperature,
            verdicts=network.verdicts,
            reference=candidate.reference,
            golden_tolerance=TOLERANCE,
            files={},
            metrics=candidate.metrics | {"test": figures} | measured | {"differences_from_keras": differences},
            training=candidate.training,
        )

    return store.publish(name, write)


def check_twin(twin: Run, info: RunInfo) -> None:
    """Refuse as a run's twin what saw the held-out images, or is of another recipe or of other data.

    Raises:
        TrainingError: it is such a one.
    """
    if not twin.info.hold_out or twin.info.recipe_values != info.recipe_values:
        raise TrainingError(
            f"{twin.folder} is a run of {twin.info.recipe!r} {'with' if twin.info.hold_out else 'without'} --hold-out; "
            f"the temperature of {info.recipe!r} is fitted on a run of it, with the same settings and --hold-out"
        )
    if (twin.info.labels, twin.info.data_sha256) != (info.labels, info.data_sha256):
        raise TrainingError(f"{twin.folder} was trained on other data than the run; pass a twin of the same --data")


def calibrate(twin: Run, held_out: Images) -> Calibration | None:
    """The temperature of a twin on the held-out images, which it has not seen; None where no temperature fits best."""
    return fit_temperature(predict(Classifier(read_run(twin)), held_out.pixels), held_out.labels)


def publish_version(folder: Path, store: Store, name: str, dataset: Dataset | None = None, show: Show = quiet) -> int:
    """Publish an existing version as the next one of a store, after the same checks. Returns the version.

    Args:
        dataset: what it was trained on. If given, all that is fitted on the held-out images, which it must not have
            seen, is fitted anew, but for the temperature, and all that is measured on the test images is measured anew.
        show: takes what is being measured and how far that is, as `measure_robustness` says it.

    Raises:
        TrainingError: the version is not whole, is not served as Keras has it, or cannot be fitted on the dataset.
    """
    try:
        manifest = read_manifest(folder / MANIFEST)
        files = verify(folder, manifest)
        network, golden = read_network(manifest, files), read_golden(files[GOLDEN])
    except ModelError as error:
        raise TrainingError(f"{folder} cannot be published: {error}") from None
    check_same_labels(store, name, manifest.labels)
    training = manifest.training | {"published_from": f"{manifest.name}/{manifest.version}"}
    if dataset:
        _require_unseen(folder, manifest, dataset)
        bare = replace(network, ranges=None, verdicts=None, gaussian=None)
        network, reference, metrics = _fitted(bare, bare, dataset)
        candidate = Candidate(folder, network, training, read_history(folder), manifest.metrics | metrics, reference)
        return publish_candidate(candidate, store, name, dataset.test.pixels, dataset.test, show)
    check_served(network, golden.images, keras_probabilities(folder, network, golden.images))

    def write(target: Path, version: int) -> Manifest:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        update = {"name": name, "version": version, "created": _now(), "training": training}
        return manifest.model_copy(update=update)

    return store.publish(name, write)


def _require_unseen(folder: Path, manifest: Manifest, dataset: Dataset) -> None:
    """Raises TrainingError unless verdicts of the version can be fitted on the held-out images."""
    if not manifest.training.get("hold_out"):
        raise TrainingError(
            f"{folder} was not trained with --hold-out: it has seen the held-out images, on which verdicts are fitted; "
            "publish its run with a --twin, or leave out --data to publish it as it is"
        )
    if manifest.output != "logits":
        raise TrainingError(f"{folder} ends in softmax and has no energy to fit verdicts on; leave out --data")
    if manifest.labels != dataset.labels or manifest.training.get("data_sha256") != dataset.sha256:
        raise TrainingError(f"{folder} was trained on other data; pass that as --data, or leave --data out")


def check_served(
    network: Network, images: NDArray[np.uint8], references: NDArray[np.float32]
) -> dict[Precision, float]:
    """The largest difference from Keras's probabilities at each precision this machine has.

    Raises:
        TrainingError: one is over its tolerance.
    """
    differences: dict[Precision, float] = {}
    for classifier in _classifiers(network):
        apart = np.abs(classifier.predict(images).probabilities - references).max(1)
        judged = apart[:GOLDEN_IMAGES] if classifier.precision == "int8" else apart
        if not judged.max() <= TOLERANCE[classifier.precision]:
            raise TrainingError(
                f"in {classifier.precision} the served probabilities differ from Keras's by {judged.max():.4f}, "
                f"the tolerance is {TOLERANCE[classifier.precision]}; the version is not published"
            )
        differences[classifier.precision] = float(apart.max())
    return differences


def _classifiers(network: Network) -> list[Classifier]:
    """One for each precision that this machine has for the network, the exact one first and the served one last."""
    candidates = (
        Classifier(network, precision="float32"),
        Classifier(replace(network, ranges=None)),
        Classifier(network),
    )
    return list({each.precision: each for each in candidates}.values())


def keras_probabilities(folder: Path, network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What Keras itself makes of the two files: probabilities (N, K) for uint8 images (N, 32, 32, 3)."""
    import keras

    from training.fit.networks import normalise

    # Only files that parse_architecture has admitted come here, so nothing but stock layers is deserialised.
    model = keras.models.model_from_json((folder / ARCHITECTURE).read_text())
    model.load_weights(folder / WEIGHTS)
    out = model.predict(normalise(images, network.preprocessing), batch_size=64, verbose=0)
    return _softmax(out / network.temperature) if network.output == "logits" else out


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return probabilities


def _costs(network: Network) -> dict[str, int]:
    return {"parameters": network.architecture.parameters, "multiply_adds": network.architecture.multiply_adds}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
