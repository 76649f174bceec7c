"""Surrounds every request: its id, its deadline, its answer's headers, its log line and its metrics.

Every answer passes through here. Exceptions that are not yet answers become answers here.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xtrace_core.wire import PROBLEM_JSON
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.deadline import deadline
from xtrace_server.errors import DeadlineExceeded, Overloaded, ServerFault, ServiceError
from xtrace_server.figures import Figures
from xtrace_server.metrics import UNMATCHED, Metrics
from xtrace_server.settings import Settings

REQUEST_ID_HEADER: Final = "x-request-id"
SECURITY_HEADERS: Final = {
    # Answers are data: a browser must not guess another type, render, embed, store or share them.
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
CLIENT_LEFT: Final = "client_left"
"""Recorded in the log and the metrics instead of an error's code if there was no answer."""
_STRICT_TRANSPORT: Final = {"strict-transport-security": "max-age=31536000"}
_SEARCHES: Final = ("/v1/compute_hamming", "/v1/block/search")
"""The prefixes of search routes."""
_FOREIGN_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_log = logging.getLogger("xtrace.request")


Explain: TypeAlias = Callable[[MutableMapping[str, Any] | None, ServiceError], Response | None]
"""Returns the page for a failed request, whose ASGI scope may be incomplete; None if no page was requested."""


@dataclass(slots=True)
class _RequestState:
    """What is known about a running request."""

    request_id: str
    began: float
    received: int = 0
    sent: int = 0
    status: int = 0
    """0 until the answer begins."""


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, explain: Explain) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._explain = explain
        self._running = 0
        headers = SECURITY_HEADERS | (_STRICT_TRANSPORT if settings.tls_certificate else {})
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        progress = _RequestState(_request_id(scope), time.perf_counter())
        scope.setdefault("state", {})["request_id"] = progress.request_id
        counts = not is_ops(self._settings, scope)
        self._running += counts
        self._metrics.requests_in_flight.set(self._running)
        try:
            await self._run(scope, receive, self._sending(progress, send), progress, counts)
        finally:
            if (running := scope["state"].get("running")) is not None:
                running.leave()
            self._running -= counts
            self._metrics.requests_in_flight.set(self._running)
            self._report(scope, progress)

    async def _run(self, scope: Scope, receive: Receive, send: Send, progress: _RequestState, counts: bool) -> None:
        error: ServiceError
        try:
            if counts and self._running > self._settings.max_requests:
                raise Overloaded(
                    f"the server is already working on {self._settings.max_requests} requests (max_requests)"
                )
            await self._run_in_time(scope, receive, send, progress)
            return
        except _ClientLeft:
            scope.setdefault("state", {})["code"] = CLIENT_LEFT
            return
        except ServiceError as refused:
            error = refused
        except asyncio.CancelledError:
            # The server is stopping and has waited long enough. The request's progress is unknown, so there is no
            # answer.
            abort = scope.get("extensions", {}).get("xtrace.abort")
            if abort is not None:
                abort()
            raise
        except Exception:
            _log.exception("a request failed", extra={"fields": {"request_id": progress.request_id}})
            error = ServerFault(progress.request_id)
        if progress.status:
            # The answer has begun: only cutting it off can still show that it is incomplete.
            raise _CutOff
        scope.setdefault("state", {})["code"] = error.code
        shown = self._explained(scope, error)
        await (send_problem(send, error) if shown is None else shown(scope, receive, send))

    def _explained(self, scope: Scope, error: ServiceError) -> Response | None:
        """Returns the page for the error; a failure of the page itself must not hide the error."""
        try:
            return self._explain(scope, error)
        except Exception:
            _log.exception("the page of an error failed")
            return None

    async def _run_in_time(self, scope: Scope, receive: Receive, send: Send, progress: _RequestState) -> None:
        seconds = self._settings.request_timeout_s
        when_gone = scope.get("extensions", {}).get("xtrace.when_gone", lambda _: None)

        async def receive_in_time() -> Message:
            message = await receive()
            # The protocol checks that the body does not arrive too slowly.
            if not progress.status:
                until.restart(seconds)
                if not message.get("more_body"):
                    when_gone(until.leave)
            progress.received += len(message.get("body", b""))
            return message

        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                # From here on, the reader decides how long it takes.
                until.hold()
            await send(message)

        try:
            async with deadline(seconds) as until:
                if _has_no_body(scope):
                    when_gone(until.leave)
                await self._app(scope, receive_in_time, send_in_time)
        except TimeoutError:
            if not until.expired():
                raise
            raise (_ClientLeft if until.was_left else DeadlineExceeded(seconds)) from None
        finally:
            when_gone(None)

    def _sending(self, progress: _RequestState, send: Send) -> Send:
        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                progress.status = message["status"]
                headers = list(message.get("headers", []))
                given = {name.lower() for name, _ in headers}
                headers += [header for header in self._headers if header[0] not in given]
                headers.append((REQUEST_ID_HEADER.encode(), progress.request_id.encode()))
                message = {**message, "headers": headers}
            progress.sent += len(message.get("body", b""))
            await send(message)

        return send_complete

    def _report(self, scope: Scope, progress: _RequestState) -> None:
        seconds = time.perf_counter() - progress.began
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if route != UNMATCHED else "any"
        state: MutableMapping[str, Any] = scope.get("state", {})
        self._count(scope, route, seconds)
        self._metrics.requests.labels(route, method, str(progress.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        self._metrics.received_bytes.inc(progress.received)
        self._metrics.sent_bytes.inc(progress.sent)
        fields = {
            "request_id": progress.request_id,
            "method": method,
            "route": route,
            "status": progress.status,
            "seconds": round(seconds, 4),
            "bytes_in": progress.received,
            "bytes_out": progress.sent,
        }
        if trace_id := state.get("trace_id"):
            fields["trace_id"] = trace_id
        if code := state.get("code"):
            self._metrics.refusals.labels(code).inc()
            fields["code"] = code
        _log.info("request", extra={"fields": fields})

    def _count(self, scope: Scope, route: str, seconds: float) -> None:
        """Counts the request for the organisation of its API key, if it had one."""
        caller, app = scope["state"].get("caller"), scope.get("app")
        if isinstance(caller, ApiCaller) and app is not None:
            code = scope["state"].get("code")
            figures: Figures = app.state.server.figures
            figures.add_request(caller.organisation_id, seconds, code, is_search=route.startswith(_SEARCHES))


def is_ops(settings: Settings, scope: MutableMapping[str, Any]) -> bool:
    """Returns whether a request came to the second port."""
    server = scope.get("server")
    return settings.ops_port is not None and server is not None and bool(server[1] == settings.ops_port)


class _ClientLeft(Exception):
    """Ends a request without an answer, because nothing waits for it any longer."""


class _CutOff(Exception):
    """Ends a request whose answer cannot be completed: the connection is closed."""


async def send_problem(send: Send, error: ServiceError) -> None:
    """Sends the answer to a failed request."""
    body = error.body()
    headers = {"content-type": PROBLEM_JSON, "content-length": str(len(body)), **error.headers()}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _has_no_body(scope: Scope) -> bool:
    return not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _request_id(scope: Scope) -> str:
    """Returns the client's id for the request if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER.encode() and _FOREIGN_ID.fullmatch(value):
            return str(value.decode())
    return secrets.token_hex(8)
