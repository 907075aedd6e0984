"""What is sent: the same two images for every server and run, and the requests around them."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

BOUNDARY = "X"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
BATCH = 256


@dataclass(frozen=True)
class Picture:
    """An encoded image."""

    name: str
    mime: str
    data: bytes


@dataclass(frozen=True)
class Body:
    """A request to our service or a peer: `count` times the same picture."""

    name: str
    path: str
    mime: str
    data: bytes
    picture: Picture
    count: int = 1

    def request(self) -> bytes:
        """The whole of it for a local server, in HTTP/1.1."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {self.mime}\r\n"
        return f"{head}Content-Length: {len(self.data)}\r\n\r\n".encode() + self.data


def pictures() -> tuple[Picture, Picture]:
    """A 32×32 PNG of about 2 KB and a 640×480 JPEG of about 23 KB, noisy as photos are."""
    draw = random.Random(0)
    small = Image.frombytes("RGB", (8, 8), bytes(draw.randrange(256) for _ in range(192)))
    small = small.resize((32, 32), Image.Resampling.BICUBIC)
    small = Image.blend(small, Image.effect_noise((32, 32), 12).convert("RGB"), 0.3)
    photo = small.resize((640, 480), Image.Resampling.BICUBIC)
    photo = Image.blend(photo, Image.effect_noise((640, 480), 25).convert("RGB"), 0.12)
    return encoded("PNG 32×32", small, "PNG"), encoded("JPEG 640×480", photo, "JPEG")


def encoded(name: str, image: Image.Image, form: str) -> Picture:
    """An image as a file; a JPEG at quality 75."""
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 75} if form == "JPEG" else {}))
    return Picture(name, f"image/{form.lower()}", buffer.getvalue())


def raw(picture: Picture) -> Body:
    """The picture as the body itself."""
    return Body(picture.name, "/predict", picture.mime, picture.data, picture)


def form(picture: Picture) -> Body:
    """The picture as the form field `file`."""
    return Body(f"{picture.name}, form", "/predict", FORM, multipart([picture], "file"), picture)


def explained(picture: Picture) -> Body:
    """The picture as the body itself, to which the answer is a picture of what spoke for its label."""
    return Body(f"{picture.name}, explained", "/explain", picture.mime, picture.data, picture)


def batch(picture: Picture, count: int = BATCH) -> Body:
    """The picture so many times in one form."""
    data = multipart([picture] * count, "files")
    return Body(f"{count} × {picture.name}", "/predict/batch", FORM, data, picture, count)


def multipart(pictures: Sequence[Picture], field: str) -> bytes:
    """A form whose files all have one name, as `curl -F` writes it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="i"\r\nContent-Type: '
    parts = [f"{head}{picture.mime}\r\n\r\n".encode() + picture.data + b"\r\n" for picture in pictures]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
