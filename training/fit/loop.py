"""One training loop for every recipe and backend: `keras.Model.fit`, an epoch at a time.

Defines the order of a run: build, restore, epochs with checkpoints, write. An epoch depends only on the state before
it, the seed and its number, so a resumed run continues exactly as if it had not stopped.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from model_store.files import WEIGHTS
from model_store.os_errors import naming
from training.data.dataset import Images
from training.errors import TrainingError
from training.fit import networks
from training.fit.device import computed_precision, dtype_policy, use_fast_layers
from training.fit.distillation import Teachers
from training.fit.learner import compile_learner, state, steps_per_epoch
from training.fit.linear_probe import fit_head, start_accuracy
from training.fit.progress import Progress
from training.fit.run import checkpoints
from training.fit.run.checkpoints import VAL_ACCURACY, VAL_LOSS, Checkpoint, History
from training.fit.run.directory import Baselines, Run, best_epoch
from training.fit.sources import Source
from training.fit.start import check_resumed, recipe_from_info
from training.fit.views import View, batches, make_views
from training.recipes import Pretrained, Recipe

WHITENING_SAMPLE = 5_000
EVALUATION_BATCH = 1_000
CHECKPOINT_SECONDS = 10.0  # writing the state takes as long as half an epoch on an accelerator
HDF5_OVERHEAD = 2**20  # bytes; actual files need 0.1 MB

OnEpoch = Callable[[dict[str, float]], None]


def train(
    run: Run,
    images: Images,
    val: Images | None = None,
    source: Source | None = None,
    teachers: Sequence[Source] = (),
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train from the run's last checkpoint to its end, and write the float32 network.

    Args:
        val: images to evaluate on after each epoch.
        source: the network whose weights the run starts from.
        teachers: the networks to distil from, if the recipe distils.
        on_epoch: called with the record of each epoch.

    Raises:
        TrainingError: the run does not fit the recipe or the images, or began with another `source` or `teachers`.
    """
    info, recipe = run.info, recipe_from_info(run.info)
    check_resumed(run, source, teachers)
    with dtype_policy(computed_precision(recipe)):
        network = build_run_network(run, recipe, images)
        if source and not isinstance(recipe.network, Pretrained):
            with naming(source.folder / WEIGHTS):
                network.load_weights(source.folder / WEIGHTS)
        network = use_fast_layers(network)
        checkpoint = checkpoints.load_checkpoint(run.folder)
        if isinstance(recipe.network, Pretrained) and not checkpoint.epochs:
            fit_head(network, images, info.preprocessing)
        learner = compile_learner(network, recipe, info, len(images))
        ensemble = Teachers(teachers, info.labels, recipe.distillation) if recipe.distillation else None
        best = None
        if recipe.keep_best and val:
            if not checkpoint.epochs:
                run.write_baselines(_measure_baselines(run, learner, val))
            best = Best(run, network, checkpoint)
        history = _restore(run, learner, checkpoint)
        _fit(run, learner, recipe, ensemble, images, val, history, best, on_epoch)
    with dtype_policy("float32"):
        served = build_run_network(run, recipe, images)
        served.set_weights(best.weights if best else network.get_weights())
    write_weights(served, run.partial_weights)
    run.finish(served.to_json(indent=2))


def build_run_network(run: Run, recipe: Recipe, images: Images) -> keras.Model:
    """Build the run's network before its first epoch, in the current dtype policy."""
    info = run.info
    if isinstance(recipe.network, Pretrained):
        return networks.build_pretrained(run.start_folder, len(info.labels), info.seed)
    sample = networks.normalise(images.pixels[:WHITENING_SAMPLE], info.preprocessing)
    return networks.build(recipe.network, len(info.labels), sample, info.seed)


def write_weights(network: keras.Model, path: Path) -> None:
    """Write all weights as Keras's HDF5.

    Raises:
        OSError: the disk is full.
    """
    size = sum(weights.nbytes for weights in network.get_weights()) + HDF5_OVERHEAD
    with naming(path):
        try:
            path.write_bytes(bytes(size))  # reserves the space, because HDF5 kills the process if the disk is full
        except OSError:
            path.unlink(missing_ok=True)
            raise
        network.save_weights(path)


class Best:
    """The weights that did best on the validation images: by accuracy, then by loss."""

    def __init__(self, run: Run, network: keras.Model, checkpoint: Checkpoint) -> None:
        self._network, self._baselines = network, run.baselines
        self.weights: list[NDArray[np.float32]] = checkpoint.best or network.get_weights()

    def update(self, history: History) -> None:
        """Keep the weights after the last epoch if no earlier ones did better."""
        if best_epoch(history, self._baselines) == len(history):
            self.weights = self._network.get_weights()


def _measure_baselines(run: Run, learner: keras.Model, val: Images) -> Baselines:
    probe = _evaluate(learner, val, len(run.info.labels))
    start = start_accuracy(run.start_folder, run.info, val)
    return Baselines(images=len(val), start=start, probe_loss=probe[VAL_LOSS], probe=probe[VAL_ACCURACY])


def _restore(run: Run, learner: keras.Model, checkpoint: Checkpoint) -> History:
    values, _, epochs = checkpoint
    variables = state(learner)
    if values and [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        path = run.folder / checkpoints.STATE
        raise TrainingError(f"{path} does not fit this network; start a new run with another --out")
    for variable, value in zip(variables, values, strict=False):
        variable.assign(value)
    return run.history[:epochs]


def _fit(
    run: Run,
    learner: keras.Model,
    recipe: Recipe,
    teachers: Teachers | None,
    images: Images,
    val: Images | None,
    history: History,
    best: Best | None,
    on_epoch: OnEpoch | None,
) -> None:
    steps = steps_per_epoch(recipe, len(images))
    count = min(steps * recipe.batch_size, len(images))
    classes = len(run.info.labels)
    targets = _one_hot(images.labels, classes)
    progress = Progress(len(history), recipe.epochs, count, steps)
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=progress.show, on_epoch_end=progress.stop_clock)
    views = make_views(images.pixels, recipe, run.info.seed, len(history), count)
    checkpointed = -CHECKPOINT_SECONDS
    with progress:
        for epoch in range(len(history), recipe.epochs):
            progress.start(epoch)
            view = next(views)
            if teachers:
                progress.show_status("computing soft targets")
                shown = _soft_targets(run, teachers, view, recipe, epoch)
            else:
                shown = view.targets(targets)
            epoch_batches = batches(view.shuffled, shown, recipe.batch_size)
            logs = learner.fit(**epoch_batches, shuffle=False, verbose=0, callbacks=[callback]).history
            record: dict[str, float] = {key: float(values[-1]) for key, values in logs.items()}
            record |= {"epoch": epoch + 1, "seconds": round(progress.seconds, 2)}
            _check_finite(run, record)
            if val:
                record |= _evaluate(learner, val, classes)
            history.append(record)
            if best:
                best.update(history)
            if epoch + 1 == recipe.epochs or time.monotonic() - checkpointed >= CHECKPOINT_SECONDS:
                variables = [keras.ops.convert_to_numpy(variable) for variable in state(learner)]
                checkpoints.save_checkpoint(run.folder, variables, history, best.weights if best else [])
                checkpointed = time.monotonic()
            progress.finish(record)
            if on_epoch:
                on_epoch(record)


def _soft_targets(run: Run, teachers: Teachers, view: View, recipe: Recipe, epoch: int) -> NDArray[np.float32]:
    """Return the teachers' probabilities (M, K) for the images of a view, from the cache if views repeat."""
    if recipe.distillation is None or recipe.distillation.views is None:
        return teachers.soft_targets(view.shuffled)
    number = recipe.view(epoch)
    soft_targets = checkpoints.load_soft_targets(run.folder, number)
    if soft_targets is None:
        soft_targets = teachers.soft_targets(view.pixels)
        checkpoints.save_soft_targets(run.folder, number, soft_targets)
    return view.targets(soft_targets)


def _check_finite(run: Run, record: dict[str, float]) -> None:
    """Raise TrainingError if the loss is not a finite number; the last checkpoint is from before."""
    if not math.isfinite(record["loss"]):
        raise TrainingError(
            f"training diverged: the loss is {record['loss']} in epoch {record['epoch']:.0f}; start again with another "
            "--seed, or with a smaller --batch-size, which lowers the learning rate"
        )


def _evaluate(learner: keras.Model, val: Images, classes: int) -> dict[str, float]:
    val_batches = batches(val.pixels, _one_hot(val.labels, classes), EVALUATION_BATCH)
    loss, accuracy = learner.evaluate(**val_batches, verbose=0)
    return {VAL_LOSS: float(loss), VAL_ACCURACY: float(accuracy)}


def _one_hot(labels: NDArray[np.int32], classes: int) -> NDArray[np.float32]:
    return np.eye(classes, dtype=np.float32)[labels]
