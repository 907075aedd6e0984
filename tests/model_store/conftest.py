"""Quiet TensorFlow, and one tiny published-shape model that many tests read."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported anywhere

import pytest

from tests.model_store.keras_models import Tiny, tiny_model


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Three classes, ending in logits, with what Keras on TensorFlow answers for a few images."""
    return tiny_model()
