"""The model that a network is published as, and the checks that protect the version in service."""

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from model_store.classifier import Classifier
from model_store.errors import ModelError
from model_store.manifest import Manifest
from model_store.network.model import Network
from model_store.store import Store
from model_store.version import read_network, read_placed_manifest, verify
from training.data.dataset import Images, check_labels
from training.errors import TrainingError
from training.evaluate.accuracy import Evaluation, predict_probabilities
from training.evaluate.intervals import Difference, paired_difference, unpaired_difference

ReportChoice: TypeAlias = Literal["full", "quick", "figures"]
COMPARED = "compared_with"  # key of the manifest's metrics


@dataclass(frozen=True)
class Served:
    """The version that the service chooses for a name."""

    manifest: Manifest
    network: Network

    def __str__(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"


@dataclass(frozen=True)
class Target:
    """Where and how to publish: a model of a store.

    Without `force`, the version in service is only replaced by one that is measured and not worse. A `quick` report has
    no robustness, which takes most of the time; one of `figures` has no plots either.
    """

    store: Store
    name: str
    force: bool = False
    report: ReportChoice = "full"

    def read_served(self) -> Served | None:
        """Read the version that the service would choose; None if there is none, or none that it could load.

        A damaged version must not keep its repair from being published.
        """
        try:
            candidates = self.store.candidates(self.name)
        except ModelError:
            return None
        for version in candidates:
            folder = self.store.folder(self.name, version)
            try:
                manifest = read_placed_manifest(folder)
                return Served(manifest, read_network(manifest, verify(folder, manifest)))
            except ModelError:
                continue
        return None

    def check_same_labels(self, labels: tuple[str, ...]) -> None:
        """Check that the labels are those of the version in service, if there is one, because clients rely on them.

        Raises:
            TrainingError: the labels or their order differ.
        """
        if served := self.read_served():
            folder = self.store.folder(self.name, served.manifest.version)
            remedy, whose = "give the new one a --name of its own", "the new version would know"
            check_labels(folder, served.manifest.labels, labels, remedy, whose)

    def check_unevaluated(self) -> None:
        """Check that a network that cannot be evaluated would replace none.

        Raises:
            TrainingError: it would replace the version in service.
        """
        if served := self._read_protected():
            raise TrainingError(f"the new network is not evaluated, so {_would_replace(served)}")

    def check_evaluation(self, evaluation: Evaluation, test: Images) -> dict[str, float] | None:
        """Compare an evaluation with the version in service, if there is one, which predicts the same test images.

        Returns:
            The comparison for the manifest's metrics, see `read_comparison`.

        Raises:
            TrainingError: the new network is worse by more than a standard error of the difference.
        """
        served = self.read_served()
        if not served:
            return None
        predictions = predict_probabilities(Classifier(served.network), test.pixels).argmax(1)
        difference = paired_difference(evaluation.hits, predictions == test.labels)
        if not self.force:
            _check_difference(difference, served)
        return {"version": served.manifest.version} | asdict(difference)

    def check_manifest(self, manifest: Manifest) -> None:
        """Compare the test accuracy in a manifest with that of the version in service.

        Raises:
            TrainingError: it is worse by more than a standard error of the difference, or the two cannot be compared.
        """
        served, new = self._read_protected(), measured_accuracy(manifest)
        if not served:
            return
        if not new:
            self.check_unevaluated()
            return
        old = measured_accuracy(served.manifest)
        if not old or (new[1], _data(manifest)) != (old[1], _data(served.manifest)):
            raise TrainingError(
                f"the manifests do not say that both were measured on the same test images, so {_would_replace(served)}"
            )
        _check_difference(unpaired_difference(new[0], old[0], new[1]), served)

    def _read_protected(self) -> Served | None:
        return None if self.force else self.read_served()


def measured_accuracy(manifest: Manifest) -> tuple[float, int] | None:
    """Return the accuracy on the test images and their number, None if the version was not evaluated."""
    metrics = manifest.metrics.get("test")
    test = metrics if isinstance(metrics, dict) else {}
    accuracy, images = test.get("accuracy"), test.get("images")
    if not isinstance(accuracy, int | float) or not isinstance(images, int):
        return None
    return (accuracy, images) if 0 <= accuracy <= 1 and images > 0 else None


def read_comparison(manifest: Manifest) -> tuple[int, Difference] | None:
    """Return the version that was in service when this one was published, and the difference on the test images."""
    recorded = manifest.metrics.get(COMPARED)
    if not isinstance(recorded, dict):
        return None
    figures = dict(recorded)
    try:
        return int(figures.pop("version")), Difference(**figures)
    except (KeyError, TypeError, ValueError):
        return None


def _data(manifest: Manifest) -> object:
    """Return the SHA-256 of the training images, which come with the test images; without one, something unequal."""
    return manifest.training.get("data_sha256") or object()


def _check_difference(difference: Difference, served: Served) -> None:
    if difference.is_loss:
        raise TrainingError(f"the new network is worse than {served}: {difference}; {_remedy(served)}")


def _would_replace(served: Served) -> str:
    return f"it is unknown if it is as good as {served}, which it would replace; {_remedy(served)}"


def _remedy(served: Served) -> str:
    return f"keep {served}, choose another --name, or pass --force to publish it all the same"
