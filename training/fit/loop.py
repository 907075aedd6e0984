"""One training loop for every recipe and backend: `keras.Model.fit`, an epoch at a time.

Owns the order of a run (build, restore, epochs, checkpoint, write) and nothing of the networks, the augmentation or
the files' layout. An epoch depends on the state before it, the seed and its number alone, so a resumed run goes on
exactly as if it had not stopped.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from model_store.files import ARCHITECTURE, WEIGHTS
from model_store.manifest import Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.layers import BatchNormalization, Conv2D, Dense
from model_store.network.processor import has_bfloat16
from training import recipes
from training.data.dataset import Dataset, Images, check_labels
from training.errors import TrainingError
from training.fit import networks, optimizer
from training.fit.augmentation import augment, epoch_generator, translate_on_device
from training.fit.distillation import Teachers, check_teachers
from training.fit.progress import Progress
from training.fit.run_directory import AGREEMENT, Run, RunInfo, Source, environment
from training.recipes import Pretrained, Recipe, RMSprop, Translate, recipe

WHITENING_SAMPLE = 5_000
EVALUATION_BATCH = 1_000
# Batches in one call of the compiled step: an accelerator starves on one, TensorFlow on a CPU gains nothing by more.
STEPS_PER_EXECUTION = {"tensorflow": 1, "jax": 16, "torch": 1}
# To write the state takes as long as half an epoch of an accelerator.
CHECKPOINT_SECONDS = 10.0
HDF5_OVERHEAD = 2**20  # the files here have 0.1 MB of it
MOST_AHEAD = 4  # views of 50,000 images, 300 MB each


def train(
    run: Run,
    images: Images,
    watched: Images | None = None,
    start: Source | None = None,
    teachers: Sequence[Source] = (),
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train to the end, from wherever the run stands, and write the float32 network.

    Args:
        images: what the network learns from.
        watched: what is evaluated after each epoch and never learned from.
        start: what the initial weights are taken from.
        teachers: the runs and versions it learns from, when its recipe says so.
        on_epoch: is shown the record of each epoch.

    Raises:
        TrainingError: the run does not fit the recipe, the images, `start` or the teachers it began with.
    """
    info, chosen = run.info, recipe_of(run.info)
    if tuple(teacher.weights_sha256() for teacher in teachers) != info.teachers:
        raise TrainingError(f"{run.folder} began with other teachers; pass the same --teachers in the same order")
    _check_start(run, start)
    with dtype_policy(computed_precision(chosen)):
        network = build(run, chosen, images)
        if start and not isinstance(chosen.network, Pretrained):
            network.load_weights(start.folder / WEIGHTS)
        network = _in_fewer_passes(network)
        learner = _learner(network, chosen, info, len(images))
        taught = Teachers(teachers, info.labels, chosen.distillation) if chosen.distillation else None
        history = _restore(run, learner)
        _fit(run, learner, chosen, taught, images, watched, history, on_epoch)
    with dtype_policy("float32"):
        served = build(run, chosen, images)
        served.set_weights(network.get_weights())
    write_weights(served, run.partial_weights)
    run.finish(served.to_json(indent=2))


def _check_start(run: Run, start: Source | None) -> None:
    """Raises TrainingError if a run began from another network than `start`, or needs it and there is none."""
    info = run.info
    if start and not info.started_from:
        raise TrainingError(f"{run.folder} began from nothing; leave out --from")
    kept = run.start_folder / WEIGHTS
    begun = hashlib.sha256(kept.read_bytes()).hexdigest() if kept.exists() else info.start_sha256
    if (start and start.weights_sha256() != begun) or (info.start_sha256 and not start):
        raise TrainingError(f"{run.folder} began from a network of {info.started_from!r}; pass the same --from")


def write_weights(network: keras.Model, path: Path) -> None:
    """Write all weights as Keras's HDF5.

    Raises:
        OSError: there is no room for them.
    """
    size = sum(weights.nbytes for weights in network.get_weights()) + HDF5_OVERHEAD
    try:
        path.write_bytes(bytes(size))  # since HDF5, on a full disk, takes the whole process down
    except OSError:
        path.unlink(missing_ok=True)
        raise
    network.save_weights(path)


def new_info(
    name: str,
    chosen: Recipe,
    dataset: Dataset,
    seed: int,
    hold_out: bool,
    start: Source | None,
    teachers: Sequence[Source] = (),
) -> RunInfo:
    """What `run.json` says of a run about to begin.

    Raises:
        TrainingError: the recipe needs something to start from or teachers, or gets such that do not fit; or there are
            too few images.
    """
    if bool(teachers) != bool(chosen.distillation):
        asks = "learns from others; pass finished runs or versions as --teachers"
        wanted = asks if chosen.distillation else "has no teachers"
        raise TrainingError(f"recipe {name!r} {wanted}")
    check_teachers(teachers, dataset.labels)
    pretrained = isinstance(chosen.network, Pretrained)
    if (chosen.starts_from or pretrained) and not start:
        source = f"a run of {chosen.starts_from!r}" if chosen.starts_from else "a published version or a finished run"
        raise TrainingError(f"recipe {name!r} goes on from {source}; pass it as --from")
    if start and not pretrained and not _has_network(start, chosen):
        raise TrainingError(f"{start.folder} was made by {start.recipe!r}, whose network is not that of {name!r}")
    if start and not pretrained:
        check_labels(start.folder, start.labels, dataset.labels, "pass one that knows the data's")
    if start and pretrained:
        _check_head(start)
    if hold_out:
        _check_unseen([*teachers, *([start] if start else [])], dataset)
    same, images = start if pretrained else None, len(_given(hold_out, chosen, dataset)[0])
    steps_per_epoch(chosen, images)  # that there are any
    return RunInfo(
        recipe=name,
        recipe_values=dataclasses.asdict(chosen),
        labels=dataset.labels,
        preprocessing=same.preprocessing if same else Preprocessing(mean=chosen.mean, std=chosen.std),
        output=same.output if same else chosen.output,
        seed=seed,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        hold_out=hold_out,
        started_from=start.recipe if start else None,
        start_sha256=start.weights_sha256() if start and not pretrained else None,
        teachers=tuple(teacher.weights_sha256() for teacher in teachers),
        data_sha256=dataset.sha256,
        images=images,
        environment=environment(keras.backend.backend(), _device()) | {"precision": computed_precision(chosen)},
    )


def _check_head(start: Source) -> None:
    """Raises TrainingError unless the last layer with weights is a Dense one, which can be made anew."""
    parsed = parse_architecture((start.folder / ARCHITECTURE).read_bytes())
    last = [node.layer for node in parsed.nodes if isinstance(node.layer, Conv2D | Dense | BatchNormalization)][-1:]
    if not last or not isinstance(last[0], Dense):
        found = f"{last[0].name!r} ({type(last[0]).__name__})" if last else "none"
        raise TrainingError(
            f"{start.folder} cannot be fine-tuned: its last layer with weights must be a Dense one, it is {found}"
        )


def _check_unseen(sources: Sequence[Source], dataset: Dataset) -> None:
    """Refuse, for a run with --hold-out, what was itself trained without and may hand on what it saw."""
    for source in sources:
        if source.saw_val(dataset.sha256):
            raise TrainingError(
                f"{source.folder} was not trained with --hold-out and may have seen the images that this run "
                "leaves out; pass one that was"
            )


def _has_network(start: Source, chosen: Recipe) -> bool:
    """Whether a start has the recipe's own network. A fine-tuned one has some other's, of which they say nothing."""
    made_by = recipes.RECIPES.get(start.recipe)
    fine_tuned = made_by is not None and isinstance(made_by.network, Pretrained)
    return not fine_tuned and start.recipe_values.get("network") == _network_values(chosen)


def _network_values(chosen: Recipe) -> dict[str, Any]:
    """As `run.json` has them."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(chosen.network)))
    return values


def split(run: Run, dataset: Dataset) -> tuple[Images, Images | None]:
    """The images a run learns from, and those it only watches.

    Raises:
        TrainingError: the data is not what the run began with.
    """
    info = run.info
    if dataset.sha256 != info.data_sha256:
        raise TrainingError(
            f"this is not the data {run.folder} began with: its SHA-256 begins {dataset.sha256[:12]}, "
            f"run.json says {info.data_sha256[:12]}; pass the same --data"
        )
    return _given(info.hold_out, recipe_of(info), dataset)


def _given(hold_out: bool, chosen: Recipe, dataset: Dataset) -> tuple[Images, Images | None]:
    images = dataset.train if hold_out else dataset.trainval
    count = round(len(images) * (1 - chosen.validation))
    watched = dataset.val if hold_out else images[count:] if chosen.validation else None
    return images[:count], watched


def _device() -> str:
    """What computes, by its maker's name where the backend knows it."""
    if keras.backend.backend() == "jax":
        import jax

        return ", ".join(sorted({device.device_kind for device in jax.devices()}))
    return ", ".join(keras.distribution.list_devices()) or "cpu"


def computed_precision(chosen: Recipe) -> str:
    """The dtype policy a recipe is trained in here: its own, but float32 on a CPU without bfloat16 instructions.

    TensorFlow computes bfloat16 there, too, value by value: a step takes ten to a hundred times as long.
    """
    return chosen.precision if _has_accelerator() or has_bfloat16() else "float32"


def _has_accelerator() -> bool:
    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())


def _in_fewer_passes(network: keras.Model) -> keras.Model:
    """The same network as it is trained fastest: by layers of ours where TensorFlow computes on a CPU."""
    if keras.backend.backend() != "tensorflow" or _has_accelerator():
        return network
    from training.fit import tensorflow_layers

    return tensorflow_layers.accelerate(network)


def recipe_of(info: RunInfo) -> Recipe:
    """Return the recipe a run was started with, with its own epochs and batch size.

    Raises:
        TrainingError: the recipe has been changed or removed since.
    """
    chosen = dataclasses.replace(recipe(info.recipe), epochs=info.epochs, batch_size=info.batch_size)
    if json.dumps(dataclasses.asdict(chosen)) != json.dumps(info.recipe_values):
        raise TrainingError(
            f"recipe {info.recipe!r} has changed since this run began; start a new run with another --out"
        )
    return chosen


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Keras's global dtype policy, for the models built inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build(run: Run, chosen: Recipe, images: Images) -> keras.Model:
    """The run's network as it is before the first epoch, in the present dtype policy."""
    info = run.info
    if isinstance(chosen.network, Pretrained):
        return networks.pretrained(run.start_folder, len(info.labels), info.seed)
    sample = normalise(images.pixels[:WHITENING_SAMPLE], info.preprocessing)
    return networks.build(chosen.network, len(info.labels), sample, info.seed)


def normalise(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """What the network sees: `(pixel / 255 - mean) / std`, (N, 32, 32, 3) float32."""
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    return ((pixels / np.float32(255) - mean) / std).astype(np.float32)


def _learner(network: keras.Model, chosen: Recipe, info: RunInfo, count: int) -> keras.Model:
    """The network behind its normalisation, compiled: it takes uint8, a quarter of the bytes to move per batch.

    A taught network's logits are divided by the temperature here, and only here.
    """
    mean, std = info.preprocessing.mean, info.preprocessing.std
    scale = [1 / (255 * deviation) for deviation in std]
    offset = [-middle / deviation for middle, deviation in zip(mean, std, strict=True)]
    learner = keras.Sequential(
        [keras.Input(networks.SHAPE, dtype="uint8"), layers.Rescaling(scale, offset, dtype="float32"), network]
    )
    if chosen.distillation:
        learner.add(layers.Rescaling(1 / chosen.distillation.temperature, dtype="float32"))
    backend = keras.backend.backend()
    learner.compile(
        optimizer=_optimizer(chosen, steps_per_epoch(chosen, count) * chosen.epochs),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=info.output == "logits", label_smoothing=chosen.label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(AGREEMENT if chosen.distillation else "accuracy")],
        steps_per_execution=STEPS_PER_EXECUTION[backend],
        jit_compile=backend != "tensorflow",  # TensorFlow's XLA is slower than none on a CPU
    )
    learner.optimizer.build(learner.trainable_variables)
    return learner


def steps_per_epoch(chosen: Recipe, count: int) -> int:
    """How many batches an epoch over `count` images has.

    Raises:
        TrainingError: there are too few images for one batch.
    """
    steps = -(-count // chosen.batch_size) if chosen.partial_batch else count // chosen.batch_size
    if not steps:
        raise TrainingError(
            f"{count} images are less than one batch of {chosen.batch_size}; pass a smaller --batch-size"
        )
    return steps


def _optimizer(chosen: Recipe, total_steps: int) -> keras.optimizers.Optimizer:
    how = chosen.optimizer
    if isinstance(how, RMSprop):
        return keras.optimizers.RMSprop(how.learning_rate)
    rate = optimizer.Triangle(how.learning_rate, total_steps, how.start, how.warmup, how.end)
    common: dict[str, Any] = {"momentum": how.momentum, "l2": how.l2, "bias_multiplier": how.bias_multiplier}
    if isinstance(how, recipes.Muon):
        filters = {"filter_multiplier": how.filter_multiplier, "filter_momentum": how.filter_momentum}
        return optimizer.Muon(rate, total_steps=total_steps, **common, **filters)
    return optimizer.LookaheadSGD(rate, total_steps=total_steps, **common)


def _state(learner: keras.Model) -> list[keras.Variable]:
    """Everything an epoch changes: weights, batch-norm statistics, dropout's random state, the optimizer."""
    return [*learner.variables, *learner.optimizer.variables]


def _restore(run: Run, learner: keras.Model) -> list[dict[str, float]]:
    values, epochs = run.restore()
    variables = _state(learner)
    if values and [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise TrainingError(f"{run.folder / 'state.npz'} is not of this network; start a new run with another --out")
    for variable, value in zip(variables, values, strict=False):
        variable.assign(value)
    return run.history[:epochs]


def _fit(
    run: Run,
    learner: keras.Model,
    chosen: Recipe,
    teachers: Teachers | None,
    images: Images,
    watched: Images | None,
    history: list[dict[str, float]],
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> None:
    used = min(steps_per_epoch(chosen, len(images)) * chosen.batch_size, len(images))
    classes = len(run.info.labels)
    targets = np.eye(classes, dtype=np.float32)[images.labels]
    progress = Progress(chosen.epochs, used)
    views = _views(images.pixels, chosen, run.info.seed, len(history), used)
    checkpointed = -CHECKPOINT_SECONDS
    for epoch in range(len(history), chosen.epochs):
        progress.start(epoch)
        view, order, ordered = next(views)
        if teachers:
            progress.say("asking the teachers")
        wanted = _answers(run, chosen, teachers, view, epoch) if teachers else targets
        batches = _batches(ordered, wanted[order], chosen.batch_size)
        fitted = learner.fit(**batches, shuffle=False, verbose=0, callbacks=[progress])
        record: dict[str, float] = {key: float(values[-1]) for key, values in fitted.history.items()}
        record |= {"epoch": epoch + 1, "seconds": round(progress.seconds, 2)}
        if watched:
            record |= _evaluate(learner, watched, classes)
        history.append(record)
        if epoch + 1 == chosen.epochs or time.monotonic() - checkpointed >= CHECKPOINT_SECONDS:
            run.checkpoint([keras.ops.convert_to_numpy(v) for v in _state(learner)], history)
            checkpointed = time.monotonic()
        progress.finish(record)
        if on_epoch:
            on_epoch(record)


def _answers(run: Run, chosen: Recipe, teachers: Teachers, view: NDArray[np.uint8], epoch: int) -> NDArray[np.float32]:
    """Return the teachers' probabilities (N, K) for an epoch's view, which they are asked about once."""
    kept = run.answers(chosen.view(epoch))
    if kept is None:
        kept = teachers.targets(view)
        run.keep_answers(chosen.view(epoch), kept)
    return kept


def _views(
    pixels: NDArray[np.uint8], chosen: Recipe, seed: int, first: int, used: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.uint8]]]:
    """Each epoch's augmented images, the order to take them in, and the images in that order.

    They are made while earlier epochs are learned from: one ahead, and more where cores can be spared.
    """
    how, accelerated = chosen.augmentation, _has_accelerator()
    given = keras.ops.convert_to_tensor(pixels) if accelerated else pixels

    def view(epoch: int) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.uint8]]:
        order = epoch_generator(seed, epoch).permutation(len(pixels))[:used]
        if isinstance(how, Translate) and accelerated:
            made = translate_on_device(given, how, seed, chosen.view(epoch))
        else:
            made = augment(pixels, how, seed, chosen.view(epoch))
        return made, order, made[order]

    ahead = min(max(1, (os.cpu_count() or 1) // 4), MOST_AHEAD)
    with ThreadPoolExecutor(ahead) as pool:
        coming = deque(pool.submit(view, epoch) for epoch in range(first, min(first + ahead, chosen.epochs)))
        for epoch in range(first + ahead, chosen.epochs + ahead):
            made = coming.popleft().result()
            if epoch < chosen.epochs:
                coming.append(pool.submit(view, epoch))
            yield made


def _batches(pixels: NDArray[np.uint8], targets: NDArray[np.float32], size: int) -> dict[str, Any]:
    """The batches in their order, as the arguments by which `fit` and `evaluate` take them on this backend.

    TensorFlow tunes a pipeline made from arrays in a thread that naps ever longer, and the end of `fit` waits until it
    wakes: after 10, 20, 41 or 82 seconds, whichever comes next. There is nothing to tune here, so that is switched off.
    """
    if keras.backend.backend() != "tensorflow":
        return {"x": pixels, "y": targets, "batch_size": size}
    import tensorflow as tf

    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    return {"x": tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(size).with_options(untuned)}


def _evaluate(learner: keras.Model, watched: Images, classes: int) -> dict[str, Any]:
    targets = np.eye(classes, dtype=np.float32)[watched.labels]
    loss, accuracy = learner.evaluate(**_batches(watched.pixels, targets, EVALUATION_BATCH), verbose=0)
    return {"watched_loss": float(loss), "watched_accuracy": float(accuracy)}
