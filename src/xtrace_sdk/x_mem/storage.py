"""Reads and writes facts in a collection."""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final

from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.collection.record import Hit
from xtrace_sdk.x_mem.facts import Fact, fact_of, record_of
from xtrace_sdk.x_mem.versions import chained, changed, learned_last, older
from xtrace_sdk.x_vec.chunks.vectors import Embedder, FloatEmbedder, embedded, embedded_query

Where = dict[str, Any]

_LINKS: Final = 100
"""The number of ids in one filter."""


class FactStore:
    """Reads and writes facts. A call that writes several writes them in one transaction."""

    def __init__(self, collection: Collection, embedding: Embedder | None) -> None:
        self._collection = collection
        self._embedding = embedding

    async def get(self, ids: Sequence[str]) -> list[Fact]:
        """Returns the facts with these ids, without unknown ones."""
        return [fact_of(record) for record in await self._collection.get(ids)]

    async def matching(self, where: Where) -> list[Fact]:
        """Returns all matching facts."""
        records = self._collection.iter(where)
        async with aclosing(records):
            return [fact_of(record) async for record in records]

    async def nearest(self, query: str, k: int, where: Where, min_similarity: float) -> list[tuple[Fact, float]]:
        """Returns the facts most similar to the query, with their similarities."""
        given: Any = query
        if self._embedding is not None:
            given = await embedded_query(self._embedding, query, as_floats=isinstance(self._embedding, FloatEmbedder))
        hits: list[Hit] = await self._collection.search(given, k, where=where, min_similarity=min_similarity)
        return [(fact_of(hit.record), hit.similarity) for hit in hits]

    async def write(self, facts: Sequence[Fact]) -> None:
        """Stores the facts, new or changed, in one transaction. Their texts are embedded again."""
        vectors: Sequence[Any] = [None] * len(facts)
        if self._embedding is not None:
            as_floats = isinstance(self._embedding, FloatEmbedder)
            vectors = list(await embedded(self._embedding, [fact.text for fact in facts], as_floats=as_floats))
        await self._collection.upsert([record_of(*both) for both in zip(facts, vectors, strict=True)])

    async def add_to_thread(self, new: Fact) -> list[Fact]:
        """Stores a fact at its place in its thread, and returns the updated thread."""
        before = await self._holding(new)
        is_latest = not before or new.valid_from >= max(fact.valid_from for fact in before)
        if not is_latest:
            before = await self.thread(new)
        after = chained([*before, learned_last(new, before)])
        await self.write(changed(before, after))
        # Other clients may have added one at the same time. Of two that are the latest, both hold now; two others may
        # have got the same neighbours.
        if not is_latest or len(await self._holding(new)) > 1:
            await self._put_in_order(new)
        return after

    async def _put_in_order(self, fact: Fact) -> None:
        """Writes the fact's thread until what is stored is in order.

        Every client computes the same order of the same facts, and looks again after it has written, so the last write
        is right, whichever client makes it.
        """
        while True:
            stored = await self.thread(fact)
            if not (misplaced := changed(stored, chained(stored))):
                return
            await self.write(misplaced)

    async def thread(self, fact: Fact) -> list[Fact]:
        """Returns all facts of its thread."""
        return await self.matching({"scope": fact.scope_id, "thread": fact.thread})

    async def with_older(self, facts: Iterable[Fact]) -> dict[str, Fact]:
        """Returns the facts and all their older versions, by id."""
        found: dict[str, Fact] = {}
        threads: dict[tuple[str, str], list[Fact]] = {}
        new = {fact.id: fact for fact in facts}
        while new:
            found |= new
            versions = await self._ended_by(list(new))
            for fact in new.values():
                place = fact.scope_id, fact.thread
                if place not in threads and fact.thread != thread_of_first(fact.id):
                    threads[place] = await self.thread(fact)
                versions += older(fact, threads.get(place, []))
            new = {fact.id: fact for fact in versions if fact.id not in found}
        return found

    async def delete(self, ids: Sequence[str]) -> int:
        return await self._collection.delete(ids)

    async def delete_matching(self, where: Where) -> int:
        return await self._collection.delete(where=where)

    async def _holding(self, fact: Fact) -> list[Fact]:
        return await self.matching({"scope": fact.scope_id, "thread": fact.thread, "holds": True})

    async def _ended_by(self, ids: Sequence[str]) -> list[Fact]:
        found: list[Fact] = []
        for start in range(0, len(ids), _LINKS):
            found += await self.matching({"superseded_by": {"$in": list(ids[start : start + _LINKS])}})
        return found


def thread_of_key(key: str) -> str:
    """Returns the thread of the facts with this key."""
    return f"key:{key}"


def thread_of_first(fact_id: str) -> str:
    """Returns the thread that begins with a fact without a key."""
    return f"fact:{fact_id}"
