"""Runs the application with uvicorn: `run` until a signal, `start` in a thread until `stop` is called."""

import asyncio
import gc
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Self

import uvicorn
from fastapi import FastAPI

from xtrace_server import bootstrap, logs
from xtrace_server.app import Common, create_app
from xtrace_server.dashboard.failures import explained
from xtrace_server.descriptors import raise_descriptor_limit
from xtrace_server.http.protocol import bounded
from xtrace_server.listening import is_loopback, listen
from xtrace_server.schemes import SchemeUnusable
from xtrace_server.search.scanners import EngineUnusable, check_engine
from xtrace_server.settings import Settings
from xtrace_server.storage.database import open_database
from xtrace_server.storage.dialects import DatabaseUnusable
from xtrace_server.storage.folder_lock import FolderInUse, FolderLock

START_TIMEOUT_S = 60.0
_LOOKS_EVERY_S = 0.1
"""How often a draining server checks for a second signal."""

_log = logging.getLogger("xtrace")


class CannotServe(Exception):
    """The server cannot start: the address, the certificate or the database cannot be used."""


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the requests in flight. Raises `CannotServe`.

    Configures the logging of the whole process from the settings.
    """
    with prepared(settings) as (listeners, url):
        server = new_server(settings)
        begin_serving(url)
        try:
            server.run(sockets=listeners)
        except SystemExit:
            raise CannotServe("the server could not start; its log says why") from None
        except KeyboardInterrupt:
            # Uvicorn raises the signal again once everything has finished.
            return


@contextmanager
def prepared(settings: Settings) -> Iterator[tuple[list[socket.socket], str]]:
    """Reserves the data folder until the block ends, and yields the server's listeners and its address.

    Configures the whole process. Raises `CannotServe`.
    """
    logs.configure(settings.log_format, settings.log_level)
    raise_descriptor_limit(settings)
    with _listen(settings, settings.port) as listener, _more_listeners(settings) as more, _folder(settings) as lock:
        url = url_of(settings, listener)
        _prepare(settings, url, lock)
        yield [listener, *more], url


def begin_serving(url: str) -> None:
    """Logs that the process starts to serve, and tunes it for that."""
    # Half a million objects of libraries stay forever. Each time the collector scanned them, every thread would stop
    # for a tenth of a second.
    gc.collect()
    gc.freeze()
    # A computing thread yields to the event loop after one millisecond instead of five.
    sys.setswitchinterval(0.001)
    _log.warning("serving on %s", url)


class RunningServer:
    """A server in a thread of this process; leaving the `with` block stops it."""

    def __init__(self, settings: Settings) -> None:
        if settings.workers > 1:
            raise CannotServe("several workers need separate processes: use `xtrace serve`")
        self.settings = settings
        self._server = new_server(settings)
        self.app = self._server.app
        self._listener = _listen(settings, settings.port)
        self.url = url_of(settings, self._listener)
        self._failure = "the server could not start; its log says why"
        self._thread = threading.Thread(target=self._run, name="xtrace-server", daemon=True)

    def wait_until_ready(self) -> None:
        """Starts the server, and returns once it answers. Raises `CannotServe`."""
        self._thread.start()
        waited_s = 0.0
        while not self._server.started:
            self._thread.join(0.01)
            waited_s += 0.01
            if not self._thread.is_alive() or waited_s > START_TIMEOUT_S:
                self.stop()
                raise CannotServe(self._failure)

    def stop(self) -> None:
        """Finishes the requests in flight, then stops."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            # In this thread, because the caller may be running an event loop.
            with _more_listeners(self.settings) as more, _folder(self.settings) as lock:
                _prepare(self.settings, self.url, lock)
                self._server.run(sockets=[self._listener, *more])
        except CannotServe as error:
            self._failure = str(error)
        except SystemExit:
            # Uvicorn raises this if the application did not start; the end of the thread tells the caller.
            return
        finally:
            self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(settings: Settings) -> RunningServer:
    """Starts a server and returns it once it answers. Raises `CannotServe`."""
    server = RunningServer(settings)
    server.wait_until_ready()
    return server


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Returns the server's address for clients on this host."""
    host, port = settings.host, listener.getsockname()[1]
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextmanager
def _folder(settings: Settings) -> Iterator[FolderLock]:
    """Locks the data folder against other servers, unless all share it. Raises `CannotServe`."""
    lock = FolderLock(settings.data, settings.shared)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except FolderInUse as error:
            raise CannotServe(str(error)) from None
        except OSError as error:
            raise CannotServe(_unusable_folder(settings, error)) from None
        yield lock


def _unusable_folder(settings: Settings, error: OSError) -> str:
    return f"cannot use the data folder: {error.filename or settings.data}: {error.strerror}"


def _prepare(settings: Settings, url: str, lock: FolderLock) -> None:
    """Prepares the database, the first organisation and the credentials, before the first request.

    The first server on a shared folder does what concerns all of them.
    """

    async def prepare() -> None:
        bootstrap.check_not_lost(settings)
        whole, may_migrate = lock.is_alone, lock.is_alone
        async with open_database(
            settings.resolved_database_url,
            settings.data,
            whole=whole,
            may_migrate=may_migrate,
            back_up_first=settings.backup_before_migration,
        ) as database:
            if lock.is_alone:
                for path in await bootstrap.prepare(database, settings.data, url, operator_api=settings.operator_api):
                    _log.warning("created keys; they are only in %s", path)

    try:
        asyncio.run(prepare())
    except (DatabaseUnusable, bootstrap.CredentialsUnusable) as error:
        raise CannotServe(str(error)) from None
    except OSError as error:
        raise CannotServe(_unusable_folder(settings, error)) from None
    lock.has_started()


@contextmanager
def _more_listeners(settings: Settings) -> Iterator[list[socket.socket]]:
    """Yields the listeners of the additional ports, if any. Raises `CannotServe`."""
    with ExitStack() as stack:
        ports = [settings.ops_port, settings.dashboard_port if settings.dashboard else None]
        yield [stack.enter_context(_listen(settings, port)) for port in ports if port is not None]


def _listen(settings: Settings, port: int) -> socket.socket:
    if not settings.tls_certificate and not is_loopback(settings.host):
        _log.warning("listening on %s without TLS: keys and metadata cross the network in plaintext", settings.host)
    try:
        return listen(settings.host, port)
    except OSError as error:
        raise CannotServe(f"cannot listen on {settings.host} port {port}: {error.strerror}") from None


def new_server(settings: Settings, common: Common | None = None) -> "Server":
    """Returns a server, to run with listeners; `common` is what a worker shares with others.

    Raises `CannotServe`.
    """
    try:
        check_engine(settings)
        app = create_app(settings, common)
    except (EngineUnusable, SchemeUnusable) as error:
        raise CannotServe(str(error)) from None
    config = uvicorn.Config(
        app,
        http=bounded(settings, explain=partial(explained, settings)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # given to call_later, which takes fractions
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise CannotServe(f"the TLS certificate or its key cannot be used: {error}") from None
    logs.silence_what_quotes()
    return Server(config, app, settings.drain_s, common.beat if common else None)


class Server(uvicorn.Server):
    """Uvicorn's server, which keeps serving for a while after a signal, so that a load balancer can stop sending."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, drain_s: float, beat: Callable[[], None] | None = None
    ) -> None:
        """`beat` is called ten times a second while the event loop runs."""
        super().__init__(config)
        self.app = app
        self._drain_s = drain_s
        self._beat = beat

    def leave(self) -> None:
        """Stops without a delay: other workers serve the same address, so clients need not notice."""
        self._drain_s = 0
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._beat is not None:
            self._beat()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.state.draining = self._drain_s > 0
        until = time.monotonic() + self._drain_s
        while not self.force_exit and (left := until - time.monotonic()) > 0:  # noqa: ASYNC110 - set by a signal handler
            await asyncio.sleep(min(left, _LOOKS_EVERY_S))
        await super().shutdown(sockets)
