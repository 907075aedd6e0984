"""The model that Keras trains: a recipe's network behind its normalisation, with its loss and optimizer."""

import keras
from keras import layers

from training.errors import TrainingError
from training.fit.device import STEPS_PER_EXECUTION
from training.fit.networks import SHAPE, normalisation
from training.fit.optimizer import optimizer_from_recipe
from training.fit.run.checkpoints import AGREEMENT
from training.fit.run.directory import RunInfo
from training.recipes import Recipe


def compile_learner(network: keras.Model, recipe: Recipe, info: RunInfo, images: int) -> keras.Model:
    """Compile the network for training on `images` images, passed as uint8: a quarter of the bytes of float32.

    Only here are the student's logits divided by the distillation temperature; the network itself has none.
    """
    learner = keras.Sequential([keras.Input(SHAPE, dtype="uint8"), normalisation(info.preprocessing), network])
    if recipe.distillation:
        learner.add(layers.Rescaling(1 / recipe.distillation.temperature, dtype="float32"))
    backend = keras.backend.backend()
    learner.compile(
        optimizer=optimizer_from_recipe(recipe.optimizer, steps_per_epoch(recipe, images) * recipe.epochs),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=info.output == "logits", label_smoothing=recipe.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(AGREEMENT if recipe.distillation else "accuracy")],
        steps_per_execution=STEPS_PER_EXECUTION[backend],
        jit_compile=backend != "tensorflow",  # on a CPU, TensorFlow is slower with XLA than without
    )
    learner.optimizer.build(learner.trainable_variables)
    return learner


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Return the number of batches in an epoch over `images` images.

    Raises:
        TrainingError: there are too few images for one batch.
    """
    steps = -(-images // recipe.batch_size) if recipe.partial_batch else images // recipe.batch_size
    if not steps:
        raise TrainingError(
            f"{images} images are less than one batch of {recipe.batch_size}; pass a smaller --batch-size"
        )
    return steps


def state(learner: keras.Model) -> list[keras.Variable]:
    """Return everything an epoch changes: weights, batch-norm statistics, dropout's random state, the optimizer."""
    return [*learner.variables, *learner.optimizer.variables]
