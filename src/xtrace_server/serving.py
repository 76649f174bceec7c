"""Runs the application with uvicorn: `run` until a signal comes, `start` in a thread until `stop` is called."""

import asyncio
import logging
import socket
import ssl
import threading
from ipaddress import ip_address
from typing import Self

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from xtrace_core.wire import PROBLEM_JSON
from xtrace_server import bootstrap
from xtrace_server.app import create_app
from xtrace_server.credentials import CREDENTIALS_FILE
from xtrace_server.errors import HeadersTooLarge, LineTooLong, Malformed, ServiceError
from xtrace_server.settings import Settings
from xtrace_server.storage.database import DatabaseUnusable, open_database

MAX_URL_BYTES = 2**20
MAX_HEADER_BYTES = 64 * 1024
START_TIMEOUT_S = 60.0

_log = logging.getLogger("xtrace")


class CannotServe(Exception):
    """The server cannot start: the address, the certificate or the database cannot be used."""


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is in flight. Raises `CannotServe`."""
    with _listen(settings) as listener:
        url = url_of(settings, listener)
        _prepare(settings, url)
        server = _server(settings)
        # At the level that Python shows where nobody has configured logging.
        _log.warning("serving on %s", url)
        try:
            server.run(sockets=[listener])
        except SystemExit:
            raise CannotServe("the server could not start; its log says why") from None
        except KeyboardInterrupt:
            # uvicorn raises the signal again once everything is finished.
            return


class RunningServer:
    """A server in a thread of this process; a context manager that stops it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._listener = _listen(settings)
        self.url = url_of(settings, self._listener)
        self._server = _server(settings)
        self._failure = "the server could not start; its log says why"
        self._thread = threading.Thread(target=self._run, name="xtrace-server", daemon=True)

    def wait_until_ready(self) -> None:
        """Starts, and returns when requests are answered. Raises `CannotServe`."""
        self._thread.start()
        waited_s = 0.0
        while not self._server.started:
            self._thread.join(0.01)
            waited_s += 0.01
            if not self._thread.is_alive() or waited_s > START_TIMEOUT_S:
                self.stop()
                raise CannotServe(self._failure)

    def stop(self) -> None:
        """Finishes what is in flight, then ends."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            # Here, because the caller may have an event loop of its own.
            _prepare(self.settings, self.url)
            self._server.run(sockets=[self._listener])
        except CannotServe as error:
            self._failure = str(error)
        except SystemExit:
            # uvicorn's way of saying that the application did not start; the thread's end tells the caller.
            return
        finally:
            self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(settings: Settings) -> RunningServer:
    """A server that is ready, with its `url`. Raises `CannotServe`."""
    server = RunningServer(settings)
    server.wait_until_ready()
    return server


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where clients on this host reach the server."""
    host, port = settings.host, listener.getsockname()[1]
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _prepare(settings: Settings, url: str) -> None:
    """Sees to the database, the first organisation and the credentials, before a request can come."""

    async def prepare() -> None:
        async with open_database(settings.sqlite_url, settings.data) as database:
            if await bootstrap.prepare(database, settings.data, url):
                path = settings.data / CREDENTIALS_FILE
                _log.warning("made an organisation; its keys are in %s", path)

    try:
        asyncio.run(prepare())
    except DatabaseUnusable as error:
        raise CannotServe(str(error)) from None
    except OSError as error:
        where = error.filename or settings.data
        raise CannotServe(f"cannot use the data folder: {where}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise CannotServe(f"{settings.data / CREDENTIALS_FILE} holds no credentials") from None


def _listen(settings: Settings) -> socket.socket:
    if not settings.tls_certificate and not _is_loopback(settings.host):
        _log.warning("listening on %s without TLS: keys and metadata cross the network in the clear", settings.host)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        # The library adds the address in its own words.
        reason = (error.strerror or "").partition(" (while")[0]
        raise CannotServe(f"cannot listen on {settings.host} port {settings.port}: {reason}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _server(settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(settings),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise CannotServe(f"the TLS certificate or its key cannot be used: {error}") from None
    return uvicorn.Server(config)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which refuses what it cannot parse in our form, and bounds lines and headers."""

    _refusal: ServiceError | None = None
    _header_bytes = 0

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(LineTooLong(f"the request line has more than {MAX_URL_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(HeadersTooLarge(f"the headers have more than {MAX_HEADER_BYTES} bytes"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        # The URL parser takes at most 64 KiB, so it is given the path alone, and the query is put back after
        # it.
        url, self.url = self.url, self.url.partition(b"?")[0]
        super().on_headers_complete()
        self.scope["query_string"] = url.partition(b"?")[2].partition(b"#")[0]

    def send_400_response(self, msg: str) -> None:
        error = self._refusal or Malformed("the request is not HTTP that this server can parse")
        body = error.body()
        head = [
            STATUS_LINE[error.status],
            *[name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers],
            f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n".encode(),
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        self._refusal = error
        raise httptools.HttpParserError(error.detail)
