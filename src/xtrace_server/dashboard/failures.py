"""Error pages: what happened, that nothing was changed, and what to do.

`PageRoute` shows the errors of the dashboard's own routes. For errors outside of routes, such as too many requests, a
header that is too long or an unknown address, `explained` makes a page if a browser asked.
"""

from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.routing import APIRoute

from xtrace_core.wire import PROBLEM_JSON
from xtrace_server.auth.guard import Plane, rule_of
from xtrace_server.auth.sessions import NotSignedIn
from xtrace_server.dashboard.forms import FormRefused
from xtrace_server.dashboard.rendering import page, page_outside_routes
from xtrace_server.errors import NotFound, ServiceError
from xtrace_server.http import cookies
from xtrace_server.http.faults import as_service_error
from xtrace_server.http.requests import is_poll, state_of
from xtrace_server.settings import Settings

_STOP_POLLING: Final = 286
"""The status at which htmx stops polling."""


class PageRoute(APIRoute):
    """A route of the dashboard, which shows every error as a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the function that handles a request."""
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            for_reader = is_for_reader(state_of(request).settings, request.scope)
            if request.url.path == "/" and not for_reader:
                return _problem(request, NotFound("unknown route /"))  # what clients of the API have always been told
            try:
                return await handle(request)
            except NotSignedIn as error:
                return _not_signed_in(request, error)
            except FormRefused as error:
                request.state.code = "form_refused"
                return page(request, "form-refused.html", status=403, reason=str(error), back=_way_back(request))
            except Exception as error:
                known = as_service_error(request, error)
                return error_page(request, known) if for_reader else _problem(request, known)

        return handle_or_explain


def error_page(request: Request, error: ServiceError) -> Response:
    """Returns the page for a request that failed."""
    request.state.code = error.code
    response = page(request, "error.html", status=error.status, error=error, back=_way_back(request))
    response.headers.update(error.headers())
    return response


def _problem(request: Request, error: ServiceError) -> Response:
    request.state.code = error.code
    return Response(error.body(), error.status, error.headers(), media_type=PROBLEM_JSON)


def explained(settings: Settings, scope: MutableMapping[str, Any] | None, error: ServiceError) -> Response | None:
    """Returns the page for a request that failed outside of a route; None for a client of the API.

    If the request is incomplete, `scope` contains what has arrived of it, or is None.
    """
    if scope is None or not is_for_reader(settings, scope):
        return None
    back = scope.get("path", "/") if scope.get("method") == "GET" else "/"
    response = page_outside_routes(settings, scope, "error.html", status=error.status, error=error, back=back)
    response.headers.update(error.headers())
    return response


def is_for_reader(settings: Settings, scope: MutableMapping[str, Any]) -> bool:
    """Returns whether a browser asked for a page, rather than a client for the API."""
    wanted, server = settings.dashboard_port, scope.get("server")
    is_elsewhere = wanted is not None and server is not None and server[1] != wanted
    if not settings.dashboard or is_elsewhere or scope.get("path", "/").startswith(("/v1/", "/api/")):
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _not_signed_in(request: Request, error: NotSignedIn) -> Response:
    is_operator = rule_of(request.scope["route"].endpoint).plane is Plane.OPERATOR_SESSION
    form = "/operator/sign-in" if is_operator else "/sign-in"
    if is_poll(request):
        return page(request, "session-ended-part.html", status=_STOP_POLLING, form=form)
    following = _way_back(request)
    if not error.ended:
        return Response(status_code=303, headers={"location": f"{form}?{urlencode({'next': following})}"})
    values = {"next": following, "lost": request.method != "GET", "problem": "", "organisation_id": ""}
    template = "operator-sign-in.html" if is_operator else "sign-in.html"
    response = page(request, template, status=401, ended=True, **values)
    name = cookies.OPERATOR if is_operator else cookies.SESSION
    cookies.delete_cookie(response, state_of(request).settings, name)
    return response


def _way_back(request: Request) -> str:
    """Returns the page that contains the form of this address: this address, or the nearest above that shows a page."""
    path, pages = request.url.path, request.app.state.pages
    while request.method != "GET" and path and not any(page.match(path) for page in pages):
        path = path.rpartition("/")[0]
    return path or "/"
