"""The HTTP contract: the addresses and keys of requests, and the statuses and types of answers."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from xtrace_core import frames, wire
from xtrace_core.secrecy import Secretive
from xtrace_sdk import errors
from xtrace_sdk.errors import InvalidAnswer, InvalidArgument, NetworkError, ServerError
from xtrace_sdk.http.transport import Answer, HttpClient, Request, StreamedAnswer, sentence
from xtrace_sdk.limits import MAX_ACKNOWLEDGEMENT_BYTES
from xtrace_sdk.service.packed_rows import PackedRowReader
from xtrace_sdk.service.payloads import Body

T = TypeVar("T")
Parameters = Sequence[tuple[str, str | int]]

_JSON: Final = "application/json"
_BIG_ANSWER_BYTES: Final = 256 * 1024
"""Larger answers are decoded in a thread, because decoding a megabyte would block the loop for milliseconds."""


def _server_errors(cls: type[ServerError] = ServerError) -> list[type[ServerError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _server_errors(child))]


_BY_CODE: Final = {code: cls for cls in _server_errors() for code in vars(cls).get("codes", ())}
_BY_STATUS: Final = {status: cls for cls in _server_errors() for status in vars(cls).get("statuses", ())}


class _BrokenOff(Exception):
    """The connection broke in the middle of an answer."""

    def __init__(self, error: NetworkError) -> None:
        super().__init__(str(error))
        self.error = error


class Service(Secretive):
    """One organisation's account: the two planes of the HTTP contract; every answer is checked before it is
    returned."""

    def __init__(
        self,
        http: HttpClient,
        *,
        org_id: str,
        api_url: str,
        api_key: str,
        admin_api_url: str,
        admin_key: str,
    ) -> None:
        """Empty values count as missing; the first call that needs one raises an error."""
        self._http = http
        self.org_id = org_id
        self.api_url = api_url
        self.admin_api_url = admin_api_url
        self.api_key = api_key
        self.admin_key = admin_key
        self._takes_msgpack: bool | None = None  # not known yet

    def __repr__(self) -> str:
        api_key, admin_key = ("…" if key else None for key in (self.api_key, self.admin_key))
        return (
            f"org_id={self.org_id!r}, api_url={self.api_url!r}, api_key={api_key!r}, "
            f"admin_api_url={self.admin_api_url!r}, admin_key={admin_key!r}"
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def data(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        parameters: Parameters = (),
        body: bytes | None = None,
        max_bytes: int | None = None,
    ) -> T:
        """Returns the data plane's JSON answer at `/v1/{path}/{org}`, or with `{org}` elsewhere if it is in the path.

        `max_bytes` is the maximum size of such an answer; None means the client's own limit.
        """
        request = self._data_request(method, path, parameters, body, {})
        got = await self._http.send(replace(request, max_answer_bytes=max_bytes))
        self._check_answer(got, (200,), _JSON)
        return await self._decoded(got, answer)

    async def write(self, method: str, answer: type[T], body: Body) -> T:
        """Returns the JSON answer to a write of chunks, which is sent as MessagePack to services that accept it."""
        got = None
        if self._takes_msgpack is not False:
            got = await self._send_write(method, body.msgpack, wire.MSGPACK)
            if got.status == 200:
                self._takes_msgpack = True
        if got is None or self._may_want_json(got):
            as_json = await self._send_write(method, await asyncio.to_thread(body.json), _JSON)
            if as_json.status == 200:
                self._takes_msgpack = False
            got = as_json
        self._check_answer(got, (200,), _JSON)
        return await self._decoded(got, answer)

    def _may_want_json(self, refusal: Answer) -> bool:
        """Whether the body may have been rejected only because of its format, so that nothing of it is stored."""
        # If an earlier attempt may have been executed, by another server at the address, a rejection does not mean that
        # nothing is stored: the caller has to find out.
        if refusal.repeated:
            return False
        # Not every service that accepts only JSON answers 415. One that has accepted MessagePack means what it says.
        return refusal.status == 415 or (refusal.status in (400, 422) and self._takes_msgpack is None)

    async def _send_write(self, method: str, body: bytes, content_type: str) -> Answer:
        headers = {"content-type": content_type}
        if method == "POST":
            # The same bytes at every attempt, so that no retry stores anything twice.
            headers[wire.IDEMPOTENCY_KEY_HEADER] = uuid.uuid4().hex
        request = self._data_request(method, "chunk", (), body, headers)
        return await self._http.send(replace(request, max_answer_bytes=MAX_ACKNOWLEDGEMENT_BYTES))

    async def octets(
        self,
        method: str,
        path: str,
        content_type: str,
        *,
        parameters: Parameters = (),
        body_of_attempt: Callable[[], bytes] | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Returns the data plane's answer of this type, whole, of `max_bytes` at most; None means the client's own
        limit. `body_of_attempt` makes the MessagePack body of each attempt, in a thread."""
        request = self._data_request(method, path, parameters, None, {"accept": content_type})
        if body_of_attempt is not None:
            make = body_of_attempt

            async def renewed() -> bytes:
                return await asyncio.to_thread(make)

            headers = {**request.headers, "content-type": wire.MSGPACK}
            request = replace(request, headers=headers, body=await renewed(), renewed=renewed)
        got = await self._http.send(replace(request, max_answer_bytes=max_bytes))
        self._check_answer(got, (200,), content_type)
        return got

    async def store_packed(self, path: str, answer: type[T], body: bytes) -> T:
        """Returns the JSON answer to a MessagePack POST, which is executed once however often it is sent."""
        headers = {"content-type": wire.MSGPACK, wire.IDEMPOTENCY_KEY_HEADER: uuid.uuid4().hex}
        request = self._data_request("POST", path, (), body, headers)
        got = await self._http.send(replace(request, max_answer_bytes=MAX_ACKNOWLEDGEMENT_BYTES))
        self._check_answer(got, (200,), _JSON)
        return await self._decoded(got, answer)

    async def store_octets(self, path: str, answer: type[T], body: bytes, parameters: Parameters) -> T:
        """Returns the JSON answer to a POST of bytes that has the same effect however often it is sent."""
        headers = {"content-type": wire.SEGMENT_MEDIA_TYPE}
        request = self._data_request("POST", path, parameters, body, headers)
        got = await self._http.send(replace(request, max_answer_bytes=MAX_ACKNOWLEDGEMENT_BYTES))
        self._check_answer(got, (200,), _JSON)
        return await self._decoded(got, answer)

    async def search(self, path: str, body: bytes) -> list[wire.SearchRow]:
        """Returns the rows of the data plane's MessagePack answer."""
        got = await self._http.send(self._data_request("POST", path, (), body, {"accept": wire.MSGPACK}))
        self._check_answer(got, (200,), wire.MSGPACK)
        reader = PackedRowReader()
        return await asyncio.to_thread(lambda: [*reader.rows(got.body), *reader.last_rows()])

    async def search_blocks(
        self, path: str, body_after: Callable[[int], bytes | None]
    ) -> AsyncGenerator[frames.RowBlock, None]:
        """Yields the data plane's answer block by block as it arrives, from frames or, if not supported, MessagePack.

        If the connection breaks in the middle of an answer, the missing rows are requested, with as many attempts as
        for any request. `body_after` returns the body that requests the chunks after an id, -1 for all of them, or None
        if there cannot be any.
        """
        last, attempt = -1, 1
        while (body := body_after(last)) is not None:
            # Closed before the next attempt begins, so that the connection is free.
            async with aclosing(self._search_attempt(path, body)) as blocks:
                try:
                    async for block in blocks:
                        last = int(block.chunk_ids[-1])
                        yield block
                    return
                except _BrokenOff as broken:
                    error = broken.error
            await self._http.wait_after(attempt, error)
            attempt += 1

    async def _search_attempt(self, path: str, body: bytes) -> AsyncGenerator[frames.RowBlock, None]:
        """Yields one answer. Raises `_BrokenOff` if it breaks off."""
        accept = {"accept": f"{frames.MEDIA_TYPE}, {wire.MSGPACK}"}
        async with self._http.stream(self._data_request("POST", path, (), body, accept)) as got:
            is_framed = got.content_type == frames.MEDIA_TYPE
            self._check_answer(got, (200,), frames.MEDIA_TYPE if is_framed else wire.MSGPACK)
            if not isinstance(got, StreamedAnswer):
                raise AssertionError("an answer of status 200 is streamed")
            reader = frames.FrameReader() if is_framed else PackedRowReader()
            try:
                async for piece in got.pieces():
                    for block in reader.feed(piece):
                        yield block
                for block in reader.close():
                    yield block
            except frames.InvalidFrames as error:
                raise InvalidAnswer(f"the server's answer cannot be read: {error}; search again") from None
            except NetworkError as error:
                raise _BrokenOff(error) from None

    async def control(self, method: str, path: str, answer: type[T], *, body: bytes | None = None) -> T:
        """Returns the control plane's JSON answer at `{admin_api_url}/v1/{path}`.

        A POST is not retried once it may have been executed: there would be two knowledge bases, or two keys.
        """
        got = await self._http.send(self._control_request(method, path, body, repeatable=method != "POST"))
        self._check_answer(got, (200, 201), _JSON)
        return await self._decoded(got, answer)

    async def control_done(self, method: str, path: str, *, body: bytes | None = None) -> None:
        """Calls the control plane; only the status of the answer matters."""
        request = self._control_request(method, path, body, repeatable=True)
        got = await self._http.send(replace(request, max_answer_bytes=MAX_ACKNOWLEDGEMENT_BYTES))
        # If the first attempt has deleted the object, the second one does not find it.
        if not (got.repeated and got.status == 404 and method == "DELETE"):
            self._check_answer(got, (200, 204), None)

    async def data_done(self, method: str, path: str) -> None:
        """Calls the data plane without a body; only the status of the answer matters."""
        request = self._data_request(method, path, (), None, {})
        got = await self._http.send(replace(request, max_answer_bytes=MAX_ACKNOWLEDGEMENT_BYTES))
        if not (got.repeated and got.status == 404 and method == "DELETE"):
            self._check_answer(got, (200,), None)

    def _data_request(
        self, method: str, path: str, parameters: Parameters, body: bytes | None, headers: dict[str, str]
    ) -> Request:
        key = _given(self.api_key, "an API key", "api_key", "XTRACE_API_KEY")
        place = path if "{org}" in path else f"{path}/{{org}}"
        url = f"{self.api_url}/v1/{place.replace('{org}', self._organisation(), 1)}"
        if parameters:
            url = f"{url}?{urlencode(parameters)}"
        return Request(method, url, _headers(body) | {wire.API_KEY_HEADER: key} | headers, body)

    def _control_request(self, method: str, path: str, body: bytes | None, repeatable: bool) -> Request:
        key = _given(self.admin_key, "an admin key", "admin_key", "XTRACE_ADMIN_KEY")
        organisation = _given(self.org_id, "the organisation's id", "org_id", "XTRACE_ORG_ID")
        headers = {wire.ADMIN_KEY_HEADER: key, wire.ORGANISATION_HEADER: organisation}
        return Request(method, f"{self.admin_api_url}/v1/{path}", _headers(body) | headers, body, repeatable)

    def _organisation(self) -> str:
        return segment(_given(self.org_id, "the organisation's id", "org_id", "XTRACE_ORG_ID"), "org_id")

    def _check_answer(self, got: Answer, statuses: tuple[int, ...], content_type: str | None) -> None:
        if got.status >= 400:
            raise _server_error(got)
        if 300 <= got.status < 400:
            target = _host(got.headers.get("location", ""))
            raise InvalidAnswer(
                f"the server redirects to {target}, which is not followed because it would forward the keys: use "
                "the final address as api_url"
            )
        if got.status not in statuses:
            raise InvalidAnswer(
                f"the server answered status {got.status}, expected {statuses[0]}: is this an XTrace server?"
            )
        if content_type is not None and got.content_type != content_type:
            raise InvalidAnswer(
                f"the server answered {sentence(got.content_type) or 'no content type'}, expected {content_type}: "
                "check that the URL belongs to an XTrace server"
            )

    async def _decoded(self, got: Answer, answer: type[T]) -> T:
        decode = msgspec.msgpack.decode if got.content_type == wire.MSGPACK else msgspec.json.decode
        try:
            if len(got.body) > _BIG_ANSWER_BYTES:
                return await asyncio.to_thread(decode, got.body, type=answer)
            return decode(got.body, type=answer)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            # The parser's message names the field and types, never a value.
            raise InvalidAnswer(f"the server's answer violates the HTTP contract: {error}") from None


def segment(value: Any, name: str) -> str:
    """Returns an id as one segment of a path. Raises `InvalidArgument` for an impossible id."""
    if not isinstance(value, str) or not value or value in (".", ".."):
        raise InvalidArgument(f"{name} is {'empty' if value == '' else 'no id'}, expected an id from the service")
    return quote(value, safe="")


def _host(url: str) -> str:
    try:
        return sentence(urlsplit(url).hostname or "") or "another address"
    except ValueError:
        return "another address"


def _given(value: str, what: str, argument: str, variable: str) -> str:
    if not value:
        raise InvalidArgument(f"this call needs {what}: give {argument}, or set {variable}")
    return value


def _headers(body: bytes | None) -> dict[str, str]:
    return {"accept": _JSON} if body is None else {"accept": _JSON, "content-type": _JSON}


class _LooseProblem(msgspec.Struct):
    """A problem from a server, a proxy or another version."""

    detail: str = ""
    message: str = ""
    code: str = ""


def _server_error(got: Answer) -> ServerError:
    try:
        problem = msgspec.json.decode(got.body, type=_LooseProblem)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        problem = _LooseProblem()
    by_status = _BY_STATUS.get(got.status, errors.ServerFault if got.status >= 500 else ServerError)
    text = sentence(problem.detail) or sentence(problem.message)
    if not text:
        text = f"the server answered status {got.status} without saying why: check that the URL is that of XTrace"
    return _BY_CODE.get(problem.code, by_status)(
        text, status=got.status, code=sentence(problem.code), retry_after=got.retry_after
    )
