"""Device and precision of Keras's backend on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from model_store.network.processor import has_bfloat16
from training.recipes import Recipe

# Batches per call of the compiled step: one leaves an accelerator idle, more do not speed up TensorFlow on a CPU.
STEPS_PER_EXECUTION = {"tensorflow": 1, "jax": 16, "torch": 1}


def device_name() -> str:
    """Return the device's model if the backend knows it, otherwise Keras's names such as `cpu:0`."""
    if keras.backend.backend() == "jax":
        import jax

        return ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return ", ".join(keras.distribution.list_devices()) or "cpu"


def has_accelerator() -> bool:
    """Return True if the backend has any device other than CPUs."""
    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())


def computed_precision(recipe: Recipe) -> str:
    """Return the dtype policy to train in: the recipe's, or float32 on a CPU without bfloat16 instructions.

    TensorFlow emulates bfloat16 there, value by value: a step takes ten to a hundred times as long.
    """
    return recipe.precision if has_accelerator() or has_bfloat16() else "float32"


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras's global dtype policy for the models built inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def use_fast_layers(network: keras.Model) -> keras.Model:
    """Replace layers by faster ones of our own if TensorFlow computes on a CPU; else return the network unchanged."""
    if keras.backend.backend() != "tensorflow" or has_accelerator():
        return network
    from training.fit import tensorflow_layers

    return tensorflow_layers.accelerate(network)
