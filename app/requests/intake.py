"""Receives a request's body, admits the request, and bounds the time and memory that it takes."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from fastapi import Request

from app.access.client import client_of
from app.errors import Problem
from app.monitoring.stages import Stages
from app.pipeline import Pipeline
from app.process.connection import STOP
from app.process.stop import Stop
from app.requests.uploads import Uploads, is_large_form, parse_images
from app.versions.serving import Serving

T = TypeVar("T")
# Parses a body, in one of the decoders' threads if that may take longer than a millisecond.
Parse: TypeAlias = Callable[[Request, Pipeline, bytes], Awaitable[T]]


class Received(Generic[T]):
    """A request with its body received and parsed, admitted to a version: `async with … as (serving, parsed)`.

    It counts as in flight once its body has arrived. One deadline covers receiving and answering. Both end when it
    passes, when the client disconnects, or when other uploads need the memory. One object does all of this, because
    every request needs it: context managers and a timer for each would cost a tenth of a request's time.

    Raises:
        ClientDisconnect: the client disconnected.
        Problem: the request is refused, or the deadline passed.
    """

    def __init__(self, request: Request, parse: Parse[T]) -> None:
        self._request, self._parse = request, parse
        self._pipeline: Pipeline = request.app.state.pipeline
        self._stages: Stages = request.scope["stages"]
        self._serving: Serving | None = None  # once admitted

    async def __aenter__(self) -> tuple[Serving, T]:
        """Receive, parse and admit."""
        request, pipeline, began = self._request, self._pipeline, time.perf_counter()
        uploads: Uploads = request.app.state.uploads
        self._client = client_of(request.scope)
        pipeline.check(self._client)
        self._reservation, self._stop = pipeline.memory.reserve(), Stop()
        request.scope[STOP] = self._stop
        pipeline.deadlines.add(self._expire)
        try:
            body = await uploads.read_body(request, pipeline.max_body_bytes, self._reservation, self._stop)
            parsed = await self._parse(request, pipeline, body)
            self._stages["receive"] = began, time.perf_counter()
            self._serving = pipeline.admit(self._client)
        except BaseException as error:
            self._end(error)
            raise
        request.scope["served_by"] = self._serving.model
        return self._serving, parsed

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Release what the request holds."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._serving:
            self._pipeline.release(self._serving, self._client)
        self._pipeline.deadlines.remove(self._expire)
        del self._request.scope[STOP]
        self._reservation.release()
        self._stop.finish(error)

    def _expire(self) -> None:
        seconds = self._pipeline.deadlines.seconds
        if "receive" not in self._stages:
            problem = "slow_upload", f"the body did not arrive within {seconds:g} s; send a smaller image"
        elif "decode" not in self._stages:
            detail = f"the image was not decoded within {seconds:g} s, because others were"
            problem = "overloaded", f"{detail}; try again, with fewer or smaller images"
        else:
            problem = "timeout", f"the answer was not ready within {seconds:g} s; try again later"
        self._stop(partial(Problem, *problem))


def encoded_images(field: str, limit: int) -> Parse[list[bytes]]:
    """Return a parser of bodies that are one image, or a form with up to `limit` files named `field`."""

    async def parse(request: Request, pipeline: Pipeline, body: bytes) -> list[bytes]:
        content_type = dict(request.scope["headers"]).get(b"content-type", b"").decode("latin-1")
        if is_large_form(content_type, body):
            return await pipeline.decoders.run(parse_images, content_type, body, field, limit)
        return parse_images(content_type, body, field, limit)

    return parse
