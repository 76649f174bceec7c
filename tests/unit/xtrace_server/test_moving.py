"""An export comes in whole, under the organisation that asked for it, or not at all."""

import fcntl
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.database import Store, open_store, store_url
from support.toy_paillier import toy_key
from xtrace_core.metadata import parse_meta_data
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.archive.writing import ArchiveWriter
from xtrace_server.errors import KnowledgeBaseNotFound
from xtrace_server.operations.moving import Imported, import_knowledge_base, undo_import
from xtrace_server.storage import chunk_writes, contexts, deletions, imports, knowledge_bases, organisations
from xtrace_server.storage.archiving import LEFT_OUT
from xtrace_server.storage.chunk_writes import ChunkWrite
from xtrace_server.storage.dialects import dialect_of
from xtrace_server.storage.exports import NOT_EXPORTED, export
from xtrace_server.storage.imports import IMPORTED, CannotImport
from xtrace_server.storage.schema import chunk, chunk_pk, metadata

pytestmark = pytest.mark.usefixtures("database")

Rows = dict[str, list[list[Any]]]
CHUNKS = 5


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Store]:
    """The database to import into, which has a knowledge base and the same context already."""
    async with open_store(tmp_path / "there") as store:
        yield store


@pytest.fixture
async def archive(database: str, tmp_path: Path, made: dict[str, bytes]) -> Path:
    """The export of a knowledge base with two contexts, of which one is retired, and gaps in its ids."""
    if database not in made:
        made[database] = await exported(tmp_path)
    (tmp_path / "kb.tar").write_bytes(made[database])
    return tmp_path / "kb.tar"


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """The export out of each database."""
    return {}


async def exported(folder: Path) -> bytes:
    async with open_store(folder / "here") as store:
        evaluation = SchemeRegistry().evaluation("PaillierClient", toy_key().context_data.pk)
        async with store.database.write() as connection:
            organisation_id = (await organisations.list_all(connection))[0].id
            await contexts.create(connection, organisation_id, "old", toy_key().context_data, "saver", "named")
            old = await contexts.bind(connection, store.kb, await contexts.get(connection, organisation_id, "old"))
            await contexts.retire(connection, organisation_id, "old")
            for binding in (store.binding, old):
                kb = await knowledge_bases.lock(connection, store.kb)
                writes = [
                    ChunkWrite(
                        "content", evaluation.row([toy_key().encrypt(i)]), parse_meta_data(FACETS), f"n{i}", b"n"
                    )
                    for i in range(CHUNKS)
                ]
                bound = await contexts.fix_row_bytes(connection, binding, len(writes[0].row))
                await chunk_writes.insert_all(connection, kb, bound, writes)
    export(dialect_of(store_url(folder / "here")), store.kb.id, folder / "here.tar")
    return (folder / "here.tar").read_bytes()


FACETS = {"tag1": "a", "facets": ["x", "y"]}


async def only_organisation(store: Store) -> str:
    async with store.database.look_up() as connection:
        (one,) = await organisations.list_all(connection)
    return one.id


async def imported(store: Store, archive: Path) -> Imported:
    return await import_knowledge_base(store.database, SchemeRegistry(), await only_organisation(store), archive)


async def contents_of(store: Store) -> dict[str, list[Any]]:
    async with store.database.look_up() as connection:
        return {
            name: [tuple(row) for row in await connection.execute(sa.select(table))]
            for name, table in metadata.tables.items()
        }


def rows_of(archive: Path) -> Rows:
    with archive.open("rb") as file:
        reader = ArchiveReader(file)
        found: Rows = {table.name: [] for table in reader.manifest.tables}
        for part in reader.parts():
            found[part.table] += [list(row) for row in part.rows]
    return found


def rewritten(archive: Path, change: Callable[[Rows], object]) -> None:
    """Lets the archive have other rows, with checksums that are right."""
    rows = rows_of(archive)
    change(rows)
    with archive.open("rb") as file:
        manifest = ArchiveReader(file).manifest
    with archive.open("wb") as opened, ArchiveWriter(opened, manifest) as writer:
        for name, several in rows.items():
            for row in several:
                writer.add(name, row)


def test_every_table_is_exported_or_named_as_not_exported(archive: Path) -> None:
    assert set(rows_of(archive)) == IMPORTED
    assert IMPORTED | {*NOT_EXPORTED} | {*LEFT_OUT} == {*metadata.tables} | {*LEFT_OUT}
    assert not IMPORTED & {*NOT_EXPORTED}


async def test_what_was_imported_is_what_was_exported(there: Store, archive: Path, tmp_path: Path) -> None:
    done = await imported(there, archive)
    assert done.chunks == 2 * CHUNKS
    export(dialect_of(store_url(tmp_path / "there")), done.kb_id, tmp_path / "again.tar")
    before, after = rows_of(archive), rows_of(tmp_path / "again.tar")
    assert {name: len(rows) for name, rows in before.items()} == {name: len(rows) for name, rows in after.items()}
    for name in ("content", "ciphertext"):
        assert [row[1:] for row in before[name]] == [row[1:] for row in after[name]]
    assert without_revisions("knowledge_base", before) == without_revisions("knowledge_base", after)
    assert without_revisions("chunk", before) == without_revisions("chunk", after)
    assert after["knowledge_base"][0][0] != before["knowledge_base"][0][0], "the test has no other numbers"


def without_revisions(name: str, rows: Rows) -> list[list[Any]]:
    """The rows of a table without those columns in which an imported row has another value."""
    columns = [column.name for column in metadata.tables[name].columns]
    other = {"pk", "binding_pk", "revision", "removal_revision"}
    return [[value for column, value in zip(columns, row, strict=True) if column not in other] for row in rows[name]]


async def test_a_client_that_knew_the_knowledge_base_before_is_told_of_every_chunk(there: Store, archive: Path) -> None:
    async with there.database.write() as connection:
        before = (await knowledge_bases.lock(connection, there.kb)).revision
    organisation_id, done = await only_organisation(there), await imported(there, archive)
    async with there.database.look_up() as connection:
        kb = await knowledge_bases.get(connection, organisation_id, done.kb_id)
        revisions = (await connection.execute(sa.select(chunk.c.revision).where(chunk.c.pk > chunk_pk(kb.pk, 0)))).all()
    assert kb.removal_revision == kb.revision > before + 1_000_000_000_000
    assert {row.revision for row in revisions} == {kb.revision}


async def test_contexts_come_along_and_stay_retired(there: Store, archive: Path) -> None:
    organisation_id = await only_organisation(there)
    done = await imported(there, archive)
    async with there.database.look_up() as connection:
        kb = await knowledge_bases.get(connection, organisation_id, done.kb_id)
        found = await contexts.list_all(connection, organisation_id)
        assert [(one.id, one.name) for one in found] == [("ctx", None), ("old", "named")]
        assert await contexts.is_retired(connection, organisation_id, "old")
        assert not await contexts.is_retired(connection, organisation_id, "ctx")
        for context in found:
            assert await contexts.find_binding(connection, kb, context)


async def test_no_context_is_retired_by_an_import(there: Store, archive: Path) -> None:
    organisation_id = await only_organisation(there)
    async with there.database.write() as connection:
        await contexts.create(connection, organisation_id, "old", toy_key().context_data, "saver", "mine")
    await imported(there, archive)
    async with there.database.look_up() as connection:
        found = await contexts.list_all(connection, organisation_id)
        assert [(one.id, one.name, one.saved_by) for one in found] == [("ctx", None, "saver"), ("old", "mine", "saver")]
        assert not await contexts.is_retired(connection, organisation_id, "old")


async def test_a_context_with_the_same_id_and_another_public_part_is_in_the_way(there: Store, archive: Path) -> None:
    async with there.database.write() as connection:
        organisation_id = (await organisations.list_all(connection))[0].id
        await contexts.create(connection, organisation_id, "old", toy_key(1).context_data, "saver")
    before = await contents_of(there)
    with pytest.raises(CannotImport, match="a different context under the id old"):
        await imported(there, archive)
    assert await contents_of(there) == before


def change(table: str, row: int, column: str, value: Any) -> Callable[[Rows], object]:
    """What gives one value of a row to an archive."""
    position = metadata.tables[table].columns.keys().index(column)
    return lambda rows: rows[table][row].__setitem__(position, value)


@pytest.mark.parametrize(
    "changed",
    [
        lambda rows: rows["chunk"].pop(),
        lambda rows: rows["content"].pop(),
        lambda rows: rows["ciphertext"].pop(),
        lambda rows: rows["facet"].pop(),
        lambda rows: rows["binding"].pop(),
        lambda rows: rows["execution_context"].pop(),
        lambda rows: rows["knowledge_base"].pop(),
        lambda rows: rows["knowledge_base"].append(
            [*rows["knowledge_base"][0][:1], "other", *rows["knowledge_base"][0][2:]]
        ),
        lambda rows: rows["content"].append(rows["content"][0]),
        lambda rows: rows["chunk"].append(rows["chunk"][0]),
        change("chunk", 1, "pk", chunk_pk(77, 2)),
        change("chunk", 1, "pk", -5),
        change("chunk", 1, "binding_pk", 99),
        change("chunk", 1, "facet_count", 1),
        change("chunk", 1, "facet_bytes", 0),
        change("chunk", 1, "content_bytes", 1),
        change("facet", 1, "chunk_pk", chunk_pk(1, 99)),
        change("facet", 1, "binding_pk", 2),
        change("content", 1, "pk", chunk_pk(1, 99)),
        change("ciphertext", 1, "pk", chunk_pk(1, 99)),
        change("ciphertext", 1, "row", b""),
        change("ciphertext", 1, "row", bytes(128)),
        change("ciphertext", 1, "row", b"\xff" * 128),
        change("ciphertext", 1, "row", b"\1" * 127),
        change("ciphertext", 1, "row", (b"\1" + bytes(127)) * 2),
        change("binding", 0, "row_bytes", 4),
        change("binding", 0, "row_bytes", None),
        change("binding", 0, "kb_pk", 9),
        change("binding", 0, "context_pk", 9),
        change("execution_context", 1, "public_key", "{}"),
        change("execution_context", 1, "type", "other"),
        change("knowledge_base", 0, "number_of_vectors", 1),
        change("knowledge_base", 0, "next_chunk_id", 2),
        change("knowledge_base", 0, "stored_bytes", 1),
        change("knowledge_base", 0, "stored_bytes", -(2**40)),
    ],
)
async def test_rows_that_no_export_has_are_refused_and_leave_nothing(
    changed: Callable[[Rows], object], there: Store, archive: Path
) -> None:
    rewritten(archive, changed)
    before = await contents_of(there)
    with pytest.raises(ArchiveUnusable):
        await imported(there, archive)
    assert await contents_of(there) == before


async def test_an_import_that_was_interrupted_anywhere_goes_on(
    there: Store, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "ROWS_AT_ONCE", 3)
    write, interrupted = there.database.write, 0
    steps = 0

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > allowed:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(there.database, "write", counted)
    before = await contents_of(there)
    for allowed in range(1, 100):  # noqa: B007 - read above
        steps = 0
        try:
            done = await imported_by_first(there, archive)
            break
        except KeyboardInterrupt:
            interrupted += 1
        async with there.database.look_up() as connection:
            first = (await organisations.list_all(connection))[0]
            assert len(await knowledge_bases.list_all(connection, first.id)) == 1
            assert len(await contexts.list_all(connection, first.id)) == 1
    assert interrupted > 10
    assert done.chunks == 2 * CHUNKS
    after = await contents_of(there)
    assert len(after["organisation"]) == len(before["organisation"])
    assert [len(after[name]) - len(before[name]) for name in ("chunk", "content", "ciphertext", "facet")] == [
        10,
        10,
        10,
        20,
    ]


async def test_an_import_that_was_interrupted_can_be_undone(
    there: Store, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await contents_of(there)

    async def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(imports.Staged, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await imported(there, archive)
    assert len((await contents_of(there))["chunk"]) == 2 * CHUNKS
    assert await undo_import(there.database, SchemeRegistry(), archive)
    assert await contents_of(there) == before
    assert not await undo_import(there.database, SchemeRegistry(), archive)
    await imported(there, archive)
    assert not await undo_import(there.database, SchemeRegistry(), archive)
    assert len((await contents_of(there))["chunk"]) == 2 * CHUNKS


async def test_what_is_deleted_and_not_carried_out_yet_stays_behind(tmp_path: Path) -> None:
    async with open_store(tmp_path / "here") as here:
        ids = await here.add([FACETS] * (deletions.STEP + 5))
        kept, pks = ids[:4], [chunk_pk(here.kb.pk, chunk_id) for chunk_id in ids[4:]]
        async with here.database.write() as connection:
            await deletions.delete_chunks(connection, pks)
            assert await deletions.is_left(connection)
        database = dialect_of(store_url(tmp_path / "here"))
        export(database, here.kb.id, tmp_path / "kb.tar")
        rows = rows_of(tmp_path / "kb.tar")
        for name, each in (("chunk", 1), ("content", 1), ("ciphertext", 1), ("facet", 2)):
            assert len(rows[name]) == each * len(kept)
        async with here.database.write() as connection:
            await deletions.delete_knowledge_base(connection, here.kb)
        with pytest.raises(KnowledgeBaseNotFound):
            export(database, here.kb.id, tmp_path / "deleted.tar")
    assert not (tmp_path / "deleted.tar").exists()


async def imported_by_first(store: Store, archive: Path) -> Imported:
    async with store.database.look_up() as connection:
        first = (await organisations.list_all(connection))[0]
    return await import_knowledge_base(store.database, SchemeRegistry(), first.id, archive)


async def test_an_archive_is_imported_once_at_a_time(there: Store, archive: Path) -> None:
    with closing(archive.open("rb")) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CannotImport, match="is already being imported"):
            await imported(there, archive)
    await imported(there, archive)
    with pytest.raises(CannotImport, match="exists already"):
        await imported(there, archive)
    assert len((await contents_of(there))["organisation"]) == 1
