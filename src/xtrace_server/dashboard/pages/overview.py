"""The overview: what the organisation has and how the server does."""

from typing import Any

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of
from xtrace_server.dashboard.rendering import page, signed_in_page
from xtrace_server.http.requests import state_of
from xtrace_server.operations import health, organisations

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
@requires(SIGNED_IN)
async def show(request: Request) -> Response:
    """The overview."""
    return await signed_in_page(request, "overview.html", **await _figures(request))


@router.get("/overview/live")
@requires(SIGNED_IN)
async def live(request: Request) -> Response:
    """The part of the overview that changes by itself."""
    return page(request, "overview-live.html", **await _figures(request))


async def _figures(request: Request) -> dict[str, Any]:
    state, caller = state_of(request), caller_of(request)
    await state.guard.request_counts.write()
    return {
        "shown": await organisations.get_own(state, caller.actor),
        "health": await health.check(state),
    }
