"""Searches records: by encrypted distance, and then exactly by `where` and by the copies of the vectors."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.contents import RECORD_FIELDS, ReadRecord, RecordCipher
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.own_writes import OwnWrites
from xtrace_sdk.collection.service_filter import ServiceFilter
from xtrace_sdk.collection.where import Where
from xtrace_sdk.errors import ChangedSinceSearch, ContextNotFound
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.retrievers.contents import Contents, Decrypted
from xtrace_sdk.x_vec.retrievers.decoys import Decoys
from xtrace_sdk.x_vec.retrievers.engine import SearchEngine
from xtrace_sdk.x_vec.retrievers.planning import SearchPlan
from xtrace_sdk.x_vec.retrievers.scope import SearchScope

ATTEMPTS: Final = 20
"""How often a search is repeated if the collection itself changed its results meanwhile."""
_FURTHER: Final = 8
"""The factor by which a search is widened if too few of the nearest records match."""
_FIRST_REACH: Final = 256
_LARGEST_PART: Final = 1000
"""The number of records that are fetched together."""


class Wanted(NamedTuple):
    """The target of a search."""

    query: NDArray[Any]
    """Floats or bits, checked."""
    enough: int
    """The number of matching records wanted."""
    where: Where
    service_filter: ServiceFilter
    is_exact: bool
    """Whether every record that passes the service's filter matches."""
    decoys: int


class Found(NamedTuple):
    """A record that a search found."""

    record: ReadRecord
    distance: int


class Nearest(NamedTuple):
    """The results of a search, nearest first, and how vectors were compared."""

    found: list[Found]
    plan: SearchPlan | None


class Searching(Secretive):
    """The searches of one collection."""

    __slots__ = ("_cipher", "_context", "_engine", "_kb_id", "_own_writes")

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        cipher: RecordCipher,
        own_writes: OwnWrites,
        decoys: Decoys,
    ) -> None:
        self._context = context
        self._kb_id = kb_id
        self._cipher = cipher
        self._engine = SearchEngine(context, xtrace, decoys)
        self._own_writes = own_writes

    async def nearest(self, wanted: Wanted) -> Nearest:
        """Returns the nearest matching records, nearest first; fewer than wanted only if fewer match.

        Raises `ChangedSinceSearch` if others changed a result meanwhile.
        """
        for _ in range(ATTEMPTS - 1):
            with self._own_writes.watching() as written:
                try:
                    return await self._attempt(wanted)
                except ChangedSinceSearch as error:
                    if error.chunk_id not in written and not self._own_writes.is_writing:
                        raise
        return await self._attempt(wanted)

    async def _attempt(self, wanted: Wanted) -> Nearest:
        scope = SearchScope.of_hashes(self._kb_id, wanted.service_filter)
        bits = self._cipher.query_bits(wanted.query)
        reach = wanted.enough if wanted.is_exact else max(4 * wanted.enough, _FIRST_REACH)
        looked_at: set[int] = set()
        found: dict[int, Found] = {}
        while True:
            contents = Contents(self._context)
            try:
                answer = await self._engine.nearest([bits], reach, scope, contents)
            except ContextNotFound:  # nothing has ever been stored under it
                return Nearest([], None)
            (nearest,) = answer.nearest
            distances = dict(zip(nearest.chunk_ids.tolist(), nearest.distances.tolist(), strict=True))
            new = [chunk_id for chunk_id in distances if chunk_id not in looked_at]
            for part in _parts(new, wanted.enough):
                fetched = await self._engine.decrypted(part, self._kb_id, RECORD_FIELDS, wanted.decoys, contents)
                looked_at.update(part)
                for chunk_id, record in await asyncio.to_thread(self._matching, fetched, wanted.where):
                    found[chunk_id] = Found(record, distances[chunk_id])
                if len(found) >= wanted.enough:
                    return Nearest(list(found.values())[: wanted.enough], answer.plan)
            if answer.candidates <= reach:
                return Nearest(list(found.values()), answer.plan)
            reach *= _FURTHER

    def _matching(self, fetched: Sequence[Decrypted], where: Where) -> list[tuple[int, ReadRecord]]:
        """Returns the matching ones with the ids of their chunks, in order. Raises `OtherRecord`, `UnknownContent`."""
        records = [(one.chunk["chunk_id"], self._cipher.read(one.chunk, one.content)) for one in fetched]
        return [
            (chunk_id, one)
            for chunk_id, one in records
            if one.has_vector and matches(where, one.metadata, one.id, one.text)
        ]


def _parts(chunk_ids: Sequence[int], first: int) -> Iterator[Sequence[int]]:
    """Yields the ids in order: first the wanted number, then increasingly large parts."""
    start, size = 0, min(first, _LARGEST_PART)
    while start < len(chunk_ids):
        yield chunk_ids[start : start + size]
        start, size = start + size, min(2 * size, _LARGEST_PART)
