"""Writes a whole database to an archive, and restores it. Works with whatever tables the database has."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from xtrace_core.files import new_file
from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.manifest import BACKUP, FORMAT, VERSION, Column, Manifest, Table
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.archive.writing import ArchiveWriter
from xtrace_server.storage.database import now
from xtrace_server.storage.dialects import DatabaseUnusable, Dialect
from xtrace_server.storage.folder_lock import FolderInUse, no_server_running
from xtrace_server.storage.migrating import known_versions, upgrade, version_of
from xtrace_server.storage.schema import block
from xtrace_server.storage.shared_indexes import PARTS

_DERIVED: Final[Collection[str]] = ("block", "block_body", "shared_index", "index_segment", "index_segment_body")
LEFT_OUT: Final[Collection[str]] = ("alembic_version", "session", "sent_form", *_DERIVED)
"""Tables that archives omit: the manifest has the schema's version, sessions do not survive a restore, and clients make
blocks of vectors and shared indexes again from the chunks."""

_WITHOUT_BLOCKS: Final[Mapping[str, sa.ColumnElement[Any]]] = {"block_pk": sa.null(), "slot": sa.null()}
"""Columns that say where the vector of a chunk is in a block, and their replacements."""

_TYPES: Final[Mapping[type[Any], str]] = {
    sa.Boolean: "boolean",
    sa.Integer: "integer",
    sa.Float: "real",
    sa.LargeBinary: "binary",
    sa.String: "text",
}
_STREAMED: Final = {"stream_results": True, "max_row_buffer": 8}
"""The number of rows in memory at a time; a row may have 16 MiB."""


@dataclass(frozen=True, slots=True)
class Archived:
    """The contents of an archive."""

    bytes: int
    rows: int
    created_at: str
    """When the snapshot was taken: UTC, ISO 8601."""


def back_up(database: Dialect, file: Path) -> Archived:
    """Writes a snapshot of the database to a new archive; a server may be running.

    Changes nothing in the database. The file appears when it is complete. Blocks. Raises `DatabaseUnusable`,
    `StorageError` and `OSError`, in particular `FileExistsError`.
    """
    with snapshot_to(database, file) as (connection, opened):
        return dump(connection, opened, BACKUP, every_row(connection), database.next_keys(connection))


@contextmanager
def snapshot_to(database: Dialect, file: Path) -> Iterator[tuple[sa.Connection, BinaryIO]]:
    """Yields a snapshot of the database, and the file for it, which appears when the block ends.

    Raises `FileExistsError`.
    """
    if file.exists():
        raise FileExistsError(file)
    with database.snapshot() as connection, new_file(file, replace=False) as opened:
        check_version(connection)
        yield connection, opened


def check_version(connection: sa.Connection) -> None:
    """Raises `DatabaseUnusable` for a database that this version of XTrace cannot read."""
    if version_of(connection) not in known_versions():
        raise DatabaseUnusable("the database has a version that this version of XTrace does not support")


def every_row(connection: sa.Connection) -> dict[sa.Table, sa.Select[Any]]:
    """Returns queries for `dump` that select every row."""
    tables = tables_of(connection)
    there = sa.inspect(connection).get_table_names()
    counted = sum([_bytes_in(tables, one) for one in (block, *PARTS) if one.name in there], start=sa.literal(0))
    changed = {"organisation": {"stored_bytes": tables["organisation"].c.stored_bytes - counted}}
    return {table: archived(table, changed.get(name, {})) for name, table in tables.items()}


def archived(table: sa.Table, changed: Mapping[str, sa.ColumnElement[Any]]) -> sa.Select[Any]:
    """Returns the query for a table's rows without blocks; `changed` has expressions for some of its columns, by
    name.
    """
    blank = {**_WITHOUT_BLOCKS, **changed}
    columns = [blank.get(column.name, column).label(column.name) for column in table.columns]
    return sa.select(*columns).order_by(*table.primary_key.columns)


def _bytes_in(tables: Mapping[str, sa.Table], left_out: sa.Table) -> sa.ColumnElement[int]:
    """Returns the bytes that an organisation's usage counts for a table that is left out, as an expression of its
    row."""
    kb, bound = tables["knowledge_base"], tables["binding"]
    of_kbs = kb.join(bound, bound.c.kb_pk == kb.c.pk).join(left_out, left_out.c.binding_pk == bound.c.pk)
    counted = [kb.c.organisation_id == tables["organisation"].c.id, kb.c.deleted_at.is_(None)]
    if left_out is block:
        counted.append(block.c.live_count > 0)
    total = sa.func.coalesce(sa.func.sum(left_out.c.stored_bytes), 0)
    query = sa.select(sa.cast(total, sa.BigInteger)).select_from(of_kbs).where(*counted)
    return query.correlate(tables["organisation"]).scalar_subquery()


def dump(
    connection: sa.Connection,
    opened: BinaryIO,
    kind: str,
    tables: Mapping[sa.Table, sa.Select[Any]],
    numbers: Mapping[str, int],
) -> Archived:
    """Writes an archive with the rows that each table's query selects, in the order of the mapping."""
    manifest = _manifest(connection, kind, tables, numbers)
    rows = 0
    with ArchiveWriter(opened, manifest) as writer:
        for table, query in tables.items():
            rows += add_rows(connection, writer, table.name, query)
    return Archived(writer.bytes, rows, manifest.created_at)


def add_rows(connection: sa.Connection, writer: ArchiveWriter, table: str, query: sa.Select[Any]) -> int:
    """Adds the rows that the query selects, and returns their number."""
    rows = 0
    for row in connection.execute(query, execution_options=_STREAMED):
        writer.add(table, tuple(row))
        rows += 1
    return rows


def _manifest(
    connection: sa.Connection, kind: str, tables: Collection[sa.Table], numbers: Mapping[str, int]
) -> Manifest:
    return Manifest(
        format=FORMAT,
        version=VERSION,
        kind=kind,
        created_at=now(),
        written_by=f"xtracedb {metadata.version('xtracedb')}",
        schema=version_of(connection) or "",
        tables=tuple(described(table, numbers.get(table.name)) for table in tables),
    )


def checked(file: Path) -> Archived:
    """Reads a whole archive and returns what it contains. Raises `ArchiveUnusable` and `OSError`."""
    with file.open("rb") as opened:
        return _checked(opened)


def restore(database: Dialect, folder: Path, file: Path) -> Archived:
    """Creates the database from an archive, and migrates it to the newest schema.

    `folder` is the server's data folder. Everything is read and checked before anything is written; the database
    appears when it is complete and on the disk. Blocks. Raises `ArchiveUnusable`, `DatabaseUnusable` if a database
    exists or a server runs, `StorageError` and `OSError`; then neither the database nor a new folder is left.
    """
    if database.exists():
        raise DatabaseUnusable(f"a database exists in {database.location}: name a folder without one")
    with file.open("rb") as opened:
        checked = _checked(opened)
        with new_database(database, folder) as connection:
            fill(database, connection, ArchiveReader(opened))
            upgrade(connection)
    return checked


@contextmanager
def new_database(database: Dialect, folder: Path | None) -> Iterator[sa.Connection]:
    """Yields a connection to a new database, which appears when the block ends; `folder` is the data folder, if any.

    If the block raises, neither the database nor a new folder is left. Raises `DatabaseUnusable` and `OSError`.
    """
    with ExitStack() as stack:
        if folder is not None:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                stack.callback(_remove_empty, folder)
            try:
                stack.enter_context(no_server_running(folder))
            except FolderInUse as error:
                raise DatabaseUnusable(str(error)) from None
        yield stack.enter_context(database.draft())


def _checked(opened: BinaryIO) -> Archived:
    reader = ArchiveReader(opened)
    if reader.manifest.schema not in known_versions():
        raise ArchiveUnusable("it was written by a newer version of XTrace: use that version")
    rows = reader.checked_rows()
    return Archived(opened.tell(), rows, reader.manifest.created_at)


def fill(database: Dialect, connection: sa.Connection, reader: ArchiveReader) -> None:
    """Fills a new database, with the archive's version of the schema. Raises `ArchiveUnusable`."""
    if reader.manifest.kind != BACKUP:
        raise ArchiveUnusable("it is not a backup but an export: use `xtrace import`")
    upgrade(connection, reader.manifest.schema)
    tables = tables_of(connection)
    expected = {table.name: described(table, None).columns for table in tables.values()}
    if {table.name: table.columns for table in reader.manifest.tables} != expected:
        raise ArchiveUnusable(f"its tables are not those of version {reader.manifest.schema} of the schema")
    try:
        for part in reader.parts():
            database.load_rows(connection, tables[part.table], part.rows)
    except IntegrityError as error:
        raise ArchiveUnusable(f"its rows are inconsistent: {error.orig}") from None
    for archived in reader.manifest.tables:
        if archived.next_key is not None:
            database.set_next_key(connection, archived.name, archived.next_key)


def tables_of(connection: sa.Connection) -> dict[str, sa.Table]:
    """Returns the tables that archives may contain, by name; none refers to a later one."""
    found = sa.MetaData()
    found.reflect(connection)
    if "facet" in found.tables:  # no foreign key says that it belongs to chunks
        found.tables["facet"].add_is_dependent_on(found.tables["chunk"])
    return {table.name: table for table in found.sorted_tables if table.name not in LEFT_OUT}


def described(table: sa.Table, next_key: int | None) -> Table:
    """Returns the manifest's description of the table."""
    columns = tuple(Column(str(one.name), _type_of(one), bool(one.nullable)) for one in table.columns)
    return Table(str(table.name), columns, next_key)


def _type_of(column: sa.Column[object]) -> str:
    return next(name for kind, name in _TYPES.items() if isinstance(column.type, kind))


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty: the database is there
        folder.rmdir()
