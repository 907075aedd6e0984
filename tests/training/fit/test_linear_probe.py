import keras
import numpy as np
import pytest
from keras import layers

from model_store.manifest import Preprocessing
from training.data.dataset import Images
from training.fit.linear_probe import fit_head, fit_logistic

PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.mark.parametrize("bias", [False, True])
def test_the_weights_are_those_with_the_least_penalised_loss(bias):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300).astype(np.int32)
    features = (rng.normal(0, 1, (300, 5)) + np.eye(3, 5)[labels]).astype(np.float32)
    weights = fit_logistic(features, labels, 3, bias)
    inputs = np.concatenate([features, np.ones((300, 1))], axis=1) if bias else features
    assert weights.shape == (inputs.shape[1], 3)

    def loss(candidate):
        scores = inputs @ candidate
        logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return -logs[np.arange(300), labels].mean() + 0.5e-3 * np.square(candidate).sum()

    for _ in range(20):
        assert loss(weights) < loss(weights + rng.normal(0, 0.05, weights.shape))


def network(*tail, bias: bool) -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    outputs = layers.Dense(3, use_bias=bias)(layers.Flatten()(layers.AveragePooling2D(16)(inputs)))
    for layer in tail:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def colours(count: int) -> Images:
    rng = np.random.default_rng(1)
    labels = np.arange(count, dtype=np.int32) % 3
    means = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])[labels]
    return Images(
        np.clip(means[:, None, None] + rng.normal(0, 30, (count, 32, 32, 3)), 0, 255).astype(np.uint8), labels
    )


@pytest.mark.parametrize("tail", [[], [layers.Rescaling(1 / 9)], [layers.Activation("softmax")]], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_the_last_layer_is_fitted_whatever_follows_it(tail, bias):
    images, model = colours(90), network(*tail, bias=bias)
    fit_head(model, images, PREPROCESSING)
    scores = np.asarray(model(images.pixels / 255 * 4 - 2))
    assert (scores.argmax(1) == images.labels).all()
    if not isinstance(tail[0] if tail else None, layers.Activation):
        powers = np.exp(scores)
        confidence = (powers / powers.sum(1, keepdims=True)).max(1)
        assert 0.7 < confidence.mean() < 0.9999  # neither shrunk nor blown up by the scaling
