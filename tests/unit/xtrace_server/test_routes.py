"""What every route has in common."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant

from xtrace_server.app import all_routes
from xtrace_server.dashboard import routes as dashboard

ROUTES = [*all_routes(), *dashboard.all_routes()]


def called(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """What FastAPI calls for a request, the route's own function included."""
    if dependant.call is not None:
        yield dependant.call
    for one in dependant.dependencies:
        yield from called(one)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_no_request_is_handed_to_a_thread_on_its_way(route: Any) -> None:
    # FastAPI calls plain functions in a thread, which costs a search a fifth of its time.
    plain = [one for one in called(route.dependant) if not inspect.iscoroutinefunction(one)]
    assert plain == []
