"""Turns exceptions of a request into the service's errors."""

import logging

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from xtrace_server import errors
from xtrace_server.errors import ServiceError
from xtrace_server.http.requests import state_of
from xtrace_server.storage.database import StorageError

_log = logging.getLogger("xtrace")


def known_fault(request: Request, error: Exception) -> ServiceError | None:
    """Returns the service's error for an exception; None for a bug, or for damaged data."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestValidationError):
        return errors.InvalidRequest("a parameter of the request is missing or not valid")
    if isinstance(error, ClientDisconnect):
        return errors.MalformedRequest("the connection was closed before the body was complete")
    known = state_of(request).database.fault(error) if isinstance(error, StorageError) else None
    if known is not None:
        _log.error("the database refused: %s", known.code, exc_info=error)
    return known


def as_service_error(request: Request, error: Exception) -> ServiceError:
    """Returns the same or, for a bug, a `ServerFault`, and logs its cause."""
    known = known_fault(request, error)
    if known is None:
        request_id = request.state.request_id
        _log.exception("a request failed", exc_info=error, extra={"fields": {"request_id": request_id}})
        return errors.ServerFault(request_id)
    return known
