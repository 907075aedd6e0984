"""The deletion test of `app/saliency.py`: how soon a class is lost when the pixels of its map are taken away in order.

    python -m benchmarks.deletion --data data --images 300

Each map orders an image's pixels (Petsiuk et al. 2018, arXiv:1806.07421). They are replaced, first to last, in 16
steps, and the area under the class's probability is the figure: lower is better. Pixels one by one are not the whole
test: single pixels at random damage a small picture at once without having found anything. So they are also replaced
region by region, 4×4 pixels at a time, in the order of the regions' means (as in Samek et al., "Evaluating the
visualization of what a deep neural network has learned", 2017), and put back into a blurred image (insertion: higher is
better). Of held-out images, or of test images where the version learned from all others; the class is the
predicted one.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.pipeline import load_chosen
from app.saliency import Floats, Masks, hide, random_masks, saliency
from app.settings import Settings
from training.data import load

Pixels = NDArray[np.uint8]
Predict = Callable[[Pixels], Floats]  # (N, 32, 32, 3) → probabilities (N, K)
STEPS = 16
REGION = 4
SERVED, RANDOM, SOBEL = "as served", "random, smooth", "Sobel magnitude"


@dataclass(frozen=True)
class Case:
    """An image, the class whose map is tested, and what the network says of the masked copies."""

    image: Pixels  # (32, 32, 3)
    index: int
    masks: Masks
    whole: float
    hidden: Floats  # (N,)


def case(predict: Predict, image: Pixels, masks: Masks) -> Case:
    """The image's predicted class, and its probability under each mask."""
    rows = predict(np.concatenate([image[None], hide(image, masks.kept)]))
    index = int(rows[0].argmax())
    return Case(image, index, masks, float(rows[0, index]), rows[1:, index])


def maps(tested: Case, rng: np.random.Generator) -> dict[str, Floats]:
    """Every candidate's map (32, 32) that costs no further question to the network."""
    smooth = random_masks(2, int(rng.integers(2**31))).kept[0]
    kept = tested.masks.kept
    rows, columns = np.mgrid[:32, :32] - 15.5
    return {
        SERVED: saliency(tested.masks, tested.whole, tested.hidden),
        "RISE's average of the same masks": np.tensordot(tested.hidden, kept, 1) / kept.sum(0),
        SOBEL: sobel(tested.image),
        "distance from the centre": -np.hypot(rows, columns).astype(np.float32),
        RANDOM: smooth,
        "random, pixel by pixel": rng.random((32, 32), np.float32),
    }


def occlusion(predict: Predict, tested: Case, size: int = 8, stride: int = 4) -> Floats:
    """The drop of probability (32, 32) under a sliding blurred square (Zeiler and Fergus 2014); 81 squares."""
    corners = range(stride - size, 32, stride)
    places = [(slice(max(top, 0), top + size), slice(max(left, 0), left + size)) for top in corners for left in corners]
    kept = np.ones((len(places), 32, 32), np.float32)
    for one, place in zip(kept, places, strict=True):
        one[place] = 0
    drop = tested.whole - predict(hide(tested.image, kept))[:, tested.index]
    covered: Floats = np.tensordot(drop, 1 - kept, 1) / (1 - kept).sum(0)
    return covered


def sobel(image: Pixels) -> Floats:
    """How steep the grey value is at each pixel, (32, 32)."""
    grey = np.pad(image.mean(-1, dtype=np.float32), 1, mode="edge")
    across = grey[:, 2:] - grey[:, :-2]
    down = grey[2:] - grey[:-2]
    steepness: Floats = np.hypot(
        across[:-2] + 2 * across[1:-1] + across[2:], down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    )
    return steepness


def deletion(predict: Predict, tested: Case, found: Floats) -> dict[str, float]:
    """A map's areas: `pixels` and `regions` deleted into blur, `mean` regions into the mean colour, `insertion`."""
    means = found.reshape(32 // REGION, REGION, 32 // REGION, REGION).mean((1, 3))
    pixels, regions = _kept(found), _kept(means).repeat(REGION, 1).repeat(REGION, 2)
    colour = tested.image.mean((0, 1))
    flat = np.where(regions[..., None] == 1, tested.image, np.rint(colour)).astype(np.uint8)
    image = tested.image
    copies = [hide(image, pixels), hide(image, regions), flat, hide(image, 1 - regions)]
    curves = predict(np.concatenate(copies))[:, tested.index].reshape(len(copies), -1)
    areas = [float(np.trapezoid(curve)) / STEPS for curve in curves]
    return dict(zip(("pixels", "regions", "mean", "insertion"), areas, strict=True))


def study(predict: Predict, images: Pixels, with_occlusion: bool = True) -> dict[str, list[dict[str, float]]]:
    """Every candidate's areas on every image (N, 32, 32, 3)."""
    masks, rng = random_masks(), np.random.default_rng(0)
    found: dict[str, list[dict[str, float]]] = {}
    for image in images:
        tested = case(predict, image, masks)
        candidates = maps(tested, rng)
        if with_occlusion:
            candidates["occlusion, 8×8 every 4"] = occlusion(predict, tested)
        for name, candidate in candidates.items():
            found.setdefault(name, []).append(deletion(predict, tested, candidate))
    return found


def _kept(order: Floats) -> Floats:
    """What is left (17, …) as the cells of a map go, highest first."""
    rank = np.empty(order.size, np.int64)
    rank[np.argsort(-order, axis=None, kind="stable")] = np.arange(order.size)
    gone = np.arange(STEPS + 1) * order.size // STEPS
    return (rank.reshape(order.shape) >= gone[:, None, None]).astype(np.float32)


def _table(found: Mapping[str, list[dict[str, float]]]) -> str:
    columns = list(next(iter(found.values()))[0])
    lines = [f"| map | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for name, areas in found.items():
        values = np.array([list(area.values()) for area in areas])
        error = values.std(0, ddof=1) / len(values) ** 0.5
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(values.mean(0), error, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure on images that the version has not learned from, and print the means with their standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--skip", type=int, default=0, help="begin after so many")
    options = parser.parse_args()
    loaded, data = load_chosen(Settings()), load(options.data)
    classifier, unseen = loaded.classifier, loaded.manifest.training.get("hold_out")
    images = (data.held_out if unseen else data.test).pixels[options.skip :][: options.images]
    print(f"{len(images)} {'held-out' if unseen else 'test'} images, {classifier.precision}")
    print(_table(study(lambda copies: classifier.predict(copies).probabilities, images)))


if __name__ == "__main__":
    main()
