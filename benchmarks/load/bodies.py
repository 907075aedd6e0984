"""Requests with the same two images for every server and run, in the encodings that servers expect."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

BOUNDARY = "X"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
BATCH = 256
HEADER_LENGTH = "Inference-Header-Content-Length"  # of the JSON before binary tensors (Open Inference Protocol)


@dataclass(frozen=True)
class Picture:
    """An encoded image."""

    name: str
    mime: str
    data: bytes


@dataclass(frozen=True)
class Body:
    """A POST request that holds `count` pictures of one kind."""

    name: str
    path: str
    mime: str
    data: bytes
    picture: Picture
    count: int = 1
    header: tuple[str, str] | None = None  # one more header: its name and value

    def request(self) -> bytes:
        """Return the complete HTTP/1.1 request for a local server."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {self.mime}\r\n"
        if self.header:
            head += "{}: {}\r\n".format(*self.header)
        return f"{head}Content-Length: {len(self.data)}\r\n\r\n".encode() + self.data


def pictures() -> tuple[Picture, Picture]:
    """Make a 32×32 PNG of about 2 KB and a 640×480 JPEG of about 23 KB, as noisy as photos."""
    draw = random.Random(0)
    small = Image.frombytes("RGB", (8, 8), bytes(draw.randrange(256) for _ in range(192)))
    small = small.resize((32, 32), Image.Resampling.BICUBIC)
    small = Image.blend(small, Image.effect_noise((32, 32), 12).convert("RGB"), 0.3)
    return encode(small, "PNG"), encode(enlarge(small, 640, 480), "JPEG")


def enlarge(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resize and add the noise of a camera."""
    large = image.resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(large, Image.effect_noise((width, height), 25).convert("RGB"), 0.12)


def encode(image: Image.Image, image_format: str, compress_level: int = 6) -> Picture:
    """Encode as PNG, or as JPEG of quality 75."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, quality=75, compress_level=compress_level)
    name = f"{image_format} {image.width}×{image.height}"
    return Picture(name, f"image/{image_format.lower()}", buffer.getvalue())


def raw(picture: Picture) -> Body:
    """Make a request with the picture as its body."""
    return Body(picture.name, "/predict", picture.mime, picture.data, picture)


def form(picture: Picture) -> Body:
    """Make a request with the picture in the form field `file`."""
    return Body(f"{picture.name}, form", "/predict", FORM, multipart([picture], "file"), picture)


def explain(picture: Picture, query: str = "") -> Body:
    """Make a request for a saliency map with the picture as its body."""
    return Body(f"{picture.name}, explained", f"/explain{query}", picture.mime, picture.data, picture)


def batch(picture: Picture, count: int = BATCH) -> Body:
    """Make a batch request with the picture `count` times in one form."""
    return batch_of([picture] * count)


def batch_of(pictures: Sequence[Picture]) -> Body:
    """Make a batch request with several pictures in one form; the first gives the request its name."""
    first, count = pictures[0], len(pictures)
    return Body(f"{count} × {first.name}", "/predict/batch", FORM, multipart(pictures, "files"), first, count)


def multipart(pictures: Sequence[Picture], field: str) -> bytes:
    """Encode a form with one file field per picture, as `curl -F` does."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="i"\r\nContent-Type: '
    parts = [f"{head}{picture.mime}\r\n\r\n".encode() + picture.data + b"\r\n" for picture in pictures]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
