"""Serving over standard input and output, or over HTTP on this machine."""

import logging
import socket
from typing import Final

import uvicorn
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from xtrace_cli.errors import ServerDidNotStart
from xtrace_cli.mcp.guard import Guard
from xtrace_cli.output import note
from xtrace_server.listening import listen

PATH: Final = "/mcp"
MAX_BODY_BYTES: Final = 4 << 20
"""The maximum size of one request: 100 paths or ids of maximum length fit."""
_MAX_SESSIONS: Final = 100
_IDLE_S: Final = 3600
_LOGGERS: Final = ("mcp", "uvicorn", "sse_starlette")


async def serve_stdio(server: Server) -> None:
    """Serves the host that started this process, until it closes standard input."""
    _silence()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


async def serve_http(server: Server, host: str, port: int, token: str) -> None:
    """Serves over Streamable HTTP until a signal; port 0 selects a free one. Raises `ServerDidNotStart`."""
    try:
        listener = listen(host, port)
    except OSError as error:
        raise ServerDidNotStart(f"cannot listen on {host} port {port}: {error.strerror}") from None
    _silence()
    with listener:
        app = guarded(server, host, listener.getsockname()[1], token)
        note(f"serving MCP on {address_of(listener)}")
        await HttpServer(app).serve(sockets=[listener])


def guarded(server: Server, host: str, port: int, token: str) -> Guard:
    """Returns the application for this address."""
    hosts = [f"{_in_url(name)}:{port}" for name in dict.fromkeys((host, "localhost"))]
    security = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"http://{one}" for one in hosts])
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MAX_BODY_BYTES,
        session_idle_timeout=_IDLE_S,
        max_sessions=_MAX_SESSIONS,
        transport_security=security,
    )
    return Guard(app, token, hosts)


def address_of(listener: socket.socket) -> str:
    """Returns the URL for hosts."""
    host, port = listener.getsockname()[:2]
    return f"http://{_in_url(host)}:{port}{PATH}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class HttpServer(uvicorn.Server):
    """Returns a uvicorn server without its log: `serve` runs until a signal, or until `should_exit` is set."""

    def __init__(self, app: Guard) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,  # notification streams last as long as their client
            )
        )


def _silence() -> None:
    """Silences the libraries' logs, which may quote what clients send; XTrace itself tells users what matters."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
