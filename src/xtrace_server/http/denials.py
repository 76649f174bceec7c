"""Records denied requests for the audit log."""

from fastapi import Request

from xtrace_core.wire import ORGANISATION_HEADER
from xtrace_server.auth.guard import ApiCaller, Plane, rule_of
from xtrace_server.errors import PermissionDenied, Unauthenticated
from xtrace_server.http.requests import state_of
from xtrace_server.storage.audit import Event
from xtrace_server.storage.database import THE_SERVICE

_MAX_ORGANISATION_ID = 64


def record_denial(request: Request, error: PermissionDenied | Unauthenticated) -> None:
    """Records a denied request for the audit log if it named an organisation or was for the operator."""
    caller = getattr(request.state, "caller", None)
    route = request.scope["route"]
    if rule_of(route.endpoint).plane is Plane.OPERATOR:
        organisation_id = THE_SERVICE
    else:
        organisation_id = request.path_params.get("org") or request.headers.get(ORGANISATION_HEADER) or ""
        if not 0 < len(organisation_id) <= _MAX_ORGANISATION_ID:
            return
    event = Event(
        action=f"denied.{error.code}",
        actor=caller.key.hash if isinstance(caller, ApiCaller) else error.key_hash or "unknown",
        subject=error.kb_id if isinstance(error, PermissionDenied) else "",
        detail=f"{request.method} {route.path}",
    )
    state_of(request).denials.add(organisation_id, event)
