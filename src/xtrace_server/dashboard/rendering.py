"""Renders pages: the template environment, what all pages share, and their headers."""

from collections.abc import Mapping, MutableMapping
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xtrace_server.auth.guard import Plane, rule_of
from xtrace_server.auth.sessions import OperatorSignedIn, SignedIn
from xtrace_server.auth.sessions import new_token as new_visitor
from xtrace_server.dashboard import assets, charts, tokens, words
from xtrace_server.http import cookies
from xtrace_server.http.requests import state_of
from xtrace_server.operations import overview
from xtrace_server.settings import Settings

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
THEMES: Final = ("system", "light", "dark")
_HEADERS: Final = {"content-security-policy": POLICY, "cross-origin-opener-policy": "same-origin"}
_MAX_HOST: Final = 100


@cache
def environment() -> Environment:
    """Returns the template environment: all values are escaped, and a missing value is an error."""
    made = Environment(
        loader=PackageLoader("xtrace_server.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    names = (
        "number",
        "counted",
        "size",
        "share",
        "seconds",
        "exact",
        "machine",
        "age",
        "short",
        "short_id",
        "sentence",
    )
    made.filters |= {name: getattr(words, name) for name in names} | {"hexadecimal": words.hexadecimal}
    made.globals |= {"asset": assets.path, "version": version("xtracedb"), "query": query, "charts": charts}
    return made


def query(*groups: Mapping[str, Any], **parameters: Any) -> str:
    """Returns a query string of the given parameters; empty ones are omitted."""
    everything = {name: value for group in (*groups, parameters) for name, value in group.items()}
    given = {name: value for name, value in everything.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Returns a page that does not need the database."""
    settings = state_of(request).settings
    secrets = _FormSecrets(request)
    body = (
        environment()
        .get_template(template)
        .render(
            theme=theme_of(request, settings),
            host=request.headers.get("host", "")[:_MAX_HOST],
            path=request.url.path,
            request_id=request.state.request_id,
            form_token=secrets.field,
            operator_api=settings.operator_api,
            **values,
        )
    )
    response = Response(body, status, _HEADERS, media_type="text/html; charset=utf-8")
    if secrets.new_visitor is not None:
        cookies.set_cookie(response, settings, cookies.VISITOR, secrets.new_visitor)
    return response


def page_outside_routes(
    settings: Settings, scope: MutableMapping[str, Any], template: str, *, status: int, **values: Any
) -> Response:
    """Returns a page without forms, for a request that may be incomplete."""
    request = Request({"path": "/", "query_string": b"", **scope, "type": "http"})
    shared = {"theme": theme_of(request, settings), "path": request.scope["path"], "form_token": None}
    request_id = scope.get("state", {}).get("request_id", "")
    body = environment().get_template(template).render(**shared, request_id=request_id, **values)
    return Response(body, status, _HEADERS, media_type="text/html; charset=utf-8")


async def signed_in_page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Returns a page of an organisation, with its navigation."""
    caller: SignedIn = request.state.caller
    counts = await overview.counts(state_of(request), caller.actor)
    return page(
        request,
        template,
        status=status,
        organisation=caller.organisation,
        counts=counts,
        ends_at=session_end(request, caller),
        **values,
    )


def operator_page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Returns a page of the operator, with its navigation."""
    caller: OperatorSignedIn = request.state.caller
    return page(request, template, status=status, ends_at=session_end(request, caller), **values)


def seen_other(path: str) -> Response:
    """Returns a redirect to a page after a form, so that reloading does not submit it again."""
    return Response(status_code=303, headers={"location": path})


def session_end(request: Request, caller: SignedIn | OperatorSignedIn) -> str:
    """Returns when the session ends without another request."""
    settings = state_of(request).settings
    opened = words.parse_time(caller.session.created_at)
    idle = datetime.now(opened.tzinfo) + timedelta(seconds=settings.dashboard_idle_s)
    return min(idle, opened + timedelta(seconds=settings.dashboard_session_s)).isoformat()


def theme_of(request: Request, settings: Settings) -> str:
    """Returns the theme that the reader has chosen."""
    chosen = cookies.read_cookie(request, settings, cookies.THEME)
    return chosen if chosen in THEMES else "system"


class _FormSecrets:
    """The secret of a page's form tokens: the value of the session cookie, or of the visitor's."""

    def __init__(self, request: Request) -> None:
        settings = state_of(request).settings
        route = request.scope.get("route")
        plane = rule_of(route.endpoint).plane if route is not None else Plane.VISITOR
        is_signed_in = isinstance(getattr(request.state, "caller", None), SignedIn | OperatorSignedIn)
        name = {Plane.SESSION: cookies.SESSION, Plane.OPERATOR_SESSION: cookies.OPERATOR}.get(plane)
        found = cookies.read_cookie(request, settings, name if name and is_signed_in else cookies.VISITOR)
        self.new_visitor = new_visitor() if found is None else None
        # A page that was made for a session that has just been opened has no cookie of it yet.
        self._secret = getattr(request.state, "form_secret", None) or found or self.new_visitor or ""

    def field(self) -> Markup:
        """Returns the hidden field of a form."""
        return Markup('<input type="hidden" name="{}" value="{}">').format(tokens.FIELD, tokens.new_token(self._secret))
