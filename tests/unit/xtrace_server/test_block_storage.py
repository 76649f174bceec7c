"""Blocks in the database: what archives, deletions and plans make of them. The bodies here are not encrypted."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from support.database import Store, open_store, store_url
from support.toy_paillier import toy_key
from unit.xtrace_server.test_query_plans import explained
from xtrace_core.metadata import parse_meta_data
from xtrace_core.metadata_filter import EVERY_CHUNK
from xtrace_core.schemes.paillier import paillier_evaluation
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.errors import BlockOutdated
from xtrace_server.operations.moving import import_knowledge_base
from xtrace_server.scope import SearchScope
from xtrace_server.storage import (
    blocks,
    chunk_writes,
    chunks,
    contexts,
    deletions,
    knowledge_bases,
    organisations,
    sealing,
)
from xtrace_server.storage.archiving import back_up, restore
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunk_writes import ChunkWrite
from xtrace_server.storage.chunks import pk_query
from xtrace_server.storage.copies import copy
from xtrace_server.storage.database import open_database
from xtrace_server.storage.dialects import dialect_of
from xtrace_server.storage.exports import export
from xtrace_server.storage.schema import block, block_body, chunk, chunk_pk, organisation
from xtrace_server.storage.sealing import BlockWrite, Sealed

CHUNKS = 20
ROW = paillier_evaluation(toy_key().context_data.pk).row([toy_key().encrypt(1)])
pytestmark = pytest.mark.sqlite


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "here") as store:
        writes = [ChunkWrite("text", ROW, parse_meta_data({}), "", nonce(i)) for i in range(1, CHUNKS + 1)]
        async with store.database.write() as connection:
            bound = await contexts.fix_row_bytes(connection, store.binding, len(ROW))
            await chunk_writes.insert_all(connection, store.kb, bound, writes)
        yield store


def nonce(chunk_id: int) -> bytes:
    return chunk_id.to_bytes(16)


async def sealed(store: Store, chunk_ids: Sequence[int], **fields: Any) -> Sealed:
    body = bytes(chunk_ids) * 100
    parts = {"replaces": (), "header": b"h" * 112, "hints": b"i" * 7680, "body": body, "sha256": sha256(body).digest()}
    write = BlockWrite(chunk_ids=chunk_ids, nonces=[nonce(one) for one in chunk_ids], **{**parts, **fields})
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        return await sealing.seal(connection, kb, store.binding, write)


async def deleted(store: Store, *chunk_ids: int) -> None:
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await chunk_writes.remove(connection, kb, [chunk_pk(kb.pk, one) for one in chunk_ids])


async def carried_out(store: Store) -> int:
    """Carries out all deletions, and returns the number of steps."""
    for steps in range(1000):
        async with store.database.write() as connection:
            if await deletions.carry_out(connection) is None:
                return steps
    raise AssertionError("it does not end")


async def count(store: Store, table: Any) -> int:
    async with store.database.look_up() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def candidates(store: Store, *, unsealed: bool) -> Candidates:
    scope = SearchScope(kb_id=store.kb.id, context_id="ctx", filter=EVERY_CHUNK, unsealed=unsealed)
    return Candidates(store.kb, store.binding, scope)


async def test_chunks_in_no_block_are_found_by_an_index_of_them_alone(store: Store) -> None:
    found = await explained(store, pk_query(candidates(store, unsealed=True)))
    assert "ix_chunk_unsealed (binding_pk=?)" in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize(
    "filter_",
    [
        {"tag1": "t1"},
        {"tag1": {"$gte": "t1"}},
        {"$or": [{"tag1": "t1"}, {"tag2": "y"}]},
        {"facets": "f"},
        {"tag1": {"$ne": "t1"}},
    ],
)
async def test_a_filter_reads_the_few_chunks_in_no_block_and_not_its_matches_in_blocks(
    store: Store, filter_: Any
) -> None:
    wanted = store.candidates(filter_)
    few = replace(wanted, scope=replace(wanted.scope, unsealed=True, few=True))
    assert "SEARCH chunk USING INDEX ix_chunk_unsealed (binding_pk=?)" in await explained(store, pk_query(few))


async def test_chunks_in_no_block_are_few_up_to_a_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await sealed(store, [1, 2, 3])
    for most, is_few in ((CHUNKS - 3, True), (CHUNKS - 4, False)):
        monkeypatch.setattr(chunks, "_FEW", most)
        async with store.database.look_up() as connection:
            assert await chunks.few_unsealed(connection, store.binding) == is_few


async def test_the_slots_that_a_filter_matches_are_found_by_its_index_in_a_row_for_each_block(store: Store) -> None:
    query = blocks.slots_query(store.candidates({"tag1": "t1"}))
    assert "SEARCH chunk USING INDEX ix_chunk_tag1 (binding_pk=? AND tag1=?)" in await explained(store, query)
    await sealed(store, [2, 4, 6])
    await sealed(store, [1, 3])
    async with store.database.look_up() as connection:
        rows = (await connection.execute(blocks.slots_query(store.candidates({})))).all()
    assert sorted(sorted(listed.split(",")) for _, listed in rows) == [["0", "1"], ["0", "1", "2"]]


async def test_lists_and_searches_read_no_hints_and_no_bodies(store: Store) -> None:
    columns = block.c.pk, block.c.sha256, block.c.live
    query = select(*columns).where(block.c.binding_pk == 1, block.c.live_count > 0).order_by(block.c.pk)
    assert "ix_block_binding_pk" in await explained(store, query)


async def test_dead_blocks_are_deleted_in_steps_that_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "_LARGE_ROWS", 2)
    for first in range(1, 16, 3):
        await sealed(store, list(range(first, first + 3)))
    await deleted(store, *range(1, 14))
    assert await count(store, block) == await count(store, block_body) == 5
    async with store.database.look_up() as connection:
        assert await deletions.is_left(connection)
        assert [one.live_count for one in await blocks.list_all(connection, store.binding)] == [2]
    assert await carried_out(store) == 2
    assert await count(store, block) == await count(store, block_body) == 1
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await deletions.delete_knowledge_base(connection, kb)
    assert await carried_out(store) > 1
    assert await count(store, block) == await count(store, block_body) == await count(store, chunk) == 0
    async with store.database.look_up() as connection:
        (one,) = await organisations.list_all(connection)
        stored = await connection.execute(select(organisation.c.stored_bytes, organisation.c.chunks))
        context = await contexts.get(connection, one.id, "ctx")
        assert stored.one() == (contexts.stored_bytes("ctx", None, context.data), 0)


async def test_an_organisation_has_stored_its_chunks_contexts_and_living_blocks(store: Store) -> None:
    async def is_right() -> bool:
        async with store.database.look_up() as connection:
            (one,) = await organisations.list_all(connection)
            context = await contexts.get(connection, one.id, "ctx")
            kb = await knowledge_bases.get(connection, one.id, store.kb.id)
            of_blocks = select(func.coalesce(func.sum(block.c.stored_bytes), 0)).where(block.c.live_count > 0)
            parts = kb.stored_bytes, contexts.stored_bytes("ctx", None, context.data)
            total = sum(parts) + (await connection.execute(of_blocks)).scalar_one()
            return bool((await connection.execute(select(organisation.c.stored_bytes))).scalar_one() == total)

    await sealed(store, [1, 2, 3])
    second = await sealed(store, [4, 5, 6])
    assert await is_right()
    await sealed(store, [4, 5, 6, 7], replaces=(second.block_pk,))
    assert await is_right()
    await deleted(store, 1, 2, 3, 4)
    assert await is_right()


async def test_a_block_that_another_transaction_has_replaced_replaces_nothing(store: Store) -> None:
    first = await sealed(store, [1, 2, 3, 4])
    await sealed(store, [1, 2, 3, 4, 5], replaces=(first.block_pk,))
    with pytest.raises(BlockOutdated, match="no longer exists"):
        await sealed(store, [1, 2, 3, 4, 6], replaces=(first.block_pk,))


async def archived_sums(store: Store) -> tuple[int, int]:
    async with store.database.look_up() as connection:
        (stored,) = (await connection.execute(select(organisation.c.stored_bytes))).scalars()
        unsealed = select(func.count()).where(chunk.c.block_pk.is_(None), chunk.c.slot.is_(None))
        return stored, int((await connection.execute(unsealed)).scalar_one())


async def test_backups_and_copies_leave_blocks_out_and_their_chunks_arrive_in_none(
    store: Store, tmp_path: Path
) -> None:
    before, _ = await archived_sums(store)
    await sealed(store, [1, 2, 3, 4])
    await deleted(store, 4)
    after, unsealed = await archived_sums(store)
    assert unsealed == CHUNKS - 4
    assert after > before
    source = dialect_of(store_url(tmp_path / "here"))
    back_up(source, tmp_path / "backup.tar")
    restore(dialect_of(store_url(tmp_path / "restored")), tmp_path / "restored", tmp_path / "backup.tar")
    copy(source, dialect_of(store_url(tmp_path / "copied")), tmp_path / "copied")
    for folder in ("restored", "copied"):
        async with open_database(store_url(tmp_path / folder), tmp_path / folder) as database:
            again = Store(database, store.kb, store.binding)
            assert await count(again, block) == await count(again, block_body) == 0
            stored, unsealed = await archived_sums(again)
            assert unsealed == CHUNKS - 1
            assert before - stored == len("text") + len(ROW) + 16  # of the deleted chunk
            assert (await sealed(again, [1, 2, 3])).live_count == 3


async def test_an_export_leaves_blocks_out_and_an_import_believes_no_other(store: Store, tmp_path: Path) -> None:
    await sealed(store, [1, 2, 3, 4])
    archive = tmp_path / "kb.tar"
    export(dialect_of(store_url(tmp_path / "here")), store.kb.id, archive)
    with archive.open("rb") as file:
        reader = ArchiveReader(file)
        assert not {"block", "block_body"} & {table.name for table in reader.manifest.tables}
    async with open_store(tmp_path / "there") as there:
        async with there.database.look_up() as connection:
            (one,) = await organisations.list_all(connection)
        await import_knowledge_base(there.database, SchemeRegistry(), one.id, archive)
        _, unsealed = await archived_sums(there)
        assert unsealed == CHUNKS
