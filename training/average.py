"""Networks that went on from one another → one with the mean of their weights, as a finished run.

Owns the mean and the batch-norm statistics, which are no mean of the others' and are measured anew. Sources: Izmailov
et al., "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv:1803.05407; with shares of networks
that were each trained to the end: Wortsman et al., "Model soups", arXiv:2203.05482.
"""

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from model_store.store import ARCHITECTURE, WEIGHTS
from training.augment import augment
from training.data import Dataset, check_labels, spread
from training.errors import TrainingError
from training.fit import normalise, write_weights
from training.recipes import Affine, Translate
from training.run import Run, RunInfo, Source, environment

IMAGES, BATCH = 10_000, 1_000
DESCRIPTION = "the mean of the weights of networks that went on from one another"


def average(run: Run, sources: Sequence[Source], shares: Sequence[float], dataset: Dataset) -> None:
    """Write the mean network of several, in float32, as a run without epochs.

    Its statistics are of images augmented as those of the last one were when it was trained. It counts as trained with
    --hold-out if all of them were, and has then not seen those images either.

    Args:
        shares: how much of the mean each of `sources` makes; only their ratios count.

    Raises:
        TrainingError: they are not several versions or runs of one network for the dataset's labels, or `run` is taken.
    """
    _check(sources, shares, dataset)
    run.require_free()
    hold_out = all(source.hold_out and source.data_sha256 == dataset.sha256 for source in sources)
    images = dataset.fitting if hold_out else dataset.train
    parts = [share / sum(shares) for share in shares]
    network = _mean([_network(source) for source in sources], parts)
    last = sources[-1]
    augmented = augment(spread(images.pixels, IMAGES), _augmentation(last), seed=0, epoch=0)
    _measure_statistics(network, normalise(augmented, last.preprocessing))
    known = {key: last.recipe_values.get(key) for key in ("network", "augmentation")}
    backend = keras.backend.backend()
    info = RunInfo(
        recipe="average",
        recipe_values={"description": DESCRIPTION, "shares": parts} | known,
        labels=dataset.labels,
        preprocessing=last.preprocessing,
        output=last.output,
        seed=0,
        epochs=0,
        batch_size=BATCH,
        hold_out=hold_out,
        started_from=" + ".join(f"{part:.3g} × {source.recipe}" for part, source in zip(parts, sources, strict=True)),
        data_sha256=dataset.sha256,
        images=len(images),
        environment=environment(backend, "cpu") | {"precision": "float32"},
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    write_weights(network, run.partial_weights)
    run.start(info)  # so late, since there is nothing to go on with where this was interrupted
    run.finish(network.to_json(indent=2))


def _check(sources: Sequence[Source], shares: Sequence[float], dataset: Dataset) -> None:
    if len(sources) < 2 or len(sources) != len(shares):
        raise TrainingError(
            f"{len(sources)} networks and {len(shares)} shares; give at least two, and a share for each"
        )
    if not all(0 < share < float("inf") for share in (*shares, sum(shares))):
        given = ", ".join(f"{share:g}" for share in shares)
        raise TrainingError(f"shares must be above 0 and have a finite sum, they are {given}")
    first = sources[0]
    for source in sources[1:]:
        for what in ("labels", "preprocessing", "output"):
            if getattr(source, what) != getattr(first, what):
                raise TrainingError(
                    f"{source.folder} has other {what} than {first.folder}; only alike ones have a mean"
                )
        if _architecture(source) != _architecture(first):
            raise TrainingError(f"{source.folder} is another network than {first.folder}; only alike ones have a mean")
    check_labels(first.folder, first.labels, dataset.labels)


def _architecture(source: Source) -> Any:
    return json.loads((source.folder / ARCHITECTURE).read_text())


def _augmentation(source: Source) -> Translate | Affine | None:
    values = source.recipe_values.get("augmentation")
    if values is None:
        return None
    return Affine(**values) if "rotation" in values else Translate(**values)


def _network(source: Source) -> keras.Model:
    network = keras.models.model_from_json((source.folder / ARCHITECTURE).read_text())
    network.load_weights(source.folder / WEIGHTS)
    return network


def _mean(networks: Sequence[keras.Model], parts: Sequence[float]) -> keras.Model:
    """The first network, whose weights become the mean of all."""
    weights = zip(*(network.get_weights() for network in networks), strict=True)
    mean = [sum(part * value for part, value in zip(parts, values, strict=True)) for values in weights]
    networks[0].set_weights([np.asarray(value, np.float32) for value in mean])
    return networks[0]


def _measure_statistics(network: keras.Model, images: NDArray[np.float32]) -> None:
    """Let the statistics of all batch-norms be the mean over batches of images (N, 32, 32, 3), normalised."""
    norms = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for done, batch in enumerate(np.array_split(images, -(-len(images) // BATCH))):  # all of one size, for equal weight
        for layer in norms:
            layer.momentum = done / (done + 1)
        network(batch, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
