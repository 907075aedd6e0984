"""Middleware that decides who gets in, before a request's body is read: host, preflight, key, rate.

It is installed only if a setting asks for it.
"""

import math

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.cross_origin import CrossOrigin
from app.access.key_file import Key
from app.access.keys import Keys
from app.access.rates import Rates
from app.errors import Problem, answer_error
from app.settings import Settings

# Orchestrators ask with an address as the host, and without a key.
PROBES = frozenset({"/health", "/health/ready", "/health/live", "/ping"})
PROBES_BELOW = "/v2/health/"
# The page and its files load without a key and ask for one.
PAGE, PAGE_BELOW = "/", "/page/"
PARTS = {"metrics": ("/metrics",), "docs": ("/docs", "/openapi.json"), "drift": ("/model/drift",)}
BEARER = b"bearer "
SEND_IT = "send one as Authorization: Bearer KEY or X-API-Key: KEY; the operator of the service gives out keys"
CHALLENGE = 'Bearer realm="cifar10"'


class Gate:
    """Lets in requests for the service's hosts, with a key where one is needed and within the key's rate.

    Stores the key's name in `scope["key"]`. An endpoint that answers several images stores their number in
    `scope["images"]`.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys | None) -> None:
        self.app, self._keys, self._hosts = app, keys, settings.hosts
        self._cross_origin = CrossOrigin(settings.origins) if settings.origins else None
        self._rates = Rates(settings.metrics_directory) if keys else None
        self._keyless = keyless_paths(settings)

    @staticmethod
    def is_needed(settings: Settings, keys: Keys | None) -> bool:
        """False if everybody may send anything from anywhere."""
        return bool(keys or settings.hosts or settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        cross_origin = self._cross_origin
        if cross_origin:
            send = cross_origin.extended(send, origin)
        try:
            self._check_host(path, headers.get(b"host", b""))
            is_preflight = scope["method"] == "OPTIONS" and origin and b"access-control-request-method" in headers
            if is_preflight and cross_origin and cross_origin.allows(origin):
                await cross_origin.preflight()(scope, receive, send)
                return
            key = None if is_preflight or self._is_keyless(path) else self._check_key(scope, headers)
        except Problem as problem:
            response = await answer_error(Request(scope, receive), problem)
            await response(scope, receive, send)
            return
        if key is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            if key.rate and self._rates and (images := scope.get("images", 1)) > 1:
                self._rates.charge(key, images - 1)

    def _is_keyless(self, path: str) -> bool:
        return path in self._keyless or path.startswith((PAGE_BELOW, PROBES_BELOW))

    def _check_host(self, path: str, host: bytes) -> None:
        if not self._hosts or path in PROBES or path.startswith(PROBES_BELOW):
            return
        name = host.decode("latin-1").lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name in self._hosts or any(f"*.{parent}" in self._hosts for parent in _parents(name)):
            return
        raise Problem(
            "unknown_host",
            f"the Host header is {name[:80]!r}, which is not one of the service's names; use its address as published, "
            "or let its operator add this name to CIFAR10_ALLOWED_HOSTS",
        )

    def _check_key(self, scope: Scope, headers: dict[bytes, bytes]) -> Key | None:
        """Find the request's key and take one image at its rate; None if the service needs no keys."""
        if self._keys is None or self._rates is None:
            return None
        sent = [key for key in (_bearer(headers.get(b"authorization", b"")), headers.get(b"x-api-key")) if key]
        if not sent:
            raise Problem("key_required", f"this address needs a key; {SEND_IT}", {"WWW-Authenticate": CHALLENGE})
        key = next(filter(None, map(self._keys.find, sent)), None)
        if key is None:
            challenge = f'{CHALLENGE}, error="invalid_token"'
            raise Problem("key_unknown", f"this key is not known here; {SEND_IT}", {"WWW-Authenticate": challenge})
        scope["key"] = key.name
        if seconds := self._rates.take(key):
            wait = math.ceil(seconds)
            raise Problem(
                "rate_exceeded",
                f"the key {key.name!r} may send {key.rate:g} images a second and has sent more; "
                f"try again in {wait} s, or ask the operator for a higher rate",
                {"Retry-After": str(wait)},
            )
        return key


def keyless_paths(settings: Settings) -> frozenset[str]:
    """Return the paths that need no key; those below PAGE_BELOW and PROBES_BELOW need none either."""
    return PROBES.union({PAGE}, *(PARTS[part] for part in settings.public_parts))


def _bearer(authorization: bytes) -> bytes:
    return authorization[len(BEARER) :].strip() if authorization[: len(BEARER)].lower() == BEARER else b""


def _parents(name: str) -> list[str]:
    """Return the domains that a host name is in: a.b.c is in b.c and c."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]
