"""Stores the chunks of files as records: each file atomically, or so that an interruption can be detected."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from xtrace_cli.documents.records import FILE, Chunk, FileState, record_id, shown_source
from xtrace_cli.documents.summary import Summary
from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.collection.record import Record

BATCH: Final = 500
"""The number of records that a collection stores in one transaction."""
_UNDER_WAY: Final = 2
"""The number of batches that are embedded, encrypted and stored concurrently."""
_LOOKED_UP: Final = 500


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file whose chunks will be stored."""

    source: PurePosixPath
    format: str
    modified: float
    state: FileState
    """The final state, for its head."""
    chunks: Sequence[Chunk]
    before: FileState | None
    """The state in the previous head, if any."""

    def records(self, more: Mapping[str, Any]) -> list[Record]:
        """Returns all records of the file, each with `more` in its metadata."""
        modified = datetime.fromtimestamp(self.modified, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        shown = shown_source(self.source)
        records = [
            Record(
                record_id(self.source, position),
                chunk.text,
                {
                    "source": shown,
                    "format": self.format,
                    **chunk.place.metadata(),
                    "position": position,
                    "modified": modified,
                    **more,
                },
            )
            for position, chunk in enumerate(self.chunks)
        ]
        if records:
            records[0].metadata[FILE] = msgspec.to_builtins(self.state)
        return records


class Storing:
    """Stores files in a collection one after the other, and several small ones in one transaction."""

    def __init__(self, collection: Collection, more: Mapping[str, Any], summary: Summary, *, is_dry: bool) -> None:
        """`more` is added to the metadata of every record. `summary` counts records as soon as they are stored.

        `is_dry` only counts what would be done.
        """
        self._collection = collection
        self._more = more
        self._summary = summary
        self._is_dry = is_dry
        self._waiting: list[Record] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def store(self, file: ReadFile) -> None:
        """Stores a file, which is certain only once `finish` returns. Raises what `Collection` raises."""
        records = file.records(self._more)
        changed = records
        leftover: list[str] = []
        if file.before is not None:
            there = await self._there(file)
            changed = [one for i, one in enumerate(records) if i == 0 or not _is_same(one, there.get(one.id))]
            leftover = [one for one in there if one not in {record.id for record in records}]
            self._summary.chunks.known += len(records) - len(changed)
        if not records:
            await self.delete([(file.source, file.before)] if file.before is not None else [])
        elif len(changed) <= BATCH and not leftover:
            await self._enqueue(changed)
        else:
            await self.finish()
            await self._store_in_steps(file, changed, leftover)

    async def delete(self, files: Iterable[tuple[PurePosixPath, FileState]]) -> None:
        """Deletes all records of files: the heads last, so that the next run finds what an interruption left."""
        await self.finish()
        tails: list[str] = []
        heads: list[str] = []
        for source, state in files:
            ids = [record_id(source, position) for position in state.positions]
            heads += ids[:1]
            tails += ids[1:]
            if len(tails) + len(heads) >= BATCH:
                await self._delete(tails, heads)
                tails, heads = [], []
        await self._delete(tails, heads)

    async def finish(self) -> None:
        """Waits until everything is stored. Raises what `Collection` raises."""
        if self._waiting:
            self._start()
        while self._under_way:
            await self._wait()

    async def abandon(self) -> None:
        """Waits for writes in progress and discards the rest; suppresses their errors."""
        self._waiting = []
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _there(self, file: ReadFile) -> dict[str, Record]:
        ids = [record_id(file.source, i) for i in (file.before.positions if file.before is not None else ())]
        there: dict[str, Record] = {}
        for start in range(0, len(ids), _LOOKED_UP):
            there |= {one.id: one for one in await self._collection.get(ids[start : start + _LOOKED_UP])}
        return there

    async def _store_in_steps(self, file: ReadFile, changed: list[Record], leftover: list[str]) -> None:
        """Writes the head twice: first, marked as incomplete, and again at the end."""
        head = changed[0]
        extent = max(len(file.chunks), len(file.before.positions) if file.before is not None else 0)
        unfinished = msgspec.structs.replace(file.state, digest="", extent=extent)
        provisional = replace(head, metadata={**head.metadata, FILE: msgspec.to_builtins(unfinished)})
        pending = [provisional, *changed[1:]]
        for start in range(0, len(pending), BATCH):
            await self._upsert(pending[start : start + BATCH])
        await self._delete(leftover)
        if not self._is_dry:
            await self._collection.upsert([head])

    async def _enqueue(self, records: list[Record]) -> None:
        if len(self._waiting) + len(records) > BATCH:
            while len(self._under_way) >= _UNDER_WAY:
                await self._wait()
            self._start()
        self._waiting += records

    def _start(self) -> None:
        records, self._waiting = self._waiting, []
        self._under_way.add(asyncio.create_task(self._upsert(records)))

    async def _wait(self) -> None:
        done, self._under_way = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _upsert(self, records: list[Record]) -> None:
        if not self._is_dry:
            await self._collection.upsert(records)
        self._summary.chunks.stored += len(records)

    async def _delete(self, *ids: list[str]) -> None:
        for some in filter(None, ids):
            self._summary.chunks.removed += len(some) if self._is_dry else await self._collection.delete(some)


def _is_same(record: Record, stored: Record | None) -> bool:
    """Whether the stored record equals the new one, apart from the file's modification time."""
    if stored is None:
        return False
    left_out = {"modified", FILE}
    return record.text == stored.text and all(
        record.metadata.get(name) == stored.metadata.get(name)
        for name in (record.metadata.keys() | stored.metadata.keys()) - left_out
    )
