"""One tiny published-shape model that many tests read."""

import pytest

from tests.model_store.network.keras_models import Tiny, tiny_model


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Three classes, ending in logits, with what Keras on TensorFlow answers for a few images."""
    return tiny_model()
