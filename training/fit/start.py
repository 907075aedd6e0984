"""Start of a run: check that recipe, data, `--from` and `--teachers` fit together, and record them in `run.json`.

A resumed run must match this record.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras

from model_store.files import ARCHITECTURE, WEIGHTS
from model_store.manifest import Preprocessing
from model_store.network.architecture import parse_architecture
from model_store.network.layers import Dense
from training import recipes
from training.data.dataset import Dataset, Images, check_labels
from training.errors import TrainingError
from training.fit.device import computed_precision, device_name
from training.fit.distillation import check_teachers
from training.fit.learner import steps_per_epoch
from training.fit.run.directory import Run, RunInfo
from training.fit.run.environment import describe_environment
from training.fit.sources import Source, check_input
from training.recipe_values import recipe_from_values
from training.recipes import Pretrained, Recipe


def new_info(
    name: str,
    recipe: Recipe,
    dataset: Dataset,
    seed: int,
    hold_out: bool,
    source: Source | None,
    teachers: Sequence[Source] = (),
) -> RunInfo:
    """Check the inputs of a new run and return its `run.json`.

    Args:
        source: the network named by `--from`.

    Raises:
        TrainingError: `source` or `teachers` are missing, unexpected or do not fit, or there are too few images.
    """
    if bool(teachers) != bool(recipe.distillation):
        needs = "distils from teachers; pass finished runs or versions as --teachers"
        raise TrainingError(
            f"recipe {name!r} {needs if recipe.distillation else 'has no teachers; leave out --teachers'}"
        )
    hold_out = hold_out or recipe.keep_best
    check_teachers(teachers, dataset.labels)
    _check_source(name, recipe, source, dataset)
    if hold_out:
        _check_unseen([*teachers, *([source] if source else [])], dataset)
    pretrained = source if isinstance(recipe.network, Pretrained) else None
    images, val = _split(hold_out, recipe, dataset)
    steps_per_epoch(recipe, len(images))  # raises if the images do not fill a batch
    return RunInfo(
        recipe=name,
        recipe_values=dataclasses.asdict(recipe),
        labels=dataset.labels,
        preprocessing=pretrained.preprocessing if pretrained else Preprocessing(mean=recipe.mean, std=recipe.std),
        output=pretrained.output if pretrained else recipe.output,
        seed=seed,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        hold_out=hold_out,
        started_from=source.recipe if source else None,
        start_sha256=source.weights_sha256() if source and not pretrained else None,
        start_labels=pretrained.labels if pretrained else (),
        teachers=tuple(teacher.weights_sha256() for teacher in teachers),
        data_sha256=dataset.sha256,
        images=len(images),
        val_images=len(val) if val else 0,
        environment=describe_environment(keras.backend.backend(), device_name())
        | {"precision": computed_precision(recipe)},
    )


def recipe_from_info(info: RunInfo) -> Recipe:
    """Return the recipe that a run began with, even if the recipe of that name has changed since.

    Raises:
        TrainingError: the recipe has been removed, or this code lacks an option of it.
    """
    return recipe_from_values(info.recipe, info.recipe_values)


def split_images(run: Run, dataset: Dataset) -> tuple[Images, Images | None]:
    """Return a run's training and validation images.

    Raises:
        TrainingError: the data is not the data the run began with.
    """
    info = run.info
    if dataset.sha256 != info.data_sha256:
        raise TrainingError(
            f"this is not the data {run.folder} began with: its SHA-256 begins {dataset.sha256[:12]}, "
            f"run.json says {info.data_sha256[:12]}; pass the same --data"
        )
    return _split(info.hold_out, recipe_from_info(info), dataset)


def check_resumed(run: Run, source: Source | None, teachers: Sequence[Source]) -> None:
    """Raise TrainingError unless `--from` and `--teachers` name the networks the run began with."""
    info = run.info
    if tuple(teacher.weights_sha256() for teacher in teachers) != info.teachers:
        raise TrainingError(f"{run.folder} began with other teachers; pass the same --teachers in the same order")
    if source and not info.started_from:
        raise TrainingError(f"{run.folder} began without --from; leave it out")
    weights = run.start_folder / WEIGHTS
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else info.start_sha256
    if (source and source.weights_sha256() != sha256) or (info.start_sha256 and not source):
        raise TrainingError(f"{run.folder} began from a run or version of {info.started_from!r}; pass the same --from")


def _split(hold_out: bool, recipe: Recipe, dataset: Dataset) -> tuple[Images, Images | None]:
    images = dataset.train if hold_out else dataset.trainval
    count = round(len(images) * (1 - recipe.validation))
    val = dataset.val if hold_out else images[count:] if recipe.validation else None
    return images[:count], val


def _check_source(name: str, recipe: Recipe, source: Source | None, dataset: Dataset) -> None:
    """Raise TrainingError if a source is missing, or its network or labels do not fit."""
    pretrained = isinstance(recipe.network, Pretrained)
    if not source:
        if recipe.starts_from or pretrained:
            expected = (
                f"a run of {recipe.starts_from!r}" if recipe.starts_from else "a published version or a finished run"
            )
            raise TrainingError(f"recipe {name!r} starts from {expected}; pass it as --from")
        return
    check_input(source)
    if pretrained:
        _check_head(source)
    else:
        if not _has_network(source, recipe):
            raise TrainingError(
                f"{source.folder} was trained by {source.recipe!r}, whose network is not that of {name!r}; "
                "pass a run or version with the same network"
            )
        check_labels(source.folder, source.labels, dataset.labels, "pass one with the labels of the data")


def _check_head(source: Source) -> None:
    """Raise TrainingError unless the last layer with weights is Dense; fine-tuning replaces it."""
    parsed = parse_architecture((source.folder / ARCHITECTURE).read_bytes())
    weights = parsed.weight_shapes()
    layers = [node.layer for node in parsed.nodes if node.layer.name in weights]
    if not layers or not isinstance(layers[-1], Dense):
        last = f"{layers[-1].name!r} ({type(layers[-1]).__name__})" if layers else "none"
        raise TrainingError(
            f"{source.folder} cannot be fine-tuned: its last layer with weights must be Dense, it is {last}"
        )


def _check_unseen(sources: Sequence[Source], dataset: Dataset) -> None:
    """Raise TrainingError if a source was trained on the validation images: it would leak them into the run."""
    for source in sources:
        if source.saw_val(dataset.sha256):
            raise TrainingError(
                f"{source.folder} was not trained with --hold-out and may have seen the validation images of "
                "this run; pass one that was"
            )


def _has_network(source: Source, recipe: Recipe) -> bool:
    """Return True if the source has the recipe's network. A fine-tuning recipe does not describe its network."""
    source_recipe = recipes.RECIPES.get(source.recipe)
    fine_tuned = source_recipe is not None and isinstance(source_recipe.network, Pretrained)
    return not fine_tuned and source.recipe_values.get("network") == _recorded(recipe)["network"]


def _recorded(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's values as read back from `run.json`, with tuples as lists."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return values
