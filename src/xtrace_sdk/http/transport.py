"""HTTP with retries: sends a request and returns a complete answer, whatever its status.

A request takes these steps: `send` (attempts and waits), `_send_once` (one attempt with its deadline), `_read` (the
body, up to a limit). Callers interpret statuses and bodies. `stream` yields the body of a successful answer as it
arrives: there are no further attempts after the answer's head.

Retries: a request that cannot have reached the server, or that the server deferred (429, 503), is always sent again.
One that may have been executed (the connection broke, no answer in time, another 5xx) is sent again only if it is
`repeatable`. If a streamed answer breaks off, the caller must continue it. Waits grow exponentially, with jitter so
that many clients do not return at once, and are at least as long as `Retry-After` says.
"""

import asyncio
import email.utils
import os
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urlsplit

import httpx2

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import (
    AnswerTooLarge,
    InvalidAnswer,
    InvalidArgument,
    NetworkError,
    ServerTimeout,
    ServerUnreachable,
)
from xtrace_sdk.http.environment import EnvironmentTransport, proxy_for
from xtrace_sdk.limits import MAX_ERROR_BYTES

_PUT_OFF: Final = frozenset((429, 503))
_PASSING: Final = frozenset((500, 502, 504))
# Raised before the first byte of the request is written.
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_LONGEST_SENTENCE: Final = 1000
_LONGEST_REASON: Final = 200
"""The maximum length of the HTTP parser's message, which may quote the whole answer."""
_KEEPALIVE_S: Final = 4.0
"""Shorter than servers keep idle connections (uvicorn: 5 s), so that requests do not use one that was just closed."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long to try; `attempts` includes the first one."""

    attempts: int = 5
    first_delay_s: float = 0.25
    longest_delay_s: float = 8.0
    longest_retry_after_s: float = 60.0
    """An answer that asks for a longer wait is returned to the caller at once."""

    def delay_s(self, attempt: int) -> float:
        """Returns a random wait after this number of failed attempts."""
        longest = min(self.longest_delay_s, self.first_delay_s * 2.0 ** (attempt - 1))
        return longest * (0.5 + secrets.randbelow(1024) / 2048)


@dataclass(frozen=True, slots=True)
class Request(Secretive):
    """One request. `repeatable` means that executing it twice has the same effect as once.

    `max_answer_bytes` is the maximum size of the answer; None means the client's own limit. `renewed` makes the body of
    each further attempt, for a body that must not be sent twice.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    max_answer_bytes: int | None = None
    renewed: Callable[[], Awaitable[bytes]] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Answer:
    """A complete answer. `repeated` means that an earlier attempt may already have been executed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)
    repeated: bool = False

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        """The seconds that the server asks to wait, given as a number or as a date."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit() and len(value) < 10:
            return float(value)
        try:
            parsed = email.utils.parsedate_tz(value)
            return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else None
        except (ValueError, OverflowError):  # an impossible date
            return None


class StreamedAnswer(Answer):
    """A successful answer whose body is still arriving."""

    def __init__(
        self,
        response: httpx2.Response,
        deadline: float,
        translate: Callable[[httpx2.RequestError | TimeoutError], NetworkError],
    ) -> None:
        """`deadline` is a time on the event loop's clock."""
        super().__init__(response.status_code, response.headers)
        self._response = response
        self._deadline = deadline
        self._translate = translate

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yields the body piece by piece, however long it is.

        Raises `NetworkError` if the connection breaks, is idle for too long, or exceeds the deadline.
        """
        body = self._response.aiter_bytes()
        try:
            while True:
                async with asyncio.timeout_at(self._deadline):
                    piece = await anext(body, None)
                if piece is None:
                    return
                yield piece
        except (httpx2.RequestError, TimeoutError) as error:
            raise self._translate(error) from None

    async def aclose(self) -> None:
        """Closes the answer, whether or not the body is complete."""
        await self._response.aclose()


class HttpClient:
    """Sends requests from any event loop, and keeps connections between calls.

    Redirects are not followed, because they would send keys to an address that the caller did not choose. Cookies are
    not stored.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        deadline_s: float,
        max_answer_bytes: int,
        max_connections: int,
        retries: Retries,
        verify: bool | ssl.SSLContext = True,
        ca_file: str | os.PathLike[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`timeout_s` is the maximum idle time, `deadline_s` the maximum total time of one attempt.

        Calls beyond `max_connections` wait for their turn. `transport` replaces the network. `verify` and `ca_file`
        decide which certificates are accepted, as in `XTraceIntegration`.
        """
        if ca_file is not None and verify is not True:
            raise InvalidArgument("got verify and ca_file, expected only one of them")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_answer_bytes = max_answer_bytes
        self._retries = retries
        self._uses_environment = transport is None
        timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, 10.0), pool=None)
        limits = httpx2.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=_KEEPALIVE_S,
        )
        self._clients = _ClientsByLoop(
            lambda: httpx2.AsyncClient(
                timeout=timeout,
                transport=transport or EnvironmentTransport(limits, verify, ca_file),
                trust_env=False,  # it would also send passwords of ~/.netrc
                follow_redirects=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        )

    async def aclose(self) -> None:
        """Closes the connections of the current event loop; a later call opens new ones."""
        await self._clients.close_current()

    async def send(self, request: Request) -> Answer:
        """Returns the answer to the request, after as many attempts as needed and allowed.

        Raises `ServerUnreachable`, `ServerTimeout`, and `InvalidAnswer` for an answer that is not HTTP or too large.
        """
        return await self._attempts(request, self._send_once)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Answer, None]:
        """Returns the answer as soon as its head has arrived: a `StreamedAnswer` for status 200, else a complete one.

        Until then, raises what `send` raises. After that, the caller must retry: see `wait_after`.
        """
        answer = await self._attempts(request, self._open_once)
        try:
            yield answer
        finally:
            if isinstance(answer, StreamedAnswer):
                await answer.aclose()

    async def wait_after(self, attempt: int, error: NetworkError) -> None:
        """Waits as long as `send` would after this failed attempt. Raises the error if it was the last one."""
        if attempt >= self._retries.attempts:
            raise error
        await asyncio.sleep(self._retries.delay_s(attempt))

    async def _attempts(self, request: Request, once: Callable[[Request], Awaitable[Answer]]) -> Answer:
        repeated = False
        attempt = 1
        while True:
            delay = self._retries.delay_s(attempt) if attempt < self._retries.attempts else None
            try:
                answer = await once(request)
            except (httpx2.RequestError, TimeoutError) as error:
                sent = not isinstance(error, _NOT_SENT)
                if delay is None or not _passes(error) or (sent and not request.repeatable):
                    raise self._translated(error, request) from None
                repeated = repeated or sent
            else:
                delay = self._delay_after(answer, request, delay)
                if delay is None:
                    answer.repeated = repeated
                    return answer
                repeated = repeated or answer.status in _PASSING
            await asyncio.sleep(delay)
            attempt += 1
            if request.renewed is not None:
                request = replace(request, body=await request.renewed())

    def _delay_after(self, answer: Answer, request: Request, delay: float | None) -> float | None:
        """Returns how long to wait before a retry after this answer; None to accept it."""
        if delay is None or not (answer.status in _PUT_OFF or (answer.status in _PASSING and request.repeatable)):
            return None
        wanted = answer.retry_after or 0.0
        return None if wanted > self._retries.longest_retry_after_s else max(delay, wanted)

    async def _send_once(self, request: Request) -> Answer:
        async with asyncio.timeout(self._deadline_s):
            return await self._whole(await self._response(request), request)

    async def _open_once(self, request: Request) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        async with asyncio.timeout_at(deadline):
            response = await self._response(request)
            if response.status_code != 200:
                return await self._whole(response, request)
        return StreamedAnswer(response, deadline, lambda error: self._translated(error, request))

    async def _response(self, request: Request) -> httpx2.Response:
        client = await self._clients.current()
        outgoing = client.build_request(
            request.method,
            request.url,
            content=request.body,
            headers={"user-agent": "xtrace-sdk", "accept-encoding": "identity", **request.headers},
        )
        response = await client.send(outgoing, stream=True)
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            await response.aclose()
            raise InvalidAnswer(
                "the answer is compressed, although the client did not accept that: check the address, and proxies "
                "between here and the service"
            )
        return response

    async def _whole(self, response: httpx2.Response, request: Request) -> Answer:
        try:
            body = await _joined(response, self._largest(response.status_code, request))
            return Answer(response.status_code, response.headers, body)
        finally:
            await response.aclose()

    def _largest(self, status: int, request: Request) -> int:
        largest = self._max_answer_bytes
        if request.max_answer_bytes is not None:
            largest = min(largest, request.max_answer_bytes)
        return largest if status < 400 else min(largest, MAX_ERROR_BYTES)

    def _translated(self, error: httpx2.RequestError | TimeoutError, request: Request) -> NetworkError:
        where, why = origin(request.url), sentence(str(error))[:_LONGEST_REASON]
        if self._uses_environment and (proxy := proxy_for(httpx2.URL(request.url))) is not None:
            where = f"{where} through the proxy {proxy}"
        if isinstance(error, httpx2.ConnectTimeout):
            return ServerUnreachable(f"cannot reach {where} in time: check the address and the network")
        if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
            return ServerTimeout(
                f"no complete answer from {where}: nothing arrived for {self._timeout_s:g} s, or it took more than "
                f"{self._deadline_s:g} s in total; try again, or raise the timeout"
            )
        if isinstance(error, _NOT_SENT):
            return ServerUnreachable(f"cannot reach {where} ({why}): check the address, and whether the server runs")
        if isinstance(error, httpx2.TransportError) and not _is_garbage(error):
            return ServerUnreachable(f"the connection to {where} was closed before the answer was complete: try again")
        return InvalidAnswer(f"{where} answered with something other than HTTP ({why}): check the address")


async def _joined(response: httpx2.Response, max_bytes: int) -> bytes:
    body = bytearray()  # not a list, in which a body in one-byte pieces would take many times its length
    announced = response.headers.get("content-length", "")
    too_large = announced.isdecimal() and (len(announced) > 20 or int(announced) > max_bytes)
    if not too_large:
        async for piece in response.aiter_bytes():
            body += piece
            if too_large := len(body) > max_bytes:
                break
    if too_large:
        raise AnswerTooLarge(
            f"the answer has more than {max_bytes} bytes, the client's limit: request less at once, or raise "
            "max_answer_bytes; if that does not help, check the address"
        )
    return bytes(body)


def _is_garbage(error: Exception) -> bool:
    # The HTTP parser raises the same exception if the peer hangs up and if it speaks another protocol.
    return isinstance(error, httpx2.RemoteProtocolError) and not any(
        sign in str(error) for sign in ("disconnected", "closed connection")
    )


def _passes(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    return isinstance(error, (httpx2.TransportError, TimeoutError)) and not _is_garbage(error)


def sentence(text: str) -> str:
    """Makes a foreign text safe for a terminal: only printable characters, and not too many of them."""
    return "".join([c if c.isprintable() else " " for c in text[:_LONGEST_SENTENCE]]).strip()


def origin(url: str) -> str:
    """Returns the scheme, host and port of a URL, which messages may show."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def base_url(url: str, name: str) -> str:
    """Returns the URL without a trailing slash. Raises `InvalidArgument` with `name` unless it is a plain HTTP URL."""
    wrong = InvalidArgument(
        f"{name} is not a URL like https://api.example.com, with scheme, host, and optionally port and path"
    )
    try:
        parts = urlsplit(url.strip())
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise wrong
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidArgument(f"{name} has a user, a query or a fragment, expected only scheme, host, port and path")
    return url.strip().rstrip("/")


def header_value(value: str, name: str) -> str:
    """Returns the value if it is allowed in a header. Raises `InvalidArgument` with `name`, but without the value."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise InvalidArgument(f"{name} has surrounding spaces, or characters that keys do not contain: copy it again")
    return value


class _ClientsByLoop:
    """One client for each event loop, because connections belong to the loop in which they were opened."""

    def __init__(self, make: Callable[[], httpx2.AsyncClient]) -> None:
        self._make = make
        self._open: dict[asyncio.AbstractEventLoop, tuple[httpx2.AsyncClient, AsyncGenerator[None, None]]] = {}

    async def current(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        held = self._open.get(loop)
        if held is None:
            client = self._make()
            lifetime = self._lifetime(loop, client)
            held = self._open[loop] = client, lifetime
            await anext(lifetime)
        return held[0]

    async def close_current(self) -> None:
        held = self._open.get(asyncio.get_running_loop())
        if held is not None:
            await held[1].aclose()

    async def _lifetime(
        self, loop: asyncio.AbstractEventLoop, client: httpx2.AsyncClient
    ) -> AsyncGenerator[None, None]:
        # When `asyncio.run` ends, it closes waiting generators, and thereby the connections of a client that was never
        # closed. Without this, they would be left to a loop that no longer runs.
        try:
            yield
        finally:
            del self._open[loop]
            await client.aclose()
