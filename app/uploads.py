"""Reads a request's body, up to a maximum size and in memory only, and extracts the encoded images.

Starlette's form parser limits neither the body nor its files, and spools files to disk, where a user's image must never
be. So this module reads and counts the body as it arrives, and parses forms with python-multipart.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.errors import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


async def read_body(request: Request, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        Problem: the body has more than `limit` bytes, by its Content-Length or as received.
        ClientDisconnect: the client disconnected before the body was complete.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise _too_large(f"{int(announced):,}", limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(f"{size:,} or more", limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(received: str, limit: int) -> Problem:
    return Problem("too_large", f"the body has {received} bytes, the limit is {limit:,}; send a smaller image or fewer")


def parse_images(content_type: str, body: bytes, name: str, limit: int) -> list[bytes]:
    """Extract the encoded images: the form's files named `name`, or the body itself if it is not a form.

    The body is an image whatever its content type, unless that is `multipart/form-data`: clients label raw bytes with
    anything.

    Raises:
        Problem: the form is malformed, has no such file, or has more than `limit` such files.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return [body]
    files = _parse_form(body, options.get(b"boundary", b""), name.encode(), limit)
    if not files:
        raise Problem("malformed_request", f"the form has no file named {name!r}; send it as curl -F {name}=@photo.jpg")
    return files


@dataclass
class _Form:
    """Callbacks for python-multipart that collect the parts with one name and skip the others."""

    name: bytes
    limit: int
    files: list[bytes] = field(default_factory=list)
    header: bytes = b""
    value: bytes = b""
    part: list[bytes] | None = None
    ended: bool = False

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_part_data": self.on_part_data,
            "on_part_end": self.on_part_end,
            "on_end": self.on_end,
        }

    def on_part_begin(self) -> None:
        self.header = self.value = b""
        self.part = None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            _, options = parse_options_header(self.value)
            if options.get(b"name") == self.name:
                self.part = []
        self.header = self.value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.part is not None:
            self.part.append(data[start:end])

    def on_part_end(self) -> None:
        if self.part is None:
            return
        if len(self.files) == self.limit:
            raise Problem("too_large", f"the form has more than {self.limit} files; send them in several requests")
        self.files.append(b"".join(self.part))

    def on_end(self) -> None:
        self.ended = True


def _parse_form(body: bytes, boundary: bytes, name: bytes, limit: int) -> list[bytes]:
    form = _Form(name, limit)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed_request", f"the multipart form cannot be read: {error}") from None
    if not form.ended:
        raise Problem("malformed_request", "the multipart form ends before its closing boundary; send it again")
    return form.files
