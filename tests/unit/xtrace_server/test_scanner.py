"""The seam between engine and scanner: what threads compute, a scanner that knows rows by name alone computes too."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection

from support.database import Store, open_store
from support.odd_shapes import ROW_BYTES, OddShapes
from xtrace_core.arithmetic import Rows
from xtrace_core.metadata import parse_meta_data
from xtrace_core.metadata_filter import parse_filter
from xtrace_core.schemes.interface import InvalidCiphertext
from xtrace_server.http.search_answers import MessagePackAnswer
from xtrace_server.metrics import Metrics
from xtrace_server.scope import SearchScope
from xtrace_server.search.engine import SearchEngine, SearchTarget
from xtrace_server.search.interface import Computation, Scanner, Segment, Selection, whole
from xtrace_server.search.local.scanner import LocalScanner
from xtrace_server.settings import Settings
from xtrace_server.storage import chunk_writes, contexts, knowledge_bases
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunk_writes import ChunkChange, ChunkWrite
from xtrace_server.storage.schema import chunk_pk

T = TypeVar("T")
CHUNKS = 3000


class ByName:
    """A scanner as processes elsewhere would be one: it is told names and positions, and is sent rows once."""

    def __init__(self) -> None:
        self.held: dict[bytes, Rows] = {}
        self.sent = 0

    async def scan(
        self,
        selections: AsyncIterator[Selection | None],
        computation: Computation,
        finish: Callable[[Selection, Rows], T],
    ) -> AsyncGenerator[T, None]:
        async for selection in selections:
            if selection is None:
                continue
            name = selection.segment.name
            if name not in self.held:
                self.held[name] = np.array(selection.segment.rows)
                self.sent += 1
            yield finish(selection, computation(self.held[name][np.asarray(selection.positions)]))

    def close(self) -> None:
        self.held.clear()


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

    async def find(connection: AsyncConnection) -> SearchTarget:
        kb = await knowledge_bases.lock(connection, store.kb)
        (binding,) = (await contexts.bindings(connection, {store.binding.pk})).values()
        parsed = parse_filter(scope.get("meta_filter"))
        asked = SearchScope(kb_id=kb.id, context_id="ctx", filter=parsed, id_range=scope.get("id_range"))
        return SearchTarget(OddShapes("{}"), Candidates(kb, binding, asked))

    search = await engine.search("org", find, queries)
    form = MessagePackAnswer(*search.answer_shape)
    blocks = [block async for block in search.blocks(form)]
    found: list[Any] = msgspec.msgpack.decode(form.head(search.count) + b"".join(blocks) + form.end())
    return found


def expected(ids: range | list[int]) -> list[Any]:
    return [[[row(i).rstrip(b"\0")], i, b"n" if i % 3 else None] for i in ids]


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
async def test_both_scanners_give_the_same(store: Store, tmp_path: Path, cache_bytes: int) -> None:
    local = engine(store, LocalScanner(2), tmp_path, cache_bytes=cache_bytes)
    named = engine(store, ByName(), tmp_path, cache_bytes=cache_bytes)
    asked: list[list[list[bytes]]] = [[[]], [[b"\1"]], [[], [b"\2"]]]
    for _ in range(2):
        for scope, ids in (
            ({}, range(1, CHUNKS + 1)),
            ({"meta_filter": {"tag1": "t1"}}, range(1, CHUNKS + 1, 2)),
            ({"id_range": (5, 900)}, range(5, 901)),
            ({"id_range": (5, 90), "meta_filter": {"tag1": "t0"}}, range(6, 91, 2)),
            ({"id_range": (5, 4)}, range(0)),
        ):
            assert await answer(local, store, [[]], **scope) == expected(ids)
            for queries in asked:
                assert await answer(named, store, queries, **scope) == await answer(local, store, queries, **scope)
    await local.close()
    await named.close()


async def test_rows_are_sent_once_and_again_only_where_they_changed(store: Store, tmp_path: Path) -> None:
    scanner = ByName()
    named = engine(store, scanner, tmp_path)
    await answer(named, store, [[]])
    sent = scanner.sent
    assert sum(map(len, scanner.held.values())) == CHUNKS
    await answer(named, store, [[b"\1"]], meta_filter={"tag1": "t1"})
    assert scanner.sent == sent
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        change = ChunkChange(pk=chunk_pk(kb.pk, CHUNKS), row=row(7), nonce=None)
        await chunk_writes.change_all(connection, kb, [change])
    assert (await answer(named, store, [[]]))[-1] == [[row(7)], CHUNKS, None]
    assert scanner.sent == sent + 1
    await named.close()


async def test_a_query_that_the_scheme_refuses_ends_the_transaction(store: Store, tmp_path: Path) -> None:
    local = engine(store, LocalScanner(1), tmp_path)
    for _ in range(20):  # more than there are connections
        with pytest.raises(InvalidCiphertext):
            await answer(local, store, [[b"ab"]])
    assert len(await answer(local, store, [[]])) == CHUNKS
    await local.close()


def test_the_name_is_of_the_rows_and_their_length_alone() -> None:
    data = bytes(range(24))

    def segment(width: int, first_pk: int = 0) -> Segment:
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
        return Segment(np.arange(first_pk, first_pk + len(rows)), rows, (None,) * len(rows))

    assert segment(6).name == segment(6, 9).name == segment(6).take(np.arange(4)).name
    assert len({segment(6).name, segment(4).name, segment(6).take(np.array([0, 1, 2])).name}) == 3
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
