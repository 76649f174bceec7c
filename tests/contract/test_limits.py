"""Limits: each is enforced at its value and not below, from wherever it is set, and the answer names both."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.service import Http, LiveService, b64, chunk, ok, problem, running_service
from support.toy_paillier import toy_key
from xtrace_core import wire
from xtrace_core.limits import MAX_CHUNKS, MAX_WRITE_COST
from xtrace_core.write_cost import write_cost
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.service import payloads as _payloads
from xtrace_server.errors import RateLimited
from xtrace_server.limits.rate_limit import RateLimit
from xtrace_server.limits.rates import Rates
from xtrace_server.limits.shared_rates import SharedRates
from xtrace_server.settings import Settings, SettingsFileUnusable

pytestmark = pytest.mark.usefixtures("database")

CIPHERTEXT = b64(toy_key().encrypt(1))
LIMITS = {
    "max_body_bytes": 50_000,
    "max_line_bytes": 2000,
    "max_header_bytes": 3000,
    "max_chunks": 3,
    "max_ids": 4,
    "max_content_bytes": 20,
    "max_ciphertexts": 2,
    "max_queries": 2,
    "max_tag_characters": 10,
    "max_facets": 3,
    "max_name_characters": 12,
    "max_context_bytes": 1024,
    "max_projection": 2,
    "max_filter_bytes": 300_000,
    "max_filter_depth": 3,
    "max_filter_conditions": 5,
    "max_filter_values": 4,
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    with running_service(tmp_path_factory.mktemp("limits") / "data", **LIMITS) as running:
        yield running


@pytest.fixture
def http(service: LiveService) -> Iterator[Http]:
    client = Http(service.new_organisation())
    client.save_context()
    yield client
    client.close()


@pytest.fixture
def kb(http: Http) -> str:
    kb = http.new_kb()
    http.insert(kb, [chunk(), chunk(), chunk()])
    return kb


def insertion(*chunks: dict[str, Any]) -> dict[str, Any]:
    return {"path": "POST /chunk/{org}", "json": {"context_id": "ctx", "chunks": list(chunks)}}


def metadata(**fields: Any) -> dict[str, Any]:
    return {"path": "POST /chunk/meta/page/{org}", "json": {"context_id": "ctx", **fields}}


def nested(depth: int) -> dict[str, Any]:
    return {"tag1": "x"} if depth == 1 else {"$not": nested(depth - 1)}


def plain(**fields: Any) -> dict[str, Any]:
    return {**chunk(chunk_content="c"), **fields}


CASES: list[tuple[str, int, str, dict[str, Any], dict[str, Any]]] = [
    # limit, status and code of the refusal, the largest request that is taken, the smallest that is not
    ("max_chunks", 413, "too_large", insertion(*[plain()] * 3), insertion(*[plain()] * 4)),
    (
        "max_content_bytes",
        422,
        "limit_exceeded",
        insertion(plain(chunk_content="é" * 10)),
        insertion(plain(chunk_content="é" * 10 + "x")),
    ),
    (
        "max_ciphertexts",
        422,
        "limit_exceeded",
        insertion(plain()),
        insertion(plain(index=[CIPHERTEXT] * 3)),
    ),
    (
        "max_tag_characters",
        422,
        "limit_exceeded",
        insertion(plain(meta_data={"tag3": "é" * 10, "facets": ["é" * 10]})),
        insertion(plain(meta_data={"tag3": "x" * 11})),
    ),
    (
        "max_tag_characters",
        422,
        "limit_exceeded",
        insertion(plain(meta_data={"tag3": None, "facets": None})),
        insertion(plain(meta_data={"facets": ["x", "x" * 11]})),
    ),
    (
        "max_facets",
        422,
        "limit_exceeded",
        insertion(plain(meta_data={"facets": ["a", "b", "c"]})),
        insertion(plain(meta_data={"facets": ["a", "b", "c", "d"]})),
    ),
    ("max_name_characters", 422, "limit_exceeded", insertion(plain(name="n" * 12)), insertion(plain(name="n" * 13))),
    (
        "max_ids",
        413,
        "too_large",
        {"path": "GET /chunk/{org}", "params": {"chunk_ids": [1, 2, 3, 4]}},
        {"path": "GET /chunk/{org}", "params": {"chunk_ids": [1, 2, 3, 4, 5]}},
    ),
    (
        "max_ids",
        413,
        "too_large",
        {"path": "POST /chunk/names/{org}", "json": {"context_id": "ctx", "names": ["a"] * 4}},
        {"path": "POST /chunk/names/{org}", "json": {"context_id": "ctx", "names": ["a"] * 5}},
    ),
    (
        "max_projection",
        422,
        "limit_exceeded",
        metadata(projection=["tag1", "tag2"]),
        metadata(projection=["tag1", "tag2", "tag3"]),
    ),
    ("max_filter_depth", 422, "invalid_filter", metadata(meta_filter=nested(3)), metadata(meta_filter=nested(4))),
    (
        "max_filter_conditions",
        422,
        "invalid_filter",
        metadata(meta_filter={f"tag{i}": "x" for i in range(1, 5)}),
        metadata(meta_filter={f"tag{i}": "x" for i in range(1, 6)}),
    ),
    (
        "max_filter_values",
        422,
        "invalid_filter",
        metadata(meta_filter={"tag1": {"$in": ["x"] * 4}}),
        metadata(meta_filter={"tag1": {"$in": ["x"] * 5}}),
    ),
    (
        "max_queries",
        413,
        "too_large",
        {"path": "POST /compute_hamming_batch/{org}", "json": {"context_id": "ctx", "queries": [[CIPHERTEXT]] * 2}},
        {"path": "POST /compute_hamming_batch/{org}", "json": {"context_id": "ctx", "queries": [[CIPHERTEXT]] * 3}},
    ),
]


def send(http: Http, kb: str, request: dict[str, Any]) -> Any:
    method, path = request["path"].split()
    arguments = {name: {"kb_id": kb, **request[name]} for name in ("json", "params") if name in request}
    return http.data(method, path, **arguments)


@pytest.mark.parametrize(
    ("limit", "status", "code", "largest", "too_much"), CASES, ids=[f"{i} {case[0]}" for i, case in enumerate(CASES)]
)
def test_a_limit_is_met_and_not_passed(
    http: Http, kb: str, limit: str, status: int, code: str, largest: dict[str, Any], too_much: dict[str, Any]
) -> None:
    answer = send(http, kb, largest)
    assert answer.status_code == 200, answer.text
    detail = problem(send(http, kb, too_much), status, code)
    assert str(LIMITS[limit]) in detail
    if code != "invalid_filter":
        assert f"({limit})" in detail
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] in (3, 4, 6)


def test_updates_patches_and_patches_by_metadata_have_the_same_limits(http: Http, kb: str) -> None:
    long = {"tag1": "x" * 11}
    base = {"kb_id": kb, "context_id": "ctx"}
    for method, path, body in (
        ("PUT", "/chunk/{org}", {"chunk_updates": [plain(chunk_id=1, meta_data=long)]}),
        ("PATCH", "/chunk/{org}", {"chunk_patches": [{"chunk_id": 1, "meta_data": long}]}),
        ("PATCH", "/chunk/by-meta/{org}", {"meta_filter": {}, "patch": long}),
    ):
        assert "max_tag_characters" in problem(http.data(method, path, json=base | body), 422, "limit_exceeded")
    for method, field in (("PUT", "chunk_updates"), ("PATCH", "chunk_patches")):
        many = [plain(chunk_id=i) for i in range(1, 5)]
        assert "max_chunks" in problem(http.data(method, "/chunk/{org}", json=base | {field: many}), 413, "too_large")


def test_contexts_names_and_long_lines_have_limits(http: Http) -> None:
    data = {"type": "PaillierClient", "pk": toy_key().context_data.pk, "config": "{}", "sk": "s" * 1025}
    body = {"context_id": "other", "data": data}
    assert "max_context_bytes" in problem(http.data("POST", "/exec_context/{org}", json=body), 422, "limit_exceeded")
    for path in ("/kbs", "/keys"):
        answer = http.control("POST", path, json={"name": "x", "description": "d" * 13})
        assert "max_name_characters" in problem(answer, 422, "limit_exceeded")
    answer = http.control("POST", "/kbs", content=b'{"name": "' + b"x" * 50_000 + b'"}')
    assert "max_body_bytes" in problem(answer, 413, "too_large")
    answer = http.client.get("/livez", params={"x": "y" * 2000})
    assert "max_line_bytes" in problem(answer, 414, "line_too_long")
    answer = http.client.get("/livez", headers={"x": "y" * 3000})
    assert "max_header_bytes" in problem(answer, 431, "headers_too_large")


def test_a_large_body_is_read_in_parts_and_says_the_same(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_filter_bytes=300_000) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        many = [chunk(i % 5 + 1, chunk_content="x" * 500, name=f"n{i}") for i in range(1000)]
        assert http.insert(kb, many) == list(range(1, 1001))
        base = {"kb_id": kb, "context_id": "ctx"}
        for i, fields, words in (
            (700, {"name": 3}, "`$.chunks[700].name`"),
            (701, {"meta_data": {"tag9": "x"}}, "`$.chunks[701].meta_data`"),
            (702, {"index": None}, "`$.chunks[702].index`"),
            (703, {"name": "a\0b"}, "NUL"),
            (704, {"index": ["AA=="]}, "chunks[704].index"),
        ):
            wrong = [*many[:i], many[i] | fields, *many[i + 1 :]]
            answer = http.data("POST", "/chunk/{org}", json=base | {"chunks": wrong})
            assert answer.status_code == 422
            assert words in answer.json()["detail"]
        wrong = [*many[:5], {"chunk_content": "x"}, *many[6:]]
        answer = http.data("POST", "/chunk/{org}", json=base | {"chunks": wrong})
        assert "`index` - at `$.chunks[5]`" in problem(answer, 422, "invalid")
        cut = http.data("POST", "/chunk/{org}", content=b'{"chunks": [' + b'{"a": "' + b"x" * 400_000 + b'"},')
        problem(cut, 400, "malformed")
        updates = [one | {"chunk_id": i, "name": "u"} for i, one in enumerate(many, 1)]
        assert ok(http.data("PUT", "/chunk/{org}", json=base | {"chunk_updates": updates})) == {"updated_count": 1000}
        large = {"tag1": {"$in": ["x" * 50_000] * 7}}
        answer = http.data("POST", "/chunk/meta/{org}", json=base | {"meta_filter": large})
        assert "max_filter_bytes" in problem(answer, 422, "invalid_filter")
        assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 1000
        http.close()


# Where settings come from


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "xtrace.toml"
    file.write_text("max_chunks = 10\nmax_ids = 20\nmax_facets = 30\n")
    monkeypatch.setenv("XTRACE_CONFIG", str(file))
    monkeypatch.setenv("XTRACE_MAX_CHUNKS", "11")
    monkeypatch.setenv("XTRACE_MAX_IDS", "21")
    monkeypatch.setenv("XTRACE_MAX_PROJECTION", "")
    settings = Settings(max_chunks=12)
    assert (settings.max_chunks, settings.max_ids, settings.max_facets, settings.max_projection) == (12, 21, 30, 64)
    other = tmp_path / "other.toml"
    other.write_text("max_facets = 31\n")
    assert Settings(config=other).max_facets == 31


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_chunk = 3\n", "max_chunk"),
        ("max_chunks = 0\n", "max_chunks"),
        ("max_chunks = 'x'\n", "max_chunks"),
        ("rate_limit = 'often'\n", "expected a rate"),
        ("tls_key = 'x'\n", "together"),
        ("metrics = 'token'\n", "metrics_token"),
        ("metrics_token = 'short'\n", "metrics_token"),
        ("max_chunks =\n", "is not valid TOML"),
        ("config = 'other.toml'\n", "which only a flag or the environment"),
    ],
)
def test_a_file_with_something_wrong_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "xtrace.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        Settings(config=file)
    with pytest.raises(SettingsFileUnusable, match="cannot be read"):
        Settings(config=tmp_path / "missing.toml")


# The client stays below the limits


def test_the_client_splits_what_is_more_than_a_request_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [wire.NewChunk("c" * 100, [b"x" * 100]) for _ in range(2 * MAX_CHUNKS + 1)]
    bodies = _payloads.bodies(chunks, lambda part: wire.InsertChunks("k", "c", part))
    assert sum(body.chunks for body in bodies) == len(chunks)
    assert all(body.chunks <= MAX_CHUNKS for body in bodies)
    monkeypatch.setattr(_payloads, "LARGEST_BODY_BYTES", 1000)
    bodies = _payloads.bodies(chunks[:100], lambda part: wire.InsertChunks("k", "c", part))
    assert all(len(body.msgpack) <= len(body.json()) <= 1000 for body in bodies)


async def test_updates_and_patches_beyond_a_limit_go_in_several_requests(
    service: LiveService, http: Http, kb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrace_core.limits.MAX_CHUNKS", 2)
    http.insert(kb, [chunk(), chunk()])
    credentials = http.credentials
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
        patches = [{"chunk_id": i, "name": f"p{i}"} for i in range(1, 6)]
        await xtrace.patch_chunks(kb, "ctx", patches)
        updates = [{"chunk_id": i, "chunk_content": f"u{i}"} for i in range(1, 6)]
        await xtrace.update_chunks([[toy_key().encrypt(i)] for i in range(1, 6)], updates, "ctx", kb)
        stored = await xtrace.get_chunk_by_id(range(1, 5), kb, ["chunk_content"])
        assert [one["chunk_content"] for one in stored] == ["u1", "u2", "u3", "u4"]
        from xtrace_sdk.errors import ChunksNotFound, PartlyStored

        with pytest.raises(PartlyStored) as partly:
            await xtrace.patch_chunks(kb, "ctx", [*patches[:4], {"chunk_id": 99, "name": "x"}])
        assert isinstance(partly.value.__cause__, ChunksNotFound)
        assert partly.value.stored < 5


# Rates


async def test_a_clock_that_is_set_back_or_forward_changes_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    rate_limit = RateLimit("2/hour", Rates(SharedRates()))
    for _ in range(2):
        await rate_limit.count("key")
    real = time.time
    for hours in (0, -1, 3):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
        with pytest.raises(RateLimited) as refused:
            await rate_limit.count("key")
        assert 0 < int(refused.value.headers()["retry-after"]) <= 7200


async def test_a_key_that_is_used_too_often_is_put_off_and_the_client_waits(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", rate_limit="3/second") as service:
        credentials = service.first_credentials
        http = Http(credentials)
        answers = [http.data("GET", "/exec_context/{org}") for _ in range(8)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert answers[0].status_code == 200
        assert "rate_limit" in problem(refused[0], 429, "rate_limited")
        assert refused[0].headers["retry-after"] in ("1", "2")
        # Another key has a window of its own, and health needs none.
        assert http.control("GET", "/kbs").status_code == 200
        assert http.client.get("/livez").status_code == 200
        began = asyncio.get_running_loop().time()
        async with XTraceIntegration(
            credentials.org_id, credentials.api_key, api_url=credentials.api_url, retries=Retries(attempts=9)
        ) as xtrace:
            for _ in range(7):
                assert await xtrace.list_exec_contexts() == []
        assert asyncio.get_running_loop().time() - began > 1.0
        http.close()


def test_a_write_costs_its_chunks_its_facets_and_its_bytes(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 10),
        ({"meta_data": {"facets": [f"f{i}" for i in range(10)]}}, 3),
        ({"chunk_content": "x" * 20_000}, 2),
        ({"meta_data": {"tag1": "x" * 10_000}}, 2),
    ]
    with running_service(tmp_path / "data", max_write_cost=10) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        scope = {"kb_id": kb, "context_id": "ctx"}
        http.insert(kb, [plain()] * 10)
        for fields, most in cases:
            http.insert(kb, [plain(**fields)] * most)
            many = [plain(**fields)] * (most + 1)
            for method, name, body in (
                ("POST", "chunks", many),
                ("PUT", "chunk_updates", [one | {"chunk_id": i} for i, one in enumerate(many, 1)]),
                ("PATCH", "chunk_patches", [one | {"chunk_id": i} for i, one in enumerate(many, 1)]),
            ):
                answer = http.data(method, "/chunk/{org}", json=scope | {name: body})
                assert "max_write_cost" in problem(answer, 413, "too_large"), (fields, method)
        patched = scope | {"meta_filter": {}, "patch": {"tag1": "x"}}
        found = 10 + sum(most for _, most in cases)
        refused = problem(http.data("PATCH", "/chunk/by-meta/{org}", json=patched), 422, "limit_exceeded")
        assert f"matches {found} chunks, at most 10" in refused
        within = patched | {"meta_filter": {"tag1": "x" * 10_000}}
        assert ok(http.data("PATCH", "/chunk/by-meta/{org}", json=within)) == {"updated_count": 2}
        http.close()


def test_the_client_sends_no_more_than_a_write_may_cost() -> None:
    facets = wire.MetaData(facets=[f"f{i}" for i in range(500)])
    chunks = [wire.NewChunk("content", [b"x"], facets)] * 300
    bodies = _payloads.bodies(chunks, lambda part: wire.InsertChunks("kb", "ctx", part))
    assert sum(body.chunks for body in bodies) == 300
    assert len(bodies) > 1
    for body in bodies:
        assert isinstance(body.payload, wire.InsertChunks)
        assert write_cost(body.payload.chunks) <= MAX_WRITE_COST
