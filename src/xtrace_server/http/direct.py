"""Routes that call their dependencies themselves.

For each request, the framework finds out again what each dependency takes, which costs a search half a millisecond.
Here, each takes the request and nothing else.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from xtrace_server.http.requests import CHECKS


class DirectRoute(APIRoute):
    """A route whose parameters are the request and dependencies that take only the request.

    Raises `TypeError` at the start if it has others.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        endpoint, request_name = self.endpoint, self.dependant.request_param_name
        # Those of the whole application have no name.
        found = {one.name: _only_of_request(one) for one in self.dependant.dependencies if one.name is not None}
        own = set() if request_name is None else {request_name}
        if set(inspect.signature(endpoint).parameters) != own | found.keys():
            raise TypeError(f"{endpoint.__name__} takes more than a request and dependencies: use an APIRoute")

        async def handle(request: Request) -> Response:
            for check in CHECKS:
                await check(request)
            arguments: dict[str, Any] = dict.fromkeys(own, request)
            for name, dependency in found.items():
                arguments[name] = await dependency(request)
            response: Response = await endpoint(**arguments)
            return response

        return handle


def _only_of_request(dependant: Dependant) -> Callable[[Request], Awaitable[Any]]:
    call = dependant.call
    takes = {dependant.request_param_name}
    if call is None or set(inspect.signature(call).parameters) != takes:
        raise TypeError(f"the dependency {dependant.name} takes more than the request: use an APIRoute")
    return call
