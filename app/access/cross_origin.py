"""Cross-origin resource sharing: which pages of other origins may call the service (Fetch standard, 3.2)."""

from collections.abc import Collection

from starlette.responses import Response
from starlette.types import Message, Send

METHODS = "GET, HEAD, POST, OPTIONS"
REQUEST_HEADERS = "Authorization, X-API-Key, Content-Type, X-Request-ID"
EXPOSED_HEADERS = b"X-Request-ID, Retry-After, Server-Timing"
MAX_AGE_SECONDS = 7_200  # browsers remember the answer to a preflight no longer


class CrossOrigin:
    """Answers preflights and adds the headers that let a page read the answer."""

    def __init__(self, origins: Collection[str]) -> None:
        """`origins` are written as browsers do; {"*"} for all."""
        self._origins, self._any = origins, "*" in origins

    def allows(self, origin: bytes | None) -> bool:
        """True if pages of this origin may call the service."""
        return origin is not None and (self._any or origin.decode("latin-1") in self._origins)

    def preflight(self) -> Response:
        """Answer a browser that asks before it sends the request."""
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }
        return Response(status_code=204, headers=headers)

    def extended(self, send: Send, origin: bytes | None) -> Send:
        """Return a `send` that adds the headers to every answer, errors included."""
        added = [] if self._any else [(b"vary", b"Origin")]  # caches must not give one origin's answer to another
        if self.allows(origin):
            allowed = b"*" if self._any or origin is None else origin
            added += [
                (b"access-control-allow-origin", allowed),
                (b"access-control-expose-headers", EXPOSED_HEADERS),
            ]

        async def send_extended(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        return send_extended
