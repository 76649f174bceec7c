"""Searching the records of a collection in the local index: no query, filter or distance leaves the machine."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.contents import ReadRecord, RecordCipher
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.where import EVERYTHING, TEXT, And, Condition, Not, Or, Where
from xtrace_sdk.errors import ChangedSinceSearch
from xtrace_sdk.stages import stage
from xtrace_sdk.x_vec.local.codec import query
from xtrace_sdk.x_vec.local.fusion import fused
from xtrace_sdk.x_vec.local.loaded import Candidates, Loaded, Mask
from xtrace_sdk.x_vec.local.local_index import LocalIndex
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.local.tokens import tokens
from xtrace_sdk.x_vec.retrievers.decoys import Groups

ATTEMPTS: Final = 20
"""How often a search is repeated because others changed its results meanwhile."""
_BY_WORDS: Final = 20
"""The fewest candidates that words choose."""
_FURTHER: Final = 8
"""The factor by which a search is widened if too few of the candidates match a filter on texts."""


class LocalQuestion(NamedTuple):
    """What a search looks for."""

    vector: NDArray[Any]
    """Floats or bits, checked."""
    text: str | None
    """The question, to be answered by words as well; None for a search by the vector alone."""
    k: int
    reach: int
    """How many of the nearest are read and compared exactly."""
    where: Where
    decoys: int


class Ranked(NamedTuple):
    """A record that a search found, in the order of the answer."""

    record: ReadRecord
    similarity: float
    distance: int


class LocalSearching(Secretive):
    """The searches of one collection in its local index."""

    __slots__ = ("_cipher", "_groups", "_has_copies", "index")

    def __init__(self, index: LocalIndex, cipher: RecordCipher, has_copies: bool) -> None:
        """`has_copies` says whether the collection stores copies of vectors."""
        self.index = index
        self._cipher = cipher
        self._has_copies = has_copies
        self._groups = Groups()

    async def search(self, question: LocalQuestion, max_staleness: float) -> list[Ranked] | None:
        """Returns the best matching records, best first; None if only the service can compare one that may match.

        Raises `ChangedSinceSearch` if others go on changing the results, `DecoyGroupTooLarge`, and what
        `LocalIndex.synchronised` and `LocalIndex.read` raise.
        """
        if question.vector.dtype.kind != "f" or not self._has_copies:
            return None
        with stage("synchronise"):
            loaded = await self.index.synchronised(max_staleness)
        if loaded.needs_service(await asyncio.to_thread(self._allowed, loaded, question.where)):
            return None
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._attempt(question, loaded)
            except ChangedSinceSearch:
                loaded = await self.index.synchronised()
        return await self._attempt(question, loaded)

    async def _attempt(self, question: LocalQuestion, loaded: Loaded) -> list[Ranked]:
        reach, total = question.reach, loaded.count
        while True:
            with stage("scan"):
                found = await asyncio.to_thread(self._candidates, question, reach, loaded)
            with stage("fetch"):
                contents = await self.index.read(found, self._decoys(question, loaded, found))
            with stage("rescore"):
                ranked = await asyncio.to_thread(self._ranked, question, found, contents)
            if len(ranked) >= question.k or reach >= total or not _concerns_text(question.where):
                return ranked[: question.k]
            reach *= _FURTHER

    def _decoys(self, question: LocalQuestion, loaded: Loaded, found: Candidates) -> Sequence[int]:
        """The chunks to fetch along with those found."""
        if not question.decoys or not found.chunk_ids:
            return ()
        return self._groups.together_with(set(found.chunk_ids), loaded.chunk_ids, question.decoys)

    # In threads

    def _candidates(self, question: LocalQuestion, reach: int, loaded: Loaded) -> Candidates:
        allowed = self._allowed(loaded, question.where)
        asked = tokens(question.text) if question.text is not None else []
        return loaded.candidates(query(question.vector), reach, asked, max(_BY_WORDS, 2 * question.k), allowed)

    def _allowed(self, loaded: Loaded, where: Where) -> list[Mask]:
        """The records of the namespace that match, as far as metadata can tell."""
        if _concerns_text(where):
            where = EVERYTHING
        return loaded.allowed(
            f"{self._cipher.namespace!r} {where!r}", lambda segment: _matching(segment, self._cipher.namespace, where)
        )

    def _ranked(
        self, question: LocalQuestion, found: Candidates, contents: dict[int, tuple[dict[str, Any], Any]]
    ) -> list[Ranked]:
        """Those that exist and match, best first."""
        records, scores = list[ReadRecord](), list[float]()
        for chunk_id, score in zip(found.chunk_ids, found.word_scores.tolist(), strict=True):
            if chunk_id in contents:
                record = self._cipher.read(*contents[chunk_id])
                if matches(question.where, record.metadata, record.id, record.text):
                    records.append(record)
                    scores.append(score)
        distances = self._cipher.distances(question.vector, records)
        similarities = self._cipher.similarities(question.vector, records, distances)
        order: NDArray[np.float64] = np.array(similarities, np.float64)
        if question.text is not None:
            texts = [record.text for record in records]
            order = fused(tokens(question.text), texts, np.array(scores, np.float32), similarities)
        return [
            Ranked(records[i], similarities[i], distances[i])
            for i in sorted(range(len(records)), key=lambda i: (-order[i], distances[i], records[i].id))
        ]


def _matching(segment: Segment, namespace: str, where: Where) -> Mask:
    """Which rows of a segment are records with a vector in this namespace that match."""
    if namespace not in segment.namespaces:
        return np.zeros(len(segment), np.bool_)
    inside: Mask = segment.owners == segment.namespaces.index(namespace)
    inside &= (segment.codes.factors > 0) | segment.needs_service
    inside &= np.array([bool(record_id) for record_id, _ in segment.records], np.bool_)
    if where != EVERYTHING:
        for row in np.flatnonzero(inside).tolist():
            record_id, attributes = segment.records[row]
            inside[row] = matches(where, msgspec.json.decode(attributes), record_id)
    return inside


def _concerns_text(where: Where) -> bool:
    """Whether the filter has a condition on the text, which the index does not hold."""
    match where:
        case And(parts) | Or(parts):
            return any(map(_concerns_text, parts))
        case Not(part):
            return _concerns_text(part)
        case Condition(path):
            return path == TEXT
