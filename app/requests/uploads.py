"""Reads a request's body, up to a maximum size and in memory only, and extracts the encoded images.

Starlette's form parser limits neither the body nor its files, and spools files to disk, where a user's image must never
be. python-multipart's parser visits every part in Python: 32 MB of empty parts take it 8 s. So this module reads and
counts the body as it arrives, and cuts forms at their boundaries. Its work is bounded by the number of parts.
"""

import asyncio
import re
from collections.abc import Iterator
from functools import partial

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.admission import BODY_COPIES, Reservation
from app.errors import Problem
from app.process.stop import Stop

# Bytes per second, in intervals of this many seconds. On the slowest network (GPRS) a phone sends 2,500 bytes/s and
# pauses for seconds between cells; at less than 1,000 bytes/s no photograph arrives within CIFAR10_TIMEOUT_SECONDS.
MIN_RATE, RATE_SECONDS = 1_000, 10
FORM = "multipart/form-data"
# Forms of browsers and HTTP libraries carry a token or a caption beside the images, seldom more than a few.
MAX_OTHER_PARTS = 16
# A file name has up to 255 characters, which take 765 bytes at most. parse_options_header's time grows with the square
# of the length: 0.4 ms for this, 1.5 ms for twice as much.
MAX_PART_HEADER_BYTES = 2_048
# A boundary has at most 70 characters (RFC 2046). parse_options_header takes 0.3 s for 500 kB.
MAX_CONTENT_TYPE = 1_024
# The most parts and the longest headers that fit into a form of this size take about a millisecond.
SMALL_FORM_BYTES = 8_192
SEARCHED_BYTES = 262_144
_PADDING = re.compile(rb"[ \t]{0,64}\r\n")
_DISPOSITION = re.compile(rb"(?im)^content-disposition[ \t]*:([^\r\n]*)")


class Uploads:
    """The bodies that are arriving. Ends those that stop or trickle, and the largest when they take too much memory."""

    def __init__(self, capacity: int) -> None:
        """`capacity` is the number of bytes that all of them may have."""
        self._capacity = capacity
        self._arriving: set[_Upload] = set()
        self._size = 0  # of all of them
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._arriving)

    async def read_body(self, request: Request, limit: int, reservation: Reservation, stop: Stop) -> bytes:
        """Read the whole body, into reserved memory.

        Args:
            stop: ends the request of an upload that arrives too slowly, or is the largest while memory is short.

        Raises:
            Problem: the body has more than `limit` bytes, by its Content-Length or as received; or memory is short.
            ClientDisconnect: the client disconnected before the body was complete.
        """
        announced: bytes = dict(request.scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(f"{int(announced):,}", limit)
        upload, more = _Upload(stop), True
        self._arriving.add(upload)
        if not self._timer:
            self._timer = asyncio.get_running_loop().call_later(RATE_SECONDS, self.end_slow)
        try:
            while more:
                chunk, more = await _receive(request)
                if len(upload.body) + len(chunk) > limit:
                    raise _too_large(f"{len(upload.body) + len(chunk):,} or more", limit)
                reservation.grow(BODY_COPIES * len(chunk))
                upload.body += chunk
                self._size += len(chunk)
                if self._size > self._capacity:
                    self._end_largest()
            return bytes(upload.body)
        finally:
            self._forget(upload)

    def end_slow(self) -> None:
        """End the uploads that received too little since the last call, and call again while others arrive."""
        for upload in [upload for upload in self._arriving if upload.is_slow()]:
            self._forget(upload)
            received = f"fewer than {MIN_RATE * RATE_SECONDS:,} bytes of the body arrived in {RATE_SECONDS} s"
            detail = f"{received}; try again with a better connection or a smaller image"
            upload.stop(partial(Problem, "slow_upload", detail))
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(RATE_SECONDS, self.end_slow) if self._arriving else None

    def _end_largest(self) -> None:
        """End one upload, so that bodies sent half-way leave room for others. Small ones are never the largest."""
        largest = max(self._arriving, key=lambda upload: len(upload.body))
        self._forget(largest)
        detail = f"the uploads in progress take {self._capacity // 1_000_000} MB of memory, and this was the largest"
        largest.stop(partial(Problem, "overloaded", f"{detail}; try again"))

    def _forget(self, upload: "_Upload") -> None:
        if upload in self._arriving:
            self._arriving.remove(upload)
            self._size -= len(upload.body)


class _Upload:
    """A body that is arriving."""

    def __init__(self, stop: Stop) -> None:
        self.body, self.stop = bytearray(), stop  # not a list of chunks: the client decides how many there are
        self._judged_size = -MIN_RATE * RATE_SECONDS  # so that the interval in which it begins does not count

    def is_slow(self) -> bool:
        """True if it received too little since the last call."""
        previous, self._judged_size = self._judged_size, len(self.body)
        return self._judged_size - previous < MIN_RATE * RATE_SECONDS


async def _receive(request: Request) -> tuple[bytes, bool]:
    """Return the next chunk of the body, and whether more follows."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _too_large(received: str, limit: int) -> Problem:
    return Problem("too_large", f"the body has {received} bytes, the limit is {limit:,}; send a smaller image or fewer")


def is_large_form(content_type: str, body: bytes) -> bool:
    """True if `parse_images` may take longer than a millisecond, so it should leave the event loop."""
    return len(body) > SMALL_FORM_BYTES and _media_type(content_type) == FORM


def parse_images(content_type: str, body: bytes, name: str, limit: int) -> list[bytes]:
    """Extract the encoded images: the form's files named `name`, or the body itself if it is not a form.

    The body is an image whatever its content type, unless that is `multipart/form-data`: clients label raw bytes with
    anything.

    Raises:
        Problem: the form is malformed, has no such file, or has more than `limit` such files; or the body is empty, or
            was damaged by `curl -d`.
    """
    kind = _media_type(content_type)
    if kind == FORM:
        return _parse_form(body, _boundary(content_type), name, limit)
    if not body:
        detail = f"the request has no body; send the bytes of an image, or a form as curl -F {name}=@photo.jpg"
        raise Problem("unsupported_image", detail)
    # `curl -d @file` drops line breaks and zero bytes. Every image format has zero bytes, and text is all ASCII.
    if kind == "application/x-www-form-urlencoded" and b"\0" not in body and not body.isascii():
        detail = "the image was sent with curl -d, which drops line breaks and zero bytes; send it as "
        raise Problem("unusable_image", f"{detail}curl -F {name}=@photo.jpg, or with --data-binary in place of -d")
    return [body]


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _boundary(content_type: str) -> bytes:
    if len(content_type) > MAX_CONTENT_TYPE:
        received = f"the Content-Type of the form has {len(content_type):,} characters"
        raise Problem("malformed_request", f"{received}, the limit is {MAX_CONTENT_TYPE:,}; use a shorter boundary")
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        reason = "the Content-Type of the form has no boundary"
        raise Problem("malformed_request", f"{reason}; do not set this header yourself, the HTTP client adds it")
    return boundary


def _parse_form(body: bytes, boundary: bytes, name: str, limit: int) -> list[bytes]:
    files: list[bytes] = []
    others: dict[str, None] = {}  # a set that keeps the order
    for start, end in _split(body, boundary, limit + MAX_OTHER_PARTS):
        field, content = _read_headers(body, start, end)
        if field != name:
            others[field] = None
        elif len(files) == limit:
            most = f"{limit} file{'s' * (limit > 1)}"
            raise Problem("too_large", f"the form has more than {most}; send them in several requests")
        else:
            files.append(body[content:end])
    if not files:
        received = f", only {_quoted(list(others))}" if others else "; it has no parts at all"
        remedy = f"send it as curl -F {name}=@photo.jpg"
        raise Problem("malformed_request", f"the form has no file named {name!r}{received}; {remedy}")
    return files


def _quoted(names: list[str]) -> str:
    shown = ", ".join(repr(name[:64]) if name else "parts without a name" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _split(body: bytes, boundary: bytes, max_parts: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each part, headers included (RFC 2046, 5.1.1). Text before the first boundary is legal."""
    delimiter = b"\r\n--" + boundary
    at = 0 if body.startswith(delimiter[2:]) else _find(body, delimiter, 0) + 2
    if at == 1:
        raise _malformed(f"the boundary {boundary.decode('latin-1')[:80]!r}, given by Content-Type, is not in the body")
    at += len(delimiter) - 2
    for _ in range(max_parts):
        if body.startswith(b"--", at):
            return
        line_end = _PADDING.match(body, at)
        if not line_end:
            raise _cut_short() if len(body) - at < 2 else _malformed("a boundary is followed by other text")
        start = line_end.end()
        end = _find(body, delimiter, start)
        if end < 0:
            raise _cut_short()
        yield start, end
        at = end + len(delimiter)
    if not body.startswith(b"--", at):
        raise _malformed(f"it has more than {max_parts} parts; send only the images")


def _find(body: bytes, pattern: bytes, start: int) -> int:
    """Search like `bytes.find`, but in pieces: it blocks all threads of the process, for up to 0.2 s in 32 MB."""
    for at in range(start, len(body), SEARCHED_BYTES):
        position = body.find(pattern, at, at + SEARCHED_BYTES + len(pattern) - 1)
        if position >= 0:
            return position
    return -1


def _read_headers(body: bytes, start: int, end: int) -> tuple[str, int]:
    """Return a part's name ("" if it has none) and where its content starts."""
    if body.startswith(b"\r\n", start, end) or start == end:
        return "", min(start + 2, end)
    headers_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEADER_BYTES))
    if headers_end < 0:
        raise _malformed(
            f"a part has no empty line after its headers, or more than {MAX_PART_HEADER_BYTES:,} bytes of them"
        )
    disposition = _DISPOSITION.search(body, start, headers_end)
    name = parse_options_header(disposition[1])[1].get(b"name", b"") if disposition else b""
    return name.decode("utf-8", "replace"), headers_end + 4


def _cut_short() -> Problem:
    return Problem("malformed_request", "the multipart form ends before its closing boundary; send it again")


def _malformed(reason: str) -> Problem:
    return Problem("malformed_request", f"the multipart form cannot be read: {reason}")
