"""The fast path answers as FastAPI does, and refuses endpoints for which it could not."""

import asyncio
from typing import Annotated

import pytest
from fastapi import APIRouter, Body, Cookie, Depends, Header, Query, Request
from fastapi.responses import Response

from app.requests.fast_path import FastPath

HIDDEN_INPUTS = {
    "a header": Annotated[str, Header()],
    "an optional header": Annotated[str | None, Header()],
    "a cookie": Annotated[str | None, Cookie()],
    "a body": Annotated[dict[str, int] | None, Body()],
    "a dependency": Annotated[None, Depends(lambda: None)],
    "a required query parameter": Annotated[int, Query()],
}


def route_with(annotation: object, is_required: bool) -> APIRouter:
    async def endpoint(request: Request, value=None):
        return None

    endpoint.__annotations__["value"] = annotation
    endpoint.__defaults__ = None if is_required else (None,)
    router = APIRouter()
    router.add_api_route("/thing", endpoint, methods=["POST"])
    return router


@pytest.mark.parametrize("kind", HIDDEN_INPUTS)
def test_an_endpoint_that_needs_more_than_the_request_is_refused_at_start(kind):
    with pytest.raises(TypeError, match="/thing takes headers, cookies"):
        FastPath(None, route_with(HIDDEN_INPUTS[kind], is_required="required" in kind).routes)


def test_an_endpoint_with_optional_query_parameters_is_taken():
    FastPath(None, route_with(Annotated[int | None, Query()], is_required=False).routes)


def test_a_routes_template_is_not_its_address(client):
    """Taken literally, it would reach the endpoint without the parameter."""
    response = client.get("/model/report/%7Bname%7D")
    assert response.status_code == 404 and response.json()["code"] == "not_found"


def test_requests_with_and_without_a_query_get_the_same(client):
    assert client.get("/model").json() == client.get("/model?x=1").json()
    assert client.get("/model/card").text == client.get("/model/card?x=1").text


GET_PATHS = [
    "/",
    "/docs",
    "/openapi.json",
    "/health",
    "/health/ready",
    "/health/live",
    "/metrics",
    "/model",
    "/model/versions",
    "/model/drift",
    "/model/card",
    "/model/report/classes.png",
    "/page/js/page.js",
]
POST_PATHS = ["/predict", "/predict/batch", "/explain"]
VARYING = {"x-request-id", "server-timing", "content-length"}


def test_these_are_all_paths(client):
    documented = client.get("/openapi.json").json()["paths"]
    named = {path.replace("classes.png", "{name}") for path in GET_PATHS + POST_PATHS}
    assert documented.keys() <= named


@pytest.mark.parametrize("query", ["", "?x=1"], ids=["without a query", "with a query"])
@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_answered_as_get_without_a_body(client, path, query):
    head, get = client.head(path + query), client.get(path + query)
    assert (head.status_code, head.content) == (200, b"") and get.content
    assert head.headers.keys() == get.headers.keys() and int(head.headers["content-length"]) > 0
    assert all(head.headers[name] == value for name, value in get.headers.items() if name not in VARYING)


def test_head_of_a_post_route_or_of_nothing_is_refused(client):
    assert client.head("/predict").status_code == 405 and client.head("/nope").status_code == 404


@pytest.mark.parametrize("path", GET_PATHS + POST_PATHS)
def test_options_name_the_methods_that_the_path_supports(client, path):
    response = client.options(path)
    expected = "OPTIONS, POST" if path in POST_PATHS else "GET, HEAD, OPTIONS"
    assert (response.status_code, response.content, response.headers["allow"]) == (204, b"", expected)
    wrong = client.delete(path)
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == expected


def test_options_of_nothing_are_not_found(client):
    assert client.options("/nope").json()["code"] == "not_found"


@pytest.mark.parametrize("path", GET_PATHS[1:] + POST_PATHS)
def test_a_slash_at_the_end_is_a_404_that_names_the_path_and_no_redirect(client, path):
    for method in ("GET", "POST", "HEAD"):
        response = client.request(method, f"{path}/?x=1", headers={"Host": "elsewhere.example"}, follow_redirects=False)
        assert response.status_code in (404, 405) and "location" not in response.headers
    assert f"ask for '{path}', without the slash" in client.get(f"{path}/").json()["detail"]


def test_head_leaves_the_method_and_route_for_the_log():
    async def endpoint(request: Request):
        return Response(b"content")

    async def discard(message):
        pass

    router = APIRouter()
    router.add_api_route("/thing", endpoint, methods=["GET"])
    scope = {"type": "http", "method": "HEAD", "path": "/thing", "query_string": b"", "headers": []}
    asyncio.run(FastPath(None, router.routes)(scope, discard, discard))
    assert (scope["method"], scope["route"].path) == ("HEAD", "/thing")
