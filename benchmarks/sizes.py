"""How throughput and latency fall with an image's size, from 32 pixels a side to the limit of 40 megapixels."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from app.settings import Settings
from benchmarks import bodies
from benchmarks.bodies import Picture
from benchmarks.machine import Machine
from benchmarks.server import Server, serving
from benchmarks.stages import alone
from benchmarks.tables import number, table
from benchmarks.wrk import Load, measured
from model_store.images.formats import MAX_PIXELS

SIDES = (32, 128, 512, 2048, 4096, math.isqrt(MAX_PIXELS))
FORMS = ("JPEG", "PNG")
BODY_BYTES = 128_000_000  # a PNG at the limit has some 55 million; the service's default is 32
SMALL, ALONE, ALONE_LARGE = 512, 60, 3  # up to which side, how many requests one after another, and beyond it
LEAST = 5  # requests on each connection, however long they take


@dataclass(frozen=True)
class SizeLoad:
    """A load with images of one size."""

    form: str
    side: int
    file_bytes: int
    stages: dict[str, float]  # milliseconds of a request alone
    load: Load


@dataclass(frozen=True)
class SizeStudy:
    """Closed loops with one connection for each core."""

    machine: Machine
    seconds: int
    loads: list[SizeLoad]


def study(here: Machine, seconds: int) -> SizeStudy:
    """Load the service with square JPEGs and PNGs of each size."""
    with serving(Settings(max_body_bytes=BODY_BYTES)) as server:
        return SizeStudy(here, seconds, list(_loads(server, here.cores, seconds)))


def _loads(server: Server, connections: int, seconds: int) -> Iterator[SizeLoad]:
    for side in SIDES:
        image = noisy(side)
        for form in FORMS:
            picture = _encoded(image, form)
            body = bodies.raw(picture)
            stages = alone(server.port, body, ALONE if side <= SMALL else ALONE_LARGE)
            enough = max(seconds, math.ceil(LEAST * stages["total"] / 1_000))
            load = measured(server.pid, server.port, body, connections, enough)
            yield SizeLoad(form, side, len(picture.data), stages, load)


def noisy(side: int) -> Image.Image:
    """The small picture enlarged, with a camera's noise."""
    small = Image.open(io.BytesIO(bodies.pictures()[0].data)).convert("RGB")
    large = small.resize((side, side), Image.Resampling.BICUBIC)
    return Image.blend(large, Image.effect_noise((side, side), 25).convert("RGB"), 0.12)


def _encoded(image: Image.Image, form: str) -> Picture:
    """A JPEG of quality 75, or a PNG written fast: at the usual level it takes half a minute at the limit."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=75, compress_level=1)
    return Picture(f"{form} {image.width}×{image.height}", f"image/{form.lower()}", buffer.getvalue())


def sizes_table(found: SizeStudy) -> str:
    """A row for each size and form."""
    head = ["request", "megapixels", "MB", "alone: ms", "decoding", "n", "requests/s", "p50 ms", "p99 ms", "CPU ms"]
    return table(head, [_row(each) for each in found.loads])


def _row(each: SizeLoad) -> list[str]:
    load, total = each.load, each.stages["total"]
    size = [number(each.side**2 / 1e6), number(each.file_bytes / 1e6)]
    alone_ = [number(total), f"{each.stages['decode'] / total:.0%}"]
    figures = [number(value) for value in (load.rate, load.p50_ms, load.p99_ms, load.server_ms)]
    return [load.body, *size, *alone_, str(load.requests), *figures]
