"""`XTraceIntegration`: every call of an XTrace service, hosted or one's own. It knows nothing of cryptography.

A call is checked before it is sent (`payloads`), travels with retries (`xtrace_sdk.http.transport`), and its answer is
checked against the HTTP contract before it is returned (`contract`).
"""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Self, TypeVar

import httpx2
import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core import wire
from xtrace_core.frames import RowBlock
from xtrace_core.secrecy import Secretive
from xtrace_sdk.arguments import MetaFilter, Positive, Seconds, checked_calls
from xtrace_sdk.errors import (
    AnswerTooLarge,
    ContextNotFound,
    InvalidAnswer,
    InvalidArgument,
    PartlyStored,
    PermissionDenied,
    XTraceError,
)
from xtrace_sdk.http.transport import HttpClient, Retries, base_url, header_value
from xtrace_sdk.limits import MAX_ANSWER_BYTES, MAX_COUNT_BYTES
from xtrace_sdk.service import payloads
from xtrace_sdk.service.contexts import StoredContexts
from xtrace_sdk.service.contract import Parameters, Service
from xtrace_sdk.service.control_plane import ControlPlane
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.private_fields import PrivateFields

__all__ = ["HammingAnswer", "InsertedIds", "MetaDataPage", "Retries", "XTraceIntegration"]

T = TypeVar("T")

DEFAULT_BATCH_SIZE: Final = 500
"""Chunks that `store_db` stores together."""
DEFAULT_API_URL: Final = "https://api.production.xtrace.ai"

StoredChunk = dict[str, Any]
"""A stored chunk with the fields that were asked for: `chunk_id` and, of `wire.Chunk`, what came; binary as bytes."""

_IDS_PER_CALL: Final = 250
"""Ids in a URL: about 6 KB, which every proxy takes."""
_NAMES_PER_CALL: Final = 1000
_RESULTS_PER_PAGE: Final = 500
_ALWAYS_THERE: Final = frozenset(("chunk_content", "index", "meta_data", "updated_at"))
"""Fields that every chunk has."""


class HammingAnswer(list[tuple[int, list[bytes]]]):
    """A search's answer by ascending chunk id: `(chunk id, its encrypted distances in little-endian bytes)` each."""

    def __init__(self, rows: Iterable[tuple[int, list[bytes]]], nonces: Sequence[bytes | None]) -> None:
        super().__init__(rows)
        self.nonces = list(nonces)
        """The nonce of each chunk; None for one that has none."""

    @property
    def chunk_ids(self) -> list[int]:
        """The ids alone."""
        return [chunk_id for chunk_id, _ in self]

    @property
    def rows(self) -> list[list[bytes]]:
        """The encrypted distances alone."""
        return [row for _, row in self]


class InsertedIds(list[int]):
    """The ids of chunks that hold after an insertion, in the order of the input."""

    def __init__(self, chunk_ids: Iterable[int], outcomes: Iterable[wire.Outcome]) -> None:
        super().__init__(chunk_ids)
        self.outcomes: list[wire.Outcome] = list(outcomes)
        """For each chunk `"inserted"`, and with `on_conflict` perhaps `"replaced"` or `"known"`."""


class MetaDataPage(wire.NamedFields, kw_only=True):
    """One page of a metadata search; `page["results"]` works as well as `page.results`."""

    results: list[StoredChunk]
    total: int
    limit: int | None
    offset: int
    has_more: bool
    next_page_token: str | None


class _NothingToDo:
    """May be awaited, and need not be."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


@checked_calls
class XTraceIntegration(StoredContexts, ControlPlane, Secretive):
    """All communication with an XTrace service.

    Works as an asynchronous context manager, which closes the connections at the end, and without one. Can be used
    from several event loops. Every call may raise `NetworkError` (no usable answer, after all retries) and
    `ServerError` (the service refused; one class for each reason); a call with arguments that cannot be sent raises
    `InputError` and sends nothing.
    """

    def __init__(
        self,
        org_id: str | None = None,
        api_key: str | None = None,
        admin_key: str | None = None,
        api_url: str | None = None,
        admin_api_url: str | None = None,
        *,
        timeout_s: Seconds = 60.0,
        deadline_s: Seconds = 900.0,
        retries: Retries | None = None,
        max_connections: Positive = 16,
        max_answer_bytes: Positive = MAX_ANSWER_BYTES,
        verify: bool | ssl.SSLContext = True,
        ca_file: str | os.PathLike[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            org_id: the organisation's id, or `XTRACE_ORG_ID`.
            api_key: for chunks and contexts, or `XTRACE_API_KEY`.
            admin_key: for knowledge bases and keys, or `XTRACE_ADMIN_KEY`.
            api_url: the service, or `XTRACE_API_URL`; by default the hosted one.
            admin_api_url: the control plane, or `XTRACE_ADMIN_API_URL`; by default `api_url` + `/api`.
            timeout_s: the longest silence of the service that is waited for.
            deadline_s: the longest that one attempt takes as a whole, a search with reading its answer.
            retries: how often and how long to try again.
            max_connections: how many calls travel at once; more wait for their turn.
            max_answer_bytes: larger answers are refused (`AnswerTooLarge`). Chunks that are fetched by id, or page by
                page, are then asked for in smaller numbers. `stream_hamming_distances` reads answers of any size
                while they come. Decoding an answer takes up to 20 times its length of memory.
            verify: False accepts any certificate, which lets everybody on the way read the API keys; or an
                `ssl.SSLContext`.
            ca_file: certificates in PEM form, for a private certificate authority: those that are trusted, and no
                others. By default `SSL_CERT_FILE` or `SSL_CERT_DIR`, else the system's.
            transport: replaces the network, for tests.

        Raises `InvalidArgument` for URLs that are none and keys that no header can carry.
        """
        api_url = base_url(
            api_url or os.environ.get("XTRACE_API_URL") or DEFAULT_API_URL, "api_url (or XTRACE_API_URL)"
        )
        admin_api_url = admin_api_url or os.environ.get("XTRACE_ADMIN_API_URL") or f"{api_url}/api"
        self._private_fields = PrivateFields()
        self._native: dict[str, bool] = {}
        """Of contexts that were asked about, whether they are of this software."""
        http = HttpClient(
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            max_answer_bytes=max_answer_bytes,
            max_connections=max_connections,
            retries=retries or Retries(),
            verify=verify,
            ca_file=ca_file,
            transport=transport,
        )
        self._service = Service(
            http,
            org_id=header_value(org_id or os.environ.get("XTRACE_ORG_ID") or "", "org_id"),
            api_url=api_url,
            api_key=header_value(api_key or os.environ.get("XTRACE_API_KEY") or "", "api_key"),
            admin_api_url=base_url(admin_api_url, "admin_api_url (or XTRACE_ADMIN_API_URL)"),
            admin_key=header_value(admin_key or os.environ.get("XTRACE_ADMIN_KEY") or "", "admin_key"),
        )

    def __repr__(self) -> str:
        return f"XTraceIntegration({self._service!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. A later call opens new ones."""
        await self._service.aclose()

    close = aclose

    def init_session(self) -> Awaitable[None]:
        """Does nothing: connections are opened by the calls that need them."""
        return _NothingToDo()

    @property
    def org_id(self) -> str:
        """The organisation's id; empty if none was given."""
        return self._service.org_id

    @property
    def api_url(self) -> str:
        """The service's address, without a slash at the end."""
        return self._service.api_url

    @property
    def admin_api_url(self) -> str:
        """The control plane's address, without a slash at the end."""
        return self._service.admin_api_url

    @property
    def api_key(self) -> str:
        """The API key; empty if none was given. A secret."""
        return self._service.api_key

    @property
    def admin_key(self) -> str:
        """The admin key; empty if none was given. A secret."""
        return self._service.admin_key

    @property
    def batch_size(self) -> int:
        """How many chunks `store_db` sends together unless it is told otherwise."""
        return DEFAULT_BATCH_SIZE

    def declare_private(self, context_id: str, fields: Iterable[str]) -> None:
        """From now on, refuses calls that would send a clear value of these fields of metadata of this context.

        `DataLoader` and `Retriever`, which replace such values by hashes, declare the private fields of their context.
        """
        self._private_fields.declare(context_id, fields)

    def _checked(self, payload: T) -> T:
        self._private_fields.check(payload)
        return payload

    def _body(self, payload: msgspec.Struct) -> bytes:
        return payloads.encode(self._checked(payload))

    # Storing chunks

    async def insert_chunks(
        self,
        kb_id: str,
        chunks: Sequence[Mapping[str, Any]],
        context_id: str,
        *,
        index: Sequence[Any] | None = None,
        on_conflict: wire.OnConflict | None = None,
    ) -> InsertedIds:
        """Stores encrypted chunks and returns their ids, in order. All or none are stored, whatever is retried.

        Args:
            kb_id: the knowledge base.
            chunks: `{"chunk_content": str, "index": …, "meta_data": {…}, "name": str}` each; the last two may be
                missing.
            context_id: the execution context under which they are encrypted; the service must have it.
            index: the encrypted vector of each, instead of an `index` in each chunk: ciphertexts as integers,
                little-endian bytes or their base64, its `nonce` with it.
            on_conflict: makes the names, which must be there and all different, unique in the knowledge base and
                context among chunks that are stored so, however many clients store at once. A chunk whose name is
                there is left out (`"skip"`), takes its place (`"replace"`), or fails the call (`"fail"`). Services that
                do not know this insert every chunk, and the outcomes say so.

        Sent as one request, however large: `store_db` splits. Raises `ContextNotFound`, `KnowledgeBaseNotFound`,
        `TooLarge`, `CiphertextRefused`, `NamesTaken`.
        """
        index = payloads.own_indexes(chunks) if index is None else index
        _expect_as_many(len(chunks), len(index))

        new = await asyncio.to_thread(payloads.new_chunks, chunks, index)
        payload = self._checked(wire.InsertChunks(kb_id, context_id, new, on_conflict))
        body = await asyncio.to_thread(payloads.body, payload, len(new))
        await self._expect_nonces(context_id, new)
        return await self._insert(body)

    async def store_db(
        self,
        db: Sequence[Mapping[str, Any]],
        index: Sequence[Any],
        kb_id: str,
        context_id: str,
        concurrent: bool = False,
        batch_size: Positive = DEFAULT_BATCH_SIZE,
        *,
        concurrency: Positive = 4,
        on_stored: Callable[[InsertedIds], object] | None = None,
        on_conflict: wire.OnConflict | None = None,
    ) -> InsertedIds:
        """Stores encrypted chunks in batches and returns their ids, in the order of the input.

        The arguments are those of `insert_chunks`; with `concurrent`, `concurrency` batches travel at once.
        `on_stored` is told of each batch, when it is stored, the ids and what was done. Each batch is stored wholly
        or not at all. When one fails, those under way are finished and no further one begins: `PartlyStored` says what
        is stored, with the fault as its cause; if nothing is, the fault itself is raised.
        """
        _expect_as_many(len(db), len(index))
        chunk_ids: list[int | None] = [None] * len(db)
        outcomes: list[wire.Outcome] = ["inserted"] * len(db)
        starts = iter(range(0, len(db), batch_size))
        failures: list[Exception] = []

        async def store_batches() -> None:
            for start in starts:
                try:
                    await store_batch(start)
                except Exception as error:  # told to the caller below, when the other batches are done
                    failures.append(error)
                if failures:
                    return

        async def store_batch(start: int) -> None:
            stop = start + batch_size
            new = await asyncio.to_thread(payloads.new_chunks, db[start:stop], index[start:stop])
            bodies = await asyncio.to_thread(self._bodies, new, kb_id, context_id, on_conflict)
            await self._expect_nonces(context_id, new)
            for body in bodies:
                stored = await self._insert(body)
                place = slice(start, start + body.chunks)
                chunk_ids[place], outcomes[place] = stored, stored.outcomes
                start += body.chunks
                if on_stored is not None:
                    on_stored(stored)

        await asyncio.gather(*(store_batches() for _ in range(concurrency if concurrent else 1)))
        if failures:
            if isinstance(failures[0], XTraceError) and any(chunk_id is not None for chunk_id in chunk_ids):
                raise PartlyStored(chunk_ids, failures[0]) from failures[0]
            raise failures[0]
        return InsertedIds([chunk_id for chunk_id in chunk_ids if chunk_id is not None], outcomes)

    def _bodies(
        self, new: list[wire.NewChunk], kb_id: str, context_id: str, on_conflict: wire.OnConflict | None
    ) -> list[payloads.Body]:
        def payload(part: list[wire.NewChunk]) -> wire.InsertChunks:
            return self._checked(wire.InsertChunks(kb_id, context_id, part, on_conflict))

        return payloads.bodies(new, payload)

    async def _expect_nonces(self, context_id: str, chunks: Sequence[wire.NewChunk | wire.ChunkUpdate]) -> None:
        """Raises `InvalidArgument` for a chunk without a nonce under a context whose chunks are read by them."""
        without = next((i for i, chunk in enumerate(chunks) if not chunk.nonce), None)
        if without is not None and await self._is_native(context_id):
            raise InvalidArgument(
                f"the chunk at position {without} has no nonce, and without it nothing under the context {context_id} "
                "can be read: pass the nonce that was fetched with the chunk, or use copy_knowledge_base"
            )

    async def _is_native(self, context_id: str) -> bool:
        """Whether the stored context is one of this software's; False if it is unknown or may not be read."""
        if context_id not in self._native:
            try:
                stored = await self.get_serialized_exec_context(context_id)
            except (ContextNotFound, PermissionDenied):
                return False
            self._native[context_id] = payloads.is_native(stored["config"])
        return self._native[context_id]

    async def _insert(self, body: payloads.Body) -> InsertedIds:
        answer = await self._service.write("POST", wire.InsertedChunks, body)
        ids = answer.chunk_ids
        inserted: list[wire.Outcome] = ["inserted"] * len(ids)
        outcomes = inserted if answer.results is msgspec.UNSET else answer.results
        if len(ids) != body.chunks or len(set(ids)) != body.chunks or min(ids, default=1) < 1:
            raise InvalidAnswer(
                f"the server gave {len(ids)} ids for {body.chunks} chunks, expected one above 0 for each"
            )
        if len(outcomes) != body.chunks:
            raise InvalidAnswer(
                f"the server gave {len(outcomes)} results for {body.chunks} chunks, expected one for each"
            )
        return InsertedIds(ids, outcomes)

    async def find_chunk_names(self, kb_id: str, context_id: str, names: Sequence[str]) -> dict[str, int]:
        """Which of the names are stored under the context, each with the smallest id of a chunk that has it."""
        found: dict[str, int] = {}
        for batch in payloads.in_batches(list(dict.fromkeys(names)), _NAMES_PER_CALL):
            body = payloads.encode(wire.FindNames(kb_id, context_id, list(batch)))
            # What is found is no more than what was asked for, each perhaps with every character escaped.
            largest = 6 * len(body) + MAX_COUNT_BYTES
            answer = await self._service.data("POST", "chunk/names", wire.FoundNames, body=body, max_bytes=largest)
            if not answer.chunk_ids.keys() <= set(batch) or min(answer.chunk_ids.values(), default=1) < 1:
                raise InvalidAnswer(
                    "the server answered for names that were not asked for, or with ids that do not exist"
                )
            found |= answer.chunk_ids
        return found

    # Reading and changing chunks by id

    async def get_chunk_by_id(
        self, chunk_ids: Iterable[int], kb_id: str, projection: Iterable[str] | None = None
    ) -> list[StoredChunk]:
        """The chunks in the order of the ids; unknown ids are left out, and one that comes twice is returned once.

        `projection` names the fields to return: `chunk_content`, `index`, `nonce`, `meta_data`, single tags, `facets`,
        `name`, `created_at`, `updated_at`; without it all come. `nonce` and the ciphertexts are bytes.
        """
        named = payloads.projection(projection)
        fields: Parameters = [("projection", name) for name in named or ()]
        chunks: list[StoredChunk] = []
        for batch in _id_batches(chunk_ids):
            answer = await self._chunks_by_id(batch, kb_id, fields)
            asked = iter(batch)
            if not all(chunk.chunk_id in asked for chunk in answer):  # `in` moves the iterator on, so order counts
                raise InvalidAnswer("the server returned chunks that were not asked for, or in another order")
            chunks += await _stored_chunks(answer, named)
        return chunks

    async def _chunks_by_id(self, ids: Sequence[int], kb_id: str, fields: Parameters) -> list[wire.Chunk]:
        """The chunks as the service gives them; in several answers where one would be too large."""
        try:
            return await self._service.data(
                "GET", "chunk", list[wire.Chunk], parameters=[*_selection(kb_id, ids), *fields]
            )
        except AnswerTooLarge:
            middle = len(ids) // 2
            if not middle:
                raise
            first = await self._chunks_by_id(ids[:middle], kb_id, fields)
            return first + await self._chunks_by_id(ids[middle:], kb_id, fields)

    async def update_chunks(
        self,
        index_updates: Sequence[Any],
        chunk_updates: Sequence[Mapping[str, Any]],
        context_id: str,
        kb_id: str,
    ) -> None:
        """Replaces chunks wholly: `chunk_updates` are chunks as for `insert_chunks`, each with its `chunk_id`.

        `index_updates` has the encrypted vector of each, as `insert_chunks` takes it.

        Up to 10,000 chunks and 32 MiB are one transaction: all or none. More go in several, in order; when a later one
        fails, `PartlyStored` says which chunks are updated, and doing it all again is safe. The chunks belong to
        `context_id` from then on. A chunk with `if_updated_at`, the `updated_at` that it was read with, is not written
        over what others wrote since. Raises `ChunksNotFound`, which names unknown ids, and `ChunksChanged`.
        """
        _expect_as_many(len(chunk_updates), len(index_updates))

        chunks = await asyncio.to_thread(payloads.chunk_updates, chunk_updates, index_updates)

        def convert() -> list[payloads.Body]:
            return payloads.bodies(chunks, lambda part: self._checked(wire.UpdateChunks(kb_id, context_id, part)))

        bodies = await asyncio.to_thread(convert)
        await self._expect_nonces(context_id, chunks)
        await self._change("PUT", chunk_updates, bodies)

    async def patch_chunks(self, kb_id: str, context_id: str, chunk_patches: Sequence[Mapping[str, Any]]) -> None:
        """Changes the named fields of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each.

        None removes a tag, the facets or the name; what is not named stays. One transaction, or several as with
        `update_chunks`, and `if_updated_at` as there. Raises `ChunksNotFound`, which names unknown ids, and
        `ChunksChanged`.
        """

        def convert() -> list[payloads.Body]:
            chunks = payloads.chunk_patches(chunk_patches)
            return payloads.bodies(chunks, lambda part: self._checked(wire.PatchChunks(kb_id, context_id, part)))

        await self._change("PATCH", chunk_patches, await asyncio.to_thread(convert))

    async def _change(self, method: str, changes: Sequence[Mapping[str, Any]], bodies: Sequence[payloads.Body]) -> None:
        """Sends the changes in their order. Raises `PartlyStored` where a later body than the first fails."""
        done = 0
        for body in bodies:
            try:
                await self._service.write(method, wire.Acknowledgement, body)
            except XTraceError as error:
                if not done:
                    raise
                ids = [int(change["chunk_id"]) if i < done else None for i, change in enumerate(changes)]
                raise PartlyStored(ids, error) from error
            done += body.chunks

    async def delete_chunks(self, chunk_ids: Iterable[int], kb_id: str) -> ChunkCount:
        """Deletes chunks and returns how many; unknown ids are ignored.

        After a lost answer the count may leave out those that the first attempt deleted.
        """
        deleted = 0
        for batch in _id_batches(chunk_ids):
            answer = await self._service.data(
                "DELETE", "chunk", wire.DeletedCount, parameters=_selection(kb_id, batch), max_bytes=MAX_COUNT_BYTES
            )
            deleted += answer.deleted_count
        return ChunkCount("deleted_count", deleted)

    # Search

    async def compute_hamming_distances(
        self,
        query: Any,
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,  # noqa: A002 - the name in the HTTP contract
    ) -> HammingAnswer:
        """The encrypted Hamming distances between an encrypted query and every candidate.

        Candidates are the chunks stored under the context that `meta_filter` matches and whose ids lie in
        `range`, `(lowest, highest)`, both included. `HammingAnswer.nonces` has the nonces of the chunks. Raises
        `InvalidFilter`, `ContextNotFound`, `CiphertextRefused`.
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
    ) -> AsyncGenerator[RowBlock, None]:
        """What `compute_hamming_distances` returns, as blocks of arrays that come while later ones are computed.

        Several queries (at most 32) are answered in one pass: each row then has the ciphertexts of the first, of the
        second, and so on. Rows ascend by chunk id. The generator raises `InvalidAnswer` when the stream is cut off or
        its parts do not fit together: what came before is then no answer.
        """
        bounds = payloads.id_range(range_filter)
        filter_ = None if meta_filter is None else payloads.meta_filter(meta_filter)
        encrypted = [payloads.ciphertexts(query) for query in queries]
        body: wire.ComputeHamming | wire.ComputeHammingBatch
        if len(encrypted) == 1:
            path = "compute_hamming"
            body = wire.ComputeHamming(
                kb_id=kb_id, context_id=context_id, query=encrypted[0], meta_filter=filter_, id_range=bounds
            )
        else:
            path = "compute_hamming_batch"
            body = wire.ComputeHammingBatch(
                kb_id=kb_id, context_id=context_id, queries=encrypted, meta_filter=filter_, id_range=bounds
            )
        last = -1
        blocks = self._service.search_blocks(path, self._body(body))
        async with aclosing(blocks):
            async for block in blocks:
                _check_ids(block.chunk_ids, last, bounds)
                last = int(block.chunk_ids[-1])
                yield block

    async def meta_search(
        self,
        kb_id: str,
        meta_filter: MetaFilter | None,
        context_id: str,
        return_content: bool = False,
        projection: Iterable[str] | None = None,
    ) -> list[StoredChunk]:
        """All chunks of the context that the filter matches, by ascending chunk id, in one answer.

        Without a projection they come with metadata, name and times, and with `return_content` also with
        `chunk_content` and `nonce`. `iter_meta_search` fetches many results page by page.
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
        found = await _stored_chunks(
            await self._service.data("POST", "chunk/meta", list[wire.Chunk], body=body), fields
        )
        _expect_order([chunk["chunk_id"] for chunk in found], "asc")
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
        """One page of what the filter matches.

        Sorted by `chunk_id`, `created_at`, `updated_at` or a tag, ties by chunk id. The next page begins at `offset` +
        `limit`, or has the `page_token` that came with this one, and is then stable under insertions. Without `limit`
        everything comes.
        """
        _expect_sorting(sort_by, sort_order)
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
        results = await _stored_chunks(page.results, fields)
        if sort_by == "chunk_id":
            _expect_order([chunk["chunk_id"] for chunk in results], sort_order)
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
        page_size: int = _RESULTS_PER_PAGE,
    ) -> AsyncGenerator[StoredChunk, None]:
        """What `meta_search` returns, chunk by chunk, fetched page by page while it is consumed."""
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
                raise InvalidAnswer("the server says that there are more results, but does not return a new page_token")
            seen.add(hash(token))  # not the token, which may be long

    async def delete_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, dry_run: bool = False
    ) -> ChunkCount:
        """Deletes the chunks of the context that the filter matches and returns how many; `{}` matches every chunk.

        With `dry_run` nothing is deleted and the number is that of those that would be.
        """
        body = self._body(wire.DeleteByMetaData(kb_id, context_id, payloads.chosen_filter(meta_filter), dry_run))
        if dry_run:
            would_delete = await self._count("DELETE", wire.WouldDeleteCount, body)
            return ChunkCount("would_delete_count", would_delete.would_delete_count)
        return ChunkCount("deleted_count", (await self._count("DELETE", wire.DeletedCount, body)).deleted_count)

    async def patch_chunks_by_meta(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter,
        patch: Mapping[str, Any],
        dry_run: bool = False,
    ) -> ChunkCount:
        """Changes tags and facets of the chunks of the context that the filter matches and returns how many.

        `{}` matches every chunk; None removes a field. With `dry_run` nothing is changed and the number is that of
        those that would be. Raises `InvalidMetaData` for a patch with other fields.
        """
        change = payloads.meta_data_patch(patch)
        body = self._body(wire.PatchByMetaData(kb_id, context_id, payloads.chosen_filter(meta_filter), change, dry_run))
        if dry_run:
            would_update = await self._count("PATCH", wire.WouldUpdateCount, body)
            return ChunkCount("would_update_count", would_update.would_update_count)
        return ChunkCount("updated_count", (await self._count("PATCH", wire.UpdatedCount, body)).updated_count)

    async def _count(self, method: str, answer: type[T], body: bytes) -> T:
        return await self._service.data(method, "chunk/by-meta", answer, body=body, max_bytes=MAX_COUNT_BYTES)


def _id_batches(chunk_ids: Iterable[int]) -> Iterator[Sequence[int]]:
    return payloads.in_batches(list(dict.fromkeys(payloads.chunk_ids(chunk_ids))), _IDS_PER_CALL)


def _selection(kb_id: str, chunk_ids: Sequence[int]) -> list[tuple[str, str | int]]:
    return [("kb_id", kb_id), *[("chunk_ids", chunk_id) for chunk_id in chunk_ids]]


def _hamming_answer(rows: list[wire.SearchRow], bounds: tuple[int, int] | None) -> HammingAnswer:
    if rows:
        _check_ids(np.array([row.chunk_id for row in rows]), -1, bounds)
    return HammingAnswer([(row.chunk_id, row.ciphertexts) for row in rows], [row.nonce for row in rows])


def _check_ids(chunk_ids: NDArray[np.int64], last: int, bounds: tuple[int, int] | None) -> None:
    """Raises `InvalidAnswer` for ids that do not ascend, also from the last one before, or are out of bounds."""
    if chunk_ids[0] <= last or (np.diff(chunk_ids) <= 0).any():
        raise InvalidAnswer("the server's rows are not by ascending chunk id, or an id comes twice")
    if bounds and not bounds[0] <= chunk_ids[0] <= chunk_ids[-1] <= bounds[1]:
        raise InvalidAnswer("the server answered for chunks outside the range that was asked for")


async def _stored_chunks(chunks: list[wire.Chunk], projection: list[str] | None) -> list[StoredChunk]:
    """The chunks, which are taken out of their list, as given back.

    Raises `InvalidAnswer` where one lacks what every chunk has and was asked for.
    """
    always = _ALWAYS_THERE.intersection(projection or ())

    def convert() -> list[StoredChunk]:
        converted: list[StoredChunk] = []
        # An answer may have as many chunks as it has room for, so each is let go of as soon as it is converted.
        chunks.reverse()
        while chunks:
            chunk: StoredChunk = msgspec.to_builtins(chunks.pop(), builtin_types=(bytes,))
            if missing := always - chunk.keys():
                raise InvalidAnswer(
                    f"the server gave chunk {chunk['chunk_id']} without its {', '.join(sorted(missing))}"
                )
            converted.append(chunk)
        return converted

    return convert() if len(chunks) <= _RESULTS_PER_PAGE else await asyncio.to_thread(convert)


def _check_page(page: wire.Page, limit: int | None, is_first: bool) -> None:
    """Raises `InvalidAnswer` for more results than were asked for, and for none where some are announced.

    Whoever goes on as long as there are results, or as long as something is left to do, gets on with every page.
    """
    if limit is not None and len(page.results) > limit:
        raise InvalidAnswer(f"the server gave {len(page.results)} results on a page of at most {limit}")
    if page.results or limit == 0:
        return
    if page.has_more or (is_first and page.total):
        raise InvalidAnswer("the server says that there are results, but gives none")


def _check_progress(last: Sequence[int], ids: Sequence[int], sort_by: str, sort_order: str) -> None:
    """Raises `InvalidAnswer` if a page with these ids does not go on where the one before it, with `last`, ended."""
    if sort_by == "chunk_id":
        _expect_order([*last[-1:], *ids], sort_order)
    elif ids and set(ids) <= set(last):
        raise InvalidAnswer("the server gives the results of a page again on the next one")


def _expect_order(ids: Sequence[int], sort_order: str) -> None:
    if sorted(set(ids), reverse=sort_order == "desc") != ids:
        raise InvalidAnswer("the server's results are not in the order of their chunk ids, or an id comes twice")


def _expect_as_many(chunks: int, indexes: int) -> None:
    if chunks != indexes:
        raise InvalidArgument(f"got {chunks} chunks and {indexes} encrypted vectors, expected one for each")


def _expect_sorting(sort_by: str, sort_order: str) -> None:
    if sort_by not in ("chunk_id", "created_at", "updated_at", *wire.TAGS):
        raise InvalidArgument(f"sort_by is {sort_by!r}, expected chunk_id, created_at, updated_at or tag1 to tag5")
    if sort_order not in ("asc", "desc"):
        raise InvalidArgument(f"sort_order is {sort_order!r}, expected asc or desc")
