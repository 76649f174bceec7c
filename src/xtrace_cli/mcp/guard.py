"""Admits only programs on this machine that have the token; never pages in a browser."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from xtrace_core.secrecy import Secretive

SHORTEST_TOKEN: Final = 32
_BEARER: Final = "bearer "


class Guard(Secretive):
    """Checks a request's host, origin and token before its body is read, and then calls the application."""

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str]) -> None:
        """`hosts` are the valid values of `Host`, each with its port."""
        self._app = app
        self._token = _digest(token)
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if scope["type"] not in ("http", "lifespan"):
            return
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        # A page of another site reaches a local server under its own host name: its host and origin give it away.
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return PlainTextResponse("the host is not this server's", 421)
        if any(origin not in self._origins for origin in headers.getlist("origin")):
            return PlainTextResponse("pages of other origins may not call this server", 403)
        given = headers.getlist("authorization")
        token = given[0][len(_BEARER) :].strip() if len(given) == 1 and given[0].lower().startswith(_BEARER) else ""
        if not hmac.compare_digest(_digest(token), self._token):
            return PlainTextResponse(
                "a bearer token is needed: the one that the server was started with",
                401,
                {"www-authenticate": 'Bearer realm="xtrace mcp"'},
            )
        return None


def _digest(token: str) -> bytes:
    # Digests have equal lengths, whatever was sent.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
