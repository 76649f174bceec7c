"""Imports a knowledge base from an archive."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xtrace_core.file_locks import lock
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.manifest import EXPORT, Manifest
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.operations.audit import record
from xtrace_server.storage import organisations
from xtrace_server.storage.archiving import described
from xtrace_server.storage.database import Database
from xtrace_server.storage.imports import IMPORTED, CannotImport, Staged
from xtrace_server.storage.migrating import newest_version
from xtrace_server.storage.schema import metadata


@dataclass(frozen=True, slots=True)
class Imported:
    """A knowledge base that was imported."""

    kb_id: str
    chunks: int


async def import_knowledge_base(
    database: Database, schemes: SchemeRegistry, organisation_id: str, file: Path
) -> Imported:
    """Stores a knowledge base from an archive for an organisation, under its original id.

    The whole archive is checked before anything is written. The knowledge base appears once it is complete; an
    interrupted import resumes. Raises `ArchiveUnusable` and `CannotImport`, which leave nothing behind, `StorageError`
    and `OSError`.
    """
    with _locked(file) as opened:
        async with database.look_up() as connection:
            if not await organisations.is_there(connection, organisation_id):
                raise CannotImport(f"the organisation {organisation_id!r} does not exist")
        digest = await asyncio.to_thread(_checked_digest, opened)
        staged = Staged(database, schemes, organisation_id, digest)
        await staged.begin()
        try:
            reader = ArchiveReader(opened)
            names = {table.name: [column.name for column in table.columns] for table in reader.manifest.tables}
            for part in reader.parts():
                await staged.store(part, names[part.table])
            await staged.check()
            async with database.write() as connection:
                chunks = await staged.publish(connection)
                actor = ON_THE_HOST.to(organisation_id)
                await record(connection, actor, "knowledge_base.import", staged.kb_id, f"{chunks} chunks")
        except (ArchiveUnusable, CannotImport):
            await staged.remove()
            raise
    return Imported(staged.kb_id, chunks)


async def undo_import(database: Database, schemes: SchemeRegistry, file: Path) -> bool:
    """Removes what an interrupted import of the archive has stored; returns whether there was anything.

    Raises what `import_knowledge_base` raises.
    """
    with _locked(file) as opened:
        digest = await asyncio.to_thread(_checked_digest, opened)
        return await Staged(database, schemes, "", digest).remove()


@contextmanager
def _locked(file: Path) -> Iterator[BinaryIO]:
    """Opens the archive, and locks it against other imports. Raises `CannotImport` and `OSError`."""
    with file.open("rb") as opened:
        if not lock(opened.fileno()):
            raise CannotImport("the archive is already being imported")
        yield opened


def _checked_digest(opened: BinaryIO) -> str:
    """Reads a whole archive and returns its digest. Raises `ArchiveUnusable`."""
    reader = ArchiveReader(opened)
    _check_manifest(reader.manifest)
    reader.checked_rows()
    return reader.digest


def _check_manifest(manifest: Manifest) -> None:
    if manifest.kind != EXPORT:
        raise ArchiveUnusable("it is not an export but a backup: use `xtrace restore`")
    if manifest.schema != newest_version():
        raise ArchiveUnusable(
            f"it has version {manifest.schema} of the schema, expected {newest_version()}: export it with this version "
            "of XTrace"
        )
    tables = {table.name: table.columns for table in manifest.tables}
    if tables != {name: described(metadata.tables[name], None).columns for name in IMPORTED}:
        raise ArchiveUnusable(f"its tables are not those of version {manifest.schema} of the schema")
