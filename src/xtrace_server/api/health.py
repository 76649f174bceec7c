"""Probes and metrics for the operator."""

import hmac
from ipaddress import ip_address

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import PUBLIC, requires
from xtrace_server.errors import NotFound, Unauthenticated, Unavailable
from xtrace_server.http.answers import json_answer
from xtrace_server.http.described import describes
from xtrace_server.http.requests import StateDep
from xtrace_server.metrics import CONTENT_TYPE
from xtrace_server.settings import Settings

router = APIRouter()


@router.get("/livez")
@requires(PUBLIC)
@describes(dict[str, str])
async def live() -> Response:
    """Succeeds while the process runs."""
    return json_answer({"status": "ok"})


@router.get("/readyz")
@requires(PUBLIC)
@describes(dict[str, str])
async def ready(request: Request, state: StateDep) -> Response:
    """Succeeds while the database answers and the server is not about to stop; 503 otherwise."""
    if request.app.state.draining:
        raise Unavailable("the server is about to stop (drain_s)")
    await state.database.check_ready()
    return json_answer({"status": "ok"})


@router.get("/metrics")
@requires(PUBLIC)
@describes(None, media_types=("text/plain",), statuses=(401, 404))
async def metrics(request: Request, state: StateDep) -> Response:
    """Returns the server's metrics for Prometheus; the setting `metrics` decides who may read them."""
    _check_may_read_metrics(request, state.settings)
    return Response(state.metrics.text(), media_type=CONTENT_TYPE)


def _check_may_read_metrics(request: Request, settings: Settings) -> None:
    if settings.metrics == "token" and settings.metrics_token is not None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {settings.metrics_token}".encode()):
            raise Unauthenticated("the bearer token is missing, or differs from the setting metrics_token")
    elif settings.metrics == "off" or request.client is None or not ip_address(request.client.host).is_loopback:
        raise NotFound("unknown route /metrics: see the setting metrics")
