"""Every route of the dashboard."""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from xtrace_server.dashboard.pages import (
    audit,
    contexts,
    keys,
    knowledge_bases,
    operator,
    operator_organisation,
    overview,
    settings,
    sign_in,
    static,
)

_PARTS = (static, sign_in, overview, knowledge_bases, keys, contexts, audit, settings, operator, operator_organisation)


def all_routes() -> list[APIRoute]:
    """Returns every route of the dashboard."""
    return [route for part in _PARTS for route in part.router.routes if isinstance(route, APIRoute)]


def routers() -> list[APIRouter]:
    """Returns the routers of the dashboard, one for each part."""
    return [part.router for part in _PARTS]
