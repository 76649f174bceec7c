"""Uvicorn's HTTP/1.1, with limits on everything that a client controls: time, size and number.

It rejects headers and bodies that arrive too slowly, lines and headers that are too long, and connections beyond the
limit, and disconnects clients that do not read their answers. A request that cannot be parsed gets an error too.

Whether a client wants an error as a page is in its header. So for a request line that is too long, and for a connection
beyond the limit, the server waits for the header before it answers, if that comes soon.

Closing a connection with unread input resets it, and the reset overtakes the answer. So after rejecting a request
halfway, the server keeps reading for a moment.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from xtrace_core.wire import PROBLEM_JSON
from xtrace_server.errors import (
    HeadersTooLarge,
    LineTooLong,
    MalformedRequest,
    Overloaded,
    RequestTooSlow,
    ServiceError,
    TooLarge,
)
from xtrace_server.http.envelope import SECURITY_HEADERS, Explain
from xtrace_server.settings import Settings

_OTHER_PARAMETERS: Final = 16
"""The number of parameters that a call may have besides ids."""
LINGER_S: Final = 5.0
"""The maximum time for which the server keeps reading from a rejected client."""
LINGER_IDLE_S: Final = 1.0
"""The maximum idle time of the client during that, and the time for the header of a connection beyond the limit."""
_EXCESS: Final = 2
"""A request line longer than this many times the limit is rejected without waiting for the header."""


class _Transport:
    """A transport whose protocol may delay closing it; otherwise it behaves like the wrapped one."""

    def __init__(self, own: asyncio.Transport, close: Callable[[], None]) -> None:
        self.own = own
        self.close = close
        self.lingers = False

    def is_closing(self) -> bool:
        return self.lingers or self.own.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


class Protocol(HttpToolsProtocol):
    """One connection. `bounded` returns the class for a server's settings, which uvicorn instantiates."""

    settings: Settings
    explain: Explain
    waiting: "OrderedDict[Protocol, None]"
    """The server's connections without a request or with an incomplete header, oldest first."""
    _refusal: ServiceError | None = None
    """The answer to what is being received, whatever follows."""
    _line_bytes = 0
    _header_bytes = 0
    _arrives: asyncio.TimerHandle | None = None
    """Fires when the header or the body is late."""
    _is_read: asyncio.TimerHandle | None = None
    """Fires when the client does not read."""
    _body_due = 0.0
    _unread = False
    """Whether the client is still sending."""
    _is_gone = False
    _told_gone: Callable[[], None] | None = None
    """Called when the client disconnects during a request."""
    _discarded = 0
    _linger_due = 0.0

    # Time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wrapped = _Transport(transport, self._close)  # type: ignore[arg-type]
        super().connection_made(self._wrapped)  # type: ignore[arg-type]
        if len(self.connections) > self.settings.max_connections and not self._is_ops and not self._replaces_another():
            self._put_off(
                Overloaded(f"the server already has {self.settings.max_connections} connections (max_connections)")
            )
            return
        self._wait_for_request()
        self._await_header()

    def _put_off(self, error: ServiceError) -> None:
        """Rejects the connection: in a crowd at once, otherwise when its header has arrived."""
        if self._is_crowded:
            self._answer(error)
            return
        self._refusal = error
        self._arrives = self.loop.call_later(LINGER_IDLE_S, self._answer, error)

    @property
    def _is_crowded(self) -> bool:
        return len(self.connections) > 2 * self.settings.max_connections

    @property
    def _is_ops(self) -> bool:
        return self.server is not None and self.server[1] == self.settings.ops_port

    def _wait_for_request(self) -> None:
        if not self._is_ops:
            self.waiting[self] = None

    def _replaces_another(self) -> bool:
        """Closes the connection that has waited longest for a request; returns False if there is none."""
        if not self.waiting:
            return False
        longest, _ = self.waiting.popitem(last=False)
        longest._stop_waiting()
        longest._wrapped.own.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.pop(self, None)
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)
        self._is_gone = True
        if self._told_gone is not None:
            self._told_gone()

    def _when_gone(self, act: Callable[[], None] | None) -> None:
        """Sets a callback for the loss of the connection; calls it at once if it is already lost."""
        self._told_gone = act
        if act is not None and self._is_gone:
            act()
        elif act is not None and not self.pipeline:
            # A large body has paused reading, but only reading shows the end.
            self.flow.resume_reading()

    def on_message_begin(self) -> None:
        self._line_bytes = self._header_bytes = 0
        self._unread = True
        if self._refusal is None:
            self._await_header()
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._body_due += len(body) / self.settings.min_body_bytes_per_s
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self._current is None:
            self._wait_for_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_read = self.loop.call_later(self.settings.write_timeout_s, self._not_read)

    def resume_writing(self) -> None:
        if self._is_read is not None:
            self._is_read.cancel()
            self._is_read = None
        super().resume_writing()

    def _await_header(self) -> None:
        self._stop_waiting()
        self._arrives = self.loop.call_later(self.settings.header_timeout_s, self._header_late)

    def _await_body(self) -> None:
        self._stop_waiting()
        self._body_due = self.loop.time() + self.settings.body_timeout_s
        self._arrives = self.loop.call_at(self._body_due, self._body_late)

    def _stop_waiting(self) -> None:
        if self._arrives is not None:
            self._arrives.cancel()
            self._arrives = None

    def _header_late(self) -> None:
        seconds = self.settings.header_timeout_s
        self._answer(RequestTooSlow(f"the header did not arrive within {seconds:g} seconds (header_timeout_s)"))

    def _body_late(self) -> None:
        now = self.loop.time()
        if self.flow.read_paused:
            # The server itself is not reading now.
            self._body_due = now + self.settings.body_timeout_s
        if now < self._body_due:
            self._arrives = self.loop.call_at(self._body_due, self._body_late)
        elif self._current is not None and self._current.response_started:
            self.transport.close()
        else:
            self._answer(
                RequestTooSlow(
                    f"the body did not arrive within {self.settings.body_timeout_s:g} seconds (body_timeout_s) plus "
                    f"the time for its bytes at {self.settings.min_body_bytes_per_s} per second (min_body_bytes_per_s)"
                )
            )

    def _not_read(self) -> None:
        # Not `close`, which waits until the client has read everything.
        self.transport.abort()

    # Closing

    def data_received(self, data: bytes) -> None:
        if not self._wrapped.lingers:
            super().data_received(data)
            return
        self._discarded += len(data)
        if self._discarded > self.settings.max_body_bytes:
            self._wrapped.own.close()

    def _close(self) -> None:
        """Closes the connection once the client has stopped sending, or has sent for too long."""
        if self.transport.is_closing():
            return
        if not self._unread or self._is_crowded:
            self._wrapped.own.close()
            return
        self._stop_waiting()
        self._wrapped.lingers = True
        if self._wrapped.own.can_write_eof():
            self._wrapped.own.write_eof()
        self.flow.resume_reading()
        self._linger_due = self.loop.time() + LINGER_S
        self._linger(-1)

    def _linger(self, discarded_before: int) -> None:
        if self._discarded == discarded_before or self.loop.time() >= self._linger_due:
            self._wrapped.own.close()
        else:
            self._arrives = self.loop.call_later(LINGER_IDLE_S, self._linger, self._discarded)

    # Size and form

    def on_url(self, url: bytes) -> None:
        room = max(self.settings.max_line_bytes - self._line_bytes, 0)
        super().on_url(url[:room])
        self._line_bytes += len(url)
        if self._refusal is None:
            self._refusal = self._fault_of_line()
        if self._refusal is not None and self._line_bytes > _EXCESS * self.settings.max_line_bytes:
            self._refuse(self._refusal)

    def _fault_of_line(self) -> ServiceError | None:
        if self._line_bytes > self.settings.max_line_bytes:
            limit = self.settings.max_line_bytes
            return LineTooLong(f"the request line has more than {limit} bytes (max_line_bytes)")
        # Every parameter is parsed in the event loop, before the caller is known.
        if self.url.count(b"&") > self.settings.max_ids + _OTHER_PARAMETERS:
            limit = self.settings.max_ids
            return TooLarge(f"the URL has more parameters than {limit} ids (max_ids) need")
        return None

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self.settings.max_header_bytes:
            limit = self.settings.max_header_bytes
            self._refuse(HeadersTooLarge(f"the headers have more than {limit} bytes (max_header_bytes)"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._refusal is not None:
            self._refuse(self._refusal)
        self.waiting.pop(self, None)
        self._await_body()
        # The URL parser accepts at most 64 KiB, so it gets only the path, and the query is added afterwards.
        url, self.url = self.url, self.url.partition(b"?")[0]
        super().on_headers_complete()
        self.scope["query_string"] = url.partition(b"?")[2].partition(b"#")[0]
        extensions: dict[str, Any] = {"xtrace.abort": self.transport.abort, "xtrace.when_gone": self._when_gone}
        self.scope["extensions"] = extensions

    def send_400_response(self, msg: str) -> None:
        self._answer(self._refusal or MalformedRequest("the request is not valid HTTP/1.1"))

    def _refuse(self, error: ServiceError) -> None:
        self._refusal = error
        raise httptools.HttpParserError(error.detail)

    @property
    def _current(self) -> RequestResponseCycle | None:
        """Returns the request that is being answered or received."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _answer(self, error: ServiceError) -> None:
        """Answers in place of the application, and closes the connection."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        # A client that is too slow must not keep the connection open by sending a byte per second.
        self._unread = not isinstance(error, RequestTooSlow)
        if (current := self._current) is not None:
            # An answer that has begun must not be mixed with another.
            if current.response_started:
                self.transport.close()
                return
            current.disconnected = True
            current.message_event.set()
        body, headers = self._explained(error)
        headers = {**SECURITY_HEADERS, **headers, "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name != "connection").encode()
        own = [name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers]
        head = [STATUS_LINE[error.status], *own, lines, b"connection: close\r\n\r\n"]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()

    def _explained(self, error: ServiceError) -> tuple[bytes, dict[str, str]]:
        """Returns the body of the answer and its headers: a page if the header shows that the client is a browser."""
        scope: dict[str, Any] | None = getattr(self, "scope", None)
        if scope is not None:
            scope = {"path": self.url.decode("latin-1").partition("?")[0], **scope}
        shown = type(self).explain(scope, error)
        if shown is None:
            return error.body(), {"content-type": PROBLEM_JSON, **error.headers()}
        return bytes(shown.body), dict(shown.headers)


def bounded(settings: Settings, explain: Explain) -> type[Protocol]:
    """Returns the protocol's class with these settings; `explain` turns errors into pages."""
    fields: dict[str, Any] = {"settings": settings, "explain": staticmethod(explain), "waiting": OrderedDict()}
    return type("BoundedProtocol", (Protocol,), fields)
