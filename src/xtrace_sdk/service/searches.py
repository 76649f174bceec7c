"""The calls that search: by encrypted distance, and by metadata."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from xtrace_core import wire
from xtrace_core.frames import RowBlock
from xtrace_sdk.arguments import MetaFilter, checked_calls
from xtrace_sdk.errors import AnswerTooLarge, InvalidAnswer, InvalidArgument
from xtrace_sdk.service import payloads
from xtrace_sdk.service.chunks import RESULTS_PER_PAGE, StoredChunk, stored_chunks
from xtrace_sdk.service.private_fields import PrivacyChecked


class HammingAnswer(list[tuple[int, list[bytes]]]):
    """A search's answer, sorted by chunk id: `(chunk id, encrypted distances as little-endian bytes)` for each
    chunk."""

    def __init__(self, rows: Iterable[tuple[int, list[bytes]]], nonces: Sequence[bytes | None]) -> None:
        super().__init__(rows)
        self.nonces = list(nonces)
        """The nonce of each chunk, or None."""

    @property
    def chunk_ids(self) -> list[int]:
        """Only the ids."""
        return [chunk_id for chunk_id, _ in self]

    @property
    def rows(self) -> list[list[bytes]]:
        """Only the encrypted distances."""
        return [row for _, row in self]


class MetaDataPage(wire.NamedFields, kw_only=True):
    """One page of a metadata search; `page["results"]` is the same as `page.results`."""

    results: list[StoredChunk]
    total: int
    limit: int | None
    offset: int
    has_more: bool
    next_page_token: str | None


@checked_calls
class Searches(PrivacyChecked):
    """The searches of `XTraceIntegration`. Each call may raise `ServerError` and `NetworkError`."""

    # By encrypted distance

    async def compute_hamming_distances(
        self,
        query: Any,
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,  # noqa: A002 - the name in the HTTP contract
    ) -> HammingAnswer:
        """Returns the encrypted Hamming distances between an encrypted query and every candidate.

        Candidates are the chunks under the context that match `meta_filter` and whose ids are in `range`, `(lowest,
        highest)`, both included. `HammingAnswer.nonces` contains the nonces of the chunks. Raises `InvalidFilter`,
        `ContextNotFound`, `CiphertextRefused`.
        """
        bounds = payloads.id_range(range)
        body = self._body(
            wire.ComputeHamming(
                kb_id=kb_id,
                context_id=context_id,
                query=payloads.ciphertexts(query),
                meta_filter=None if meta_filter is None else payloads.meta_filter(meta_filter),
                id_range=bounds,
            )
        )
        rows = await self._service.search("compute_hamming", body)
        return await asyncio.to_thread(_hamming_answer, rows, bounds)

    async def stream_hamming_distances(
        self,
        kb_id: str,
        context_id: str,
        queries: Sequence[Any],
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
        *,
        unsealed: bool = False,
    ) -> AsyncGenerator[RowBlock, None]:
        """Yields the result of `compute_hamming_distances` as blocks of arrays, while later ones are still being
        computed.

        Several queries (at most 32) are answered in one pass: each row then has the ciphertexts of the first query,
        then those of the second, and so on. Rows are sorted by chunk id. Where the connection breaks, the rest is
        requested as another search, which sees what was changed in between. The generator raises `InvalidAnswer` if an
        answer is cut off or inconsistent: discard the blocks received before. With `unsealed`, for one query, only
        chunks in no block of vectors are candidates (docs/schemes.md).
        """
        bounds = payloads.id_range(range_filter)
        filter_ = None if meta_filter is None else payloads.meta_filter(meta_filter)
        if not queries:
            raise InvalidArgument("got no queries, expected at least one")
        first, *others = [payloads.ciphertexts(query) for query in queries]
        whole: wire.ComputeHamming | wire.ComputeHammingBatch
        if others and unsealed:
            raise InvalidArgument(f"got {len(queries)} queries for unsealed chunks, expected one")
        if others:
            path = "compute_hamming_batch"
            whole = wire.ComputeHammingBatch(
                kb_id=kb_id, context_id=context_id, queries=[first, *others], meta_filter=filter_, id_range=bounds
            )
        else:
            path = "compute_hamming"
            whole = wire.ComputeHamming(
                kb_id=kb_id,
                context_id=context_id,
                query=first,
                meta_filter=filter_,
                id_range=bounds,
                unsealed=unsealed,
            )

        def body_after(last: int) -> bytes | None:
            if last < 0:
                return self._body(whole)
            highest = bounds[1] if bounds else wire.MAX_CHUNK_ID
            return self._body(replace(whole, id_range=(last + 1, highest))) if last < highest else None

        last = -1
        blocks = self._service.search_blocks(path, body_after)
        async with aclosing(blocks):
            async for block in blocks:
                _check_ids(block.chunk_ids, last, bounds)
                last = int(block.chunk_ids[-1])
                yield block

    # By metadata

    async def meta_search(
        self,
        kb_id: str,
        meta_filter: MetaFilter | None,
        context_id: str,
        return_content: bool = False,
        projection: Iterable[str] | None = None,
    ) -> list[StoredChunk]:
        """Returns all chunks of the context that match the filter, sorted by chunk id, in one answer.

        Without a projection they have metadata, name and times, and with `return_content` also `chunk_content` and
        `nonce`. For many results use `iter_meta_search`, which fetches them page by page.
        """
        fields = payloads.projection(projection)
        body = self._body(
            wire.SearchMetaData(
                kb_id=kb_id,
                context_id=context_id,
                meta_filter=payloads.meta_filter(meta_filter),
                projection=fields,
                return_content=return_content,
            )
        )
        found = await stored_chunks(await self._service.data("POST", "chunk/meta", list[wire.Chunk], body=body), fields)
        _check_order([chunk["chunk_id"] for chunk in found], "asc")
        return found

    async def meta_search_paginated(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter | None = None,
        projection: Iterable[str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        sort_order: str = "desc",
        sort_by: str = "chunk_id",
        return_content: bool = False,
        page_token: str | None = None,
    ) -> MetaDataPage:
        """Returns one page of the chunks that match the filter.

        Sorted by `chunk_id`, `created_at`, `updated_at` or a tag, then by chunk id. Get the next page with `offset` +
        `limit`, or with the `page_token` of this one, which is stable under insertions. Without `limit` everything is
        returned.
        """
        _check_sorting(sort_by, sort_order)
        fields = payloads.projection(projection)
        body = self._body(
            wire.PageMetaData(
                kb_id=kb_id,
                context_id=context_id,
                meta_filter=payloads.meta_filter(meta_filter),
                projection=fields,
                limit=limit,
                offset=offset,
                sort_by=sort_by,  # type: ignore[arg-type]  # checked above
                sort_order=sort_order,  # type: ignore[arg-type]
                return_content=return_content,
                page_token=page_token,
            )
        )
        page = await self._service.data("POST", "chunk/meta/page", wire.Page, body=body)
        _check_page(page, limit, is_first=not offset and page_token is None)
        results = await stored_chunks(page.results, fields)
        if sort_by == "chunk_id":
            _check_order([chunk["chunk_id"] for chunk in results], sort_order)
        return MetaDataPage(
            results=results,
            total=page.total,
            limit=page.limit,
            offset=page.offset,
            has_more=page.has_more,
            next_page_token=page.next_page_token,
        )

    async def iter_meta_search(
        self,
        kb_id: str,
        meta_filter: MetaFilter | None,
        context_id: str,
        return_content: bool = False,
        projection: Iterable[str] | None = None,
        *,
        sort_order: str = "asc",
        sort_by: str = "chunk_id",
        page_size: int = RESULTS_PER_PAGE,
    ) -> AsyncGenerator[StoredChunk, None]:
        """Yields the result of `meta_search` chunk by chunk, fetching pages as they are consumed."""
        fields = payloads.projection(projection)
        if page_size < 1:
            raise InvalidArgument(f"page_size is {page_size}, expected at least 1")
        seen: set[int] = set()
        token: str | None = None
        last: list[int] = []
        while True:
            try:
                page = await self.meta_search_paginated(
                    kb_id, context_id, meta_filter, fields, page_size, None, sort_order, sort_by, return_content, token
                )
            except AnswerTooLarge:
                page_size //= 2
                if not page_size:
                    raise
                continue
            ids = [chunk["chunk_id"] for chunk in page.results]
            _check_progress(last, ids, sort_by, sort_order)
            for chunk in page.results:
                yield chunk
            if not page.has_more:
                return
            token, last = page.next_page_token, ids
            if token is None or hash(token) in seen:
                raise InvalidAnswer("the server says that there are more results, but did not return a new page_token")
            seen.add(hash(token))  # not the token itself, which may be long


def _hamming_answer(rows: list[wire.SearchRow], bounds: tuple[int, int] | None) -> HammingAnswer:
    if rows:
        _check_ids(np.array([row.chunk_id for row in rows]), -1, bounds)
    return HammingAnswer([(row.chunk_id, row.ciphertexts) for row in rows], [row.nonce for row in rows])


def _check_ids(chunk_ids: NDArray[np.int64], last: int, bounds: tuple[int, int] | None) -> None:
    """Raises `InvalidAnswer` for ids that are not ascending (including from the previous block), or out of bounds."""
    if chunk_ids[0] <= last or (np.diff(chunk_ids) <= 0).any():
        raise InvalidAnswer("the server's rows are not sorted by ascending chunk id, or an id occurs twice")
    if bounds and not bounds[0] <= chunk_ids[0] <= chunk_ids[-1] <= bounds[1]:
        raise InvalidAnswer("the server answered for chunks outside the requested range")


def _check_page(page: wire.Page, limit: int | None, is_first: bool) -> None:
    """Raises `InvalidAnswer` for more results than requested, and for none if some are announced.

    So a loop that continues while there are results makes progress with every page.
    """
    if limit is not None and len(page.results) > limit:
        raise InvalidAnswer(f"the server returned {len(page.results)} results on a page of at most {limit}")
    if page.results or limit == 0:
        return
    if page.has_more or (is_first and page.total):
        raise InvalidAnswer("the server says that there are results, but returned none")


def _check_progress(last: Sequence[int], ids: Sequence[int], sort_by: str, sort_order: str) -> None:
    """Raises `InvalidAnswer` if a page with these ids does not continue after the previous one, with the ids `last`."""
    if sort_by == "chunk_id":
        _check_order([*last[-1:], *ids], sort_order)
    elif ids and set(ids) <= set(last):
        raise InvalidAnswer("the server repeated the results of a page on the next one")


def _check_order(ids: Sequence[int], sort_order: str) -> None:
    if sorted(set(ids), reverse=sort_order == "desc") != ids:
        raise InvalidAnswer("the server's results are not sorted by chunk id, or an id occurs twice")


def _check_sorting(sort_by: str, sort_order: str) -> None:
    if sort_by not in ("chunk_id", "created_at", "updated_at", *wire.TAGS):
        raise InvalidArgument(f"sort_by is {sort_by!r}, expected chunk_id, created_at, updated_at or tag1 to tag5")
    if sort_order not in ("asc", "desc"):
        raise InvalidArgument(f"sort_order is {sort_order!r}, expected asc or desc")
