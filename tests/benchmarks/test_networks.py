"""The comparison of networks with Keras."""

import keras
import numpy as np
import pytest

from benchmarks import networks

pytestmark = pytest.mark.slow


def test_every_engine_computes_the_same_network(monkeypatch):
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(32, 32, 3), classes=10)
    engines = networks.engines(model, networks.as_network(model))
    images = networks.random_images(3, (32, 32, 3))
    answers = {name: infer(images) for name, infer in engines.items()}
    expected = answers.pop("model.predict")
    for name, answer in answers.items():
        tolerance = 1e-5 if name in ("tf.function", "Classifier, float32") else 0.05
        assert np.abs(getattr(answer, "probabilities", answer) - expected).max() < tolerance, name
    monkeypatch.setattr(networks, "ROUND_SECONDS", 0.0)
    speeds = networks.measure(engines, (32, 32, 3), rounds=1)
    assert set(speeds) == {(name, batch) for name in engines for batch in networks.BATCHES}
    assert min(speeds.values()) > 0
