"""The application: its routes, its guard, and the one form of all errors."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from xtrace_core.schemes.prepared import prepared_factors
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_core.wire import PROBLEM_JSON
from xtrace_server import errors
from xtrace_server.api import (
    audit,
    blocks,
    chunks,
    contexts,
    health,
    keys,
    knowledge_bases,
    local_index,
    metadata,
    openapi,
    operator,
    organisation,
    search,
    shared_indexes,
)
from xtrace_server.auth.denials import Denials
from xtrace_server.auth.guard import Guard, rule_of
from xtrace_server.auth.sessions import Sessions
from xtrace_server.dashboard import routes as dashboard
from xtrace_server.dashboard.failures import error_page, explained, is_for_reader
from xtrace_server.errors import PermissionDenied, ServiceError, Unauthenticated
from xtrace_server.figures import Figures
from xtrace_server.http.denials import record_denial
from xtrace_server.http.envelope import Envelope
from xtrace_server.http.faults import known_fault
from xtrace_server.http.requests import CHECKS, state_of
from xtrace_server.limits.in_flight import PARTS, InFlight
from xtrace_server.limits.rate_limit import RateLimit
from xtrace_server.limits.rate_store import RateStore
from xtrace_server.limits.rates import Rates
from xtrace_server.limits.request_counts import RequestCounts
from xtrace_server.limits.shared_rates import SharedRates
from xtrace_server.limits.sign_ins import SignIns
from xtrace_server.loop_watch import watched
from xtrace_server.metrics import Metrics
from xtrace_server.metrics_board import MetricsPlace
from xtrace_server.public_parts import Weaknesses
from xtrace_server.schemes import load_schemes
from xtrace_server.search.blocks import BlockSearches
from xtrace_server.search.engine import SearchEngine
from xtrace_server.search.interface import Scanner
from xtrace_server.search.scanners import body_holder_of, scanner_of
from xtrace_server.settings import Settings
from xtrace_server.state import ServerState
from xtrace_server.storage.ballast import Ballast
from xtrace_server.storage.clearing import Clearing
from xtrace_server.storage.database import Database, StorageError, open_database
from xtrace_server.traces import Traces

_log = logging.getLogger("xtrace")

_Handler = Callable[[Request, Exception], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Counts:
    """What all workers of a server count together. Sign-ins are separate, so that their addresses do not evict keys."""

    keys: SharedRates = field(default_factory=SharedRates)
    sign_ins: SharedRates = field(default_factory=SharedRates)


@dataclass(frozen=True, slots=True)
class Common:
    """What a worker shares with the other workers of its server."""

    place: MetricsPlace
    counts: Counts
    beat: Callable[[], None]
    """Reports that the worker's event loop runs."""


def create_app(settings: Settings, common: Common | None = None) -> FastAPI:
    """Returns the application, which opens its database at start; `common` is what a worker shares with others.

    Raises `LookupError` for a route that does not declare its rule and description, and `SchemeUnusable`.
    """
    metrics = Metrics(common.place if common else None)
    traces = _traces(settings)
    schemes = load_schemes(settings.insecure_schemes or ())
    app = FastAPI(
        title="XTrace",
        lifespan=_lifespan(settings, metrics, schemes, traces, common.counts if common else Counts()),
        dependencies=[Depends(check) for check in CHECKS],
        openapi_url=None,
        redirect_slashes=False,
    )
    for route in all_routes():
        rule_of(route.endpoint)
    app.state.draining = False
    app.state.openapi = openapi.document(all_routes(), version("xtracedb"))
    for router in _routers():
        app.include_router(router)
    if settings.dashboard:
        for route in dashboard.all_routes():
            rule_of(route.endpoint)
        for router in dashboard.routers():
            app.include_router(router)
        app.state.pages = [route.path_regex for route in dashboard.all_routes() if "GET" in (route.methods or ())]
    _handle_errors(app)
    app.add_middleware(Envelope, settings=settings, metrics=metrics, explain=partial(explained, settings))
    if traces is not None:
        from xtrace_server.http.request_spans import RequestSpans

        app.add_middleware(RequestSpans, traces=traces)
    return app


def all_routes() -> list[APIRoute]:
    """Returns every route of the service."""
    return [route for router in _routers() for route in router.routes if isinstance(route, APIRoute)]


def _routers() -> list[APIRouter]:
    # The data plane's routes come first, because a request is compared with the routes in order.
    of_data = (search, metadata, chunks, blocks, local_index, shared_indexes, contexts)
    parts = (*of_data, knowledge_bases, keys, health, openapi, operator, organisation, audit)
    return [part.router for part in parts]


def answer_to(request: Request, error: ServiceError) -> Response:
    """Returns the answer to a failed request: a page of the dashboard for a browser, else problem JSON."""
    if is_for_reader(state_of(request).settings, request.scope):
        return error_page(request, error)
    request.state.code = error.code
    return Response(error.body(), error.status, error.headers(), media_type=PROBLEM_JSON)


def _lifespan(
    settings: Settings,
    metrics: Metrics,
    schemes: SchemeRegistry,
    traces: Traces | None,
    counts: Counts,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_database(
            settings.resolved_database_url,
            settings.data,
            metrics=metrics,
            may_migrate=False,
            slow_statement_s=settings.slow_statement_s,
            options=settings.database_options,
            traces=traces,
        ) as database:
            scanner = scanner_of(settings)
            engine = _engine(database, scanner, settings, metrics, traces)
            await engine.start()
            searches = BlockSearches(engine, body_holder_of(settings, scanner), database, settings, metrics)
            store = RateStore(settings.rate_store, metrics) if settings.rate_store else None
            rate_limit = RateLimit(settings.rate_limit, Rates(counts.keys, store))
            guard, denials = Guard(database, rate_limit, RequestCounts(database, store)), Denials(database)
            sessions, figures = Sessions(database, settings, rate_limit), Figures(database)
            ballast = Ballast(settings.data, 0 if settings.database_url else settings.ballast_bytes)
            clearing = Clearing(database, ballast, engine.forget, searches.tidy)
            in_flight = InFlight(settings.max_requests_each, settings.request_memory_bytes)
            metrics.watch_memory(
                {
                    **engine.memory(),
                    "prepared": lambda: prepared_factors.nbytes,
                    **{part: partial(in_flight.taken_bytes, part) for part in PARTS},
                }
            )
            metrics.watch_database(database.sizes())
            metrics.watch_cluster(engine.cluster())
            metrics.watch_block_files(lambda: searches.held_bytes)
            app.state.server = ServerState(
                settings,
                database,
                guard,
                sessions,
                SignIns(settings.dashboard_sign_ins, Rates(counts.sign_ins, store)),
                figures,
                engine,
                searches,
                denials,
                ballast,
                clearing,
                in_flight,
                metrics,
                schemes,
                Weaknesses(),
            )
            clearing.start()
            try:
                async with watched(metrics.loop_delay_seconds), metrics.shown():
                    yield
            finally:
                await clearing.close()
                await guard.close()
                await sessions.close()
                await figures.close()
                await denials.close()
                await engine.close()
                await searches.close()
                if store is not None:
                    await store.close()
                if traces is not None:
                    await traces.close()

    return lifespan


def _traces(settings: Settings) -> Traces | None:
    """Returns the exporter of spans; None unless the settings name a collector."""
    if settings.traces_endpoint is None:
        return None
    return Traces(
        settings.traces_endpoint,
        version("xtracedb"),
        ratio=settings.traces_ratio,
        follows=settings.traces_context,
    )


def _engine(
    database: Database, scanner: Scanner, settings: Settings, metrics: Metrics, traces: Traces | None
) -> SearchEngine:
    if traces is None:
        return SearchEngine(database, scanner, settings, metrics)
    from xtrace_server.search.traced import TracedEngine, TracedScanner

    return TracedEngine(traces, database, TracedScanner(scanner, traces), settings, metrics)


def _handle_errors(app: FastAPI) -> None:
    async def service_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, ServiceError):
            raise error
        if isinstance(error, PermissionDenied | Unauthenticated):
            record_denial(request, error)
        return answer_to(request, error)

    async def http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return answer_to(request, _translated(request, error))

    async def fault(request: Request, error: Exception) -> Response:
        known = known_fault(request, error)
        if known is None:
            raise error
        return answer_to(request, known)

    handlers: dict[type[Exception], _Handler] = {
        ServiceError: service_error,
        HTTPException: http_error,
        RequestValidationError: fault,
        StorageError: fault,
        ClientDisconnect: fault,
    }
    for type_, handler in handlers.items():
        app.add_exception_handler(type_, handler)


def _translated(request: Request, error: HTTPException) -> ServiceError:
    """Turns the framework's error for a request without a matching route into one of the service's errors."""
    path = request.url.path[:128]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return errors.MethodNotAllowed(f"{path} does not accept {request.method}, expected {allowed}", allowed)
    if error.status_code == 404:
        return errors.NotFound(f"unknown route {path}")
    _log.error("the framework raised status %d", error.status_code)
    if error.status_code >= 500:
        return errors.ServerFault(request.state.request_id)
    return errors.MalformedRequest(str(error.detail))
