"""The networks of the recipes, as plain Keras functional models of stock layers.

Each takes normalised float32 images (N, 32, 32, 3). Knows nothing of losses, data files or publishing; what a layer
may be is decided by `model_store.network.architecture`, which must be able to serve whatever is built here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from model_store.files import ARCHITECTURE, WEIGHTS
from model_store.manifest import Preprocessing
from model_store.os_errors import naming
from training.errors import TrainingError
from training.recipes import Airbench, NotebookCNN

SHAPE = (32, 32, 3)


def build(network: NotebookCNN | Airbench, classes: int, sample: NDArray[np.float32], seed: int) -> keras.Model:
    """Build a freshly initialised network, the same for the same seed.

    Args:
        sample: normalised training images (M, 32, 32, 3) to fit a whitening layer on.
    """
    _reset_keras(seed)
    match network:
        case NotebookCNN():
            return notebook_cnn(classes)
        case Airbench():
            return airbench(network, classes, sample)


def normalise(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Compute the network's input, (N, H, W, C) float32."""
    scale, shift = preprocessing.scale_and_shift()
    return pixels * scale + shift


def normalisation(preprocessing: Preprocessing, white: float = 255, name: str | None = None) -> layers.Rescaling:
    """Build a layer that normalises pixels in 0..`white`."""
    scale, shift = preprocessing.scale_and_shift(white)
    return layers.Rescaling(scale.tolist(), shift.tolist(), name=name, dtype="float32")


def load_keras(folder: Path) -> keras.Model:
    """Load the float32 network of a run or version with Keras.

    `parse_architecture` must have admitted its JSON, so that only stock layers are deserialised.

    Raises:
        TrainingError: an attribute that matters in training only, such as an initializer, is not Keras's.
    """
    text = (folder / ARCHITECTURE).read_text(encoding="utf-8")
    try:
        model = keras.models.model_from_json(text)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise TrainingError(
            f"Keras cannot build the network of {folder / ARCHITECTURE}: {first_line}; restore the file, or train or "
            "import the network again"
        ) from None
    with naming(folder / WEIGHTS):
        model.load_weights(folder / WEIGHTS)
    return model


def _reset_keras(seed: int) -> None:
    """Let layer names count from one again, so that equal networks have equal JSON, and seed the initialisation."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()  # forgets the dtype policy, too
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)


def notebook_cnn(classes: int) -> keras.Model:
    """The notebook's CNN, 1,676,842 parameters for ten classes, ending in softmax."""
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(32, 3, padding="same"),
            layers.Activation("relu"),
            layers.Conv2D(32, 3, padding="same"),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, padding="same"),
            layers.Activation("relu"),
            layers.Conv2D(64, 3),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(512),
            layers.Activation("relu"),
            layers.Dropout(0.5),
            layers.Dense(classes),
            layers.Activation("softmax"),
        ],
        name="notebook_cnn",
    )


def airbench(network: Airbench, classes: int, sample: NDArray[np.float32]) -> keras.Model:
    """A fixed whitening convolution, then convolution, pool, convolution for each width, ending in logits.

    A third convolution adds its output to the second's.

    Source: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498.
    """
    inputs = keras.Input(SHAPE)
    whiten = layers.Conv2D(24, 2, name="whiten", trainable=False)
    x = layers.Activation(network.activation)(whiten(inputs))
    for width in network.widths:
        x = layers.MaxPooling2D(2)(_convolution(width)(x))
        x = _normalise_and_activate(x, network)
        x = _normalise_and_activate(_convolution(width)(x), network)
        if network.convolutions == 3:
            x = layers.Add()([_normalise_and_activate(_convolution(width)(x), network), x])
    x = layers.Flatten()(layers.MaxPooling2D(3)(x))
    head = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    # Logits must not be rounded to bfloat16: their differences carry the answer.
    x = layers.Dense(classes, use_bias=False, kernel_initializer=head, dtype="float32")(x)
    model = keras.Model(inputs, layers.Rescaling(network.logit_scale, dtype="float32")(x), name="airbench")
    # Set here and not by an initializer of our own: the architecture's JSON must open in any Keras.
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D) and layer is not whiten:
            layer.set_weights([dirac(layer.get_weights()[0])])
    whiten.set_weights(whitening(sample))
    return model


def build_pretrained(folder: Path, classes: int, seed: int) -> keras.Model:
    """Build the network of a run or version in the present dtype policy, with a new last Dense layer for the labels."""
    _reset_keras(seed)
    original = load_keras(folder)
    *_, head = (layer for layer in original.layers if isinstance(layer, layers.Dense))
    model = in_present_policy(original, {head.name: {"units": classes}})
    for layer in model.layers:
        if layer.name != head.name:
            layer.set_weights(original.get_layer(layer.name).get_weights())
    return model


def in_present_policy(model: keras.Model, changes: Mapping[str, Mapping[str, Any]] | None = None) -> keras.Model:
    """A copy without the weights, in the present dtype policy, with changes to some layers' configurations.

    Dense and Rescaling layers stay in float32: logits must not be rounded to bfloat16.
    """

    def copy(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config() | dict((changes or {}).get(layer.name, {}))
        if not isinstance(layer, layers.Dense | layers.Rescaling | layers.InputLayer):
            config["dtype"] = keras.config.dtype_policy()
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copy)


def _convolution(width: int) -> keras.layers.Layer:
    return layers.Conv2D(width, 3, padding="same", use_bias=False)


def _normalise_and_activate(x: keras.KerasTensor, network: Airbench) -> keras.KerasTensor:
    x = layers.BatchNormalization(scale=False, momentum=network.batch_norm_momentum, epsilon=1e-5)(x)
    return layers.Activation(network.activation)(x)


def dirac(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The kernel (3, 3, I, O) with its first min(I, O) filters passing one input channel each through unchanged."""
    identity = np.arange(min(kernel.shape[2:]))
    kernel[..., : len(identity)] = 0
    kernel[1, 1, identity, identity] = 1
    return kernel


def whitening(sample: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Kernel (2, 2, 3, 24) and zero bias (24,) whose outputs are the decorrelated 2×2 patches and their negatives."""
    shifts = [(dy, dx) for dy in (0, 1) for dx in (0, 1)]
    patches = np.stack([sample[:, dy : 31 + dy, dx : 31 + dx] for dy, dx in shifts], axis=3).reshape(-1, 12)
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    kernel = (vectors / np.sqrt(values + 5e-4)).reshape(2, 2, 3, 12)
    return [np.concatenate([kernel, -kernel], -1).astype("float32"), np.zeros(24, "float32")]
