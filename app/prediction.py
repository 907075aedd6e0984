"""What the network says of one image, as it goes from the batcher to whoever writes the answer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store.classifier import Classifier
from model_store.novelty import Verdict, verdict


class Prediction(NamedTuple):
    """Of one image; all but the first where the version has fitted verdicts."""

    probabilities: NDArray[np.float32]  # (K,)
    novelty: float | None = None
    verdict: Verdict | None = None

    @property
    def rounded_novelty(self) -> float | None:
        """As it is shown."""
        return None if self.novelty is None else round(self.novelty, 4)


def predict_each(classifier: Classifier, images: NDArray[np.uint8]) -> list[Prediction]:
    """What a classifier says of each of some images (N, 32, 32, 3)."""
    said, verdicts = classifier.predict(images), classifier.verdicts
    if said.novelty is None or verdicts is None:
        return [Prediction(probabilities) for probabilities in said.probabilities]
    judged = zip(said.probabilities, said.probabilities.max(1).tolist(), said.novelty.tolist(), strict=True)
    return [Prediction(row, novelty, verdict(confidence, novelty, verdicts)) for row, confidence, novelty in judged]
