"""After any sequence of writes every scanner answers as threads over the database do, byte for byte."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from support.by_name import ByName
from support.database import Store, open_store, without_limit
from support.odd_shapes import ROW_BYTES, OddShapes
from support.ray_cluster import NEEDED, RayCluster, ray_cluster
from xtrace_core.metadata import parse_meta_data
from xtrace_core.metadata_filter import parse_filter
from xtrace_server.http.search_answers import MessagePackAnswer
from xtrace_server.metrics import Metrics
from xtrace_server.scope import SearchScope
from xtrace_server.search.engine import SearchEngine, SearchTarget
from xtrace_server.search.interface import Scanner
from xtrace_server.search.local.scanner import LocalScanner
from xtrace_server.search.ray.scanner import RayScanner
from xtrace_server.settings import Settings
from xtrace_server.storage import chunk_writes, contexts, knowledge_bases
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunk_writes import ChunkChange, ChunkWrite
from xtrace_server.storage.schema import chunk_pk

SEGMENT_ROWS = 4
EXAMPLES = 30 if "XTRACE_TEST_FULL" in os.environ else 8

ids = st.integers(1, 40)
tags = st.sampled_from(["a", "b"])
contents = st.binary(min_size=ROW_BYTES, max_size=ROW_BYTES)
nonces = st.none() | st.binary(max_size=3)
steps = st.one_of(
    st.tuples(st.just("insert"), st.lists(st.tuples(contents, nonces, tags), min_size=1, max_size=12)),
    st.tuples(st.just("change"), st.dictionaries(ids, st.tuples(contents, nonces), min_size=1, max_size=5)),
    st.tuples(st.just("delete"), st.tuples(st.sets(ids, min_size=1, max_size=9), st.booleans())),
    st.tuples(st.just("lose"), st.none()),
)
queries = st.lists(st.sampled_from([[], [b"\1"], [b"\xff"]]), min_size=1, max_size=3)
scopes = st.fixed_dictionaries(
    {"meta_filter": st.none() | st.just({"tag1": "a"}), "id_range": st.none() | st.tuples(ids, ids)}
)


class Stock:
    """A knowledge base that is written to, and what it has ever had."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.present: set[int] = set()

    async def write(self, engine: SearchEngine, kind: str, what: Any) -> None:
        async with self.store.database.write() as connection:
            kb = await knowledge_bases.lock(connection, self.store.kb)
            removed: list[int] = []
            if kind == "insert":
                rows = [ChunkWrite("text", row, parse_meta_data({"tag1": tag}), "", n) for row, n, tag in what]
                self.present |= set(await chunk_writes.insert_all(connection, kb, self.store.binding, rows))
            elif kind == "change":
                known = {chunk_id: row for chunk_id, row in what.items() if chunk_id in self.present}
                changes = [ChunkChange(pk=chunk_pk(kb.pk, one), row=row, nonce=n) for one, (row, n) in known.items()]
                if changes:
                    await chunk_writes.change_all(connection, kb, changes)
            else:
                gone = self.present & what[0]
                removed = await chunk_writes.remove(connection, kb, [chunk_pk(kb.pk, one) for one in gone])
                self.present -= gone
        # Another server's deletions are not noted.
        if kind == "delete" and what[1]:
            engine.note_removal(kb, removed)

    async def answer(self, engine: SearchEngine, asked: list[list[bytes]], scope: dict[str, Any]) -> bytes:
        async def find(connection: AsyncConnection) -> SearchTarget:
            kb = await knowledge_bases.lock(connection, self.store.kb)
            (binding,) = (await contexts.bindings(connection, {self.store.binding.pk})).values()
            wanted = parse_filter(scope["meta_filter"])
            searched = SearchScope(kb_id=kb.id, context_id="ctx", filter=wanted, id_range=scope["id_range"])
            return SearchTarget(OddShapes("{}"), Candidates(kb, binding, searched))

        search = await engine.search("org", find, asked, without_limit)
        form = MessagePackAnswer(*search.answer_shape)
        blocks = [block async for block in search.blocks(form)]
        return form.head(search.count) + b"".join(blocks) + form.end()


@asynccontextmanager
async def stock(folder: Path) -> Any:
    async with open_store(folder) as store:
        async with store.database.write() as connection:
            await contexts.fix_row_bytes(connection, store.binding, ROW_BYTES)
        yield Stock(store)


async def agree(made: Callable[[Path], Scanner], script: list[Any], asked: list[list[bytes]], scope: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with stock(folder) as kb:
            scanner = made(folder)
            await scanner.start()
            await connected(scanner)
            local = SearchEngine(kb.store.database, LocalScanner(1), Settings(data=folder, cache_bytes=0), Metrics())
            other = SearchEngine(kb.store.database, scanner, Settings(data=folder), Metrics())
            try:
                for kind, what in script:
                    if kind != "lose":
                        await kb.write(other, kind, what)
                    elif isinstance(scanner, ByName):
                        scanner.lost = set(scanner.held)
                    for one in (scope, {"meta_filter": None, "id_range": None}):
                        assert await kb.answer(other, asked, one) == await kb.answer(local, asked, one)
            finally:
                await other.close()
                await local.close()


async def connected(scanner: Scanner) -> None:
    deadline = time.monotonic() + 60
    while isinstance(scanner, RayScanner) and not scanner.client.available:
        assert time.monotonic() < deadline, "the cluster cannot be reached"
        await asyncio.sleep(0.05)


@given(st.lists(steps, min_size=1, max_size=8), queries, scopes)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_scanner_that_holds_rows_elsewhere_agrees(script: list[Any], asked: list[list[bytes]], scope: Any) -> None:
    asyncio.run(agree(lambda _: ByName(SEGMENT_ROWS), script, asked, scope))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@NEEDED
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_cluster_agrees(cluster: RayCluster) -> None:
    def made(folder: Path) -> Scanner:
        rows = {"ray_min_rows": 0, "ray_segment_rows": SEGMENT_ROWS}
        return RayScanner(Settings.model_validate({"data": folder, "ray_address": cluster.address, **rows}))

    @given(st.lists(steps, min_size=8, max_size=30), queries, scopes)
    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(script: list[Any], asked: list[list[bytes]], scope: Any) -> None:
        asyncio.run(agree(made, script, asked, scope))

    check()
