"""Blocks: sealing, searching, planning, reading and removing them, and the slots that die when chunks change."""

from typing import Any

import msgspec
import numpy as np
import pytest

from support import databases
from support.sealing import DIM, SealingClient, check_slots, sealing_client
from support.service import Http, LiveService, ok, problem
from xtrace_core import block_frames
from xtrace_core.lattice.parameters import hint_bytes
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

POSTGRES_BY_DEFAULT = True


@pytest.fixture
def sealing(http: Http, live_service: LiveService) -> Any:
    yield sealing_client(http)
    check_slots(live_service.folder)


def test_a_search_finds_every_chunk_once_in_blocks_or_in_none(sealing: SealingClient) -> None:
    assert sealing.search().all == {}
    ids = sealing.insert(30)
    assert sealing.search().in_none == sealing.expected()
    first = sealing.seal(ids[:10])
    second = sealing.seal([*ids[12:20], *ids[25:]])
    queries = [sealing.query, 1 - sealing.query]
    answer = sealing.search(queries=queries)
    assert answer.in_blocks == sealing.expected(*ids[:10], *ids[12:20], *ids[25:], queries=queries)
    assert answer.in_none == sealing.expected(*ids[10:12], *ids[20:25], queries=queries)
    assert sealing.blocks() == {first: (10, 10, False), second: (13, 13, False)}
    plan = sealing.plan()
    assert plan == {"candidates": 30, "unsealed": 7, "blocks": 2, "revision": answer.revision}


def test_long_vectors_have_several_slabs_and_large_bodies(http: Http) -> None:
    sealing = sealing_client(http, client=LatticeClient.create(1000, SchemeParameters()))
    ids = sealing.insert(9)
    sealing.seal(ids[:3])
    sealing.seal(ids[3:7])
    queries = [sealing.query, 1 - sealing.query, sealing.vectors[ids[4]]]
    answer = sealing.search(queries=queries, range=[2, 100])
    assert answer.in_blocks == sealing.expected(*ids[1:7], queries=queries)
    assert answer.in_none == sealing.expected(*ids[7:], queries=queries)


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ({"meta_filter": {"tag1": "t1"}}, lambda i: i % 3 == 1),
        ({"meta_filter": {"tag1": "none"}}, lambda i: False),
        ({"range": [3, 13]}, lambda i: 3 <= i + 1 <= 13),
        ({"meta_filter": {"tag1": "t2"}, "range": [1, 9]}, lambda i: i % 3 == 2 and i < 9),
        ({"range": [100, 200]}, lambda i: False),
        ({"range": [-5, 2**62]}, lambda i: True),
    ],
)
def test_a_filter_and_a_range_choose_the_slots(scope: dict[str, Any], wanted: Any, sealing: SealingClient) -> None:
    ids = sealing.insert(20)
    sealing.seal(ids[:8])
    sealing.seal(ids[10:14])
    chosen = [one for i, one in enumerate(ids) if wanted(i)]
    answer = sealing.search(**scope)
    assert answer.all == (sealing.expected(*chosen) if chosen else {})
    assert set(answer.in_blocks) == {one for one in chosen if one in (*ids[:8], *ids[10:14])}
    plan = sealing.plan(**scope)
    touched = [any(one in chosen for one in some) for some in (ids[:8], ids[10:14])]
    assert (plan["candidates"], plan["unsealed"], plan["blocks"]) == (len(chosen), len(answer.in_none), sum(touched))


def test_a_search_for_records_leaves_out_what_is_in_blocks_if_asked_to(sealing: SealingClient) -> None:
    ids = sealing.insert(9)
    sealing.seal(ids[2:6])
    rows = {row[1] for row in sealing.http.search(sealing.kb, [], unsealed=True)}
    assert rows == {*ids[:2], *ids[6:]}
    assert {row[1] for row in sealing.http.search(sealing.kb, [], unsealed=True, meta_filter={"tag1": "t0"})} == {
        ids[0],
        ids[6],
    }
    assert {row[1] for row in sealing.http.search(sealing.kb, [])} == set(ids)


def put(sealing: SealingClient, chunk_id: int) -> None:
    body = {**sealing.scope, "chunk_updates": [sealing.chunk(chunk_id)]}
    ok(sealing.http.data("PUT", "/chunk/{org}", json=body))


def patch_index(sealing: SealingClient, chunk_id: int) -> None:
    chunk = sealing.chunk(chunk_id)
    patch = {name: chunk[name] for name in ("chunk_id", "index", "nonce")}
    ok(sealing.http.data("PATCH", "/chunk/{org}", json={**sealing.scope, "chunk_patches": [patch]}))


def delete(sealing: SealingClient, chunk_id: int) -> None:
    ok(sealing.http.data("DELETE", "/chunk/{org}", params={"kb_id": sealing.kb, "chunk_ids": [chunk_id]}))
    sealing.forget(chunk_id)


def delete_by_metadata(sealing: SealingClient, chunk_id: int) -> None:
    patch = {"chunk_id": chunk_id, "meta_data": {"tag2": "gone"}}
    ok(sealing.http.data("PATCH", "/chunk/{org}", json={**sealing.scope, "chunk_patches": [patch]}))
    body = {**sealing.scope, "meta_filter": {"tag2": "gone"}}
    assert ok(sealing.http.data("DELETE", "/chunk/by-meta/{org}", json=body)) == {"deleted_count": 1}
    sealing.forget(chunk_id)


def move(sealing: SealingClient, chunk_id: int) -> None:
    other = SealingClient(sealing.http, sealing.kb, context="other", seed=7)
    other.save_context()
    body = {**other.scope, "chunk_updates": [other.chunk(chunk_id)]}
    ok(sealing.http.data("PUT", "/chunk/{org}", json=body))
    sealing.forget(chunk_id)
    assert other.search().in_none == other.expected()


@pytest.mark.parametrize("change", [put, patch_index, delete, delete_by_metadata, move])
def test_whatever_changes_a_vector_or_removes_it_frees_its_slot(change: Any, sealing: SealingClient) -> None:
    ids = sealing.insert(6)
    block = sealing.seal(ids)
    change(sealing, ids[3])
    assert sealing.blocks() == {block: (6, 5, True)}
    answer = sealing.search()
    assert answer.all == sealing.expected()
    assert set(answer.in_blocks) == {*ids} - {ids[3]}


def test_what_changes_no_vector_leaves_its_slot(sealing: SealingClient) -> None:
    ids = sealing.insert(4)
    block = sealing.seal(ids)
    patch = {"chunk_id": ids[0], "meta_data": {"tag1": "new"}, "name": "n", "chunk_content": "new"}
    ok(sealing.http.data("PATCH", "/chunk/{org}", json={**sealing.scope, "chunk_patches": [patch]}))
    body = {**sealing.scope, "meta_filter": {}, "patch": {"tag3": "x"}}
    ok(sealing.http.data("PATCH", "/chunk/by-meta/{org}", json=body))
    assert sealing.blocks() == {block: (4, 4, False)}
    assert sealing.search(meta_filter={"tag1": "new"}).in_blocks == sealing.expected(ids[0])


def test_sealing_changes_no_chunk_and_raises_the_revision(sealing: SealingClient) -> None:
    ids = sealing.insert(3)
    before, kb = sealing.http.get(sealing.kb, *ids), ok(sealing.http.control("GET", f"/kbs/{sealing.kb}"))
    revision = sealing.plan()["revision"]
    block = sealing.seal(ids)
    assert sealing.plan()["revision"] == revision + 1
    assert sealing.unseal(block) == 3
    assert sealing.plan()["revision"] == revision + 2
    assert sealing.http.get(sealing.kb, *ids) == before
    assert ok(sealing.http.control("GET", f"/kbs/{sealing.kb}")) == kb
    assert sealing.search().in_none == sealing.expected()


def test_the_same_block_again_is_the_first_one(sealing: SealingClient) -> None:
    ids = sealing.insert(5)
    block = sealing.block(ids)
    first = ok(sealing.send(block))
    revision = sealing.plan()["revision"]
    assert ok(sealing.send(block)) == first
    assert sealing.plan()["revision"] == revision
    assert sealing.unseal(first["block_id"]) == 5
    again = ok(sealing.send(block))
    assert again["live"] == 5
    assert again["block_id"] != first["block_id"]


def test_a_slot_whose_chunk_has_changed_is_born_dead_and_three_quarters_must_live(sealing: SealingClient) -> None:
    ids = sealing.insert(8)
    block, outdated = sealing.block(ids), sealing.block(ids)
    put(sealing, ids[0])
    delete(sealing, ids[7])
    sealed = ok(sealing.send(block))
    assert sealed["live"] == 6
    assert sealing.blocks() == {sealed["block_id"]: (8, 6, True)}
    assert sealing.search().all == sealing.expected()
    detail = problem(sealing.send(outdated), 409, "block_outdated")
    assert "only 0 of the block's 8 chunks are unchanged and in no other block" in detail
    assert sealing.unseal(sealed["block_id"]) == 6
    put(sealing, ids[1])
    assert "only 5 of" in problem(sealing.send(outdated), 409, "block_outdated")
    assert sealing.blocks() == {}


def test_a_block_replaces_others_whose_other_chunks_are_then_in_none(sealing: SealingClient) -> None:
    ids = sealing.insert(12)
    first, second = sealing.seal(ids[:4]), sealing.seal(ids[4:8])
    put(sealing, ids[1])
    whole = [ids[0], *ids[2:6], *ids[8:10]]
    new = sealing.seal(whole, replaces=[first, second])
    assert sealing.blocks() == {new: (7, 7, False)}
    answer = sealing.search()
    assert answer.all == sealing.expected()
    assert set(answer.in_blocks) == set(whole)
    block = sealing.block(ids[6:8], replaces=[first])
    assert f"the block {first}, which is to be replaced, no longer exists" in problem(
        sealing.send(block), 409, "block_outdated"
    )


def test_a_block_without_live_slots_is_gone_with_its_bytes(sealing: SealingClient) -> None:
    def stored() -> int:
        return int(ok(sealing.http.control("GET", "/organisation"))["usage"]["bytes"])

    ids = sealing.insert(3)
    before = stored()
    block = sealing.seal(ids)
    assert stored() - before > 16_384 + hint_bytes(DIM)
    assert sealing.unseal(block, block, 12345) == 3
    assert stored() == before
    sealing.seal(ids)
    for chunk_id in ids:
        put(sealing, chunk_id)
    assert sealing.blocks() == {}
    assert stored() < before
    assert sealing.search().in_none == sealing.expected()


def test_blocks_are_read_by_their_ids_and_never_change(sealing: SealingClient) -> None:
    ids = sealing.insert(5)
    first, second = sealing.seal(ids[:3]), sealing.seal(ids[3:])
    answer = sealing.fetched(second, first)
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    read = block_frames.read_fetched(answer.content, hint_bytes(DIM))
    assert [(one.block_id, one.chunk_ids.tolist()) for one in read] == [(second, ids[3:]), (first, ids[:3])]
    put(sealing, ids[0])
    assert sealing.fetched(second, first).content == answer.content
    some = sealing.fetched(second, 77)
    assert len(block_frames.read_fetched(some.content, hint_bytes(DIM))) == 1
    assert some.headers["cache-control"] == "no-store"
    other = SealingClient(sealing.http, sealing.kb, context="other")
    other.save_context()
    assert other.fetched(first).content == b""
    assert other.unseal(first) == 0


def test_blocks_of_other_knowledge_bases_and_contexts_are_apart(sealing: SealingClient) -> None:
    ids = sealing.insert(4)
    block = sealing.seal(ids)
    elsewhere = sealing_client(sealing.http, context="ctx2", client=sealing.client)
    elsewhere.insert(4)
    assert elsewhere.blocks() == {}
    assert elsewhere.unseal(block) == 0
    assert "no longer exists" in problem(elsewhere.send(elsewhere.block([1], replaces=[block])), 409, "block_outdated")
    assert sealing.blocks() == {block: (4, 4, False)}


def changed(block: bytes, **parts: Any) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(block), **parts})


@pytest.mark.parametrize(
    ("parts", "code", "reason"),
    [
        ({"chunk_ids": [2, 1, 3]}, "invalid", "not ascending"),
        ({"chunk_ids": [1, 1, 3]}, "invalid", "not ascending"),
        ({"chunk_ids": [0, 1, 3]}, "invalid", "from 1 at least"),
        ({"chunk_ids": [1, 2, 2**50]}, "invalid", "expected at most"),
        ({"chunk_ids": [1, 2]}, "invalid", "2 chunk_ids but 3 nonces"),
        ({"chunk_ids": [1, 2], "nonces": [b"", b""]}, "invalid_ciphertext", "has 3 vectors, expected 2"),
        ({"chunk_ids": []}, "invalid", "Expected `array` of length >= 1"),
        ({"replaces": list(range(1, 18))}, "invalid", "Expected `array` of length <= 16"),
        ({"body": b""}, "invalid_ciphertext", "0 bytes, expected 32768"),
        ({"body": b"\xff" * 32768}, "invalid_ciphertext", "residue that is not below its prime"),
        ({"body": bytes(32768)}, "invalid_ciphertext", "does not match the SHA-256"),
        ({"hints": b"x"}, "invalid_ciphertext", "1 bytes, expected 7680"),
        ({"header": b"x" * 112}, "invalid_ciphertext", "header is not valid"),
        ({"header": b"x"}, "invalid_ciphertext", "1 bytes, expected 112"),
    ],
)
def test_what_is_no_block_is_refused(parts: dict[str, Any], code: str, reason: str, sealing: SealingClient) -> None:
    ids = sealing.insert(3)
    block = sealing.block(ids)
    assert reason in problem(sealing.send(changed(block, **parts)), 422, code)
    assert sealing.blocks() == {}


@pytest.mark.parametrize(
    ("queries", "code", "reason"),
    [
        ([], "invalid", "got 0 queries, expected 1 to 8"),
        ([b""] * 9, "invalid", "got 9 queries, expected 1 to 8"),
        ([b"x"], "invalid_ciphertext", "1 bytes, expected 32768"),
        ([b"\xff" * 32768], "invalid_ciphertext", "residue that is not below its prime"),
        (["text"], "invalid", "Expected `bytes`"),
    ],
)
def test_what_is_no_query_is_refused(queries: Any, code: str, reason: str, sealing: SealingClient) -> None:
    request = msgspec.msgpack.encode({**sealing.scope, "queries": queries})
    headers = {"content-type": "application/x-msgpack"}
    answer = sealing.http.data("POST", "/block/search/{org}", content=request, headers=headers)
    assert reason in problem(answer, 422, code)


def test_a_scheme_without_blocks_says_so(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    scope = {"kb_id": kb, "context_id": "ctx"}
    calls = [
        http.data("POST", "/block/plan/{org}", json=scope),
        http.data("POST", "/block/search/{org}", json={**scope, "queries": [""]}),
        http.data("GET", "/block/{org}", params={**scope, "block_ids": [1]}),
    ]
    for answer in calls:
        assert "which does not have blocks" in problem(answer, 422, "invalid")
    answer = http.data("POST", "/block/plan/{org}", json={**scope, "context_id": "unknown"})
    problem(answer, 404, "context_not_found")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_block_ids_are_whole_numbers_and_not_too_many(method: str, sealing: SealingClient) -> None:
    many = {**sealing.scope, "block_ids": list(range(1, 300))}
    assert "299 block ids, at most" in problem(sealing.http.data(method, "/block/{org}", params=many), 413, "too_large")
    odd = {**sealing.scope, "block_ids": ["x"]}
    assert "expected whole numbers" in problem(sealing.http.data(method, "/block/{org}", params=odd), 422, "invalid")
    none = {**sealing.scope, "block_ids": [0, -1, 2**53, 10**30]}
    assert sealing.http.data(method, "/block/{org}", params=none).status_code == 200


def test_a_search_whose_blocks_vanish_before_it_begins_says_to_try_again(
    sealing: SealingClient, live_service: LiveService
) -> None:
    block = sealing.seal(sealing.insert(3))
    statement = "DELETE FROM block_body WHERE pk = ?"
    databases.execute(live_service.folder, statement, block)
    request = msgspec.msgpack.encode({**sealing.scope, "queries": sealing.client.blocks.queries([sealing.query]).sent})
    headers = {"content-type": "application/x-msgpack"}
    answer = sealing.http.data("POST", "/block/search/{org}", content=request, headers=headers)
    assert "blocks were replaced each time the search began" in problem(answer, 503, "unavailable")
    assert sealing.unseal(block) == 3
    assert sealing.search().in_none == sealing.expected()


def test_a_damaged_block_fails_only_searches_by_it_until_it_is_replaced(
    live_service: LiveService, sealing: SealingClient, caplog: pytest.LogCaptureFixture
) -> None:
    ids, other = sealing.insert(20), sealing_client(sealing.http, context="other")
    other.seal(other.insert(4))
    damaged = sealing.seal(ids[:8])
    sealing.seal(ids[8:16])
    whole = databases.execute(live_service.folder, "SELECT body FROM block_body WHERE pk = ?", damaged)[0][0]
    changed = bytes([whole[0] ^ 1, *whole[1:]])
    databases.execute(live_service.folder, "UPDATE block_body SET body = ? WHERE pk = ?", changed, damaged)

    sentence = f"the block {damaged} of the knowledge base {sealing.kb} is damaged in the server's database"
    for _ in range(2):
        message = problem(sealing.attempt(), 500, "block_damaged")
        assert message.startswith(sentence)
        assert f"--remake {damaged}" in message
    assert [record.levelname for record in caplog.records if record.getMessage() == message] == ["ERROR"] * 2
    assert sealing.search(range=[ids[8], ids[19]]).all == sealing.expected(*ids[8:])
    assert other.search().all == other.expected()
    sealing.unseal(damaged)
    assert sealing.search().all == sealing.expected()


def test_quotas_count_blocks(live_service: LiveService, http: Http) -> None:
    sealing = sealing_client(http)
    ids = sealing.insert(3)
    used = ok(http.control("GET", "/organisation"))["usage"]["bytes"]
    path = f"/api/v1/operator/organisations/{http.org}/quotas"
    answer = http.client.patch(path, json={"bytes": used + 1000}, headers=live_service.operator_headers)
    assert answer.status_code == 200
    assert "may store" in problem(sealing.send(sealing.block(ids)), 403, "quota_exceeded")
    assert sealing.blocks() == {}


def test_deleting_many_chunks_and_the_knowledge_base_leaves_no_block(sealing: SealingClient) -> None:
    ids = sealing.insert(1030)
    sealing.seal(ids[:1000])
    kept = sealing.seal(ids[1000:])
    body = {**sealing.scope, "meta_filter": {}, "dry_run": False}
    assert np.array(sorted(sealing.vectors)).tolist() == ids
    ok(sealing.http.data("DELETE", "/chunk/{org}", params={"kb_id": sealing.kb, "chunk_ids": ids[:1029]}))
    sealing.forget(*ids[:1029])
    assert sealing.blocks() == {kept: (30, 1, True)}
    assert sealing.search().in_blocks == sealing.expected(ids[1029])
    ok(sealing.http.data("DELETE", "/chunk/by-meta/{org}", json=body))
    assert sealing.blocks() == {}
    sealing.vectors.clear()
    sealing.seal(sealing.insert(4))
    ok(sealing.http.control("DELETE", f"/kbs/{sealing.kb}"))
    usage = ok(sealing.http.control("GET", "/organisation"))["usage"]
    assert usage["chunks"] == 0
