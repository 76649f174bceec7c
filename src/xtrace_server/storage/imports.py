"""Imports a knowledge base into a database, in short transactions.

Until it is complete, it belongs to a *staging* organisation without keys. So no request finds it, and the next import
continues from what an interrupted one has stored.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from xtrace_core.schemes.interface import Evaluation, InvalidPublicKey
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_core.wire import ContextData
from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.reading import Part
from xtrace_server.errors import QuotaExceeded
from xtrace_server.storage import usage
from xtrace_server.storage.contexts import stored_bytes
from xtrace_server.storage.database import Connection, Database, now
from xtrace_server.storage.deletions import STEP, delete_rows
from xtrace_server.storage.dialects import statements
from xtrace_server.storage.organisations import STAGING_PREFIX, is_there
from xtrace_server.storage.schema import (
    MAX_CHUNK_ID,
    binding,
    chunk,
    chunk_id_of,
    chunk_pk,
    ciphertext,
    content,
    execution_context,
    facet,
    knowledge_base,
    metadata,
    organisation,
    retired_context,
)
from xtrace_server.storage.sizes import STORED_BYTES, ByteLength
from xtrace_server.storage.slots import UNSEALED

ROWS_AT_ONCE: Final = 500
"""The number of rows that one transaction stores; others write in between."""

_FOUND_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "execution_context": ("organisation_id", "id"),
    "retired_context": ("organisation_id", "context_id"),
    "knowledge_base": ("id",),
    "binding": ("kb_pk", "context_pk"),
}
"""The tables with few rows, and the columns that identify their rows in every database."""
_OF_CHUNKS: Final[Mapping[str, tuple[str, ...]]] = {
    "chunk": ("pk",),
    "content": ("pk",),
    "ciphertext": ("pk",),
    "facet": ("chunk_pk", "position"),
}
"""The tables with rows for each chunk, and their keys, which begin with the chunk's key."""
IMPORTED: Final = frozenset({*_FOUND_BY, *_OF_CHUNKS})


class CannotImport(Exception):
    """Something in the database prevents the import; the message says what. Nothing was changed."""


class Staged:
    """A running import. It stores the parts one by one, and skips those already stored."""

    def __init__(self, database: Database, schemes: SchemeRegistry, target_id: str, digest: str) -> None:
        """`target_id` is the organisation that gets the knowledge base; `digest` is the archive's."""
        self._schemes = schemes
        self._database = database
        self._target_id = target_id
        self.organisation_id = f"{STAGING_PREFIX}{digest[:32]}"
        self._kb: tuple[int, int] | None = None
        self._revision = 0
        self._contexts: dict[int, int] = {}
        self._bindings: dict[int, int] = {}
        self._of_context: dict[int, Evaluation] = {}
        self._of_binding: dict[int, Evaluation] = {}
        self._last: dict[str, tuple[int, ...]] = {}
        self.kb_id = ""
        """The id of the knowledge base, which is the same as at its origin."""

    async def begin(self) -> None:
        """Creates the staging organisation, unless an earlier import of this archive did."""
        async with self._database.write() as connection:
            query = sa.select(organisation.c.id).where(organisation.c.id == self.organisation_id)
            if (await connection.execute(query)).one_or_none() is None:
                values = {"id": self.organisation_id, "name": "an import that is not complete", "created_at": now()}
                await connection.execute(sa.insert(organisation).values(values))

    async def store(self, part: Part, names: Iterable[str]) -> None:
        """Stores the rows of a part, with these column names. Raises `ArchiveUnusable` and `CannotImport`."""
        names = list(names)
        for start in range(0, len(part.rows), ROWS_AT_ONCE):
            rows = [dict(zip(names, row, strict=True)) for row in part.rows[start : start + ROWS_AT_ONCE]]
            if part.table == "ciphertext":
                await self._check_vectors(rows)
            if part.table == "facet":
                await self._check_chunks({self._chunk_pk(row["chunk_pk"]) for row in rows})
            try:
                async with self._step() as connection:
                    if part.table in _FOUND_BY:
                        for row in rows:
                            await self._store_one(connection, part.table, row)
                    else:
                        await self._store_many(connection, part.table, rows)
            except IntegrityError:
                raise ArchiveUnusable("its rows are inconsistent") from None

    async def check(self) -> None:
        """Raises `ArchiveUnusable` if the stored rows are not a complete knowledge base."""
        if self._kb is None:
            raise ArchiveUnusable("it does not contain a knowledge base")
        joined = chunk.join(binding, binding.c.pk == chunk.c.binding_pk)
        ours = self._is_ours(chunk.c.pk)
        count = sa.select(sa.func.count()).select_from(chunk).where(ours)
        facets = sa.select(sa.func.count()).select_from(facet).where(facet.c.chunk_pk == chunk.c.pk)
        tokens = sa.select(sa.func.coalesce(sa.func.sum(ByteLength(facet.c.token)), 0))
        token_bytes = tokens.where(facet.c.chunk_pk == chunk.c.pk).scalar_subquery()
        content_bytes = ByteLength(content.c.content)
        vectors = joined.outerjoin(ciphertext, ciphertext.c.pk == chunk.c.pk)
        contents = joined.outerjoin(content, content.c.pk == chunk.c.pk)
        foreign = joined.join(facet, facet.c.chunk_pk == chunk.c.pk)
        length = sa.func.coalesce(sa.func.length(ciphertext.c.row), -1)
        wrong = (
            sa.select(chunk.c.pk).select_from(vectors).where(ours, length != sa.func.coalesce(binding.c.row_bytes, -2)),
            sa.select(chunk.c.pk).select_from(contents).where(ours, content.c.pk.is_(None)),
            sa.select(chunk.c.pk).select_from(foreign).where(ours, facet.c.binding_pk != chunk.c.binding_pk),
            sa.select(chunk.c.pk).select_from(contents).where(ours, chunk.c.content_bytes != content_bytes),
            sa.select(chunk.c.pk).where(ours, chunk.c.facet_count != facets.scalar_subquery()),
            sa.select(chunk.c.pk).where(ours, chunk.c.facet_bytes != token_bytes),
        )
        size = sa.select(sa.func.coalesce(sa.func.sum(STORED_BYTES), 0)).select_from(joined).where(ours)
        async with self._database.read(self._target_id) as connection:
            kb = (await connection.execute(_row_of(knowledge_base, self._kb[1]))).one()
            last = (await self._last_key(connection, chunk, ("pk",)) or (0,))[0]
            agrees = (await connection.execute(count)).scalar_one() == kb.number_of_vectors
            if not agrees or chunk_id_of(last) >= kb.next_chunk_id:
                raise ArchiveUnusable("its knowledge base has a different number of chunks than it states")
            if int((await connection.execute(size)).scalar_one()) != kb.stored_bytes:
                raise ArchiveUnusable("its knowledge base has a different number of bytes than it states")
            for query in wrong:
                if (await connection.execute(query.limit(1))).first() is not None:
                    raise ArchiveUnusable("it contains incomplete chunks")

    async def publish(self, connection: Connection) -> int:
        """Transfers the knowledge base to its organisation, and returns its number of chunks.

        Raises `CannotImport`, also if the organisation's quotas do not allow it.
        """
        kb_pk = self._kb[1] if self._kb else 0
        if not await is_there(connection, self._target_id):
            raise CannotImport(f"the organisation {self._target_id!r} does not exist")
        come = {}
        for context in (await connection.execute(_of(execution_context, self.organisation_id))).all():
            there = await self._check_same(connection, context._mapping)
            changed = sa.update(execution_context).where(execution_context.c.pk == context.pk)
            if there is None:
                name = None if await self._is_named(connection, context.name) else context.name
                await connection.execute(changed.values(organisation_id=self._target_id, name=name))
                come[context.id] = _context_bytes(context._mapping, name)
            else:
                moved = sa.update(binding).where(binding.c.context_pk == context.pk)
                await connection.execute(moved.values(context_pk=there))
        for retired in (await connection.execute(_of(retired_context, self.organisation_id))).all():
            values = {**retired._mapping, "organisation_id": self._target_id}
            # For a context that already existed, the organisation has decided itself.
            if retired.context_id in come and await _find(connection, retired_context, values) is None:
                await connection.execute(sa.insert(retired_context).values(values))
        ours = sa.update(knowledge_base).where(knowledge_base.c.pk == kb_pk)
        await connection.execute(ours.values(organisation_id=self._target_id))
        kb = (await connection.execute(_row_of(knowledge_base, kb_pk))).one()
        added = {
            "chunks": kb.number_of_vectors,
            "stored_bytes": kb.stored_bytes + sum(come.values()),
            "contexts": len(come),
        }
        try:
            await usage.add(connection, self._target_id, **added)
        except QuotaExceeded as error:
            raise CannotImport(error.detail) from None
        await self._remove_staging(connection)
        return int(kb.number_of_vectors)

    async def remove(self) -> bool:
        """Removes what is stored, in steps, last chunks first, so that the import can always be resumed.

        Returns whether there was anything.
        """
        async with self._database.read(self._target_id) as connection:
            kbs = (await connection.execute(_of(knowledge_base, self.organisation_id))).all()
        for kb in kbs:
            ours = chunk.c.pk.between(chunk_pk(kb.pk, 0), chunk_pk(kb.pk, MAX_CHUNK_ID))
            some = sa.select(chunk.c.pk).where(ours).order_by(chunk.c.pk.desc()).limit(STEP)
            more = True
            while more:
                async with self._step() as connection:
                    pks = (await connection.execute(some)).scalars().all()
                    await delete_rows(connection, pks)
                    more = bool(pks)
        async with self._database.write() as connection:
            return await self._remove_staging(connection)

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[Connection]:
        """Runs a short transaction, and pauses as long after it, because SQLite's lock does not queue waiters."""
        async with self._database.write() as connection:
            began = time.monotonic()
            yield connection
        await asyncio.sleep(time.monotonic() - began)

    async def _remove_staging(self, connection: Connection) -> bool:
        statement = sa.delete(organisation).where(organisation.c.id == self.organisation_id)
        return (await connection.execute(statement)).rowcount > 0

    async def _check_same(self, connection: Connection, row: Mapping[str, Any]) -> int | None:
        """Returns the key of the same context in the target organisation, if it has it. Raises `CannotImport`."""
        there = await _find(connection, execution_context, {**row, "organisation_id": self._target_id})
        if there is None:
            return None
        if any(there[name] != row[name] for name in ("type", "public_key", "config")):
            raise CannotImport(f"the organisation has a different context under the id {row['id']}")
        return int(there["pk"])

    async def _is_named(self, connection: Connection, name: str | None) -> bool:
        column = execution_context.c
        query = sa.select(column.pk).where(column.organisation_id == self._target_id, column.name == name)
        return (await connection.execute(query)).first() is not None

    async def _store_one(self, connection: Connection, name: str, row: dict[str, Any]) -> None:
        table, number = metadata.tables[name], row.pop("pk", None)
        if "organisation_id" in row:
            row["organisation_id"] = self.organisation_id
        if name == "binding":
            row["kb_pk"], row["context_pk"] = self._kb_pk(row["kb_pk"]), _known(self._contexts, row["context_pk"])
        if name == "execution_context":
            await self._check_same(connection, row)
        if name == "knowledge_base":
            row["revision"] = row["removal_revision"] = _later_revision(row["revision"])
        found = await _find(connection, table, row)
        if found is not None and found.get("organisation_id", self.organisation_id) != self.organisation_id:
            raise CannotImport(f"the knowledge base {row['id']} exists already")
        if found is None:
            await connection.execute(sa.insert(table).values(row))
            found = await _find(connection, table, row) or {}
        if name == "knowledge_base":
            if self._kb is not None:
                raise ArchiveUnusable("it contains several knowledge bases")
            self._kb, self.kb_id = (number, found["pk"]), row["id"]
            self._revision = found["revision"]
        elif name == "execution_context":
            self._contexts[number] = found["pk"]
            try:
                self._of_context[found["pk"]] = self._schemes.evaluation(found["type"], found["public_key"])
            except InvalidPublicKey as error:
                raise ArchiveUnusable(f"it has a context that this server cannot use: {error}") from None
        elif name == "binding":
            self._bindings[number] = found["pk"]
            self._of_binding[found["pk"]] = self._of_context[found["context_pk"]]

    async def _check_vectors(self, rows: list[dict[str, Any]]) -> None:
        """Raises `ArchiveUnusable` for vectors that no client could have stored."""
        by_key = {self._chunk_pk(row["pk"]): row["row"] for row in rows}
        query = sa.select(chunk.c.pk, chunk.c.binding_pk).where(chunk.c.pk.in_(by_key))
        async with self._database.read(self._target_id) as connection:
            found = (await connection.execute(query)).all()
        if len(found) != len(rows):
            raise ArchiveUnusable("its rows are inconsistent")
        for pk, binding_pk in found:
            evaluation, row = self._of_binding[binding_pk], by_key[pk]
            try:
                sound = evaluation.row(evaluation.index(row)) == row
            except ValueError:
                sound = False
            if not sound:
                raise ArchiveUnusable(f"the vector of chunk {chunk_id_of(pk)} is not valid under its context")

    async def _check_chunks(self, pks: Collection[int]) -> None:
        """Raises `ArchiveUnusable` if there is a key without its chunk."""
        query = sa.select(sa.func.count()).where(chunk.c.pk.in_(pks))
        async with self._database.read(self._target_id) as connection:
            if (await connection.execute(query)).scalar_one() != len(pks):
                raise ArchiveUnusable("its rows are inconsistent")

    async def _store_many(self, connection: Connection, name: str, rows: list[dict[str, Any]]) -> None:
        table, key = metadata.tables[name], _OF_CHUNKS[name]
        for row in rows:
            row[key[0]] = self._chunk_pk(row[key[0]])
            if "binding_pk" in row:
                row["binding_pk"] = _known(self._bindings, row["binding_pk"])
            if name == "chunk":
                row |= {"revision": self._revision, **UNSEALED}
        if name not in self._last:
            self._last[name] = await self._last_key(connection, table, key)
        new = [row for row in rows if tuple(row[one] for one in key) > self._last[name]]
        if new:
            names = tuple(new[0])
            await statements(connection).insert_rows(connection, table, names, [tuple(row.values()) for row in new])

    async def _last_key(self, connection: Connection, table: sa.Table, key: tuple[str, ...]) -> tuple[int, ...]:
        columns = [table.c[name] for name in key]
        query = sa.select(*columns).where(self._is_ours(columns[0])).order_by(*[column.desc() for column in columns])
        found = (await connection.execute(query.limit(1))).one_or_none()
        return () if found is None else tuple(found)

    def _is_ours(self, column: sa.Column[Any]) -> sa.ColumnElement[bool]:
        kb_pk = self._kb[1] if self._kb else 0
        return column.between(chunk_pk(kb_pk, 0), chunk_pk(kb_pk, MAX_CHUNK_ID))

    def _kb_pk(self, archived: int) -> int:
        if self._kb is None or archived != self._kb[0]:
            raise ArchiveUnusable("its rows do not belong to its knowledge base")
        return self._kb[1]

    def _chunk_pk(self, archived: int) -> int:
        chunk_id = chunk_id_of(archived)
        return chunk_pk(self._kb_pk((archived - chunk_id) // (MAX_CHUNK_ID + 1)), chunk_id)


def _later_revision(archived: int) -> int:
    """A revision above all that a knowledge base of this id had before.

    It may have been here, and written to since it was exported. Then a client that knows one of those revisions would
    miss what differs. No knowledge base is written to a thousand times a second, so the time is above all of them.
    """
    return max(archived + 1, time.time_ns() // 1_000_000)


async def _find(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the existing row of the object that `row` describes."""
    query = sa.select(table).where(*[table.c[name] == row[name] for name in _FOUND_BY[table.name]])
    found = (await connection.execute(query)).mappings().one_or_none()
    return None if found is None else dict(found)


def _context_bytes(row: Mapping[str, Any], name: str | None) -> int:
    data = ContextData(
        type=row["type"],
        pk=row["public_key"],
        config=row["config"],
        sk=row["encrypted_secret"],
        key_provider=row["key_provider"],
        wrapped_key=row["wrapped_key"],
    )
    return stored_bytes(row["id"], name, data)


def _row_of(table: sa.Table, pk: int) -> sa.Select[Any]:
    return sa.select(table).where(table.c.pk == pk)


def _of(table: sa.Table, organisation_id: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.organisation_id == organisation_id)


def _known(numbers: Mapping[int, int], archived: int) -> int:
    if archived not in numbers:
        raise ArchiveUnusable("its rows are inconsistent")
    return numbers[archived]
