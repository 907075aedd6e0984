"""Receives a request's body, admits the request, and bounds the time and memory that it takes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias, TypeVar

from fastapi import Request

from app.access.client import client_of
from app.errors import Problem
from app.pipeline import Pipeline
from app.process.connection import while_connected
from app.uploads import Uploads, is_large_form, parse_images
from app.versions.serving import Serving

T = TypeVar("T")
# Parses a body, in one of the decoders' threads if that may take longer than a millisecond.
Parse: TypeAlias = Callable[[Request, Pipeline, bytes], Awaitable[T]]


@asynccontextmanager
async def received(request: Request, parse: Parse[T]) -> AsyncIterator[tuple[Serving, T]]:
    """Receive and parse the body, admit the request, and bound the time and memory that it takes.

    A request counts as in flight once its body has arrived. One deadline covers receiving and answering, because a
    timer costs as much as parsing the request. Both are cancelled when the client disconnects.

    Raises:
        ClientDisconnect: the client disconnected.
        Problem: the request is refused, or the deadline passed.
    """
    pipeline: Pipeline = request.app.state.pipeline
    uploads: Uploads = request.app.state.uploads
    client = client_of(request.scope)
    pipeline.check(client)
    seconds = pipeline.settings.timeout_seconds
    with pipeline.memory.reserve() as reservation, while_connected(request.scope):
        try:
            async with asyncio.timeout(seconds) as deadline:
                with timed(request, "receive"):
                    body = await uploads.read_body(request, pipeline.max_body_bytes, reservation, deadline)
                    parsed = await parse(request, pipeline, body)
                with pipeline.admit(client) as serving:
                    request.scope["served_by"] = serving.model
                    yield serving, parsed
        except TimeoutError:
            if "receive" not in request.scope["stages"]:
                detail = f"the body did not arrive within {seconds:g} s; send a smaller image"
                raise Problem("slow_upload", detail) from None
            raise Problem("timeout", f"the answer was not ready within {seconds:g} s; try again later") from None


def encoded_images(field: str, limit: int) -> Parse[list[bytes]]:
    """Return a parser of bodies that are one image, or a form with up to `limit` files named `field`."""

    async def parse(request: Request, pipeline: Pipeline, body: bytes) -> list[bytes]:
        content_type = request.headers.get("content-type", "")
        if is_large_form(content_type, body):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pipeline.decoders, parse_images, content_type, body, field, limit)
        return parse_images(content_type, body, field, limit)

    return parse


@contextmanager
def timed(request: Request, stage: str) -> Iterator[None]:
    """Record when a stage began and ended, unless it raises."""
    began = time.perf_counter()
    yield
    request.scope["stages"][stage] = began, time.perf_counter()
