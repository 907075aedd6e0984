"""Augmented views of the training images, computed ahead of their epochs, and their batches."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from training.fit.augmentation import augment, epoch_generator, mix, translate_on_device
from training.fit.device import has_accelerator
from training.recipes import Recipe, Translate

MIXING = 2  # third number of the generator that mixes; order and augmentation use two numbers
MAX_AHEAD = 4  # views of 50,000 images, 300 MB each


class View(NamedTuple):
    """The training images as one epoch shows them."""

    pixels: NDArray[np.uint8]  # (N, 32, 32, 3), all images in the data's order
    order: NDArray[np.intp]  # (M,), indices of the images to train on
    shuffled: NDArray[np.uint8]  # (M, 32, 32, 3), pixels[order], mixed if the recipe mixes
    own: NDArray[np.float32] | None  # (M,), each image's proportion in its mix; the rest is the one before it

    def targets(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Order and mix the targets (N, K) of all images like `shuffled`."""
        ordered = targets[self.order]
        if self.own is None:
            return ordered
        own = self.own[:, None]
        return own * ordered + (1 - own) * np.roll(ordered, 1, axis=0)


def make_views(pixels: NDArray[np.uint8], recipe: Recipe, seed: int, first_epoch: int, count: int) -> Iterator[View]:
    """Yield the view of each epoch from `first_epoch` on, with `count` of the images in random order.

    Views are computed ahead while earlier ones are trained on: one, or one for every four cores, up to four.
    """
    augmentation, accelerated = recipe.augmentation, has_accelerator()
    source = keras.ops.convert_to_tensor(pixels) if accelerated else pixels

    def make_view(epoch: int) -> View:
        order = epoch_generator(seed, epoch).permutation(len(pixels))[:count]
        if isinstance(augmentation, Translate) and accelerated and not augmentation.uploads:
            augmented = translate_on_device(source, augmentation, seed, recipe.view(epoch))
        else:
            augmented = augment(pixels, augmentation, seed, recipe.view(epoch))
        shuffled, own = augmented[order], None
        if recipe.mixing:
            shuffled, own = mix(shuffled, np.random.default_rng((seed, epoch, MIXING)), recipe.mixing)
        return View(augmented, order, shuffled, own)

    ahead = min(max(1, (os.cpu_count() or 1) // 4), MAX_AHEAD)
    with ThreadPoolExecutor(ahead) as pool:
        pending = deque(
            pool.submit(make_view, epoch) for epoch in range(first_epoch, min(first_epoch + ahead, recipe.epochs))
        )
        for epoch in range(first_epoch + ahead, recipe.epochs + ahead):
            view = pending.popleft().result()
            if epoch < recipe.epochs:
                pending.append(pool.submit(make_view, epoch))
            yield view


def batches(pixels: NDArray[np.uint8], targets: NDArray[np.float32], size: int) -> dict[str, Any]:
    """Return arguments for Keras's `fit` and `evaluate` that pass the batches, in order, on the current backend.

    Autotuning is off because there is nothing to tune: TensorFlow tunes a pipeline of arrays in a thread that sleeps
    longer each time, and `fit` cannot return until it wakes, after 10, 20, 41 or 82 seconds, whichever comes next.
    """
    if keras.backend.backend() != "tensorflow":
        return {"x": pixels, "y": targets, "batch_size": size}
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(size).with_options(options)}
