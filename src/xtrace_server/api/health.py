"""Whether the server runs, and whether it can serve."""

from fastapi import APIRouter, Response

from xtrace_server.api.answers import json_answer
from xtrace_server.api.requests import ServiceDep
from xtrace_server.auth.guard import PUBLIC, requires
from xtrace_server.storage.database import is_ready

router = APIRouter()


@router.get("/livez")
@requires(PUBLIC)
async def live() -> Response:
    """The process answers."""
    return json_answer({"status": "ok"})


@router.get("/readyz")
@requires(PUBLIC)
async def ready(service: ServiceDep) -> Response:
    """The database answers too; 503 otherwise."""
    async with service.database.read() as connection:
        await is_ready(connection)
    return json_answer({"status": "ok"})
