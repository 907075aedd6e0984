"""A network with its classifiers, each compiled once however many steps of publishing predict with it."""

import dataclasses
from typing import Any

from model_store.classifier import Classifier, choose_precision
from model_store.manifest import Precision
from model_store.network.model import Network


class CompiledNetwork:
    """A network that is compiled at a precision when that is first asked for."""

    def __init__(self, network: Network, classifiers: dict[Precision, Classifier] | None = None) -> None:
        """Take a network, and classifiers of it that exist already."""
        self.network = network
        self._classifiers = dict(classifiers or {})

    @property
    def served(self) -> Classifier:
        """The classifier at the precision that this machine serves."""
        network = self.network
        return self.classifier(choose_precision("openvino", "auto", network.ranges is not None, network.precisions))

    def classifier(self, precision: Precision) -> Classifier:
        """Return the classifier at a precision."""
        if precision not in self._classifiers:
            self._classifiers[precision] = Classifier(self.network, precision=precision)
        return self._classifiers[precision]

    def by_precision(self) -> list[Classifier]:
        """Return the classifier of each precision that this machine has for the network, float32 first, served last."""
        unrounded = choose_precision("openvino", "auto", verified=self.network.precisions)
        classifiers = self.classifier("float32"), self.classifier(unrounded), self.served
        return list({classifier.precision: classifier for classifier in classifiers}.values())

    def replace(self, **changes: Any) -> "CompiledNetwork":
        """Change fields of the network. Only another temperature or layer of the Gaussian needs to be compiled anew.

        Args:
            changes: any of temperature, verdicts, precisions, Gaussian, and ranges as long as int8 has not been
                compiled.
        """
        network = dataclasses.replace(self.network, **changes)
        if _compiled_parameters(network) != _compiled_parameters(self.network):
            return CompiledNetwork(network)
        return CompiledNetwork(
            network, {precision: other.with_parameters(network) for precision, other in self._classifiers.items()}
        )


def _compiled_parameters(network: Network) -> tuple[float, str | None]:
    return network.temperature, network.gaussian.layer if network.gaussian else None
