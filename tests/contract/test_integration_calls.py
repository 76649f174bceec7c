"""Every call of `XTraceIntegration` against the real service, with the effect that it has there."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from support.service import Http, JsonOnly, LiveService
from support.toy_paillier import ToyPaillier, toy_key
from xtrace_core.wire import IndexSegment, ListedBlock, SharedIndex, ciphertext_from_bytes
from xtrace_sdk import errors
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient
from xtrace_server.credentials import Credentials
from xtrace_server.search import removals

PUBLIC = msgspec.to_builtins(toy_key().context_data)
MISSING = "0" * 64


class Index(list[int]):
    """An encrypted vector as the SDK's own: integers, and the nonce with them."""

    nonce = b"n" * 14


def integration(credentials: Credentials, **options: Any) -> XTraceIntegration:
    return XTraceIntegration(
        org_id=credentials.org_id,
        api_key=credentials.api_key,
        api_url=credentials.api_url,
        admin_key=credentials.admin_key,
        **options,
    )


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[XTraceIntegration]:
    async with integration(credentials) as connected:
        yield connected


@pytest.fixture
async def kb(xtrace: XTraceIntegration) -> str:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    return (await xtrace.create_kb("kb")).id


def chunks(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"chunk_content": f"content {i}", "meta_data": {"tag1": f"t{i}"}, **fields} for i in range(count)]


def indexes(count: int) -> list[Index]:
    return [Index([ciphertext_from_bytes(toy_key().encrypt(i))]) for i in range(count)]


async def ids_of(xtrace: XTraceIntegration, kb: str) -> list[int]:
    return [chunk["chunk_id"] for chunk in await xtrace.meta_search(kb, {}, "ctx")]


async def test_insert_chunks_stores_content_vector_metadata_name_and_nonce(xtrace: XTraceIntegration, kb: str) -> None:
    index = indexes(2)
    xtrace.init_session()
    assert await xtrace.insert_chunks(kb, chunks(2, name="n"), "ctx", index=index) == [1, 2]
    await xtrace.close()
    (stored,) = await xtrace.get_chunk_by_id([2], kb)
    assert stored.pop("created_at") == stored.pop("updated_at")
    assert stored == {
        "chunk_id": 2,
        "chunk_content": "content 1",
        "meta_data": {"tag1": "t1"},
        "name": "n",
        "index": [index[1][0].to_bytes(128, "little").rstrip(b"\0")],
        "nonce": b"n" * 14,
    }


@pytest.mark.parametrize("concurrent", [False, True])
async def test_store_db_returns_ids_in_the_order_of_the_input(
    xtrace: XTraceIntegration, kb: str, concurrent: bool
) -> None:
    ids = await xtrace.store_db(chunks(23), indexes(23), kb, "ctx", concurrent=concurrent, batch_size=4)
    assert sorted(ids) == list(range(1, 24))
    stored = await xtrace.get_chunk_by_id(ids, kb, projection=["tag1"])
    assert [chunk["meta_data"]["tag1"] for chunk in stored] == [f"t{i}" for i in range(23)]
    assert (await xtrace.get_kb(kb)).number_of_vectors == 23


async def test_a_service_that_knows_only_json_stores_the_same(
    xtrace: XTraceIntegration, kb: str, credentials: Credentials
) -> None:
    index = indexes(3)
    async with integration(credentials, transport=JsonOnly()) as old:
        for service, first in ((xtrace, 1), (old, 4)):
            ids = list(range(first, first + 3))
            assert await service.store_db(chunks(3, name="n"), index, kb, "ctx", batch_size=2) == ids
            updates = [{"chunk_id": ids[0], "chunk_content": "changed"}]
            await service.update_chunks(index[1:2], updates, "ctx", kb)
            await service.patch_chunks(kb, "ctx", [{"chunk_id": ids[1], "index": index[0]}])
    times = {"chunk_id", "created_at", "updated_at"}
    stored = [
        {name: value for name, value in chunk.items() if name not in times}
        for chunk in await xtrace.get_chunk_by_id(range(1, 8), kb)
    ]
    assert stored[:3] == stored[3:]


async def test_an_insertion_under_an_unknown_context_says_so(xtrace: XTraceIntegration, kb: str) -> None:
    with pytest.raises(errors.ContextNotFound, match="save the context first"):
        await xtrace.insert_chunks(kb, chunks(1), "other", index=indexes(1))
    with pytest.raises(errors.CiphertextRefused):
        await xtrace.insert_chunks(kb, chunks(1), "ctx", index=[[0]])
    with pytest.raises(errors.KnowledgeBaseNotFound):
        await xtrace.insert_chunks(MISSING, chunks(1), "ctx", index=indexes(1))


async def test_get_chunk_by_id_keeps_the_order_and_takes_thousands_of_ids(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(3), "ctx", index=indexes(3))
    wanted = [*range(2000, 1, -1), 1]
    got = await xtrace.get_chunk_by_id(wanted, kb, projection=["tag1"])
    assert got == [{"chunk_id": i, "meta_data": {"tag1": f"t{i - 1}"}} for i in (3, 2, 1)]
    assert await xtrace.get_chunk_by_id([], kb) == []


async def test_find_chunk_names_gives_the_ids_of_those_stored(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(
        kb, [{**chunk, "name": f"n{i}"} for i, chunk in enumerate(chunks(3))], "ctx", index=indexes(3)
    )
    assert await xtrace.find_chunk_names(kb, "ctx", ["n2", "none", "n0"]) == {"n0": 1, "n2": 3}
    assert await xtrace.find_chunk_names(kb, "ctx", []) == {}


async def test_local_changes_says_what_was_written_and_what_is_left(xtrace: XTraceIntegration, kb: str) -> None:
    empty = await xtrace.local_changes(kb, "ctx", 0)
    assert (empty.chunk_ids, empty.has_more, empty.living) == ([], False, None)
    await xtrace.insert_chunks(kb, chunks(5), "ctx", index=indexes(5))
    first = await xtrace.local_changes(kb, "ctx", empty.revision, limit=3)
    assert (first.chunk_ids, first.has_more, first.living) == ([1, 2, 3], True, None)
    rest = await xtrace.local_changes(kb, "ctx", empty.revision, after=3)
    assert (rest.chunk_ids, rest.has_more, rest.living) == ([4, 5], False, None)
    await xtrace.patch_chunks(kb, "ctx", [{"chunk_id": 4, "meta_data": {"tag1": "new"}}])
    await xtrace.delete_chunks([2, 5], kb)
    later = await xtrace.local_changes(kb, "ctx", first.revision)
    assert (later.chunk_ids, later.has_more, later.living, later.gone) == ([4], False, None, [2, 5])
    assert later.revision > first.revision == rest.revision > empty.revision
    unchanged = await xtrace.local_changes(kb, "ctx", later.revision)
    assert unchanged == type(unchanged)(later.revision, [], has_more=False, living=None)
    gone = await xtrace.local_changes(kb, "unknown", first.revision)
    assert (gone.chunk_ids, gone.living) == ([], [])


async def test_local_changes_lists_what_is_left_where_the_server_forgot_what_was_deleted(
    xtrace: XTraceIntegration, kb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "MOST_KEYS", 0)
    await xtrace.insert_chunks(kb, chunks(3), "ctx", index=indexes(3))
    first = await xtrace.local_changes(kb, "ctx", 0)
    await xtrace.delete_chunks([2], kb)
    later = await xtrace.local_changes(kb, "ctx", first.revision)
    assert (later.chunk_ids, later.living, later.gone) == ([], [(1, 1), (3, 3)], None)


@pytest.mark.parametrize("wrong", [{"since": -1}, {"after": -1}, {"limit": 0}, {"limit": 10_001}, {"since": "1"}])
async def test_local_changes_checks_its_arguments(wrong: dict[str, Any], xtrace: XTraceIntegration, kb: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        await xtrace.local_changes(kb, "ctx", **({"since": 0} | wrong))


async def test_update_chunks_replaces_everything(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(2, name="n"), "ctx", index=indexes(2))
    new = Index([ciphertext_from_bytes(toy_key().encrypt(9))])
    new.nonce = b"m" * 14
    await xtrace.update_chunks(
        [new], [{"chunk_id": 2, "chunk_content": "new", "meta_data": {"facets": ["f"]}}], "ctx", kb
    )
    (stored,) = await xtrace.get_chunk_by_id([2], kb, projection=["chunk_content", "meta_data", "name"])
    assert stored["chunk_content"] == "new"
    assert stored["meta_data"] == {"facets": ["f"]}
    assert stored["name"] == ""
    assert stored["nonce"] == b"m" * 14
    with pytest.raises(errors.ChunksNotFound, match="99"):
        await xtrace.update_chunks([new], [{"chunk_id": 99, "chunk_content": "new"}], "ctx", kb)


async def test_patch_chunks_changes_what_it_names(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(2, name="n"), "ctx", index=indexes(2))
    await xtrace.patch_chunks(kb, "ctx", [{"chunk_id": 1, "meta_data": {"tag1": None, "tag2": "x"}}])
    first, second = await xtrace.get_chunk_by_id([1, 2], kb)
    assert (first["meta_data"], second["meta_data"]) == ({"tag2": "x"}, {"tag1": "t1"})
    assert (first["chunk_content"], first["nonce"], first["name"]) == ("content 0", b"n" * 14, "n")
    await xtrace.patch_chunks(kb, "ctx", [{"chunk_id": 1, "index": [ciphertext_from_bytes(toy_key().encrypt(3))]}])
    assert "nonce" not in (await xtrace.get_chunk_by_id([1], kb))[0]
    with pytest.raises(errors.ChunksNotFound, match="7"):
        await xtrace.patch_chunks(kb, "ctx", [{"chunk_id": 7, "name": "x"}])


async def test_conditional_writes_raise_chunks_changed(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(2), "ctx", index=indexes(2))
    first, second = await xtrace.get_chunk_by_id([1, 2], kb)
    moments = [first["updated_at"], second["updated_at"]]
    patches = [{"chunk_id": i, "name": "x", "if_updated_at": moment} for i, moment in enumerate(moments, start=1)]
    await xtrace.patch_chunks(kb, "ctx", patches[:1])
    with pytest.raises(errors.ChunksChanged, match="changed chunk 1 after"):
        await xtrace.patch_chunks(kb, "ctx", patches)
    updates = [{"chunk_id": 1, "chunk_content": "new", "if_updated_at": moments[0]}]
    with pytest.raises(errors.ChunksChanged, match="changed chunk 1 after"):
        await xtrace.update_chunks(indexes(1), updates, "ctx", kb)
    (stored,) = await xtrace.get_chunk_by_id([1], kb)
    assert (stored["chunk_content"], stored["name"]) == ("content 0", "x")


async def test_delete_chunks_counts_those_that_were_there(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(3), "ctx", index=indexes(3))
    assert await xtrace.delete_chunks(chunk_ids=[0, 1, 2], kb_id=kb) == 2
    assert await ids_of(xtrace, kb) == [3]


async def test_compute_hamming_distances_gives_sums_that_the_key_opens(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(4), "ctx", index=indexes(4))
    query = [toy_key().encrypt(100)]
    answer = await xtrace.compute_hamming_distances(query, "ctx", kb)
    assert answer.chunk_ids == [1, 2, 3, 4]
    assert [toy_key().decrypt(row[0]) for row in answer.rows] == [100, 101, 102, 103]
    assert answer.nonces == [b"n" * 14] * 4
    assert (await xtrace.compute_hamming_distances(query, "ctx", kb, range=(2, 3))).chunk_ids == [2, 3]
    assert (await xtrace.compute_hamming_distances(query, "ctx", kb, meta_filter={"tag1": "t2"})).chunk_ids == [3]
    assert (await xtrace.compute_hamming_distances(query, "ctx", kb, '{"tag1": "t0"}', (2, 9))).chunk_ids == []
    with pytest.raises(errors.CiphertextRefused):
        await xtrace.compute_hamming_distances(query * 2, "ctx", kb)


async def test_stream_hamming_distances_gives_the_same_in_blocks(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(4), "ctx", index=indexes(4))
    queries = [[toy_key().encrypt(100)], [toy_key().encrypt(200)]]
    for asked in (queries[:1], queries):
        (block,) = [block async for block in xtrace.stream_hamming_distances(kb, "ctx", asked)]
        assert block.chunk_ids.tolist() == [1, 2, 3, 4]
        sums = [[toy_key().decrypt(one.tobytes()) for one in row] for row in block.ciphertexts]
        assert sums == [[100 * (q + 1) + i for q in range(len(asked))] for i in range(4)]
        assert block.nonces.tobytes() == b"n" * 56
    found = [block async for block in xtrace.stream_hamming_distances(kb, "ctx", queries, {"tag1": "t2"}, (2, 9))]
    assert [block.chunk_ids.tolist() for block in found] == [[3]]
    assert [block async for block in xtrace.stream_hamming_distances(kb, "ctx", queries, {"tag1": "none"})] == []
    with pytest.raises(errors.CiphertextRefused):
        await anext(xtrace.stream_hamming_distances(kb, "ctx", [queries[0] * 2]))


async def test_meta_search_returns_what_was_asked_for(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(3), "ctx", index=indexes(3))
    (found,) = await xtrace.meta_search(kb, {"tag1": "t1"}, "ctx")
    assert set(found) == {"chunk_id", "meta_data", "name", "created_at", "updated_at"}
    (found,) = await xtrace.meta_search(kb, '{"tag1": "t1"}', "ctx", return_content=True)
    assert (found["chunk_content"], found["nonce"]) == ("content 1", b"n" * 14)
    found_all = await xtrace.meta_search(kb, None, "ctx", projection=["name"])
    assert [chunk["chunk_id"] for chunk in found_all] == [1, 2, 3]
    assert "meta_data" not in found_all[0]


async def test_meta_search_paginated_goes_by_offset_and_by_token(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(5), "ctx", index=indexes(5))
    first = await xtrace.meta_search_paginated(kb, "ctx", {}, limit=2)
    assert ([c["chunk_id"] for c in first.results], first.total, first.has_more) == ([5, 4], 5, True)
    by_offset = await xtrace.meta_search_paginated(kb, "ctx", {}, limit=2, offset=2)
    by_token = await xtrace.meta_search_paginated(kb, "ctx", {}, limit=2, page_token=first.next_page_token)
    assert [c["chunk_id"] for c in by_offset.results] == [c["chunk_id"] for c in by_token.results] == [3, 2]
    ascending = await xtrace.meta_search_paginated(kb, "ctx", sort_by="tag1", sort_order="asc", projection=["tag1"])
    assert [c["meta_data"]["tag1"] for c in ascending.results] == [f"t{i}" for i in range(5)]
    assert (ascending.has_more, ascending.next_page_token) == (False, None)
    with pytest.raises(errors.InvalidRequest):
        await xtrace.meta_search_paginated(kb, "ctx", {}, limit=2, page_token="nonsense")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_iter_meta_search_gives_everything_once(xtrace: XTraceIntegration, kb: str, order: str) -> None:
    await xtrace.insert_chunks(kb, chunks(7), "ctx", index=indexes(7))
    got = [
        chunk["chunk_id"]
        async for chunk in xtrace.iter_meta_search(
            kb, {"tag1": {"$ne": "t3"}}, "ctx", projection=["name"], sort_order=order, page_size=2
        )
    ]
    assert got == sorted({1, 2, 3, 5, 6, 7}, reverse=order == "desc")


async def test_delete_chunks_by_meta_first_says_then_does(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(3), "ctx", index=indexes(3))
    meta_filter = {"tag1": {"$in": ["t0", "t2"]}}
    assert await xtrace.delete_chunks_by_meta(kb_id=kb, context_id="ctx", meta_filter=meta_filter, dry_run=True) == 2
    assert await ids_of(xtrace, kb) == [1, 2, 3]
    assert await xtrace.delete_chunks_by_meta(kb_id=kb, context_id="ctx", meta_filter=meta_filter) == 2
    assert await ids_of(xtrace, kb) == [2]


async def test_patch_chunks_by_meta_first_says_then_does(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(3), "ctx", index=indexes(3))
    change: dict[str, Any] = {"meta_filter": {"tag1": "t1"}, "patch": {"facets": ["published"], "tag1": None}}
    assert await xtrace.patch_chunks_by_meta(kb_id=kb, context_id="ctx", **change, dry_run=True) == 1
    assert (await xtrace.get_chunk_by_id([2], kb))[0]["meta_data"] == {"tag1": "t1"}
    assert await xtrace.patch_chunks_by_meta(kb_id=kb, context_id="ctx", **change) == 1
    assert (await xtrace.get_chunk_by_id([2], kb))[0]["meta_data"] == {"facets": ["published"]}
    assert await xtrace.patch_chunks_by_meta(kb_id=kb, context_id="ctx", **change) == 0


async def test_contexts_are_found_by_the_name_under_which_they_were_saved(xtrace: XTraceIntegration) -> None:
    assert await xtrace.store_exec_context(PUBLIC, "ctx", name="app") == "ctx"
    assert await xtrace.find_exec_context("app") == "ctx"
    assert await xtrace.find_exec_context("other") is None


async def test_contexts_are_stored_completed_listed_read_and_deleted(xtrace: XTraceIntegration) -> None:
    assert await xtrace.store_exec_context(PUBLIC, "ctx") == "ctx"
    assert await xtrace.get_serialized_exec_context("ctx") == PUBLIC
    secret = {"sk": "c2s=", "key_provider": "passphrase", "wrapped_key": "d2s="}
    await xtrace.store_exec_context({**PUBLIC, **secret}, "ctx")
    assert await xtrace.get_serialized_exec_context("ctx") == {**PUBLIC, **secret}
    assert await xtrace.list_exec_contexts() == ["ctx"]
    assert await xtrace.list_exec_contexts(restorable=True) == ["ctx"]
    (described,) = await xtrace.describe_exec_contexts()
    assert (described.context_id, described.type, described.restorable) == ("ctx", PUBLIC["type"], True)
    assert datetime.fromisoformat(described.created_at or "") <= datetime.now(UTC)
    other = msgspec.to_builtins(ToyPaillier(5).context_data)
    with pytest.raises(errors.ContextDiffers):
        await xtrace.store_exec_context(other, "ctx")
    await xtrace.delete_exec_context("ctx")
    assert await xtrace.list_exec_contexts() == []
    with pytest.raises(errors.ContextNotFound):
        await xtrace.get_serialized_exec_context("ctx")
    with pytest.raises(errors.ContextNotFound):
        await xtrace.delete_exec_context("ctx")


async def test_a_context_in_use_is_not_deleted(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(1), "ctx", index=indexes(1))
    with pytest.raises(errors.ContextInUse):
        await xtrace.delete_exec_context("ctx")


async def test_contexts_and_knowledge_bases_know_each_other_once_bound(xtrace: XTraceIntegration, kb: str) -> None:
    assert (await xtrace.get_ctx_for_kb(kb), await xtrace.get_kbs_for_ctx("ctx")) == ([], [])
    for _ in range(2):
        await xtrace.register_kb_binding(kb, "ctx")
    assert (await xtrace.get_ctx_for_kb(kb), await xtrace.get_kbs_for_ctx("ctx")) == (["ctx"], [kb])
    with pytest.raises(errors.NotFound):
        await xtrace.register_kb_binding(kb, "other")


async def test_a_retired_context_takes_no_more_chunks(xtrace: XTraceIntegration, kb: str) -> None:
    for _ in range(2):
        await xtrace.retire_exec_context("ctx")
    with pytest.raises(errors.ContextRetired):
        await xtrace.insert_chunks(kb, chunks(1), "ctx", index=indexes(1))
    with pytest.raises(errors.ContextNotFound):
        await xtrace.retire_exec_context("other")


async def test_the_first_salt_for_names_is_kept_until_it_is_replaced(xtrace: XTraceIntegration, kb: str) -> None:
    assert await xtrace.get_name_salt(kb, "ctx") is None
    for salt in (b"one", b"two"):
        assert await xtrace.store_name_salt(kb, "ctx", salt) == b"one"
    assert await xtrace.store_name_salt(kb, "ctx", b"two", replaces=b"one") == b"two"
    assert await xtrace.get_name_salt(kb, "ctx") == b"two"
    with pytest.raises(errors.ContextNotFound):
        await xtrace.get_name_salt(kb, "other")
    with pytest.raises(errors.InvalidRequest):
        await xtrace.store_name_salt(kb, "ctx", bytes(129))


async def test_knowledge_bases_are_created_listed_described_and_deleted(xtrace: XTraceIntegration) -> None:
    created = await xtrace.create_kb("notes", description="what I know")
    assert (created.name, created.description, created.number_of_vectors) == ("notes", "what I know", 0)
    assert await xtrace.list_kbs() == [created]
    assert await xtrace.get_kb(created.id) == created
    await xtrace.delete_kb(created.id)
    assert await xtrace.list_kbs() == []
    with pytest.raises(errors.KnowledgeBaseNotFound):
        await xtrace.delete_kb(created.id)


async def test_api_keys_are_created_granted_restricted_and_revoked(
    xtrace: XTraceIntegration, kb: str, credentials: Credentials
) -> None:
    created = await xtrace.create_api_key("reader", description="for the bot")
    key = created.api_key
    assert (key.name, key.first_n) == ("reader", created.secret_key[:5])
    assert key.hash in [listed.hash for listed in await xtrace.list_api_keys()]
    changed = await xtrace.update_api_key(key.hash, name="searcher", expires_at=datetime(2099, 1, 1, tzinfo=UTC))
    assert (changed.name, changed.description, changed.expires_at) == (
        "searcher",
        "for the bot",
        "2099-01-01T00:00:00.000000Z",
    )
    key = await xtrace.update_api_key(key.hash, name="reader", description="", expires_at=None)
    assert (key.name, key.description, key.expires_at) == ("reader", "", None)
    assert key in await xtrace.list_api_keys()
    with pytest.raises(errors.InvalidRequest, match="has passed"):
        await xtrace.update_api_key(key.hash, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(errors.InvalidArgument, match="no time zone"):
        await xtrace.update_api_key(key.hash, expires_at=datetime(2099, 1, 1))
    with pytest.raises(errors.KeyNotFound):
        await xtrace.update_api_key(MISSING, name="x")
    assert await xtrace.get_key_permissions(key.hash) == []
    limited = Credentials(credentials.org_id, credentials.admin_key, created.secret_key, credentials.api_url)
    async with integration(limited) as reader:
        with pytest.raises(errors.PermissionDenied):
            await reader.meta_search(kb, {}, "ctx")
        await xtrace.set_key_permission(key.hash, kb, 1)
        assert [(p.knowledge_base_id, p.permission) for p in await xtrace.get_key_permissions(key.hash)] == [(kb, 1)]
        assert await reader.meta_search(kb, {}, "ctx") == []
        with pytest.raises(errors.PermissionDenied):
            await reader.insert_chunks(kb, chunks(1), "ctx", index=indexes(1))
        await xtrace.revoke_api_key(key.hash)
        with pytest.raises(errors.Unauthenticated):
            await reader.meta_search(kb, {}, "ctx")
    assert key.hash not in [listed.hash for listed in await xtrace.list_api_keys()]
    with pytest.raises(errors.KeyNotFound):
        await xtrace.get_key_permissions(MISSING)


async def test_an_organisation_sees_its_usage_and_quotas(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.insert_chunks(kb, chunks(2), "ctx", index=indexes(2))
    own = await xtrace.get_organisation()
    assert (own.id, own.state, own.quotas.chunks) == (xtrace.org_id, "active", None)
    assert (own.usage.chunks, own.usage.contexts, own.usage.knowledge_bases) == (2, 1, 1)
    assert own["usage"]["knowledgeBases"] == 1


async def test_a_wrong_key_and_another_organisation_are_unauthorized(
    credentials: Credentials, live_service: LiveService
) -> None:
    other = live_service.new_organisation()
    for org, key in ((credentials.org_id, "wrong"), (credentials.org_id, other.api_key)):
        async with integration(Credentials(org, key, key, credentials.api_url)) as stranger:
            with pytest.raises(errors.Unauthenticated):
                await stranger.list_exec_contexts()
            with pytest.raises(errors.Unauthenticated):
                await stranger.list_kbs()


async def test_the_audit_log_tells_what_was_changed_the_newest_first(credentials: Credentials) -> None:
    async with integration(credentials) as xtrace:
        kb = await xtrace.create_kb("kb")
        await xtrace.delete_kb(kb.id)
        deleted, created = await xtrace.audit_log(limit=2)
        assert [deleted.action, created.action] == ["knowledge_base.delete", "knowledge_base.create"]
        assert {deleted.subject, created.subject} == {kb.id}
        assert [entry.id for entry in await xtrace.audit_log(1, before=deleted.id)] == [created.id]


async def test_nobody_answers_at_a_closed_port(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    xtrace = XTraceIntegration("org", "key", api_url=url, retries=Retries(attempts=2, first_delay_s=0.01))
    with pytest.raises(errors.ServerUnreachable, match=url):
        await xtrace.list_exec_contexts()


def test_it_works_from_one_event_loop_after_another_without_being_closed(http: Http) -> None:
    http.save_context()
    xtrace = integration(http.credentials)
    for _ in range(3):
        assert asyncio.run(xtrace.list_exec_contexts()) == ["ctx"]


async def test_the_successor_of_a_context(xtrace: XTraceIntegration) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    assert await xtrace.get_successor("ctx") is None
    assert await xtrace.store_successor("ctx", "next") == "next"
    assert await xtrace.store_successor("ctx", "other") == "next"
    assert await xtrace.get_successor("ctx") == "next"
    assert await xtrace.store_successor("ctx", "other", replaces="next") == "other"


async def test_blocks_are_sealed_planned_read_searched_and_removed(xtrace: XTraceIntegration, kb: str) -> None:
    client = LatticeClient.create(16, SchemeParameters())
    public = {"type": client.type, "pk": client.public_key(), "config": client.config()}
    await xtrace.store_exec_context({name: to_json(part) for name, part in public.items()}, "blocks")
    vectors = np.random.default_rng(4).integers(0, 2, (6, 16), dtype=np.uint8)
    rows = client.encrypt_vec_batch(vectors)
    ids = await xtrace.insert_chunks(kb, chunks(6), "blocks", index=rows)
    block, nonces = client.blocks.seal(vectors[:4], kb), [row.nonce for row in rows][:4]
    sealed = await xtrace.seal_block(kb, "blocks", ids[:4], nonces, block.header, block.hints, block.body)
    assert sealed.live == 4
    other, replaces = client.blocks.seal(vectors[:4], kb), [sealed.block_id]
    with pytest.raises(errors.BlockOutdated):
        await xtrace.seal_block(kb, "blocks", ids[:4], [bytes(16)] * 4, other.header, other.hints, other.body, replaces)

    plan = await xtrace.plan_blocks(kb, "blocks", {"tag1": {"$in": ["t0", "t1", "t5"]}}, (1, 5), listed=True)
    assert (plan.candidates, plan.unsealed, plan.blocks) == (2, 0, 1)
    assert plan.listed == [ListedBlock(sealed.block_id, 4, 4, None)]
    (read,) = await xtrace.get_blocks(kb, "blocks", [sealed.block_id, 10**9], client.blocks.sizes.hints)
    assert (read.header, read.hints, read.chunk_ids.tolist()) == (block.header, block.hints, ids[:4])

    queries = client.blocks.queries(vectors[:2])
    found = (await xtrace.search_blocks(kb, "blocks", lambda: queries.sent, 1)).answer
    assert [(one.block_id, one.slots.tolist()) for one in found.blocks] == [(sealed.block_id, [0, 1, 2, 3])]
    assert [chunk_id for rows in found.records for chunk_id in rows.chunk_ids.tolist()] == ids[4:]
    assert await xtrace.unseal_blocks(kb, "blocks", [sealed.block_id]) == 4
    assert (await xtrace.plan_blocks(kb, "blocks")).unsealed == 6


async def test_a_shared_index_is_stored_read_replaced_and_deleted(xtrace: XTraceIntegration, kb: str) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    place = (kb, "ctx", "records")
    assert await xtrace.shared_index(*place) == SharedIndex(0, b"", [])
    first, second = [await xtrace.add_index_segment(*place, one) for one in (b"first", b"second")]
    version = await xtrace.put_shared_index(*place, 0, b"manifest", [first, second])
    segments = [IndexSegment(first, 5), IndexSegment(second, 6)]
    assert await xtrace.shared_index(*place) == SharedIndex(version, b"manifest", segments)
    assert await xtrace.get_index_segment(*place, second) == b"second"
    with pytest.raises(errors.SharedIndexOutdated, match="expected none"):
        await xtrace.put_shared_index(*place, 0, b"other", [second])
    await xtrace.put_shared_index(*place, version, b"other", [second])
    with pytest.raises(errors.SegmentNotFound, match="read the current one"):
        await xtrace.get_index_segment(*place, first)
    with pytest.raises(errors.InvalidRequest, match="query parameter kind"):
        await xtrace.shared_index(kb, "ctx", "../")
    await xtrace.delete_shared_index(*place)
    assert (await xtrace.shared_index(*place)).version == 0


async def test_queries_of_the_usual_length_are_accepted_however_many(xtrace: XTraceIntegration, kb: str) -> None:
    client = LatticeClient.create(512, SchemeParameters())
    public = {"type": client.type, "pk": client.public_key(), "config": client.config()}
    await xtrace.store_exec_context({name: to_json(part) for name, part in public.items()}, "blocks")

    async def candidates(sent: list[bytes]) -> int:
        return (await xtrace.search_blocks(kb, "blocks", lambda: sent, 1)).answer.candidates

    queries = client.blocks.queries(np.zeros((8, 512), dtype=np.uint8)).sent
    assert await candidates(queries) == await candidates(queries[:1]) == 0
    for sent in ([], [*queries, queries[0]]):
        with pytest.raises(errors.InvalidRequest, match="expected 1 to 8"):
            await candidates(sent)


def to_json(part: Any) -> Any:
    return part if isinstance(part, str) else msgspec.json.encode(part).decode()


def test_every_call_is_tested_here() -> None:
    calls = {
        name
        for name, member in inspect.getmembers(XTraceIntegration, inspect.isfunction)
        if not name.startswith("_") and name not in ("aclose", "declare_private")
    }
    source = inspect.getsource(inspect.getmodule(test_every_call_is_tested_here) or errors)
    assert {call for call in calls if f".{call}(" not in source} == set()
