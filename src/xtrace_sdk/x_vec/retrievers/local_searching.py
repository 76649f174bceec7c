"""Searching a knowledge base in its local index: no query, filter or distance leaves the machine."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import ChangedSinceSearch, InaccessibleFile, InvalidArgument
from xtrace_sdk.stages import stage
from xtrace_sdk.x_vec.chunks.envelope import Content
from xtrace_sdk.x_vec.chunks.vectors import VectorForm
from xtrace_sdk.x_vec.local.codec import query
from xtrace_sdk.x_vec.local.fusion import fused
from xtrace_sdk.x_vec.local.loaded import Candidates, Loaded, Mask
from xtrace_sdk.x_vec.local.local_index import LocalIndex
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.local.tokens import tokens
from xtrace_sdk.x_vec.retrievers.closeness import distances_to, similarities_to
from xtrace_sdk.x_vec.retrievers.decoys import Grouping
from xtrace_sdk.x_vec.retrievers.results import SearchMode

ATTEMPTS: Final = 20
"""How often a search is repeated because others changed its results meanwhile."""
RESCORE: Final = 4
"""How many times as many chunks as wanted are read and compared exactly, by default."""
_BY_WORDS: Final = 20
"""The fewest candidates that words choose."""
_FURTHER: Final = 8
"""The factor by which a search is widened if too few of the candidates match what only contents can tell."""


class Readable(Protocol):
    """What a search reads of a chunk."""

    @property
    def id(self) -> Any:
        """Decides the order of equals."""

    @property
    def text(self) -> str | None:
        """Its text; None for none."""

    @property
    def content(self) -> Content:
        """Its content, with the copy of its vector."""


R = TypeVar("R", bound=Readable)
Out = TypeVar("Out", bound=Readable, covariant=True)


class Findable(Protocol[Out]):
    """What a search may find, and how it is read."""

    @property
    def key(self) -> str:
        """Names the rows that may be found: equal for two searches if they may find the same."""

    @property
    def is_decided(self) -> bool:
        """Whether `rows` decides it; if not, `read` must."""

    def suits(self, loaded: Loaded) -> bool:
        """Whether an index can answer. Raises if it must not be asked."""

    def rows(self, segment: Segment) -> Mask:
        """Which rows of a segment may be found."""

    def read(self, chunk: dict[str, Any], content: Content) -> Out | None:
        """Reads a chunk; None if it may not be found."""


class LocalQuestion(NamedTuple):
    """What a search looks for."""

    vector: NDArray[Any]
    """Floats or bits, checked."""
    text: str | None
    """The question, to be answered by words as well; None for a search by the vector alone."""
    k: int
    reach: int
    """How many of the nearest are read and compared exactly."""
    decoys: int


class Ranked(NamedTuple, Generic[R]):
    """A chunk that a search found, in the order of the answer."""

    found: R
    similarity: float
    distance: int


class LocalSearching(Secretive):
    """The searches of one knowledge base in its local index."""

    __slots__ = ("_form", "_groups", "index")

    def __init__(self, index: LocalIndex, form: VectorForm, groups: Grouping) -> None:
        """`groups` are those of the knowledge base, also of searches on the service."""
        self.index = index
        self._form = form
        self._groups = groups

    async def search(self, question: LocalQuestion, among: Findable[R], max_staleness: float) -> list[Ranked[R]] | None:
        """Returns the best chunks, best first; None if only the service can compare one that may be found.

        Raises `ChangedSinceSearch` if others go on changing the results, `DecoyGroupTooLarge`, and what `among`,
        `LocalIndex.synchronised` and `LocalIndex.read` raise.
        """
        if question.vector.dtype.kind != "f":
            return None
        with stage("synchronise"):
            loaded = await self.index.synchronised(max_staleness)
        if not await asyncio.to_thread(_can_answer, loaded, among):
            return None
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._attempt(question, among, loaded)
            except ChangedSinceSearch:
                loaded = await self.index.synchronised()
        return await self._attempt(question, among, loaded)

    async def _attempt(self, question: LocalQuestion, among: Findable[R], loaded: Loaded) -> list[Ranked[R]]:
        reach, total = question.reach, loaded.count
        while True:
            with stage("scan"):
                found = await asyncio.to_thread(_candidates, question, reach, among, loaded)
            with stage("fetch"):
                decoys = await asyncio.to_thread(self._decoys, question, loaded, found)
                contents = await self.index.read(found, decoys)
            with stage("rescore"):
                ranked = await asyncio.to_thread(self._ranked, question, among, found, contents)
            if len(ranked) >= question.k or reach >= total or among.is_decided:
                return ranked[: question.k]
            reach *= _FURTHER

    def _decoys(self, question: LocalQuestion, loaded: Loaded, found: Candidates) -> Sequence[int]:
        """The chunks to fetch along with those found."""
        if not question.decoys or not found.chunk_ids:
            return ()
        return self._groups.together_with(set(found.chunk_ids), loaded.vector_ids, question.decoys)

    def _ranked(
        self,
        question: LocalQuestion,
        among: Findable[R],
        found: Candidates,
        contents: dict[int, tuple[dict[str, Any], Content]],
    ) -> list[Ranked[R]]:
        """Those that exist and may be found, best first."""
        read, scores = list[R](), list[float]()
        for chunk_id, score in zip(found.chunk_ids, found.word_scores.tolist(), strict=True):
            if chunk_id in contents and (one := among.read(*contents[chunk_id])) is not None:
                read.append(one)
                scores.append(score)
        copies = [one.content.vector_copy for one in read]
        distances = distances_to(self._form, question.vector, copies)
        similarities = similarities_to(self._form, question.vector, copies, distances)
        order: NDArray[np.float64] = np.array(similarities, np.float64)
        if question.text is not None:
            texts = [one.text for one in read]
            order = fused(tokens(question.text), texts, np.array(scores, np.float32), similarities)
        return [
            Ranked(read[i], similarities[i], distances[i])
            for i in sorted(range(len(read)), key=lambda i: (-order[i], distances[i], read[i].id))
        ]


async def in_local_index(
    searching: LocalSearching | None,
    question: LocalQuestion,
    among: Findable[R],
    mode: SearchMode,
    max_staleness: float,
    hybrid: bool | Literal["auto"],
) -> list[Ranked[R]] | None:
    """The best chunks by a local index, best first; None to search on the service.

    Raises `InvalidArgument` for a search that is asked for and the index cannot do, and what `LocalSearching.search`
    raises.
    """
    ranked = None
    if mode == "local" and searching is not None:
        ranked = await searching.search(question, among, max_staleness)
    elif mode == "auto" and searching is not None:
        try:
            if await searching.index.is_suitable():
                ranked = await searching.search(question, among, max_staleness)
        except InaccessibleFile:
            if not searching.index.is_optional:
                raise
    if ranked is None and mode == "local":
        raise InvalidArgument(
            'mode="local" needs an index: use local_index="auto"'
            if searching is None
            else "the local index compares float vectors with those of records of this kind: pass a text or floats, "
            "and store everything with vector_copy"
        )
    if hybrid is True and (ranked is None or question.text is None):
        raise InvalidArgument(
            "hybrid=True searches by words, which only a local index can: use local_index=…, and pass a text"
        )
    return ranked


# In threads


def _can_answer(loaded: Loaded, among: Findable[R]) -> bool:
    return among.suits(loaded) and not loaded.needs_service(loaded.allowed(among.key, among.rows))


def _candidates(question: LocalQuestion, reach: int, among: Findable[R], loaded: Loaded) -> Candidates:
    asked = tokens(question.text) if question.text is not None else []
    by_words = max(_BY_WORDS, 2 * question.k)
    return loaded.candidates(query(question.vector), reach, asked, by_words, loaded.allowed(among.key, among.rows))
