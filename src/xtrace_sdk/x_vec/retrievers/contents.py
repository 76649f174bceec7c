"""Decrypts fetched chunks: each must belong to the vector that a search found, even if a rotation has moved it.

Each must also match the filter of that search. All calls that retrieve search results use this module.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_core.filter_matching import matches
from xtrace_core.metadata_filter import EVERY_CHUNK, Filter
from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import ChangedSinceSearch, ContentTampered, InvalidArgument, UnknownContent
from xtrace_sdk.x_vec.chunks.envelope import Content, VectorCopy
from xtrace_sdk.x_vec.chunks.private_metadata import Projection
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.retrievers.decoys import Candidates, ChunkIds
from xtrace_sdk.x_vec.retrievers.readings import Expected, Readings, RememberedReadings, check_records
from xtrace_sdk.x_vec.retrievers.scan import Nearest
from xtrace_sdk.x_vec.stored.content import clear_chunk, open_content, open_under_lineage

Binding = tuple[Filter, ChunkIds]
"""A filter, and the ascending ids of the chunks that must match it."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """The restrictions of a search.

    The range is not kept, because rows outside it make the search fail, and a chunk's id never changes.
    """

    meta_filter: Filter
    candidates: Candidates
    readings: Readings | None = None
    """What a search by blocks read, whose results the records must confirm."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search knows about a chunk."""

    search: Search
    context: ExecutionContext
    nonce: bytes | None
    """Empty for a chunk without one; None if the search did not read it, so that the record must confirm the
    distance."""
    query: NDArray[np.uint8]
    distance: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Decrypted:
    """A fetched and decrypted chunk."""

    chunk: dict[str, Any]
    """The fetched fields, with the text as `chunk_content`, without the nonce."""
    content: Content | None = None
    """The content that contains the text; None if it was not fetched."""
    has_moved: bool = False
    """Whether a rotation has moved it since it was found: `check_same_vectors` must check it before it is used."""

    @property
    def vector_copy(self) -> VectorCopy | None:
        """The copy of its vector, if it was fetched and has one."""
        return None if self.content is None else self.content.vector_copy


class Contents(Secretive):
    """Remembers the results of searches for each knowledge base, and decrypts fetched results."""

    def __init__(self, context: ExecutionContext) -> None:
        self._context = context
        self._found: dict[tuple[str, int], _Found] = {}
        self._readings = RememberedReadings()

    def remember(
        self, kb_id: str, search: Search, context: ExecutionContext, query: NDArray[np.uint8], nearest: Nearest
    ) -> None:
        """Remembers the chunks that a search with this query found under the context."""
        if search.readings is not None:
            self._readings.add(search.readings)
        for chunk_id, distance, nonce in zip(
            nearest.chunk_ids.tolist(), nearest.distances.tolist(), nearest.nonces, strict=True
        ):
            known = None if search.readings is not None else nonce or b""
            self._found[kb_id, chunk_id] = _Found(search, context, known, query, distance)

    def searches(self, kb_id: str, chunk_ids: Iterable[int]) -> dict[int, Search]:
        """Returns the latest search that found each of these chunks, without chunks that none found."""
        return {
            chunk_id: found.search
            for chunk_id in chunk_ids
            if (found := self._found.get((kb_id, chunk_id))) is not None
        }

    def decrypted(
        self, kb_id: str, chunk: Mapping[str, Any], wanted: Projection, filters: Iterable[Binding]
    ) -> Decrypted:
        """Returns the requested fields of a fetched chunk, in plaintext.

        Raises `ContentTampered`, `UnknownContent`, and `ChangedSinceSearch` if it was replaced since it was found, or
        does not match a filter that binds it.
        """
        if "chunk_content" not in wanted.fetched:
            _check_filters(chunk, filters)
            return Decrypted(wanted.of(chunk))
        chunk_id, nonce = chunk["chunk_id"], chunk.get("nonce") or b""
        found = self._found.get((kb_id, chunk_id))
        try:
            if found is not None and found.nonce in (None, nonce):
                context, content = found.context, open_content(found.context, kb_id, chunk)
            else:
                context, content = open_under_lineage(self._context, kb_id, chunk)
            clear = clear_chunk(context, chunk, content, wanted.read)
        except (ContentTampered, UnknownContent) as error:
            raise type(error)(f"chunk {chunk_id}: {error}") from None
        has_moved = found is not None and found.nonce not in (None, nonce)
        if found is not None and has_moved and (context is found.context or found.context is self._context):
            raise _replaced(chunk_id)
        _check_filters(clear, filters)
        return Decrypted(wanted.of(clear), content, has_moved)

    def confirm(self, kb_id: str, chunks: Sequence[Mapping[str, Any]], decoys_of: Sequence[Readings]) -> None:
        """Checks fetched chunks against the distances that the service's values have given for them.

        `chunks` have their `index`, `nonce` and `updated_at`. Those that searches by blocks found are checked, and with
        `decoys_of` also all other candidates of these searches: an error only for found ones would tell the service
        that they are no decoys. Raises `InvalidRows` for a record that is not authentic or has another distance,
        `ChangedSinceSearch` if the chunk was written after the search.
        """
        if any(one.is_forgotten for one in decoys_of):
            raise InvalidArgument(
                "decoys come from the search that found the chunks, which is too long ago: search again"
            )
        expected = [Expected(i, one.query, one.distance, before) for i, one, before in self._unconfirmed(kb_id, chunks)]
        ids = np.array([chunk["chunk_id"] for chunk in chunks], dtype=np.int64)
        for readings in decoys_of:
            expected += [one for part in readings.parts for one in part.expected(ids)]
        check_records(self._context.homomorphic, chunks, expected)

    def _unconfirmed(self, kb_id: str, chunks: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, _Found, datetime]]:
        for i, chunk in enumerate(chunks):
            found = self._found.get((kb_id, chunk["chunk_id"]))
            if found is not None and found.search.readings is not None:
                yield i, found, found.search.readings.before

    def check_same_vectors(
        self, kb_id: str, chunks: Iterable[Mapping[str, Any]], nonces: Mapping[int, bytes | None]
    ) -> None:
        """Raises `ChangedSinceSearch` unless moved chunks have the same distance to the query as when they were found.

        `chunks` have their ciphertexts; `nonces` are those with which their contents were decrypted. Without this
        check, a service could exchange the contents of two chunks during a rotation.
        """
        missing = set(nonces)
        for chunk in chunks:
            missing.discard(chunk["chunk_id"])
            chunk_id, nonce = chunk["chunk_id"], chunk.get("nonce")
            found = self._found[kb_id, chunk_id]
            bits, valid = self._context.homomorphic.decrypt_vec_batch([chunk["index"]], [nonce])
            distance = int(np.count_nonzero(bits[0] != found.query))
            if nonce != nonces[chunk_id] or not valid.all() or distance != found.distance:
                raise _replaced(chunk_id)
            self._found[kb_id, chunk_id] = replace(found, context=self._context, nonce=nonce or b"")
        if missing:  # deleted just now, or withheld to avoid the check
            raise _replaced(min(missing))


def filters_of(searches: Mapping[int, Search], with_decoys: bool) -> list[Binding]:
    """Returns the filters that the fetched chunks must match, given the searches that found them.

    With decoys a search's filter binds all its candidates: an error only for the chunks that it found would tell the
    service, which can change visible metadata, that they are no decoys. Members of a group that are not among the
    candidates are not bound.
    """
    found: dict[Search, list[int]] = {}
    for chunk_id, search in searches.items():
        if search.meta_filter != EVERY_CHUNK:
            found.setdefault(search, []).append(chunk_id)
    return [
        (search.meta_filter, search.candidates.ids if with_decoys else np.sort(np.array(ids, np.int64)))
        for search, ids in found.items()
    ]


def _check_filters(chunk: Mapping[str, Any], filters: Iterable[Binding]) -> None:
    chunk_id = chunk["chunk_id"]
    for meta_filter, bound in filters:
        if _contains(bound, chunk_id) and not matches(meta_filter, chunk.get("meta_data", {})):
            raise ChangedSinceSearch(
                f"the metadata of chunk {chunk_id} does not match the filter of the search: it was changed since, "
                "or the service returned chunks that the filter excludes: search again"
            )


def _contains(ascending: ChunkIds, chunk_id: int) -> bool:
    position = int(np.searchsorted(ascending, chunk_id))
    return position < len(ascending) and int(ascending[position]) == chunk_id


def _replaced(chunk_id: int) -> ChangedSinceSearch:
    return ChangedSinceSearch(f"chunk {chunk_id} was replaced since it was found: search again", chunk_id=chunk_id)
