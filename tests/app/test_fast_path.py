"""The fast path answers as FastAPI does, and refuses endpoints for which it could not."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Body, Cookie, Depends, Header, Query, Request

from app.fast_path import FastPath

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
