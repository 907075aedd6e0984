"""Every hyper-parameter of every recipe, in one place.

Recipes are plain values: this module trains nothing and imports no backend. docs/training.md has their results.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

from training.data.cifar10 import MEAN, STD
from training.errors import TrainingError


@dataclass(frozen=True)
class Uploads:
    """Change a `share` of the images the way photographs change on their way to 32×32 pixels.

    Both axes are zoomed by up to `zoom` in either direction. Then one axis, chosen at random, shows `narrowest` to
    `widest` of its length, as when a photograph that is not square is stretched to a square; beyond the border it shows
    the reflection. The image is resampled with a box, triangle, cubic or Lanczos filter, and a `compressed` share is
    saved as JPEG of quality `quality` to 95. Sizes are log-uniform.
    """

    share: float = 0.5
    zoom: float = 1.15
    narrowest: float = 0.56
    widest: float = 1.8
    compressed: float = 0.25
    quality: int = 50


@dataclass(frozen=True)
class Translate:
    """Alternating flip, shift of up to `pixels` per side with reflected borders, grey square of `cutout` pixels."""

    pixels: int
    cutout: int = 0
    uploads: Uploads | None = None


@dataclass(frozen=True)
class Affine:
    """Rotation in ± degrees, shift and zoom in ± fractions of the side, each uniform; nearest fill."""

    rotation: float
    shift: float
    zoom: float
    mirror: bool


@dataclass(frozen=True)
class NotebookCNN:
    """The notebook's network: two blocks of two convolutions, 512 hidden units, softmax; 1,676,842 parameters."""


@dataclass(frozen=True)
class Airbench:
    """Fixed whitening convolution, then one block per width: convolution, pool, convolution. See `networks.airbench`.

    With three `convolutions` per block, the third's input is added to its output.
    """

    widths: tuple[int, ...]
    activation: Literal["silu", "gelu"]
    batch_norm_momentum: float
    convolutions: Literal[2, 3] = 2
    logit_scale: float = 1 / 9


@dataclass(frozen=True)
class Pretrained:
    """The network named by `--from`, with a new last Dense layer for the labels of the data."""


@dataclass(frozen=True)
class RMSprop:
    """Keras's RMSprop at a constant rate."""

    learning_rate: float

    def for_batches(self, ratio: float) -> Self:
        """Return the optimizer for batches `ratio` times as large: the rate grows with the root of it.

        Source: Malladi et al., arXiv:2205.10287.
        """
        return replace(self, learning_rate=self.learning_rate * ratio**0.5)


@dataclass(frozen=True)
class LookaheadSGD:
    """Nesterov SGD with coupled L2, a triangular rate and lookahead; see `optimizer.LookaheadSGD`.

    The rate rises linearly from `start` × `learning_rate` to `learning_rate` over the first `warmup` of all steps and
    falls linearly to `end` × `learning_rate`.
    """

    learning_rate: float
    momentum: float
    l2: float
    bias_multiplier: float
    start: float = 0.2
    warmup: float = 0.23
    end: float = 0.07

    def for_batches(self, ratio: float) -> Self:
        """Return the optimizer for batches `ratio` times as large: the rate grows in proportion.

        Source: Goyal et al., arXiv:1706.02677.
        """
        return replace(self, learning_rate=self.learning_rate * ratio)


@dataclass(frozen=True)
class Muon(LookaheadSGD):
    """`LookaheadSGD` with orthogonalised steps for the filters of convolutions; see `optimizer.Muon`."""

    filter_multiplier: float = 0.11
    filter_momentum: float = 0.6

    def for_batches(self, ratio: float) -> Self:
        """Return the optimizer for batches `ratio` times as large; steps of filters grow with the root of it.

        The length of an orthogonalised step does not depend on the gradient's, as in RMSprop.
        """
        return replace(super().for_batches(ratio), filter_multiplier=self.filter_multiplier / ratio**0.5)


@dataclass(frozen=True)
class Mixing:
    """Blend a `share` of the images with another one, and their targets in proportion.

    The proportion follows Beta(`alpha`, `alpha`). Mixup blends all pixels (Zhang et al., arXiv:1710.09412), CutMix
    pastes a rectangle (Yun et al., arXiv:1905.04899).
    """

    method: Literal["mixup", "cutmix"]
    share: float = 1.0
    alpha: float = 1.0


@dataclass(frozen=True)
class Distillation:
    """Learn from the mean of the teachers' probabilities for the same augmented view, instead of from labels.

    Teachers and student divide their logits by `temperature` first. With `mirrored`, the teachers' probabilities for a
    view and its mirror image are averaged. Augmented views repeat after `views` epochs, so that the teachers' soft
    targets can be cached; an even number shows every image both ways. Without `views` every epoch is a fresh view, and
    teachers and student see the same mixed images. Sources: see `fit.distillation`.
    """

    temperature: float
    mirrored: bool
    views: int | None = None


@dataclass(frozen=True)
class Recipe:
    """All hyper-parameters of a training run. `mean` and `std` are of pixel / 255, per RGB channel.

    `validation` is the fraction of the training images, from their end, used only for validation. `starts_from` is the
    recipe of the run that `--from` must name, if any. `partial_batch` trains on an epoch's last, smaller batch. A
    `Pretrained` network keeps the normalisation and output of its source. With `keep_best`, the validation images are
    held out, and the run ends with the weights that did best on them, before the first epoch or after any.
    """

    description: str
    network: NotebookCNN | Airbench | Pretrained
    optimizer: RMSprop | LookaheadSGD
    epochs: int
    batch_size: int
    output: Literal["logits", "probabilities"]
    augmentation: Translate | Affine | None = None
    label_smoothing: float = 0.0
    distillation: Distillation | None = None
    mixing: Mixing | None = None
    validation: float = 0.0
    partial_batch: bool = True
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    starts_from: str | None = None
    keep_best: bool = False

    def view(self, epoch: int) -> int:
        """Return the number of the augmented view that an epoch shows."""
        views = self.distillation.views if self.distillation else None
        return epoch % views if views else epoch

    def with_batch_size(self, batch_size: int) -> "Recipe":
        """Return the recipe for another batch size, with the learning rate that fits it."""
        ratio = batch_size / self.batch_size
        return self if ratio == 1 else replace(self, batch_size=batch_size, optimizer=self.optimizer.for_batches(ratio))


NO_SHIFT, NO_SCALE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

RECIPES: dict[str, Recipe] = {
    "notebook": Recipe(
        description="the 2023 notebook's CNN as it was trained there",
        network=NotebookCNN(),
        optimizer=RMSprop(1e-3),
        epochs=20,
        batch_size=128,
        output="probabilities",
        validation=0.2,
        mean=NO_SHIFT,
        std=NO_SCALE,
    ),
    "notebook-augmented": Recipe(
        description="the notebook's second step: 20 more epochs with strong augmentation, on all 50,000 images",
        network=NotebookCNN(),
        optimizer=RMSprop(1e-3),
        epochs=20,
        batch_size=128,
        output="probabilities",
        augmentation=Affine(rotation=40, shift=0.2, zoom=0.2, mirror=True),
        mean=NO_SHIFT,
        std=NO_SCALE,
        starts_from="notebook",
    ),
    "fast": Recipe(
        description="ours: a quarter of an hour on two CPU cores, with Muon; seconds on a GPU",
        network=Airbench(widths=(64, 256, 256), activation="silu", batch_norm_momentum=0.6),
        optimizer=Muon(learning_rate=1.5, momentum=0.85, l2=1.33e-3, bias_multiplier=64),
        epochs=12,
        batch_size=1024,
        output="logits",
        augmentation=Translate(pixels=2),
        label_smoothing=0.2,
        partial_batch=False,
        precision="mixed_bfloat16",
    ),
    "teacher": Recipe(
        description="a teacher of 452 M multiply-adds for best and small; train several with different seeds",
        network=Airbench(widths=(128, 384, 512), activation="gelu", batch_norm_momentum=0.9, convolutions=3),
        optimizer=LookaheadSGD(learning_rate=1.2, momentum=0.85, l2=1.33e-3, bias_multiplier=64, warmup=0.1, end=0.0),
        epochs=60,
        batch_size=1024,
        output="logits",
        augmentation=Translate(pixels=4, cutout=12),
        partial_batch=False,
        precision="mixed_bfloat16",
    ),
    "best": Recipe(
        description="ours: 117 M multiply-adds, distilled from runs of teacher; use a GPU",
        network=Airbench(widths=(64, 192, 240), activation="silu", batch_norm_momentum=0.9, convolutions=3),
        optimizer=LookaheadSGD(learning_rate=1.2, momentum=0.85, l2=6e-4, bias_multiplier=64, warmup=0.05, end=0.0),
        epochs=300,
        batch_size=1024,
        output="logits",
        augmentation=Translate(pixels=4, cutout=8),
        distillation=Distillation(temperature=2.0, mirrored=True, views=64),
        partial_batch=False,
        precision="mixed_bfloat16",
    ),
    "small": Recipe(
        description="ours: 55 M multiply-adds, distilled from runs of teacher; use a GPU",
        network=Airbench(widths=(40, 128, 176), activation="silu", batch_norm_momentum=0.9, convolutions=3),
        optimizer=LookaheadSGD(learning_rate=1.2, momentum=0.85, l2=6e-4, bias_multiplier=64, warmup=0.05, end=0.0),
        epochs=300,
        batch_size=1024,
        output="logits",
        augmentation=Translate(pixels=4, cutout=8),
        distillation=Distillation(temperature=2.0, mirrored=True, views=64),
        partial_batch=False,
        precision="mixed_bfloat16",
    ),
    "fine-tune": Recipe(
        description="your own images: starts --from a published version or a run, with a new last layer",
        network=Pretrained(),
        optimizer=LookaheadSGD(learning_rate=0.005, momentum=0.85, l2=1e-3, bias_multiplier=8, warmup=0.2, end=0.0),
        epochs=20,
        batch_size=64,
        output="logits",
        augmentation=Translate(pixels=2),
        label_smoothing=0.1,
        precision="mixed_bfloat16",
        keep_best=True,
    ),
}


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        TrainingError: no recipe has that name.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise TrainingError(
            f"unknown recipe {name!r}; choose one of: {', '.join(RECIPES)}. To resume a run of a recipe that has since "
            "been removed, use the commit in its run.json, environment.code"
        ) from None
