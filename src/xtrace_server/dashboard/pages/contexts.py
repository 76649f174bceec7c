"""The public parts of execution contexts, what this server can see, and how to get started."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of
from xtrace_server.dashboard.rendering import signed_in_page
from xtrace_server.http.requests import state_of
from xtrace_server.operations import exposure, knowledge_bases, organisations, usage
from xtrace_server.operations.exposure import PAGE_CONTEXTS

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/contexts")
@requires(SIGNED_IN)
async def contexts(request: Request) -> Response:
    """The contexts that are stored here."""
    state, actor = state_of(request), caller_of(request).actor
    found = await exposure.list_page(state, actor, parameters.start(request))
    return await signed_in_page(
        request,
        "contexts.html",
        strength=await exposure.strength(state, actor),
        found=found.rows,
        pages=parameters.turning(request, found, [one.id for one in found.rows], PAGE_CONTEXTS),
    )


@router.get("/visible")
@requires(SIGNED_IN)
async def visible(request: Request) -> Response:
    """Counts what this server can see, and says what to do about it."""
    state, actor = state_of(request), caller_of(request).actor
    return await signed_in_page(
        request,
        "visible.html",
        shown=await organisations.get_own(state, actor),
        exposure=await exposure.exposure(state, actor),
        usage=await usage.last_day(state, actor),
        counted_at=datetime.now(UTC).isoformat(),
    )


@router.get("/get-started")
@requires(SIGNED_IN)
async def get_started(request: Request) -> Response:
    """Commands and code with the organisation's ids."""
    state, actor = state_of(request), caller_of(request).actor
    found = await knowledge_bases.list_page(state, actor, "", "updated_at", descending=True)
    there = [one.kb for one in found.rows if one.kb.deleted_at is None]
    chosen = next((kb for kb in there if kb.id == parameters.text(request, "kb")), there[0] if there else None)
    is_https = state.settings.dashboard_behind_tls or state.settings.tls_certificate is not None
    return await signed_in_page(
        request,
        "get-started.html",
        knowledge_bases=there,
        chosen=chosen,
        address=f"{'https' if is_https else 'http'}://{request.headers.get('host', '')[:100]}",
        has_own_port=state.settings.dashboard_port is not None,
    )
