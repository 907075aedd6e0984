"""Fast path: calls the endpoint directly when the request has no query string, and answers HEAD and OPTIONS.

FastAPI's parameter parsing costs more than decoding a small image, and its routes know neither method.
"""

from collections.abc import Iterable

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import allowed_methods, answer_error


class FastPath:
    """Calls endpoints directly for requests without parameters, and passes all others to FastAPI."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], others: Iterable[BaseRoute] = ()) -> None:
        """Collect the routes; `others` are answered by `app`.

        Raises:
            TypeError: an endpoint takes more than the request and optional query parameters, so a direct call would
                fail or ignore part of the request.
        """
        self.app = app
        self._all_routes = [*routes, *others]
        self._routes = {
            (method, route.path): route
            for route in self._all_routes
            if isinstance(route, APIRoute) and not route.param_convertors
            for method in route.methods or ()
        }
        self._templates = [route for route in routes if isinstance(route, APIRoute) and route.param_convertors]
        for route in (*self._routes.values(), *self._templates):
            _check_parameters(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it to FastAPI."""
        method = scope.get("method")
        if method == "HEAD":
            await self._answer_head(scope, receive, send)
            return
        if method == "OPTIONS" and (methods := self._methods(scope)):
            await Response(status_code=204, headers={"Allow": allowed_methods(methods)})(scope, receive, send)
            return
        route = None
        if scope["type"] == "http" and not scope["query_string"]:
            route = self._routes.get((scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))))
            route = route or self._matching_template(scope)
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"], request = route, Request(scope, receive)
        try:
            response: Response = await route.endpoint(request)
        except Exception as error:  # noqa: BLE001 FastAPI's handlers are bypassed here
            response = await answer_error(request, error)
        await response(scope, receive, send)

    def _matching_template(self, scope: Scope) -> APIRoute | None:
        """Find the route with parameters in its path, and store these in the scope."""
        for route in self._templates:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                return route
        return None

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as GET does, without the body."""

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        asked = {**scope, "method": "GET"}
        await self(asked, receive, send_without_body)
        scope["route"], scope["problem"] = asked.get("route"), asked.get("problem")  # for the log and traces

    def _methods(self, scope: Scope) -> set[str]:
        """Return the methods of the routes with the request's path; a mount holds files."""
        matching = [route for route in self._all_routes if route.matches({**scope})[0] is not Match.NONE]
        methods = [("GET",) if isinstance(route, Mount) else getattr(route, "methods", None) for route in matching]
        return {method for each in methods for method in each or ()}


def _check_parameters(route: APIRoute) -> None:
    parameters = route.dependant
    required = [parameter for parameter in parameters.query_params if parameter.field_info.is_required()]
    others = [*parameters.path_params, *parameters.header_params, *parameters.cookie_params, *parameters.body_params]
    if required or others or parameters.dependencies:
        raise TypeError(
            f"{route.path} takes headers, cookies, a body, dependencies, path or required query parameters; "
            "read them from the request, or leave this route out of the fast path"
        )
