"""Networks that another one learns from: their probabilities for one epoch's view of the images.

Owns what a teacher must be and how soft targets are computed. Knows nothing of the student. Sources: Hinton et al.,
"Distilling the Knowledge in a Neural Network", arXiv:1503.02531; one view for both: Beyer et al., "Knowledge
distillation: A good teacher is patient and consistent", arXiv:2106.05237.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.data.dataset import check_labels
from training.errors import TrainingError
from training.fit.networks import in_present_policy, load_keras, normalisation
from training.fit.sources import Source, check_input
from training.recipes import Distillation

BATCH = 1_000


class Teachers:
    """An ensemble of runs or versions, computing in the present dtype policy."""

    def __init__(self, sources: Sequence[Source], labels: tuple[str, ...], distillation: Distillation) -> None:
        """Load the networks.

        Raises:
            TrainingError: one has other labels, or ends in probabilities.
        """
        check_teachers(sources, labels)
        self._classes, self._mirrored = len(labels), distillation.mirrored
        self._networks = [_network(source, distillation.temperature) for source in sources]

    def soft_targets(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean of the teachers' probabilities (N, K) for images (N, 32, 32, 3), one teacher after the other."""
        views = (pixels, pixels[:, :, ::-1]) if self._mirrored else (pixels,)
        total = np.zeros((len(pixels), self._classes), np.float32)
        for network in self._networks:
            for view in views:
                total += network.predict(view, BATCH, verbose=0)
        total /= len(self._networks) * len(views)
        return total


def check_teachers(sources: Sequence[Source], labels: tuple[str, ...]) -> None:
    """Raises TrainingError if a source cannot teach a network of these labels; see `Teachers`."""
    for source in sources:
        check_input(source)
        check_labels(source.folder, source.labels, labels, "pass teachers that know the data's")
        if source.output != "logits":
            raise TrainingError(f"{source.folder} ends in softmax; only a network that ends in logits can teach")


def _network(source: Source, temperature: float) -> keras.Model:
    """From uint8 pixels to softmax(logits / temperature)."""
    float32_network = load_keras(source.folder)
    network = in_present_policy(float32_network)
    network.set_weights(float32_network.get_weights())
    teacher = keras.Sequential(
        [
            keras.Input(network.input_shape[1:], dtype="uint8"),
            normalisation(source.preprocessing),
            network,
            layers.Rescaling(1 / temperature, dtype="float32"),
            layers.Softmax(dtype="float32"),
        ]
    )
    teacher.compile(jit_compile=keras.backend.backend() != "tensorflow")
    return teacher
