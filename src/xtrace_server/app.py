"""The application: routes, guard, and one form for every error."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from xtrace_core.wire import PROBLEM_JSON
from xtrace_server import errors
from xtrace_server.api import chunks, contexts, health, keys, knowledge_bases, metadata, search
from xtrace_server.api.requests import guard
from xtrace_server.auth.guard import Guard, rule_of
from xtrace_server.errors import ServiceError
from xtrace_server.search.engine import Engine
from xtrace_server.service import Service
from xtrace_server.settings import Settings
from xtrace_server.storage.database import open_database

_log = logging.getLogger("xtrace")

_Handler = Callable[[Request, Exception], Awaitable[Response]]


def create_app(settings: Settings) -> FastAPI:
    """The application over the settings' database, which it opens when it starts.

    Raises `LookupError` if a route declares no rule.
    """
    app = FastAPI(
        title="XTrace",
        lifespan=_lifespan(settings),
        dependencies=[Depends(guard)],
        openapi_url=None,
        redirect_slashes=False,
    )
    for route in all_routes():
        rule_of(route.endpoint)
    for router in _routers():
        app.include_router(router)
    _handle_errors(app)
    return app


def all_routes() -> list[APIRoute]:
    """Every route of the service."""
    return [route for router in _routers() for route in router.routes if isinstance(route, APIRoute)]


def _routers() -> list[APIRouter]:
    parts = (health, knowledge_bases, keys, search, metadata, chunks, contexts)
    return [part.router for part in parts]


def problem(error: ServiceError) -> Response:
    """The answer to a request that failed."""
    return Response(error.body(), error.status, error.headers(), media_type=PROBLEM_JSON)


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_database(settings.sqlite_url, settings.data) as database:
            engine = Engine(settings.cache_bytes, settings.search_threads, settings.data)
            keeper = Guard(database)
            app.state.service = Service(settings, database, keeper, engine)
            try:
                yield
            finally:
                await keeper.close()
                engine.close()

    return lifespan


def _handle_errors(app: FastAPI) -> None:
    async def service_error(_: Request, error: Exception) -> Response:
        if not isinstance(error, ServiceError):
            raise error
        return problem(error)

    async def http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return problem(_translated(request, error))

    async def invalid(_: Request, error: Exception) -> Response:
        return problem(errors.Invalid("the request has a parameter that is missing or not valid"))

    async def database_error(_: Request, error: Exception) -> Response:
        _log.error("the database did not answer: %s", error)
        return problem(errors.Unavailable("the database is busy or cannot be reached: try again"))

    async def disconnected(_: Request, error: Exception) -> Response:
        return problem(errors.Malformed("the connection was closed before the body was complete"))

    async def internal(_: Request, error: Exception) -> Response:
        return problem(errors.Internal())

    handlers: dict[type[Exception], _Handler] = {
        ServiceError: service_error,
        HTTPException: http_error,
        RequestValidationError: invalid,
        OperationalError: database_error,
        PoolTimeout: database_error,
        ClientDisconnect: disconnected,
        Exception: internal,
    }
    for type_, handler in handlers.items():
        app.add_exception_handler(type_, handler)


def _translated(request: Request, error: HTTPException) -> ServiceError:
    """What the framework says about a request that reaches no route, in our words."""
    path = request.url.path[:128]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return errors.MethodNotAllowed(f"{path} does not take {request.method}, only {allowed}", allowed)
    if error.status_code == 404:
        return errors.NotFound(f"there is no route {path}")
    _log.error("the framework raised status %d", error.status_code)
    return errors.Internal() if error.status_code >= 500 else errors.Malformed(str(error.detail))
