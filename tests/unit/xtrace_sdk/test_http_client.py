"""Retries, waits and refusals of the HTTP client, against a transport that misbehaves on cue."""

import asyncio
import email.utils
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from xtrace_sdk.errors import (
    AnswerTooLarge,
    InvalidAnswer,
    InvalidArgument,
    NetworkError,
    ServerTimeout,
    ServerUnreachable,
)
from xtrace_sdk.http import transport as _http
from xtrace_sdk.http.transport import Answer, HttpClient, Request, Retries

Step = httpx2.Response | Exception


class Script:
    """A server that does one step after another, and keeps what it was sent."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def client(handler: Callable[[httpx2.Request], Any], **options: Any) -> HttpClient:
    settings: dict[str, Any] = {
        "timeout_s": 5.0,
        "deadline_s": 5.0,
        "max_answer_bytes": 1000,
        "max_connections": 2,
        "retries": Retries(attempts=3, first_delay_s=0.0),
    }
    return HttpClient(**(settings | options), transport=httpx2.MockTransport(handler))


def request(repeatable: bool = True) -> Request:
    return Request("POST", "http://service.test/v1/x", {"x-api-key": "k"}, b"body", repeatable)


def ok() -> httpx2.Response:
    return httpx2.Response(200, content=b"done")


@pytest.mark.parametrize(
    "fault",
    [
        httpx2.ConnectError("refused"),
        httpx2.ConnectTimeout("slow"),
        httpx2.Response(429),
        httpx2.Response(503),
    ],
)
async def test_what_was_not_carried_out_is_tried_again_whatever_it_is(fault: Step) -> None:
    script = Script(fault, fault, ok())
    answer = await client(script).send(request(repeatable=False))
    assert (answer.status, answer.body, answer.repeated) == (200, b"done", False)
    assert [(r.method, r.content) for r in script.requests] == [("POST", b"body")] * 3


@pytest.mark.parametrize(
    "fault",
    [
        httpx2.ReadTimeout("silent"),
        httpx2.ReadError("reset"),
        httpx2.WriteError("reset"),
        httpx2.RemoteProtocolError("Server disconnected without sending a response."),
        httpx2.Response(500),
        httpx2.Response(502),
        httpx2.Response(504),
    ],
)
async def test_what_may_have_been_carried_out_is_tried_again_only_if_repeatable(fault: Step) -> None:
    answer = await client(Script(fault, ok())).send(request())
    assert (answer.status, answer.repeated) == (200, True)
    script = Script(fault, ok())
    if isinstance(fault, httpx2.Response):
        assert (await client(script).send(request(repeatable=False))).status == fault.status_code
    else:
        with pytest.raises(NetworkError):
            await client(script).send(request(repeatable=False))
    assert len(script.requests) == 1


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 409, 413, 422, 501, 507])
async def test_other_answers_are_final(status: int) -> None:
    script = Script(httpx2.Response(status))
    assert (await client(script).send(request())).status == status


async def test_the_last_answer_is_given_when_the_attempts_are_used_up() -> None:
    script = Script(*[httpx2.Response(503, headers={"retry-after": "0"}) for _ in range(3)])
    assert (await client(script).send(request())).status == 503
    assert not script.steps


@pytest.mark.parametrize(
    ("fault", "expected", "words"),
    [
        (httpx2.ConnectError("refused"), ServerUnreachable, "refused"),
        (httpx2.ConnectTimeout(""), ServerUnreachable, "in time"),
        (httpx2.ReadTimeout(""), ServerTimeout, "5 s"),
        (httpx2.WriteTimeout(""), ServerTimeout, "5 s"),
        (httpx2.ReadError(""), ServerUnreachable, "was closed"),
        (httpx2.RemoteProtocolError("Server disconnected"), ServerUnreachable, "was closed"),
        (httpx2.RemoteProtocolError("illegal status line"), InvalidAnswer, "other than HTTP"),
        (httpx2.DecodingError("bad gzip"), InvalidAnswer, "other than HTTP"),
        (httpx2.ProxyError("403"), ServerUnreachable, "403"),
    ],
)
async def test_each_fault_of_the_network_has_its_exception(
    fault: Exception, expected: type[NetworkError], words: str
) -> None:
    with pytest.raises(expected, match=words) as raised:
        await client(Script(fault, fault, fault)).send(request())
    assert "http://service.test" in str(raised.value)
    assert raised.value.__cause__ is None


async def test_a_fault_that_no_repetition_heals_is_not_tried_again() -> None:
    script = Script(httpx2.RemoteProtocolError("illegal status line"), ok())
    with pytest.raises(InvalidAnswer):
        await client(script).send(request())
    assert len(script.requests) == 1


async def test_what_is_said_of_an_answer_that_is_none_is_short_and_printable() -> None:
    with pytest.raises(InvalidAnswer) as raised:
        await client(Script(httpx2.RemoteProtocolError("illegal header: \x1b[2J" + "x" * 10**6))).send(request())
    assert "illegal header: " in str(raised.value)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


async def test_an_attempt_has_a_deadline_as_a_whole() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    slow = client(lambda _: httpx2.Response(200, content=trickle()), deadline_s=0.05, max_answer_bytes=10**6)
    with pytest.raises(ServerTimeout, match=r"0\.05 s"):
        await slow.send(request())


async def test_an_answer_above_the_limit_is_refused_while_it_arrives() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1001):
            yield b"x"

    with pytest.raises(AnswerTooLarge, match="1000 bytes"):
        await client(lambda _: httpx2.Response(200, content=pieces())).send(request())


@pytest.mark.parametrize("length", ["1001", "9" * 5000])
async def test_an_answer_that_announces_more_than_the_limit_is_not_read(length: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        raise AssertionError("the body is read")
        yield b""

    announced = httpx2.Response(200, headers={"content-length": length}, content=pieces())
    with pytest.raises(AnswerTooLarge):
        await client(lambda _: announced).send(request())


async def test_a_request_can_have_a_lower_limit_of_its_own() -> None:
    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=b"x" * 100)

    assert (await client(respond).send(replace(request(), max_answer_bytes=100))).body == b"x" * 100
    with pytest.raises(AnswerTooLarge):
        await client(respond).send(replace(request(), max_answer_bytes=99))


async def test_a_body_in_drops_takes_no_more_memory_than_its_length() -> None:
    async def drops() -> AsyncIterator[bytes]:
        for _ in range(100_000):
            yield b"xy"

    tracemalloc.start()
    try:
        await client(lambda _: httpx2.Response(200, content=drops()), max_answer_bytes=200_000).send(request())
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


async def test_waits_follow_retry_after_and_otherwise_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    own_loop, sleep = asyncio.get_running_loop(), asyncio.sleep

    async def note(delay: float) -> None:
        # A server that other tests left running in a thread has a loop of its own.
        if asyncio.get_running_loop() is own_loop:
            waits.append(delay)
        else:
            await sleep(delay)

    monkeypatch.setattr(asyncio, "sleep", note)
    retries = Retries(attempts=6, first_delay_s=1.0, longest_delay_s=4.0, longest_retry_after_s=10.0)
    script = Script(httpx2.Response(429, headers={"retry-after": "7"}), *[httpx2.Response(503) for _ in range(4)], ok())
    await client(script, retries=retries).send(request())
    assert waits[0] == 7.0
    for wait, longest in zip(waits[1:], [2.0, 4.0, 4.0, 4.0], strict=True):
        assert longest / 2 <= wait <= longest


async def test_a_longer_retry_after_than_allowed_is_left_to_the_caller() -> None:
    script = Script(httpx2.Response(429, headers={"retry-after": "61"}), ok())
    answer = await client(script).send(request())
    assert (answer.status, answer.retry_after) == (429, 61.0)


def test_retry_after_may_be_a_date() -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    wait = Answer(429, {"retry-after": date}).retry_after
    assert wait is not None
    assert 25 < wait <= 30
    assert Answer(429, {"retry-after": email.utils.formatdate(0)}).retry_after == 0.0


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", "9" * 20, "Thu, 01 Jan 99999999999999 00:00:00 GMT", "Thu, 99 Abc 0000 99:99:99 +9999"],
)
def test_a_retry_after_that_says_nothing_is_none(value: str) -> None:
    assert Answer(429, {"retry-after": value}).retry_after is None


def test_one_client_serves_several_event_loops_and_leaves_nothing_open() -> None:
    class Transport(httpx2.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            type(self).closed += 1

    shared = HttpClient(
        timeout_s=1,
        deadline_s=1,
        max_answer_bytes=10,
        max_connections=1,
        retries=Retries(),
        transport=Transport(lambda _: ok()),
    )
    for _ in range(3):
        assert asyncio.run(shared.send(request())).status == 200
    gc.collect()
    assert Transport.closed == 3
    assert not shared._clients._open


async def test_a_closed_client_opens_again() -> None:
    again = client(lambda _: ok())
    await again.aclose()
    assert (await again.send(request())).status == 200
    await again.aclose()
    await again.aclose()
    assert (await again.send(request())).status == 200


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "ftp://example.com", "http://", "http://host:99999", "http://[::1", "/v1", "http://host:0"],
)
def test_what_is_no_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidArgument, match="api_url"):
        _http.base_url(url, "api_url")


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidArgument) as raised:
        _http.base_url("https://user:hunter2@example.com", "api_url")
    assert "hunter2" not in str(raised.value)


def test_a_url_loses_its_last_slash() -> None:
    assert _http.base_url(" https://example.com:8443/base/ ", "api_url") == "https://example.com:8443/base"


@pytest.mark.parametrize("key", ["s3cr3t\nb", " s3cr3t", "s3cr3t\x7f", "s3cr3tü"])
def test_a_key_that_no_header_carries_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        _http.header_value(key, "api_key")
    assert "s3cr3t" not in str(raised.value)
    assert "api_key" in str(raised.value)


def test_requests_and_answers_do_not_show_keys_or_bodies() -> None:
    shown = repr(Request("POST", "http://service.test", {"x-api-key": "secret"}, b"secret"))
    assert "secret" not in shown + repr(Answer(200, {}, b"secret"))


async def test_a_body_that_must_not_be_sent_twice_is_made_again_for_each_attempt() -> None:
    script, made = Script(httpx2.ConnectError("refused"), httpx2.Response(503), ok()), iter([b"second", b"third"])

    async def renewed() -> bytes:
        return next(made)

    answer = await client(script).send(replace(request(), body=b"first", renewed=renewed))
    assert answer.body == b"done"
    assert [sent.content for sent in script.requests] == [b"first", b"second", b"third"]
