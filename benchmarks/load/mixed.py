"""A mix of requests of every kind whose answers are checked, and of clients that leave before they are answered.

What the service should answer is computed without it, and differs from image to image, so an answer that belongs to
another request, or to another place of a batch, counts as wrong.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import app
from app.settings import Settings
from app.versions.loading import choose
from benchmarks.load import bodies
from benchmarks.load.bodies import Body, Picture
from benchmarks.load.client import Answer, Client
from model_store.images.decode import decode
from model_store.version import Loaded

SAMPLES = Path(app.__file__).parent / "page" / "samples"
PICTURES, BATCH = 32, 8
# The mix, in percent. Those of `ABANDONED` are requests of the first kinds, broken off while they are sent or answered.
# An explanation costs as much as a hundred predictions.
SHARES = {"PNG": 37.8, "form": 14, "JPEG": 20, "batch": 4, "explanation": 0.2, "damaged": 6, "page": 4, "probe": 4}
ABANDONED = 10
ABANDONED_AFTER_SECONDS = 0.02  # at most, from its last byte sent
# Of a probability. The engine may round differently in a batch; the probabilities of two images are further apart.
TOLERANCE, APART = 0.02, 0.1

Result = Literal["right", "wrong", "refused", "lost", "abandoned"]


class Outcome(NamedTuple):
    """What became of one request: `refused` is a 503 with Retry-After, `lost` any other unexpected status, or none."""

    kind: str
    result: Result
    due: float  # a value of `time.perf_counter`
    seconds: float  # from then to its answer


@dataclass(frozen=True)
class Case:
    """A request and the check of its answer."""

    kind: str
    request: bytes
    status: int
    is_right: Callable[[bytes], bool]


@dataclass(frozen=True)
class Known:
    """A picture and what the service should answer about it."""

    picture: Picture
    labels: Sequence[str]
    probabilities: NDArray[np.float32]  # (K,)

    @classmethod
    def of(cls, picture: Picture, loaded: Loaded) -> "Known":
        """Compute a version's answer."""
        image = decode(picture.data, loaded.manifest.preprocessing)
        return cls(picture, loaded.manifest.labels, loaded.classifier.predict(image[None]).probabilities[0])

    def is_apart(self, other: "Known") -> bool:
        """Tell whether the answers about two pictures cannot be confused."""
        return bool(np.abs(self.probabilities - other.probabilities).max() > APART)

    def is_predicted(self, prediction: dict[str, Any]) -> bool:
        """Tell whether the JSON object of a prediction is about this picture."""
        given = [prediction["probabilities"][label] for label in self.labels]
        return bool(np.abs(given - self.probabilities).max() <= TOLERANCE)

    def is_explained(self, explanation: dict[str, Any]) -> bool:
        """Tell whether the JSON object of an explanation is about this picture."""
        confidence = self.probabilities[self.labels.index(explanation["label"])]
        return bool(abs(explanation["confidence"] - confidence) <= TOLERANCE)


class Mix:
    """Draws requests, asks them and checks the answers."""

    def __init__(self, seed: int = 0) -> None:
        self._draw = random.Random(seed)
        self._cases = {kind: [case for case in cases() if case.kind == kind] for kind in SHARES}

    async def ask(self, client: Client, due: float) -> Outcome:
        """Send one request of the mix and judge its answer."""
        kind = self._draw.choices([*SHARES, "abandoned"], [*SHARES.values(), ABANDONED])[0]
        if kind == "abandoned":
            case = self._draw.choice(self._cases[self._draw.choice(["PNG", "form", "JPEG", "batch", "explanation"])])
            share = self._draw.choice([self._draw.random(), 1.0])
            await client.abandon(case.request, share, self._draw.uniform(0, ABANDONED_AFTER_SECONDS))
            return Outcome(kind, "abandoned", due, time.perf_counter() - due)
        case = self._draw.choice(self._cases[kind])
        answer = await client.ask(case.request, due)
        return Outcome(kind, judge(case, answer), due, answer.seconds)


def judge(case: Case, answer: Answer) -> Result:
    """Compare an answer with what it should be."""
    if answer.status == 503 and answer.retry_after:
        return "refused"
    if answer.status != case.status:
        return "lost"
    with suppress(ValueError, KeyError, TypeError, IndexError):  # no such JSON
        if case.is_right(answer.content):
            return "right"
    return "wrong"


def cases() -> Iterator[Case]:
    """Make every request of the mix, for the version that the service would serve."""
    small, large = _known_pictures(choose(Settings()).loaded)
    for png in small:
        yield _case("PNG", bodies.raw(png.picture), png.is_predicted)
        yield _case("form", bodies.form(png.picture), png.is_predicted)
        yield _case("explanation", bodies.explain(png.picture, "?format=json"), png.is_explained)
        yield Case("damaged", bodies.raw(_cut(png.picture)).request(), 422, _is_problem)
    for jpeg in large:
        yield _case("JPEG", bodies.raw(jpeg.picture), jpeg.is_predicted)
    for start in range(PICTURES):
        yield _batch([small[(start + step) % PICTURES] for step in range(BATCH)])
    yield Case("page", _get("/", "Accept: text/html\r\n"), 200, lambda content: b"<html" in content)
    yield Case("probe", _get("/health/live"), 200, lambda content: True)


def small_pictures(loaded: Loaded) -> list[Picture]:
    """Make small PNGs that a version tells apart."""
    return [known.picture for known in _known_pictures(loaded)[0]]


def _known_pictures(loaded: Loaded) -> tuple[list[Known], list[Known]]:
    """Make small PNGs and large JPEGs: blends of two of the page's samples that the network tells apart."""
    draw = random.Random(0)
    samples = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.png"))]

    small, large = list[Known](), list[Known]()
    while len(small) < PICTURES:
        one, other = draw.sample(samples, 2)
        blend = Image.blend(one, other.rotate(draw.choice([0, 90, 180, 270])), draw.uniform(0.3, 0.7))
        png = Known.of(bodies.encode(blend, "PNG"), loaded)
        jpeg = Known.of(bodies.encode(bodies.enlarge(blend, 640, 480), "JPEG"), loaded)
        if all(map(png.is_apart, small)) and all(map(jpeg.is_apart, large)):
            small.append(png)
            large.append(jpeg)
    return small, large


def _case(kind: str, body: Body, is_right: Callable[[dict[str, Any]], bool]) -> Case:
    return Case(kind, body.request(), 200, lambda content: is_right(json.loads(content)))


def _batch(chosen: Sequence[Known]) -> Case:
    def is_right(content: bytes) -> bool:
        results = json.loads(content)["results"]
        return all(one.is_predicted(result["prediction"]) for one, result in zip(chosen, results, strict=True))

    return Case("batch", bodies.batch_of([one.picture for one in chosen]).request(), 200, is_right)


def _is_problem(content: bytes) -> bool:
    return str(json.loads(content)["code"]) == "unusable_image"


def _cut(picture: Picture) -> Picture:
    return Picture(picture.name, picture.mime, picture.data[: len(picture.data) // 2])


def _get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()
