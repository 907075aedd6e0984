"""The interfaces of other model servers, so that their clients work unchanged; docs/clients.md describes them."""

from collections.abc import Set

from fastapi import APIRouter
from fastapi.routing import APIRoute

from app.protocols import open_inference, sagemaker, tensorflow

ROUTERS = {"v1": tensorflow.router, "v2": open_inference.router, "sagemaker": sagemaker.router}


def routers(names: Set[str]) -> list[APIRouter]:
    """Return the routes of some protocols."""
    return [router for name, router in ROUTERS.items() if name in names]


def first_segments(names: Set[str]) -> frozenset[str]:
    """Return the first parts of these protocols' paths, below which errors are short."""
    routes = [route for router in routers(names) for route in router.routes]
    return frozenset(route.path.split("/")[1] for route in routes if isinstance(route, APIRoute))
