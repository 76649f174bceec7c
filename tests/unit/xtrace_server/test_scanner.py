"""The seam between engine and scanner: one suite for threads, for a scanner that knows rows by name alone, and for a
real Ray cluster; all answer alike.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from support.by_name import ByName
from support.database import Store, open_store, store_url, without_limit
from support.odd_shapes import ROW_BYTES, OddShapes
from support.ray_cluster import NEEDED, RayCluster, ray_cluster
from xtrace_core.metadata import parse_meta_data
from xtrace_core.metadata_filter import parse_filter
from xtrace_core.schemes.interface import InvalidCiphertext
from xtrace_server.errors import Unavailable
from xtrace_server.http.search_answers import MessagePackAnswer
from xtrace_server.metrics import Metrics
from xtrace_server.scope import SearchScope
from xtrace_server.search.engine import SearchEngine, SearchTarget
from xtrace_server.search.interface import Place, Scanner, Segment, Selection, rows_bytes, whole
from xtrace_server.search.local.scanner import LocalScanner
from xtrace_server.search.ray.client import Call
from xtrace_server.search.ray.messages import AnyRequest, Compute
from xtrace_server.search.ray.scanner import RayScanner
from xtrace_server.search.running import Search
from xtrace_server.settings import Settings
from xtrace_server.storage import chunk_writes, contexts, knowledge_bases
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunk_writes import ChunkChange, ChunkWrite
from xtrace_server.storage.chunks import KEY_BYTES, Reserve
from xtrace_server.storage.schema import chunk_pk

CHUNKS = 3000
SEGMENT_ROWS = 256


def row(i: int) -> bytes:
    return i.to_bytes(ROW_BYTES, "big")


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as store:
        writes = [
            ChunkWrite("text", row(i), parse_meta_data({"tag1": f"t{i % 2}"}), "", b"n" if i % 3 else None)
            for i in range(1, CHUNKS + 1)
        ]
        async with store.database.write() as connection:
            await contexts.fix_row_bytes(connection, store.binding, ROW_BYTES)
            await chunk_writes.insert_all(connection, store.kb, store.binding, writes)
        yield store


def engine(store: Store, scanner: Scanner, folder: Path, **settings: Any) -> SearchEngine:
    return SearchEngine(store.database, scanner, Settings(data=folder, **settings), Metrics())


async def answer(engine: SearchEngine, store: Store, queries: list[list[bytes]], **scope: Any) -> list[Any]:
    """The rows of the answer."""
    return await read(await begun(engine, store, queries, **scope))


async def begun(
    engine: SearchEngine, store: Store, queries: list[list[bytes]], reserve: Reserve = without_limit, **scope: Any
) -> Search:
    """A search of which nothing has been read."""

    async def find(connection: AsyncConnection) -> SearchTarget:
        kb = await knowledge_bases.lock(connection, store.kb)
        (binding,) = (await contexts.bindings(connection, {store.binding.pk})).values()
        parsed = parse_filter(scope.get("meta_filter"))
        asked = SearchScope(kb_id=kb.id, context_id="ctx", filter=parsed, id_range=scope.get("id_range"))
        return SearchTarget(OddShapes("{}"), Candidates(kb, binding, asked))

    return await engine.search("org", find, queries, reserve)


async def read(search: Search) -> list[Any]:
    """The rows of a search that has begun."""
    form = MessagePackAnswer(*search.answer_shape)
    blocks = [block async for block in search.blocks(form)]
    found: list[Any] = msgspec.msgpack.decode(form.head(search.count) + b"".join(blocks) + form.end())
    return found


def expected(ids: range | list[int]) -> list[Any]:
    return [[[row(i).rstrip(b"\0")], i, b"n" if i % 3 else None] for i in ids]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(params=["local", "by name", pytest.param("ray", marks=[NEEDED, pytest.mark.full])])
async def scanner(request: pytest.FixtureRequest, tmp_path: Path) -> Scanner:
    """Each of the scanners, started."""
    if request.param == "local":
        return LocalScanner(2)
    if request.param == "by name":
        return ByName(SEGMENT_ROWS)
    return await connected(request.getfixturevalue("cluster"), tmp_path)


async def connected(cluster: RayCluster, folder: Path) -> RayScanner:
    """A scanner with the cluster."""
    rows: Any = {"ray_min_rows": 0, "ray_segment_rows": SEGMENT_ROWS}
    scanner = RayScanner(Settings(data=folder, engine="ray", ray_address=cluster.address, **rows))
    await scanner.start()
    deadline = time.monotonic() + 60
    while not scanner.client.available:
        assert time.monotonic() < deadline, "the cluster cannot be reached"
        await asyncio.sleep(0.05)
    return scanner


ASKED: list[list[list[bytes]]] = [[[]], [[b"\1"]], [[], [b"\2"]]]


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
async def test_every_scanner_answers_as_threads_do(
    store: Store, tmp_path: Path, scanner: Scanner, cache_bytes: int
) -> None:
    local = engine(store, LocalScanner(2), tmp_path, cache_bytes=cache_bytes)
    other = engine(store, scanner, tmp_path, cache_bytes=cache_bytes)
    for _ in range(2):
        for scope, ids in (
            ({}, range(1, CHUNKS + 1)),
            ({"meta_filter": {"tag1": "t1"}}, range(1, CHUNKS + 1, 2)),
            ({"id_range": (5, 900)}, range(5, 901)),
            ({"id_range": (5, 90), "meta_filter": {"tag1": "t0"}}, range(6, 91, 2)),
            ({"id_range": (5, 4)}, range(0)),
        ):
            assert await answer(local, store, [[]], **scope) == expected(ids)
            for queries in ASKED:
                assert await answer(other, store, queries, **scope) == await answer(local, store, queries, **scope)
    await local.close()
    await other.close()


async def test_every_change_is_seen(store: Store, tmp_path: Path, scanner: Scanner) -> None:
    """Insertions, changes and deletions, in ranges that are held elsewhere and in the one that grows."""
    local = engine(store, LocalScanner(2), tmp_path, cache_bytes=0)
    other = engine(store, scanner, tmp_path)
    stock = {i: i for i in range(1, CHUNKS + 1)}
    await answer(other, store, [[]])

    async def change(ids: list[int], content: int) -> None:
        async with store.database.write() as connection:
            kb = await knowledge_bases.lock(connection, store.kb)
            changes = [ChunkChange(pk=chunk_pk(kb.pk, i), row=row(content), nonce=None) for i in ids]
            await chunk_writes.change_all(connection, kb, changes)
        stock.update(dict.fromkeys(ids, content))

    async def insert(count: int) -> None:
        writes = [ChunkWrite("text", row(9), parse_meta_data({}), "", None) for _ in range(count)]
        async with store.database.write() as connection:
            kb = await knowledge_bases.lock(connection, store.kb)
            stock.update(dict.fromkeys(await chunk_writes.insert_all(connection, kb, store.binding, writes), 9))

    async def delete(ids: list[int], *, noted: bool) -> None:
        async with store.database.write() as connection:
            kb = await knowledge_bases.lock(connection, store.kb)
            pks = [chunk_pk(kb.pk, i) for i in ids]
            await chunk_writes.remove(connection, kb, pks)
        if noted:
            other.note_removal(kb, pks)
        for i in ids:
            del stock[i]

    async def check() -> None:
        found = await answer(other, store, [[]])
        assert [(one[1], one[0][0]) for one in found] == [(i, row(stock[i]).rstrip(b"\0")) for i in sorted(stock)]
        for queries in ASKED[1:]:
            assert await answer(other, store, queries) == await answer(local, store, queries)

    for step in (
        change([CHUNKS, 7], 70),
        insert(1),
        delete([8, 300, CHUNKS - 1], noted=True),
        insert(2 * SEGMENT_ROWS),
        delete([9, 301, CHUNKS + 1], noted=False),
        change([10, CHUNKS + 2, CHUNKS + SEGMENT_ROWS], 71),
        delete([i for i in range(400, 1200) if i % 10], noted=True),
        delete(sorted(set(range(1300, 1900))), noted=False),
    ):
        await step
        await check()
    await local.close()
    await other.close()


async def test_rows_are_brought_once_and_again_only_where_they_changed(store: Store, tmp_path: Path) -> None:
    scanner = ByName(SEGMENT_ROWS)
    named, another = engine(store, scanner, tmp_path), engine(store, scanner, tmp_path)
    await answer(named, store, [[]])
    whole_ranges = CHUNKS // SEGMENT_ROWS
    assert scanner.brought == whole_ranges == len(scanner.held)
    await answer(named, store, [[b"\1"]], meta_filter={"tag1": "t1"})
    assert await answer(another, store, [[]]) == expected(range(1, CHUNKS + 1))
    assert scanner.brought == whole_ranges
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        change = ChunkChange(pk=chunk_pk(kb.pk, 1), row=row(7), nonce=None)
        await chunk_writes.change_all(connection, kb, [change])
    assert (await answer(named, store, [[]]))[0] == [[row(7)], 1, None]
    assert (await answer(another, store, [[]]))[0] == [[row(7)], 1, None]
    assert scanner.brought == whole_ranges + 1
    assert named.memory()["cached"]() < rows_bytes(CHUNKS, ROW_BYTES) / 3
    await named.close()


@NEEDED
@pytest.mark.full
async def test_a_search_in_the_cluster_is_one_call_for_each_segment(
    store: Store, tmp_path: Path, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = await connected(cluster, tmp_path)
    begin, asked = scanner.client.begin, list[Compute]()

    async def note(request: AnyRequest) -> Call:
        if isinstance(request, Compute):
            asked.append(request)
        return await begin(request)

    monkeypatch.setattr(scanner.client, "begin", note)
    remote = engine(store, scanner, tmp_path)
    await answer(remote, store, [[]])
    asked.clear()
    assert await answer(remote, store, [[]]) == expected(range(1, CHUNKS + 1))
    assert len(asked) == (CHUNKS + 1) // SEGMENT_ROWS
    assert len({one.name for one in asked}) == len(asked)
    environments = cluster.environments()
    assert len(environments) == 2
    assert all(b"RAY_max_direct_call_object_size=" in one for one in environments), "answers come with the replies"
    await remote.close()


async def test_lost_rows_are_brought_again_or_the_search_fails(store: Store, tmp_path: Path) -> None:
    scanner = ByName(SEGMENT_ROWS)
    named = engine(store, scanner, tmp_path)
    await answer(named, store, [[]])
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await chunk_writes.remove(connection, kb, [chunk_pk(kb.pk, 2)])
    left = [1, *range(3, CHUNKS + 1)]
    assert await answer(named, store, [[]]) == expected(left)
    scanner.lost = set(scanner.held)
    assert await answer(named, store, [[]]) == expected(left)
    assert not scanner.lost

    async def change_meanwhile(segment: Segment) -> Place:
        raise AssertionError("rows that are not as they were must not be held")

    search = await begun(named, store, [[]])
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        change = ChunkChange(pk=chunk_pk(kb.pk, 5), row=row(7), nonce=None)
        await chunk_writes.change_all(connection, kb, [change])
    scanner.lost, scanner.hold = set(scanner.held), change_meanwhile  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="search again"):
        await read(search)
    await named.close()


async def test_without_the_cluster_rows_come_from_here(store: Store, tmp_path: Path) -> None:
    scanner = ByName(SEGMENT_ROWS)
    named = engine(store, scanner, tmp_path)
    assert await answer(named, store, [[]]) == expected(range(1, CHUNKS + 1))
    search = await begun(named, store, [[]])
    scanner.up = False
    with pytest.raises(Unavailable):
        await read(search)
    assert await answer(named, store, [[]]) == expected(range(1, CHUNKS + 1))
    scanner.up = True
    assert await answer(named, store, [[]]) == expected(range(1, CHUNKS + 1))
    await named.close()


async def test_rows_in_memory_need_no_transaction(store: Store, tmp_path: Path) -> None:
    ran: list[str] = []
    name = make_url(store_url(tmp_path)).database

    def note(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if connection.engine.url.database == name:  # servers of other tests may do their own work
            ran.append(statement.split()[0])

    local = engine(store, LocalScanner(2), tmp_path)
    await answer(local, store, [[]])
    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert await answer(local, store, [[]]) == expected(range(1, CHUNKS + 1))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert ran == ["SELECT", "SELECT"], "the two of the look-up in this test"
    await local.close()


async def test_memory_is_reserved_for_each_match_of_a_filter(store: Store, tmp_path: Path) -> None:
    made = engine(store, LocalScanner(1), tmp_path)
    reserved: list[int] = []
    for meta_filter in (None, {"tag1": "t1"}):
        for _ in range(2):  # from the database, from memory
            search = await begun(made, store, [[b"q"]], reserved.append, meta_filter=meta_filter)
            await read(search)
    assert search.count == CHUNKS // 2
    assert sum(reserved) == 2 * search.count * KEY_BYTES
    await made.close()


async def test_a_query_that_the_scheme_refuses_ends_the_transaction(store: Store, tmp_path: Path) -> None:
    local = engine(store, LocalScanner(1), tmp_path)
    for _ in range(20):  # more than there are connections
        with pytest.raises(InvalidCiphertext):
            await answer(local, store, [[b"ab"]])
    assert len(await answer(local, store, [[]])) == CHUNKS
    await local.close()


def test_the_name_is_of_the_rows_their_length_and_their_nonces_alone() -> None:
    data = bytes(range(24))

    def segment(width: int, first_pk: int = 0, nonce: bytes | None = None) -> Segment:
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
        return Segment(np.arange(first_pk, first_pk + len(rows)), rows, (nonce,) * len(rows))

    assert segment(6).name == segment(6, 9).name == segment(6).take(np.arange(4)).name
    others = [segment(4), segment(6, nonce=b""), segment(6, nonce=b"n"), segment(6).take(np.array([0, 1, 2]))]
    assert len({segment(6).name, *[one.name for one in others]}) == 5
    assert len(segment(6).name) == 32


def test_a_selection_is_cut_into_pieces_without_copies() -> None:
    rows = np.arange(60, dtype=np.uint8).reshape(10, 6)
    segment = Segment(np.arange(10), rows, tuple(b"%d" % i for i in range(10)))
    for selection in (whole(segment), Selection(segment, range(2, 9)), Selection(segment, np.array([0, 3, 4, 9]))):
        pieces = list(selection.pieces(3))
        assert [len(piece) for piece in pieces[:-1]] == [3] * (len(pieces) - 1)
        assert np.concatenate([piece.rows for piece in pieces]).tolist() == selection.rows.tolist()
        assert np.concatenate([piece.chunk_ids for piece in pieces]).tolist() == selection.chunk_ids.tolist()
        assert [nonce for piece in pieces for nonce in piece.nonces] == list(selection.nonces)
    assert np.shares_memory(whole(segment).rows, rows)
