"""Which resize filter, fit and JPEG scale serve best: held-out accuracy of a twin on simulated uploads.

Owns the choice of sources and the comparison. Every upload (made by `photos.py`) goes the served path, `images.decode`
and then `Classifier.predict`. The three choices are made one after another, filter, fit, JPEG margin, each by the mean
over the sources that count as realistic; the others are reported only. Never looks at the test set.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from model_store.classifier import Classifier
from model_store.images.decode import SIDE, decode
from model_store.manifest import Resize
from training.data import Images, check_labels, load
from training.errors import TrainingError
from training.photos import detailed, drawn_out, enlarged, filling, saved, surrounded
from training.publish import read_run
from training.run import Run

SEED = 0
IMAGES = 1_200
LARGE_IMAGES = 40  # of the source that is there for its decoding time
MARGINS = (1, 2, 4, 8, 64)
MARGIN_TOLERANCE = 0.001  # a larger margin must earn more than this: it costs decoding time on every large photo
START = Resize(filter="bicubic", fit="stretch", jpeg_margin=4)  # what is not yet chosen; square images fit either way
MEAN = "mean of the realistic sources"
REPORT = "resize-study.json"

Upload: TypeAlias = Callable[[Image.Image, Generator], Image.Image]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One kind of upload: what becomes of an original (32×32 RGB), and how that is saved."""

    name: str
    make: Upload
    quality: int | None = 90  # of a JPEG; None: PNG
    realistic: bool = True
    images: int = IMAGES

    def file(self, original: Image.Image, index: int) -> bytes:
        """The upload's bytes, the same for the same image and index."""
        return saved(self.make(original, np.random.default_rng((SEED, index))), self.quality)


@dataclass(frozen=True)
class Choice:
    """A field of `Resize`, the values it may take, and the sources they are compared on."""

    name: str
    values: tuple[Any, ...]
    sources: tuple[Source, ...]


def study(run: Run, folder: Path, images: int | None = None, say: Callable[[str], None] = print) -> list[Row]:
    """Measure every policy on every source and write the rows, with the recommended `Resize`, into the run's folder.

    Args:
        run: a finished twin, trained with `--hold-out`.
        folder: the CIFAR-10 batches.
        images: at most this many held-out images a source; for a quick look.
        say: takes a line of progress after each source, and at the end the tables.

    Returns:
        One row for each source × policy and one for each policy's mean: `choice`, `value`, `source`, `realistic`, `n`,
        `accuracy` with its `standard_error`, `behind` (how much the source's best policy is better) with its paired
        `behind_error`, and `decode_ms` (CPU milliseconds an image).

    Raises:
        TrainingError: the run is not finished, has seen the held-out images or cannot be served, or the data is missing
            or of other labels.
    """
    classifier, dataset = _classifier(run), load(folder)
    check_labels(run.folder, classifier.labels, dataset.labels)
    sample = _sample(dataset.held_out, images)
    policy, rows = START, list[Row]()
    say(f"{min(len(sample), IMAGES)} held-out images a source, {classifier.precision}, network {run.folder}")
    for choice in choices():
        rows += _compare(choice, policy, sample, classifier, say)
        policy = policy.model_copy(update={choice.name: recommended(rows, choice.name)})
    report = {"run": str(run.folder), "precision": classifier.precision, "recommendation": policy.model_dump()}
    (run.folder / REPORT).write_text(json.dumps(report | {"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    say(f"\n{table(rows)}\n\nrecommended: {policy.model_dump()}; written to {run.folder / REPORT}")
    return rows


def recommended(rows: Sequence[Row], choice: str) -> str | int:
    """The value with the highest mean over the realistic sources; of JPEG margins the smallest about as good."""
    means: dict[Any, float] = {
        row["value"]: row["accuracy"] for row in rows if row["choice"] == choice and row["source"] == MEAN
    }
    best: str | int = max(means, key=means.__getitem__)
    if choice == "jpeg_margin":
        best = min(value for value, mean in means.items() if mean >= means[best] - MARGIN_TOLERANCE)
    return best


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown tables: one for each choice, one line a source, accuracies in per cent ± standard error."""
    parts = []
    for choice in dict.fromkeys(row["choice"] for row in rows):
        ours = [row for row in rows if row["choice"] == choice]
        values = list(dict.fromkeys(row["value"] for row in ours))
        lines = [f"| {choice} | n |" + "".join(f" {value} |" for value in values), "|---|--:|" + "--:|" * len(values)]
        for source in dict.fromkeys(row["source"] for row in ours):
            cells = [row for row in ours if row["source"] == source]
            name = source if cells[0]["realistic"] else f"*{source}*"
            lines.append(f"| {name} | {cells[0]['n']} |" + "".join(f" {_cell(row)} |" for row in cells))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(row: Row) -> str:
    text = f"{100 * row['accuracy']:.1f} ± {100 * row['standard_error']:.1f}"
    if row["source"] == MEAN:
        behind = f"-{100 * row['behind']:.2f} ± {100 * row['behind_error']:.2f}" if row["behind"] else "best"
        text = f"**{100 * row['accuracy']:.2f}** ({behind})"
    return f"{text}, {row['decode_ms']:.2f} ms" if row["choice"] == "jpeg_margin" else text


def _classifier(run: Run) -> Classifier:
    info = run.require_finished().info
    if not info.hold_out:
        raise TrainingError(
            f"{run.folder} was trained on the held-out images, so no choice can be made on them; "
            f"train a twin with `python -m training train --recipe {info.recipe} --hold-out` and study that"
        )
    return Classifier(read_run(run))


def _sample(held_out: Images, images: int | None) -> Images:
    chosen = np.random.default_rng(SEED).permutation(len(held_out))[:images]
    return Images(held_out.pixels[chosen], held_out.labels[chosen])


def _compare(
    choice: Choice, policy: Resize, sample: Images, classifier: Classifier, say: Callable[[str], None]
) -> list[Row]:
    """Every value on every source, with the rest of the policy as it is."""
    policies = [policy.model_copy(update={choice.name: value}) for value in choice.values]
    rows, counted, times = list[Row](), list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for number, source in enumerate(choice.sources, 1):
        correct, decode_ms = _measure(source, policies, sample[: source.images], classifier)
        new = _rows(choice, source.name, source.realistic, correct, decode_ms)
        if source.realistic:
            counted.append(correct)
            times.append(decode_ms)
        figures = "  ".join(f"{row['value']} {_cell(row)}" for row in new)
        say(f"{choice.name} {number}/{len(choice.sources)}  {source.name}: {figures}")
        rows += new
    # Averaged image by image first: the sources show the same images, so their errors are not independent.
    return rows + _rows(choice, MEAN, True, np.mean(counted, axis=0), np.mean(times, axis=0))


def _measure(
    source: Source, policies: Sequence[Resize], sample: Images, classifier: Classifier
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whether each answer is right, (P, N) of 0 and 1, and the CPU milliseconds a decode takes, (P,)."""
    pixels = np.empty((len(policies), len(sample), SIDE, SIDE, 3), np.uint8)
    seconds = np.zeros(len(policies))
    for index, original in enumerate(sample.pixels):
        data = source.file(Image.fromarray(original), index)
        for number, policy in enumerate(policies):
            began = time.thread_time()  # CPU time: what else the machine does must not show
            pixels[number, index] = decode(data, policy)
            seconds[number] += time.thread_time() - began
    answers = np.stack([classifier.predict(each).probabilities.argmax(axis=1) for each in pixels])
    return (answers == sample.labels).astype(np.float64), seconds / len(sample) * 1000


def _rows(
    choice: Choice,
    source: str,
    realistic: bool,
    correct: NDArray[np.float64],  # (P, N) in 0..1
    decode_ms: NDArray[np.float64],  # (P,)
) -> list[Row]:
    accuracy, n = correct.mean(axis=1), correct.shape[1]
    behind = correct[accuracy.argmax()] - correct
    return [
        {
            "choice": choice.name,
            "value": value,
            "source": source,
            "realistic": realistic,
            "n": n,
            "accuracy": float(accuracy[number]),
            "standard_error": float(correct[number].std() / np.sqrt(n)),
            "behind": float(behind[number].mean()),
            "behind_error": float(behind[number].std() / np.sqrt(n)),
            "decode_ms": float(decode_ms[number]),
        }
        for number, value in enumerate(choice.values)
    ]


def choices() -> tuple[Choice, ...]:
    """The fields of `Resize`, in the order they are chosen in."""
    filters, fits = (get_args(Resize.model_fields[name].annotation) for name in ("filter", "fit"))
    return (
        Choice("filter", filters, filter_sources()),
        Choice("fit", fits, fit_sources()),
        Choice("jpeg_margin", MARGINS, margin_sources()),
    )


def filter_sources() -> tuple[Source, ...]:
    """Square images of several sizes. Pixelated ones do not count: no photo looks so, and a box undoes them exactly."""
    sources = [Source("32 px, PNG, untouched", lambda original, _: original, None, realistic=False)]
    for side in (64, 128, 256, 640):
        smooth = partial(enlarged, side=side, resampling=Image.Resampling.LANCZOS)
        sources += [Source(f"{side} px, JPEG {quality}", smooth, quality) for quality in (90, 75)]
        if side < 640:
            sources.append(Source(f"{side} px, PNG", smooth, None))
        if side > 64:
            sources.append(Source(f"{side} px with fine detail, JPEG 90", partial(detailed, side=side)))
        bicubic = partial(enlarged, side=side, resampling=Image.Resampling.BICUBIC)
        sources.append(Source(f"{side} px enlarged by bicubic, JPEG 90", bicubic))
        if side in (64, 256):
            pixelated = partial(enlarged, side=side, resampling=Image.Resampling.NEAREST)
            sources.append(Source(f"{side} px pixelated, PNG", pixelated, None, realistic=False))
    return tuple(sources)


def fit_sources() -> tuple[Source, ...]:
    """Frames that are not square, JPEG 90.

    By construction `crop` undoes a subject in the middle and `stretch` a squeezed one, so each counts only beside the
    other and beside two that no policy undoes: a subject away from the middle, and one that fills the frame.
    """
    sources = []
    for name, size in (("4:3", (256, 192)), ("16:9", (342, 192)), ("3:4", (192, 256))):
        sources += [
            Source(f"{name}, subject in the middle", partial(surrounded, size=size, centred=True)),
            Source(f"{name}, subject anywhere", partial(surrounded, size=size, centred=False)),
            Source(f"{name}, subject fills the frame", partial(filling, size=size)),
            Source(f"{name}, whole image drawn out", partial(drawn_out, size=size)),
        ]
    middle = partial(surrounded, size=(256, 192), centred=True)
    return (
        *sources,
        Source("4:3, plain background", partial(middle, background="plain"), realistic=False),
        Source("4:3, blurred background", partial(middle, background="blurred"), realistic=False),
    )


def margin_sources() -> tuple[Source, ...]:
    """Square JPEGs large enough to be decoded at reduced scale; the largest is there for its time."""
    smooth = {side: partial(enlarged, side=side, resampling=Image.Resampling.LANCZOS) for side in (128, 256, 640)}
    return (
        *(Source(f"{side} px, JPEG {quality}", make, quality) for side, make in smooth.items() for quality in (90, 75)),
        *(Source(f"{side} px with fine detail, JPEG 90", partial(detailed, side=side)) for side in (256, 640)),
        Source("2048 px with fine detail", partial(detailed, side=2048), realistic=False, images=LARGE_IMAGES),
    )
