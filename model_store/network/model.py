"""`Network`: everything that determines a version's predictions, independent of files and inference engines."""

from dataclasses import dataclass
from typing import Literal

from model_store.errors import ModelError
from model_store.manifest import PRECISIONS, Precision, Preprocessing, Verdicts
from model_store.network.architecture import Architecture
from model_store.network.gaussian import Gaussian
from model_store.network.quantization import Ranges
from model_store.network.weights import Weights


@dataclass(frozen=True)
class Network:
    """A validated architecture with its weights, its preprocessing and the parameters applied to its logits."""

    architecture: Architecture
    weights: Weights
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    output: Literal["logits", "probabilities"]
    temperature: float = 1.0
    ranges: Ranges | None = None  # for int8
    verdicts: Verdicts | None = None
    precisions: frozenset[Precision] = PRECISIONS  # in which its answers are close enough to Keras's
    gaussian: Gaussian | None = None  # of an early layer; without it novelty depends on the energy alone

    def __post_init__(self) -> None:
        if self.architecture.input != self.preprocessing.shape:
            raise ModelError(
                f"the network takes images of {self.architecture.input}, but the preprocessing makes them "
                f"{self.preprocessing.shape}; set its height, width and number of means to the network's"
            )
        if len(self.labels) != self.architecture.classes:
            raise ModelError(
                f"the network has {self.architecture.classes} outputs but there are {len(self.labels)} labels"
            )
        if self.gaussian and self.output != "logits":
            raise ModelError("novelty.npz needs a network that ends in logits; this one ends in softmax")
