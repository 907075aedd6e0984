"""Fast path: calls the endpoint directly when the request has no query string.

FastAPI's parameter parsing costs more than decoding a small image.
"""

from collections.abc import Iterable

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import answer_error


class FastPath:
    """Calls endpoints directly for requests without parameters, and passes all others to FastAPI."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        """Collect the routes without path parameters.

        Raises:
            TypeError: an endpoint takes more than the request and optional query parameters, so a direct call would
                fail or ignore part of the request.
        """
        self.app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, APIRoute) and not route.param_convertors
            for method in route.methods or ()
        }
        for route in self._routes.values():
            _check_parameters(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it to FastAPI."""
        route = None
        if scope["type"] == "http" and not scope["query_string"]:
            route = self._routes.get((scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))))
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"], request = route, Request(scope, receive)
        try:
            response: Response = await route.endpoint(request)
        except Exception as error:  # noqa: BLE001 FastAPI's handlers are bypassed here
            response = await answer_error(request, error)
        await response(scope, receive, send)


def _check_parameters(route: APIRoute) -> None:
    parameters = route.dependant
    required = [parameter for parameter in parameters.query_params if parameter.field_info.is_required()]
    others = [*parameters.header_params, *parameters.cookie_params, *parameters.body_params]
    if required or others or parameters.dependencies:
        raise TypeError(
            f"{route.path} takes headers, cookies, a body, dependencies or required query parameters; "
            "read them from the request, or leave this route out of the fast path"
        )
