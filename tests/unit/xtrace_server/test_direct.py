"""Routes that call their dependencies themselves: every check first, and only what they can call."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, Request, Response

from xtrace_server.api.search import router
from xtrace_server.app import create_app
from xtrace_server.http.direct import DirectRoute
from xtrace_server.http.requests import CHECKS
from xtrace_server.settings import Settings


async def other(request: Request, more: str) -> str:
    return str(request.url) + more


async def takes_more(value: Annotated[str, Depends(other)]) -> Response:
    return Response(value)


async def takes_a_parameter(request: Request, more: str) -> Response:
    return Response(str(request.url) + more)


@pytest.mark.parametrize("endpoint", [takes_more, takes_a_parameter])
def test_what_takes_more_than_the_request_is_refused_at_the_start(endpoint: object) -> None:
    with pytest.raises(TypeError, match="takes more than"):
        APIRouter(route_class=DirectRoute).get("/")(endpoint)  # type: ignore[type-var]


async def test_every_check_of_the_application_runs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    class _Refused(Exception):
        pass

    async def note(_: Request) -> None:
        ran.append("first")

    async def refuse(_: Request) -> None:
        ran.append("second")
        raise _Refused

    monkeypatch.setattr("xtrace_server.http.direct.CHECKS", (note, refuse))
    for route in router.routes:
        assert isinstance(route, DirectRoute)
        with pytest.raises(_Refused):
            await route.get_route_handler()(Request({"type": "http", "headers": []}))
    assert ran == ["first", "second"] * len(router.routes)


def test_the_checks_are_those_of_every_other_route() -> None:
    assert tuple(one.dependency for one in create_app(Settings()).router.dependencies) == CHECKS
