"""Denied requests, as the audit log has them."""

from fastapi import Request

from xtrace_core.wire import ORGANISATION_HEADER
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import PermissionDenied, Unauthenticated
from xtrace_server.http.requests import state_of
from xtrace_server.storage.audit import Event

_MAX_ORGANISATION_ID = 64


def record_denial(request: Request, error: PermissionDenied | Unauthenticated) -> None:
    """Remembers for the audit log that a request was denied, if it named an organisation."""
    caller = getattr(request.state, "caller", None)
    organisation_id = request.path_params.get("org") or request.headers.get(ORGANISATION_HEADER) or ""
    if not 0 < len(organisation_id) <= _MAX_ORGANISATION_ID:
        return
    route = getattr(request.scope.get("route"), "path", "")
    event = Event(
        action=f"denied.{error.code}",
        actor=caller.key.hash if isinstance(caller, ApiCaller) else error.key_hash or "unknown",
        subject=error.kb_id if isinstance(error, PermissionDenied) else "",
        detail=f"{request.method} {route}",
    )
    state_of(request).denials.add(organisation_id, event)
