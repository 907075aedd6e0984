"""Networks that another one learns from: the probabilities they give to one epoch's view of the images.

Owns what a teacher must be and the forming of its targets. Knows nothing of the student. Sources: Hinton et al.,
"Distilling the Knowledge in a Neural Network", arXiv:1503.02531; one view for both: Beyer et al., "Knowledge
distillation: A good teacher is patient and consistent", arXiv:2106.05237.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from model_store.files import ARCHITECTURE, WEIGHTS
from training.data.dataset import check_labels
from training.errors import TrainingError
from training.fit.networks import in_present_policy
from training.fit.run_directory import Source
from training.recipes import Distillation

BATCH = 1_000


class Teachers:
    """Several runs or versions as one, computing in the present dtype policy."""

    def __init__(self, sources: Sequence[Source], labels: tuple[str, ...], how: Distillation) -> None:
        """Load the networks.

        Raises:
            TrainingError: one has other labels, or ends in probabilities.
        """
        check_teachers(sources, labels)
        self._classes, self._mirrored = len(labels), how.mirrored
        self._networks = [_network(source, how.temperature) for source in sources]

    def targets(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean of the teachers' probabilities (N, K) for images (N, 32, 32, 3), one teacher after the other."""
        ways = (pixels, pixels[:, :, ::-1]) if self._mirrored else (pixels,)
        total = np.zeros((len(pixels), self._classes), np.float32)
        for network in self._networks:
            for seen in ways:
                total += network.predict(seen, BATCH, verbose=0)
        total /= len(self._networks) * len(ways)
        return total


def check_teachers(sources: Sequence[Source], labels: tuple[str, ...]) -> None:
    """Refuse what cannot teach a network of these labels.

    Raises:
        TrainingError: see `Teachers`.
    """
    for source in sources:
        check_labels(source.folder, source.labels, labels, "pass teachers that know the data's")
        if source.output != "logits":
            raise TrainingError(f"{source.folder} ends in softmax; only a network that ends in logits can teach")


def _network(source: Source, temperature: float) -> keras.Model:
    """From uint8 pixels to softmax(logits / temperature)."""
    network = keras.models.model_from_json((source.folder / ARCHITECTURE).read_text())
    network.load_weights(source.folder / WEIGHTS)
    computing = in_present_policy(network)
    computing.set_weights(network.get_weights())
    scaling = source.preprocessing
    teacher = keras.Sequential(
        [
            keras.Input(network.input_shape[1:], dtype="uint8"),
            layers.Rescaling(
                [1 / (255 * std) for std in scaling.std],
                [-mean / std for mean, std in zip(scaling.mean, scaling.std, strict=True)],
                dtype="float32",
            ),
            computing,
            layers.Rescaling(1 / temperature, dtype="float32"),
            layers.Softmax(dtype="float32"),
        ]
    )
    teacher.compile(jit_compile=keras.backend.backend() != "tensorflow")
    return teacher
