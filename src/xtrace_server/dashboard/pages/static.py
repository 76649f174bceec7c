"""The files that pages load."""

from fastapi import APIRouter, Response

from xtrace_server.auth.guard import VISITOR, requires
from xtrace_server.dashboard import assets
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.errors import NotFound

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_FOR_EVER = "public, max-age=31536000, immutable"


@router.get("/static/{version}/{name}")
@requires(VISITOR)
async def static(version: str, name: str) -> Response:
    """A file whose URL contains its hash."""
    if name not in assets.MEDIA_TYPES or version != assets.version(name):
        raise NotFound("the dashboard does not have this file: load the page again")
    return Response(assets.read(name), media_type=assets.MEDIA_TYPES[name], headers={"cache-control": _FOR_EVER})
