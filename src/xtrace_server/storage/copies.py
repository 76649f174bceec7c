"""Copies a whole database to another one of any kind, as an archive through a pipe.

The copy is atomic: it appears once its rows, read back, produce the same archive as the original.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import sqlalchemy as sa

from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.manifest import BACKUP
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.archive.writing import ArchiveWriter
from xtrace_server.storage.archiving import Archived, add_rows, check_version, dump, every_row, fill, new_database
from xtrace_server.storage.dialects import DatabaseUnusable, Dialect
from xtrace_server.storage.migrating import upgrade


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of a copy."""

    rows: int
    bytes: int
    """The size of the transferred archive."""
    sha256: str
    """The hash of the archive's checksums, equal for the source and the copy."""
    created_at: str
    """When the snapshot was taken: UTC, ISO 8601."""


def copy(source: Dialect, target: Dialect, folder: Path | None) -> Copied:
    """Copies a snapshot of a database to an empty one; a server may be running on the source.

    `folder` is the target's data folder, if it has one. The copy has the newest version of the schema, and appears once
    it is complete, checked and on the disk. Blocks. Raises `DatabaseUnusable` if the target has a database or a running
    server, `StorageError` and `OSError`; then neither the database nor a new folder is left.
    """
    if target.exists():
        raise DatabaseUnusable(f"a database exists in {target.location}: name an empty one to copy to")
    try:
        with new_database(target, folder) as connection:
            with _archive_of(source) as (opened, done):
                reader = ArchiveReader(opened)
                fill(target, connection, reader)
                sent = done.result()
            _check_same(connection, reader)
            upgrade(connection)
    except ArchiveUnusable as error:
        raise DatabaseUnusable(f"the database in {source.location} cannot be copied: {error}") from None
    return Copied(sent.rows, sent.bytes, reader.digest, sent.created_at)


@contextmanager
def _archive_of(source: Dialect) -> Iterator[tuple[BinaryIO, "Future[Archived]"]]:
    """Yields the archive of a database, which another thread writes while it is read. Raises what that thread
    raises."""
    reading, writing = os.pipe()

    def write() -> Archived:
        with os.fdopen(writing, "wb") as opened, source.snapshot() as connection:
            check_version(connection)
            return dump(connection, opened, BACKUP, every_row(connection), source.next_keys(connection))

    with ThreadPoolExecutor(1, thread_name_prefix="xtrace-copy") as thread:
        done = thread.submit(write)
        try:
            with os.fdopen(reading, "rb") as opened:
                yield opened, done
        except ArchiveUnusable:
            # If the writer fails, the archive's end is missing.
            if (cause := done.exception()) is not None and not isinstance(cause, BrokenPipeError):
                raise cause from None
            raise


def _check_same(connection: sa.Connection, sent: ArchiveReader) -> None:
    """Reads the copy back as an archive with the same manifest: equal checksums mean equal rows."""
    queries = {table.name: query for table, query in every_row(connection).items()}
    with Path(os.devnull).open("wb") as nowhere, ArchiveWriter(nowhere, sent.manifest) as writer:
        for table in sent.manifest.tables:
            add_rows(connection, writer, table.name, queries[table.name])
    if writer.digest != sent.digest:
        raise DatabaseUnusable("the copy differs from what was sent and was discarded; the source is unchanged")
