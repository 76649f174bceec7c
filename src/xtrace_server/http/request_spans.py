"""Creates a span for every request, with its route but never its path."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xtrace_server.metrics import UNMATCHED
from xtrace_server.traces import Traces, trace_id


class RequestSpans:
    """ASGI middleware around everything else. It is installed only if tracing is enabled."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._traces.request(_traceparent(scope)) as span:
            state = scope.setdefault("state", {})
            state["trace_id"] = trace_id(span)  # for the log
            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", UNMATCHED)
                # A client may send any word as a method.
                method = scope["method"] if route != UNMATCHED else "_OTHER"
                span.update_name(f"{method} {route}")
                attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                if code := state.get("code"):
                    attributes["error.type"] = code
                span.set_attributes(attributes)


def _traceparent(scope: Scope) -> str | None:
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return found[0].decode("latin-1") if len(found) == 1 else None
