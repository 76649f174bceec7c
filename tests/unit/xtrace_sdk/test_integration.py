"""`XTraceIntegration` against answers that a real service gives rarely or never."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest

from xtrace_core import wire
from xtrace_sdk import errors
from xtrace_sdk.errors import (
    AnswerTooLarge,
    InvalidAnswer,
    InvalidArgument,
    InvalidFilter,
    InvalidMetaData,
    PartlyStored,
    RateLimited,
    ServerError,
    ServerFault,
)
from xtrace_sdk.service import payloads as _payloads
from xtrace_sdk.service.integration import DEFAULT_API_URL, Retries, XTraceIntegration

Handler = Callable[[httpx2.Request], httpx2.Response]
CONTENT = {"chunk_content": "c", "nonce": b"nonce"}


def connected(handler: Handler, **options: Any) -> XTraceIntegration:
    settings: dict[str, Any] = {
        "org_id": "org",
        "api_key": "data-secret",
        "api_url": "http://service.test",
        "admin_key": "admin-secret",
        "retries": Retries(attempts=3, first_delay_s=0.0),
    }
    return XTraceIntegration(**(settings | options), transport=httpx2.MockTransport(handler))


def answering(status: int, body: Any, content_type: str = "application/json", **headers: str) -> XTraceIntegration:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return connected(
        lambda _: httpx2.Response(status, content=content, headers={"content-type": content_type, **headers})
    )


def sent_chunks(request: httpx2.Request) -> list[Any]:
    """The chunks of an insertion, in whichever format it came."""
    decode = msgspec.msgpack.decode if request.headers["content-type"] == wire.MSGPACK else msgspec.json.decode
    chunks: list[Any] = decode(request.content)["chunks"]
    return chunks


def inserting(ids: Callable[[int, list[Any]], httpx2.Response]) -> XTraceIntegration:
    """A service that answers the n-th insertion (from 0) with `ids(n, chunks)`."""
    count = -1

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        return ids(count, sent_chunks(request))

    return connected(handle)


def numbered(chunks: list[Any]) -> httpx2.Response:
    """Ids that show which chunks they were given for."""
    return httpx2.Response(200, json={"chunk_ids": [int(chunk["name"]) + 1000 for chunk in chunks]})


def database(count: int) -> list[dict[str, Any]]:
    return [{**CONTENT, "name": str(i)} for i in range(count)]


# Settings and secrets


def test_settings_come_from_arguments_then_the_environment_then_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XTRACE_API_URL", "XTRACE_ADMIN_API_URL", "XTRACE_ORG_ID", "XTRACE_API_KEY", "XTRACE_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert XTraceIntegration().api_url == DEFAULT_API_URL
    assert XTraceIntegration()._service.admin_api_url == f"{DEFAULT_API_URL}/api"
    monkeypatch.setenv("XTRACE_API_URL", "http://env.test/")
    monkeypatch.setenv("XTRACE_ORG_ID", "env-org")
    assert XTraceIntegration().api_url == "http://env.test"
    assert XTraceIntegration()._service.admin_api_url == "http://env.test/api"
    assert XTraceIntegration(api_url="http://arg.test")._service.admin_api_url == "http://arg.test/api"
    assert (XTraceIntegration().org_id, XTraceIntegration("arg-org").org_id) == ("env-org", "arg-org")
    monkeypatch.setenv("XTRACE_ADMIN_API_URL", "http://admin.test")
    assert XTraceIntegration()._service.admin_api_url == "http://admin.test"
    assert XTraceIntegration(admin_api_url="http://a.test/x/")._service.admin_api_url == "http://a.test/x"


async def test_keys_travel_in_their_headers_and_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx2.Headers] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers)
        return httpx2.Response(200, json={"contexts": []} if "exec_context" in request.url.path else [])

    monkeypatch.setenv("XTRACE_API_KEY", "env-data")
    monkeypatch.setenv("XTRACE_ADMIN_KEY", "env-admin")
    xtrace = connected(handle, api_key=None, admin_key=None)
    await xtrace.list_exec_contexts()
    await xtrace.list_kbs()
    assert seen[0]["x-api-key"] == "env-data"
    assert "x-xtrace-key" not in seen[0]
    assert (seen[1]["x-xtrace-key"], seen[1]["x-xtrace-org-id"]) == ("env-admin", "org")
    assert "x-api-key" not in seen[1]


def test_repr_shows_no_key() -> None:
    shown = repr(connected(lambda _: httpx2.Response(200)))
    assert "secret" not in shown
    assert "'http://service.test'" in shown
    assert "api_key='…'" in shown


@pytest.mark.parametrize(
    ("missing", "variable"),
    [("org_id", "XTRACE_ORG_ID"), ("api_key", "XTRACE_API_KEY"), ("admin_key", "XTRACE_ADMIN_KEY")],
)
async def test_a_missing_setting_is_named_by_the_call_that_needs_it(
    missing: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    xtrace = connected(lambda _: httpx2.Response(200, json=[]), **{missing: None})
    with pytest.raises(InvalidArgument, match=f"{missing}.*{variable}"):
        await (xtrace.list_kbs() if missing == "admin_key" else xtrace.list_exec_contexts())


async def test_the_context_manager_closes_and_gives_itself() -> None:
    xtrace = answering(200, {"contexts": ["a"]})
    async with xtrace as entered:
        assert entered is xtrace
        assert await xtrace.list_exec_contexts() == ["a"]
    assert not xtrace._service._http._clients._open


# Errors of the service


SERVER_ERRORS = [
    (code, status, cls)
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, ServerError)
    for code, status in [
        *((code, 418) for code in vars(cls).get("codes", ())),
        *(("", status) for status in vars(cls).get("statuses", ())),
    ]
]


@pytest.mark.parametrize(("code", "status", "expected"), SERVER_ERRORS)
async def test_every_class_of_server_error_is_raised(code: str, status: int, expected: type[ServerError]) -> None:
    problem = {"type": "t", "title": "T", "status": status, "detail": "why", "code": code, "message": "why"}
    xtrace = answering(status, problem, "application/problem+json", **{"retry-after": "0"})
    with pytest.raises(ServerError) as raised:
        await xtrace.list_exec_contexts()
    assert type(raised.value) is expected
    assert (str(raised.value), raised.value.status, raised.value.code) == ("why", status, code)
    assert raised.value.retry_after == 0.0


@pytest.mark.parametrize(
    ("status", "expected"), [(418, ServerError), (501, ServerFault), (404, errors.NotFound), (502, errors.Unavailable)]
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail": 3}', b"\xff", b"[" * 5000])
async def test_an_error_without_a_problem_is_told_by_its_status(
    status: int, expected: type[ServerError], body: bytes
) -> None:
    with pytest.raises(expected, match=f"status {status}"):
        await answering(status, body, "text/html").list_exec_contexts()


async def test_a_server_cannot_write_to_the_terminal_through_its_messages() -> None:
    with pytest.raises(errors.NotFound) as raised:
        await answering(404, {"detail": "no\x1b[31m" + "x" * 5000, "code": "c\n"}).list_exec_contexts()
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) <= 1000


async def test_waiting_too_long_is_left_to_the_caller() -> None:
    with pytest.raises(RateLimited) as raised:
        await answering(429, {"detail": "slow down"}, **{"retry-after": "3600"}).list_exec_contexts()
    assert raised.value.retry_after == 3600.0


# Answers that are none


@pytest.mark.parametrize(
    ("status", "body", "content_type", "words"),
    [
        (200, b"<html>hello</html>", "text/html", "text/html"),
        (200, b"{}", "", "no content type"),
        (200, b"{", "application/json", "contract"),
        (200, b'{"contexts": [1]}', "application/json", "contexts"),
        (200, b"[]", "application/json", "contract"),
        (200, b'{"contexts": ["\xff"]}', "application/json", "contract"),
        (201, b'{"contexts": []}', "application/json", "201"),
        (204, b"", "application/json", "204"),
    ],
)
async def test_what_the_contract_does_not_know_is_an_invalid_answer(
    status: int, body: bytes, content_type: str, words: str
) -> None:
    with pytest.raises(InvalidAnswer, match=words):
        await answering(status, body, content_type).list_exec_contexts()


async def test_redirects_are_not_followed() -> None:
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        return httpx2.Response(307, headers={"location": "http://evil.test/v1/exec_context/org"})

    with pytest.raises(InvalidAnswer, match=r"redirects to evil\.test"):
        await connected(handle).list_exec_contexts()
    assert asked == ["service.test"]


def search_answer(rows: Any) -> XTraceIntegration:
    return answering(200, msgspec.msgpack.encode(rows), "application/x-msgpack")


async def test_a_search_gives_ids_ciphertexts_and_nonces() -> None:
    answer = await search_answer([[[b"\1"], 3], [[b"\2"], 5, b"n"], [[b"\3"], 9, None]]).compute_hamming_distances(
        [7], "ctx", "kb"
    )
    assert answer == [(3, [b"\1"]), (5, [b"\2"]), (9, [b"\3"])]
    assert (answer.chunk_ids, answer.rows) == ([3, 5, 9], [[b"\1"], [b"\2"], [b"\3"]])
    assert answer.nonces == [None, b"n", None]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[[b"\1"], 3], [[b"\1"], 3]], "twice"),
        ([[[b"\1"], 4], [[b"\1"], 3]], "ascending"),
        ([[[b"\1"], "3"]], "contract"),
        ([[[b"\1"], True]], "contract"),
        ([[["text"], 3]], "contract"),
        ([[b"\1", 3]], "contract"),
        ([[[b"\1"]]], "contract"),
        ({}, "contract"),
        ([[[b"\1"], 9]], "outside the requested range"),
    ],
)
async def test_rows_that_are_none_are_an_invalid_answer(rows: Any, words: str) -> None:
    with pytest.raises(InvalidAnswer, match=words):
        await search_answer(rows).compute_hamming_distances([7], "ctx", "kb", range=(1, 8))


async def test_a_search_answered_in_json_is_an_invalid_answer() -> None:
    with pytest.raises(InvalidAnswer, match="x-msgpack"):
        await answering(200, []).compute_hamming_distances([7], "ctx", "kb")


@pytest.mark.parametrize("ids", [[2, 1], [1, 4], [1, 1]])
async def test_chunks_that_were_not_asked_for_are_an_invalid_answer(ids: list[int]) -> None:
    with pytest.raises(InvalidAnswer, match="not requested"):
        await answering(200, [{"chunk_id": i} for i in ids]).get_chunk_by_id([1, 2, 3], "kb")


async def test_names_that_were_not_asked_for_are_an_invalid_answer() -> None:
    with pytest.raises(InvalidAnswer, match="not requested"):
        await answering(200, {"chunk_ids": {"other": 1}}).find_chunk_names("kb", "ctx", ["name"])


@pytest.mark.parametrize("ids", [[], [1], [1, 1], [1, 2, 3]])
async def test_an_insertion_needs_one_id_for_each_chunk(ids: list[int]) -> None:
    with pytest.raises(InvalidAnswer, match="ids for 2 chunks"):
        await answering(200, {"chunk_ids": ids}).insert_chunks("kb", [CONTENT] * 2, "ctx", index=[[1], [2]])


def paging(*pages: dict[str, Any]) -> XTraceIntegration:
    """A service that gives these pages one after the other, and the last one for ever."""
    remaining = list(pages)
    whole = {"total": 9, "limit": 1, "offset": 0, "has_more": True}

    def handle(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=whole | (remaining.pop(0) if len(remaining) > 1 else remaining[0]))

    return connected(handle)


def page_of(*ids: int, token: str | None = None) -> dict[str, Any]:
    return {"results": [{"chunk_id": i} for i in ids], "next_page_token": token}


@pytest.mark.parametrize(
    ("pages", "sort_by", "words"),
    [
        ([page_of(token="a"), page_of(token="b")], "chunk_id", "returned none"),
        ([page_of() | {"has_more": False}], "chunk_id", "returned none"),
        ([page_of(1, token="a"), page_of(token="b")], "chunk_id", "returned none"),
        ([page_of(1), page_of(2)], "chunk_id", "page_token"),
        ([page_of(1, token="a"), page_of(2, token="a")], "chunk_id", "page_token"),
        ([page_of(1, token="a"), page_of(1, token="b")], "chunk_id", "an id occurs twice"),
        ([page_of(2, 1, token="a"), page_of(2, token="b")], "tag1", "repeated"),
        ([page_of(1, token="a"), page_of(2, token="b"), page_of(1, token="a")], "tag1", "page_token"),
    ],
)
async def test_pages_that_do_not_get_on_are_an_invalid_answer(
    pages: list[dict[str, Any]], sort_by: str, words: str
) -> None:
    with pytest.raises(InvalidAnswer, match=words):
        _ = [chunk async for chunk in paging(*pages).iter_meta_search("kb", {}, "ctx", sort_by=sort_by)]


async def test_a_chunk_that_was_moved_to_a_later_page_is_no_fault() -> None:
    pages = page_of(3, 1, token="a"), page_of(1, 2, token="b"), page_of() | {"has_more": False}
    found = paging(*pages).iter_meta_search("kb", {}, "ctx", sort_by="updated_at")
    assert [chunk["chunk_id"] async for chunk in found] == [3, 1, 1, 2]


async def test_a_page_without_room_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        await anext(paging(page_of()).iter_meta_search("kb", {}, "ctx", page_size=0))


# Answers that are too large


def with_large_chunks(asked: list[int], sizes: dict[int, int]) -> XTraceIntegration:
    """A service whose chunks have contents of these sizes; it notes how many are asked for at once."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            ids = [int(i) for i in request.url.params.get_list("chunk_ids")]
            asked.append(len(ids))
            return httpx2.Response(200, json=[{"chunk_id": i, "chunk_content": "x" * sizes[i]} for i in ids])
        body = json.loads(request.content)
        start, limit = int(body.get("page_token") or 0), body["limit"]
        asked.append(limit)
        ids = sorted(sizes)[start : start + limit]
        following = start + limit
        page = {
            "results": [{"chunk_id": i, "chunk_content": "x" * sizes[i]} for i in ids],
            "total": len(sizes),
            "limit": limit,
            "offset": start,
            "has_more": following < len(sizes),
            "next_page_token": str(following),
        }
        return httpx2.Response(200, json=page)

    return connected(handle, max_answer_bytes=1000)


async def test_chunks_too_large_for_one_answer_come_in_several() -> None:
    asked: list[int] = []
    xtrace = with_large_chunks(asked, dict.fromkeys(range(1, 11), 200))
    found = await xtrace.get_chunk_by_id(range(10, 0, -1), "kb", ["chunk_content"])
    assert [chunk["chunk_id"] for chunk in found] == list(range(10, 0, -1))
    assert asked == [10, 5, 2, 3, 5, 2, 3]
    asked.clear()
    pages = xtrace.iter_meta_search("kb", {}, "ctx", projection=["chunk_content"], page_size=10)
    assert [chunk["chunk_id"] async for chunk in pages] == list(range(1, 11))
    assert asked == [10, 5, 2, 2, 2, 2, 2]


async def test_a_chunk_that_is_too_large_by_itself_is_an_error() -> None:
    xtrace = with_large_chunks([], {1: 10, 2: 2000, 3: 10})
    with pytest.raises(AnswerTooLarge, match="max_answer_bytes"):
        await xtrace.get_chunk_by_id([1, 2, 3], "kb")
    with pytest.raises(AnswerTooLarge, match="max_answer_bytes"):
        _ = [chunk async for chunk in xtrace.iter_meta_search("kb", {}, "ctx", page_size=3)]


LARGE = json.dumps({"deleted_count": 1, "context_id": "ctx", "pk": "p", "more": "x" * (9 << 20)}).encode()


@pytest.mark.parametrize(
    "call",
    [
        lambda xtrace: xtrace.delete_chunks([1], "kb"),
        lambda xtrace: xtrace.delete_chunks_by_meta("kb", "ctx", {}),
        lambda xtrace: xtrace.patch_chunks_by_meta("kb", "ctx", {}, {"tag1": "x"}, dry_run=True),
        lambda xtrace: xtrace.store_exec_context({"type": "t", "pk": "p", "config": "c"}, "ctx"),
        lambda xtrace: xtrace.get_serialized_exec_context("ctx"),
        lambda xtrace: xtrace.find_chunk_names("kb", "ctx", ["name"]),
        lambda xtrace: xtrace.insert_chunks("kb", [CONTENT], "ctx", index=[[1]]),
        lambda xtrace: xtrace.patch_chunks("kb", "ctx", [{"chunk_id": 1, "name": "x"}]),
        lambda xtrace: xtrace.delete_exec_context("ctx"),
        lambda xtrace: xtrace.delete_kb("kb"),
    ],
)
async def test_what_is_short_by_its_kind_is_read_no_further(call: Callable[[XTraceIntegration], Any]) -> None:
    with pytest.raises(AnswerTooLarge):
        await call(answering(200, LARGE))


@pytest.mark.parametrize("number", [2**63, -1, 10**400, 1.5, "1", None])
async def test_numbers_that_no_service_counts_to_are_an_invalid_answer(number: Any) -> None:
    with pytest.raises(InvalidAnswer):
        await answering(200, {"deleted_count": number}).delete_chunks([1], "kb")
    with pytest.raises(InvalidAnswer):
        await answering(200, [{"chunk_id": number}]).meta_search("kb", {}, "ctx")
    with pytest.raises(InvalidAnswer):
        await paging(page_of(1) | {"total": number}).meta_search_paginated("kb", "ctx")
    with pytest.raises(InvalidAnswer):
        await answering(200, {"chunk_ids": [number]}).insert_chunks("kb", [CONTENT], "ctx", index=[[1]])


@pytest.mark.parametrize("field", [{"nonce": "A" * 400}, {"index": ["A" * 4000]}, {"index": ["AA=="] * 1025}])
async def test_ciphertexts_and_nonces_longer_than_any_are_an_invalid_answer(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswer):
        await answering(200, [{"chunk_id": 1, **field}]).get_chunk_by_id([1], "kb")


@pytest.mark.parametrize("location", ["http://[", "//[::1", "http://\x00", "x" * 5000, "", "http://a:99999999/"])
async def test_any_redirect_is_an_invalid_answer(location: str) -> None:
    with pytest.raises(InvalidAnswer, match="redirects to"):
        await answering(302, b"", location=location).list_kbs()


# What is sent


async def test_a_retried_insertion_sends_the_same_bytes_under_the_same_key() -> None:
    seen: list[tuple[str, bytes]] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.headers["idempotency-key"], request.content))
        if len(seen) == 1:
            raise httpx2.ReadTimeout("lost")
        return httpx2.Response(500) if len(seen) == 2 else httpx2.Response(200, json={"chunk_ids": [1]})

    xtrace = connected(handle)
    assert await xtrace.insert_chunks("kb", [CONTENT], "ctx", index=[[1]]) == [1]
    assert len(seen) == 3
    assert len(set(seen)) == 1
    await xtrace.insert_chunks("kb", [CONTENT], "ctx", index=[[1]])
    assert seen[3][0] != seen[0][0]
    assert seen[3][1] == seen[0][1]


@pytest.mark.parametrize("refusal", [400, 415, 422])
async def test_a_service_that_knows_only_json_gets_json_from_then_on(refusal: int) -> None:
    seen: list[tuple[str, str]] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method, request.headers["content-type"]))
        if seen[-1][1] != "application/json":
            return httpx2.Response(refusal)
        if request.method == "POST":
            assert json.loads(request.content)["chunks"][0]["index"] == ["AQ=="]
            return httpx2.Response(200, json={"chunk_ids": [1]})
        return httpx2.Response(200, json={})

    xtrace = connected(handle)
    assert await xtrace.store_db([CONTENT], [[1]], "kb", "ctx") == [1]
    await xtrace.update_chunks([[1]], [{"chunk_id": 1, **CONTENT}], "ctx", "kb")
    await xtrace.patch_chunks("kb", "ctx", [{"chunk_id": 1, "name": "x"}])
    methods = ["POST", "POST", "PUT", "PATCH"]
    assert seen == list(zip(methods, [wire.MSGPACK, *["application/json"] * 3], strict=True))


async def test_a_service_that_has_taken_messagepack_means_what_it_refuses() -> None:
    statuses = [422, 422, 200, 422]
    formats: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        formats.append(request.headers["content-type"])
        return httpx2.Response(statuses[len(formats) - 1], json={"chunk_ids": [1]})

    xtrace = connected(handle)
    with pytest.raises(errors.InvalidRequest):
        await xtrace.insert_chunks("kb", [CONTENT], "ctx", index=[[1]])
    await xtrace.insert_chunks("kb", [CONTENT], "ctx", index=[[1]])
    with pytest.raises(errors.InvalidRequest):
        await xtrace.insert_chunks("kb", [CONTENT], "ctx", index=[[1]])
    assert formats == [wire.MSGPACK, "application/json", wire.MSGPACK, wire.MSGPACK]


async def test_a_refused_format_after_a_lost_answer_is_the_callers_to_judge() -> None:
    """The attempt before it may have stored the chunks: another server at the address knew the format."""
    count = 0

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        if count == 1:
            raise httpx2.ReadTimeout("lost")
        return httpx2.Response(415)

    with pytest.raises(errors.UnsupportedMediaType):
        await connected(handle).store_db([CONTENT], [[1]], "kb", "ctx")
    assert count == 2


@pytest.mark.parametrize("call", ["create_kb", "create_api_key"])
async def test_a_creation_is_not_repeated_once_it_may_have_been_received(call: str) -> None:
    count = 0

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        raise httpx2.ReadTimeout("lost")

    with pytest.raises(errors.ServerTimeout):
        await getattr(connected(handle), call)("name")
    assert count == 1


@pytest.mark.parametrize("call", ["delete_kb", "revoke_api_key", "delete_exec_context"])
async def test_a_deletion_whose_first_answer_was_lost_is_done_when_nothing_is_found(call: str) -> None:
    answers: list[httpx2.Response | Exception] = [httpx2.ReadTimeout("lost"), httpx2.Response(404)]

    def handle(request: httpx2.Request) -> httpx2.Response:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    xtrace = connected(handle)
    await getattr(xtrace, call)("x")
    answers.append(httpx2.Response(404))
    with pytest.raises(errors.NotFound):
        await getattr(xtrace, call)("x")


@pytest.mark.parametrize("bad", ["", ".", "..", None, 3])
async def test_an_id_that_would_change_the_path_is_refused(bad: Any) -> None:
    xtrace = connected(lambda _: httpx2.Response(500))
    for call in (xtrace.delete_kb, xtrace.delete_exec_context, xtrace.revoke_api_key, xtrace.get_ctx_for_kb):
        with pytest.raises(InvalidArgument, match=r"expected an id|expected a text"):
            await call(bad)


async def test_an_id_is_one_segment_of_the_path_whatever_it_holds() -> None:
    paths: list[bytes] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.raw_path)
        return httpx2.Response(200, json={})

    await connected(handle, org_id="a/b").delete_exec_context("../x?y#{org}%2f")
    assert paths == [b"/v1/exec_context/a%2Fb/..%2Fx%3Fy%23%7Borg%7D%252f"]


async def test_ids_are_spread_over_several_requests_in_their_order() -> None:
    urls: list[httpx2.URL] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        urls.append(request.url)
        ids = [int(i) for i in request.url.params.get_list("chunk_ids")]
        if request.method == "DELETE":
            return httpx2.Response(200, json={"deleted_count": len(ids)})
        return httpx2.Response(200, json=[{"chunk_id": i} for i in ids])

    xtrace = connected(handle)
    ids = list(range(1000, 0, -1))
    chunks = await xtrace.get_chunk_by_id([*ids, 7], "kb", projection=["name", "tag1"])
    assert [chunk["chunk_id"] for chunk in chunks] == ids
    assert len(urls) == 4
    assert max(len(str(url)) for url in urls) < 8000
    assert urls[0].params.get_list("projection") == ["name", "tag1"]
    assert await xtrace.delete_chunks(np.arange(600), "kb") == 600
    assert await xtrace.delete_chunks([], "kb") == 0
    assert await xtrace.get_chunk_by_id([], "kb") == []
    assert len(urls) == 4 + 3


async def test_names_are_asked_for_by_the_thousand() -> None:
    sizes: list[int] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        names = json.loads(request.content)["names"]
        sizes.append(len(names))
        return httpx2.Response(200, json={"chunk_ids": dict.fromkeys(names, 1)})

    names = [f"n{i}" for i in range(2500)]
    assert len(await connected(handle).find_chunk_names("kb", "ctx", names + names)) == 2500
    assert sizes == [1000, 1000, 500]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.meta_search("kb", {"tag9": "x"}, "ctx"), InvalidFilter),
        (lambda x: x.meta_search_paginated("kb", "ctx", {"tag1": {"$like": "x"}}), InvalidFilter),
        (lambda x: x.compute_hamming_distances([1], "ctx", "kb", meta_filter="{"), InvalidFilter),
        (lambda x: x.delete_chunks_by_meta("kb", "ctx", {"tag1": 3}), InvalidFilter),
        (lambda x: x.delete_chunks_by_meta("kb", "ctx", None), InvalidFilter),
        (lambda x: x.delete_chunks_by_meta("kb", "ctx", json.dumps(None)), InvalidFilter),
        (lambda x: x.patch_chunks_by_meta("kb", "ctx", None, {"tag1": "x"}), InvalidFilter),
        (lambda x: x.patch_chunks_by_meta("kb", "ctx", json.dumps(None), {"tag1": "x"}), InvalidFilter),
        (lambda x: x.patch_chunks_by_meta("kb", "ctx", {}, {"tag7": "x"}), InvalidMetaData),
        (lambda x: x.patch_chunks("kb", "ctx", [{"chunk_id": 1, "meta_data": {"tag1": 1}}]), InvalidMetaData),
        (lambda x: x.patch_chunks("kb", "ctx", [{"chunk_id": 1, "content": "x"}]), InvalidArgument),
        (
            lambda x: x.insert_chunks("kb", [{**CONTENT, "meta_data": {"tag6": "x"}}], "ctx", index=[[1]]),
            InvalidMetaData,
        ),
        (lambda x: x.insert_chunks("kb", [{**CONTENT, "metadata": {}}], "ctx", index=[[1]]), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [{}], "ctx", index=[[1]]), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [{**CONTENT, "base_name": "n"}], "ctx", index=[[1]]), InvalidArgument),
        (
            lambda x: x.update_chunks([[1]], [{**CONTENT, "chunk_id": 1, "base_name": "n"}], "ctx", "kb"),
            InvalidArgument,
        ),
        (lambda x: x.get_name_salt("", "ctx"), InvalidArgument),
        (lambda x: x.store_name_salt("kb", "", b"x"), InvalidArgument),
        (lambda x: x.insert_chunks("kb", ["text"], "ctx", index=[[1]]), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [CONTENT], "ctx", index=[]), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [CONTENT], "ctx", index=[[-1]]), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [CONTENT], "ctx", index=[["no base64"]]), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [CONTENT], "ctx", index=[None]), InvalidArgument),
        (lambda x: x.store_db([CONTENT], [[1], [2]], "kb", "ctx"), InvalidArgument),
        (lambda x: x.store_db([], [], "kb", "ctx", batch_size=0), InvalidArgument),
        (lambda x: x.update_chunks([[1]], [CONTENT], "ctx", "kb"), InvalidArgument),
        (lambda x: x.update_chunks([], [CONTENT], "ctx", "kb"), InvalidArgument),
        (lambda x: x.get_chunk_by_id([1], "kb", projection=["secret"]), InvalidArgument),
        (lambda x: x.get_chunk_by_id([1], "kb", projection="name"), InvalidArgument),
        (lambda x: x.get_chunk_by_id(["1"], "kb"), InvalidArgument),
        (lambda x: x.delete_chunks([1.5], "kb"), InvalidArgument),
        (lambda x: x.compute_hamming_distances([1], "ctx", "kb", range=(1, 2, 3)), InvalidArgument),
        (lambda x: x.compute_hamming_distances(3, "ctx", "kb"), InvalidArgument),
        (lambda x: x.meta_search_paginated("kb", "ctx", sort_by="name"), InvalidArgument),
        (lambda x: x.meta_search_paginated("kb", "ctx", sort_order="up"), InvalidArgument),
        (lambda x: x.store_exec_context({"pk": "{}"}, "ctx"), InvalidArgument),
        (lambda x: x.create_kb(""), InvalidArgument),
        (lambda x: x.create_api_key(""), InvalidArgument),
        (lambda x: x.set_key_permission("hash", "kb", 2), InvalidArgument),
        (lambda x: x.insert_chunks("kb", [{**CONTENT, "name": "\ud800"}], "ctx", index=[[1]]), InvalidArgument),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    call: Callable[[XTraceIntegration], Any], expected: type[Exception]
) -> None:
    sent: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(500)

    with pytest.raises(expected):
        await call(connected(handle))
    assert not sent


class FastIndex:
    """An encrypted vector with the fast path, as the SDK's own."""

    nonce = b"nonce"

    def ciphertexts(self) -> list[bytes]:
        return [b"\1\2", b"\3"]

    def __iter__(self) -> Any:
        raise AssertionError("the slow path was taken")


def test_an_index_is_integers_or_little_endian_bytes() -> None:
    class Attribute:
        ciphertexts = (b"\5",)

    assert _payloads.ciphertexts([0x0201, np.int64(3)]) == [b"\1\2", b"\3"]
    assert _payloads.ciphertexts(iter([b"\1\2"])) == [b"\1\2"]
    assert _payloads.ciphertexts(FastIndex()) == [b"\1\2", b"\3"]
    assert _payloads.ciphertexts(Attribute()) == [b"\5"]


def test_the_nonce_of_an_index_travels_with_its_chunk() -> None:
    (new,) = _payloads.new_chunks([CONTENT], [FastIndex()])
    assert new.nonce == b"nonce"
    (update,) = _payloads.chunk_updates([{"chunk_id": 2, **CONTENT}], [FastIndex()])
    assert (update.chunk_id, update.nonce, update.index) == (2, b"nonce", [b"\1\2", b"\3"])
    (patch,) = _payloads.chunk_patches([{"chunk_id": 2, "index": FastIndex()}])
    assert (patch.nonce, patch.index) == (b"nonce", [b"\1\2", b"\3"])
    (plain,) = _payloads.chunk_patches([{"chunk_id": 2, "meta_data": {"tag1": None}, "name": None}])
    assert json.loads(_payloads.encode(plain)) == {"chunk_id": 2, "meta_data": {"tag1": None}, "name": None}


# Storing in batches


@pytest.mark.parametrize("concurrent", [False, True])
async def test_ids_come_in_the_order_of_the_input(concurrent: bool) -> None:
    under_way, most = 0, 0

    async def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        chunks = sent_chunks(request)
        await asyncio.sleep(0.02 if chunks[0]["name"] == "0" else 0.001)
        under_way -= 1
        return numbered(chunks)

    stored: list[int] = []
    xtrace = connected(handle)  # type: ignore[arg-type]
    ids = await xtrace.store_db(
        database(23),
        [[1]] * 23,
        "kb",
        "ctx",
        concurrent,
        batch_size=5,
        concurrency=3,
        on_stored=lambda done: stored.append(len(done)),
    )
    assert ids == [1000 + i for i in range(23)]
    assert sorted(stored) == [3, 5, 5, 5, 5]
    assert most == (3 if concurrent else 1)


@pytest.mark.parametrize("concurrent", [False, True])
async def test_a_load_that_stops_says_what_is_stored(concurrent: bool) -> None:
    def handle(n: int, chunks: list[Any]) -> httpx2.Response:
        return httpx2.Response(413, json={"detail": "too much", "code": "too_large"}) if n == 2 else numbered(chunks)

    with pytest.raises(PartlyStored, match=r"of 50 chunks are stored.*too much") as raised:
        await inserting(handle).store_db(database(50), [[1]] * 50, "kb", "ctx", concurrent, batch_size=10)
    assert isinstance(raised.value.__cause__, errors.TooLarge)
    known = [i for i, chunk_id in enumerate(raised.value.chunk_ids) if chunk_id is not None]
    assert all(raised.value.chunk_ids[i] == 1000 + i for i in known)
    assert len(known) == raised.value.stored
    assert raised.value.stored == 20 if not concurrent else 20 <= raised.value.stored <= 40


async def test_a_load_of_which_nothing_is_stored_raises_the_fault_itself() -> None:
    with pytest.raises(errors.Unauthenticated):
        await inserting(lambda *_: httpx2.Response(401)).store_db(database(3), [[1]] * 3, "kb", "ctx")


async def test_nothing_to_store_sends_nothing() -> None:
    assert await connected(lambda _: httpx2.Response(500)).store_db([], [], "kb", "ctx", concurrent=True) == []


async def test_a_batch_too_large_for_one_request_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_payloads, "LARGEST_BODY_BYTES", 400)
    sizes: list[int] = []

    def handle(n: int, chunks: list[Any]) -> httpx2.Response:
        sizes.append(len(chunks))
        return numbered(chunks)

    ids = await inserting(handle).store_db(database(30), [[1]] * 30, "kb", "ctx")
    assert ids == [1000 + i for i in range(30)]
    assert len(sizes) > 1
    assert sum(sizes) == 30
