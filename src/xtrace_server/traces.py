"""OpenTelemetry traces: where the time of a request went. Only this module uses OpenTelemetry (extra `otel`).

A span has a name, times, and attributes from a fixed list. It never contains an id, a name, a filter, a header or
anything else from a client, not even an organisation's id: traces usually go to third parties. Exceptions are not
recorded, because their messages may quote data.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Attributes: TypeAlias = Mapping[str, str | int]

_CLOSE_S: Final = 5.0
"""The maximum time for which a stopping server waits for the collector to accept the last spans."""


def is_installed() -> bool:
    """Returns whether the extra `otel` is installed."""
    try:
        return all(find_spec(f"opentelemetry.{part}") for part in ("sdk", "exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


class Traces:
    """The traces of one server, sent to a collector in the background; spans that it does not accept in time are
    dropped."""

    def __init__(self, endpoint: str, version: str, *, ratio: float = 1.0, follows: bool = False) -> None:
        """`endpoint` is the collector's address for OTLP over HTTP; `ratio` is the fraction of traced requests.

        With `follows`, the header `traceparent` decides to which trace a request belongs, and whether it is traced.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

        resource = Resource.create({"service.name": "xtrace", "service.version": version})
        self._provider = TracerProvider(ParentBasedTraceIdRatio(ratio), resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_CLOSE_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("xtrace", version)
        self._follows = follows

    @contextmanager
    def request(self, traceparent: str | None) -> Iterator["Span"]:
        """Records the span of a request; spans that begin within the block, also in tasks, belong to it."""
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = Context()
        if self._follows and traceparent is not None:
            # Without `tracestate`, which may contain anything and would be passed on.
            parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, parent)
        span = self._tracer.start_span("request", parent, trace.SpanKind.SERVER)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield span

    @contextmanager
    def span(self, name: str, **attributes: str | int) -> Iterator["Span"]:
        """Records a span of the current request. It may end in a different task than it began in."""
        span = self.begin(name, attributes)
        try:
            yield span
        finally:
            span.end()

    def begin(self, name: str, attributes: Attributes) -> "Span":
        """Returns a span of the current request; call its `end`."""
        return self._tracer.start_span(name, attributes=attributes)

    async def close(self) -> None:
        """Sends the remaining spans."""
        await asyncio.to_thread(self._provider.shutdown)


def trace_id(span: "Span") -> str:
    """Returns the trace's id, as in `traceparent`."""
    return f"{span.get_span_context().trace_id:032x}"
