"""Made by `scripts/sync-twins` from `xtrace_sdk.service.integration`: change that, and run the script."""

import os
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from types import EllipsisType
from typing import Annotated, Any, Literal, Self

import httpx2

from xtrace_core import wire
from xtrace_core.block_frames import FetchedBlock
from xtrace_core.frames import RowBlock
from xtrace_sdk.arguments import AtLeast, AtMost, Count, MetaFilter, Positive, Seconds
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.limits import MAX_ANSWER_BYTES
from xtrace_sdk.service import integration as core
from xtrace_sdk.service.blocks import BlockSearch
from xtrace_sdk.service.changes import ChunkChanges
from xtrace_sdk.service.chunks import DEFAULT_BATCH_SIZE, RESULTS_PER_PAGE, InsertedIds, StoredChunk
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.searches import HammingAnswer, MetaDataPage
from xtrace_sdk.sync._background import Twin, close_when_dropped, iterate, run


class XTraceIntegration(Twin[core.XTraceIntegration]):
    """All communication with an XTrace service.

    Can be used as a context manager, which closes the connections at the end,
    and from several threads. Every call may raise `NetworkError` (no usable answer after all retries) and
    `ServerError` (an error answer; one class for each reason). A call with invalid arguments raises `InputError` and
    sends nothing.
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
            api_url: the service's address, or `XTRACE_API_URL`; by default the hosted service.
            admin_api_url: the control plane's address, or `XTRACE_ADMIN_API_URL`; by default `api_url` + `/api`.
            timeout_s: the maximum time without data from the service.
            deadline_s: the maximum time of one attempt, including reading the answer of a search.
            retries: how often and how long to try again.
            max_connections: how many calls are in progress at the same time; others wait.
            max_answer_bytes: larger answers raise `AnswerTooLarge`. Chunks fetched by id, or page by page, are then
                requested in smaller batches. `stream_hamming_distances` reads answers of any size as they arrive.
                Decoding an answer takes up to 20 times its size in memory.
            verify: False accepts any certificate, which lets anyone on the network path read the API keys; or an
                `ssl.SSLContext`.
            ca_file: certificates (PEM) of the only authorities to trust, for a private certificate authority. By
                default `SSL_CERT_FILE` or `SSL_CERT_DIR`, else the system's.
            transport: replaces the network, for tests.

        Raises `InvalidArgument` for invalid URLs, and for keys that are not allowed in a header.
        """
        self._core = core.XTraceIntegration(
            org_id,
            api_key,
            admin_key,
            api_url,
            admin_api_url,
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            retries=retries,
            max_connections=max_connections,
            max_answer_bytes=max_answer_bytes,
            verify=verify,
            ca_file=ca_file,
            transport=transport,
        )
        close_when_dropped(self, self._core.aclose)

    def __repr__(self) -> str:
        return repr(self._core)

    def __enter__(self) -> Self:
        run(self._core.__aenter__())
        return self

    def __exit__(self, *exception: object) -> None:
        return run(self._core.__aexit__(*exception))

    def close(self) -> None:
        """Closes the connections. A later call opens new ones."""
        return run(self._core.aclose())

    def init_session(self) -> Awaitable[None]:
        """Does nothing: connections are opened by the calls that need them."""
        return self._core.init_session()

    @property
    def org_id(self) -> str:
        """The organisation's id; empty if not set."""
        return self._core.org_id

    @property
    def api_url(self) -> str:
        """The service's address, without a trailing slash."""
        return self._core.api_url

    @property
    def admin_api_url(self) -> str:
        """The control plane's address, without a trailing slash."""
        return self._core.admin_api_url

    @property
    def api_key(self) -> str:
        """The API key, a secret; empty if not set."""
        return self._core.api_key

    @property
    def admin_key(self) -> str:
        """The admin key, a secret; empty if not set."""
        return self._core.admin_key

    @property
    def batch_size(self) -> int:
        """The default number of chunks in one batch of `store_db`."""
        return self._core.batch_size

    def declare_private(self, context_id: str, fields: Iterable[str]) -> None:
        """From now on, rejects calls that would send plaintext values of these metadata fields of this context.

        `DataLoader` and `Retriever`, which replace such values with hashes, declare the private fields of their
        context.
        """
        return self._core.declare_private(context_id, fields)

    def insert_chunks(
        self,
        kb_id: str,
        chunks: Sequence[Mapping[str, Any]],
        context_id: str,
        *,
        index: Sequence[Any] | None = None,
        on_conflict: wire.OnConflict | None = None,
    ) -> InsertedIds:
        """Stores encrypted chunks and returns their ids, in order. All or none are stored, even with retries.

        Args:
            kb_id: the knowledge base.
            chunks: `{"chunk_content": str, "index": …, "meta_data": {…}, "name": str}` each; the last two are optional.
            context_id: the execution context under which they are encrypted; the service must have it.
            index: the encrypted vector of each chunk, instead of an `index` in each chunk: ciphertexts as integers,
                little-endian bytes or their base64, with an attribute `nonce`.
            on_conflict: makes names unique in the knowledge base and context, among chunks stored in this way, for any
                number of concurrent clients. Names are then required and must all differ. If a name exists, the chunk
                is skipped (`"skip"`), replaces the stored one (`"replace"`), or the call fails (`"fail"`). Services
                that do not support this insert every chunk, and the outcomes say so.

        Sends one request, however large; `store_db` splits. Raises `ContextNotFound`, `KnowledgeBaseNotFound`,
        `TooLarge`, `CiphertextRefused`, `NamesTaken`.
        """
        return run(self._core.insert_chunks(kb_id, chunks, context_id, index=index, on_conflict=on_conflict))

    def store_db(
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

        The arguments are those of `insert_chunks`. With `concurrent`, up to `concurrency` batches are sent at the same
        time. `on_stored` is called with the ids and outcomes of each stored batch. Each batch is stored completely or
        not at all. If one fails, batches in progress are finished and no new one begins. Then `PartlyStored` is
        raised, which says what is stored and has the error as its cause; if nothing was stored, the error itself is
        raised.
        """
        return run(
            self._core.store_db(
                db,
                index,
                kb_id,
                context_id,
                concurrent,
                batch_size,
                concurrency=concurrency,
                on_stored=on_stored,
                on_conflict=on_conflict,
            )
        )

    def find_chunk_names(self, kb_id: str, context_id: str, names: Sequence[str]) -> dict[str, int]:
        """Returns the names that are stored under the context, each with the smallest id of a chunk with that name."""
        return run(self._core.find_chunk_names(kb_id, context_id, names))

    def get_chunk_by_id(
        self, chunk_ids: Iterable[int], kb_id: str, projection: Iterable[str] | None = None
    ) -> list[StoredChunk]:
        """Returns the chunks in the order of the ids, without unknown ids and duplicates.

        `projection` names the fields to return: `chunk_content`, `index`, `nonce`, `meta_data`, single tags, `facets`,
        `name`, `created_at`, `updated_at`; by default all. `nonce` and the ciphertexts are bytes.
        """
        return run(self._core.get_chunk_by_id(chunk_ids, kb_id, projection))

    def update_chunks(
        self, index_updates: Sequence[Any], chunk_updates: Sequence[Mapping[str, Any]], context_id: str, kb_id: str
    ) -> None:
        """Replaces whole chunks: `chunk_updates` are chunks as for `insert_chunks`, each with its `chunk_id`.

        `index_updates` has the encrypted vector of each, as for `insert_chunks`.

        Up to 10,000 chunks and 32 MiB are one transaction: all or none. More go in several transactions, in order. If
        a later one fails, `PartlyStored` says which chunks are updated, and it is safe to repeat the call. Afterwards
        the chunks belong to `context_id`. A chunk with `if_updated_at`, the `updated_at` with which it was read, does
        not overwrite a later change. Raises `ChunksNotFound`, which names unknown ids, and `ChunksChanged`.
        """
        return run(self._core.update_chunks(index_updates, chunk_updates, context_id, kb_id))

    def patch_chunks(self, kb_id: str, context_id: str, chunk_patches: Sequence[Mapping[str, Any]]) -> None:
        """Changes the named fields of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each.

        None removes a tag, the facets or the name; other fields stay. Transactions and `if_updated_at` are as for
        `update_chunks`. Raises `ChunksNotFound`, which names unknown ids, and `ChunksChanged`.
        """
        return run(self._core.patch_chunks(kb_id, context_id, chunk_patches))

    def delete_chunks(self, chunk_ids: Iterable[int], kb_id: str) -> ChunkCount:
        """Deletes chunks and returns their number; unknown ids are ignored.

        After a lost answer, the count may exclude chunks that the first attempt deleted.
        """
        return run(self._core.delete_chunks(chunk_ids, kb_id))

    def delete_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, dry_run: bool = False
    ) -> ChunkCount:
        """Deletes the chunks of the context that match the filter, and returns their number; `{}` matches every chunk.

        With `dry_run` nothing is deleted, and the number is how many would be.
        """
        return run(self._core.delete_chunks_by_meta(kb_id, context_id, meta_filter, dry_run))

    def patch_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, patch: Mapping[str, Any], dry_run: bool = False
    ) -> ChunkCount:
        """Changes tags and facets of the chunks of the context that match the filter, and returns their number.

        `{}` matches every chunk; None removes a field. With `dry_run` nothing is changed, and the number is how many
        would be. Raises `InvalidMetaData` for a patch with other fields.
        """
        return run(self._core.patch_chunks_by_meta(kb_id, context_id, meta_filter, patch, dry_run))

    def store_exec_context(
        self, exec_context_dict: Mapping[str, Any], context_id: str, *, name: str | None = None
    ) -> str:
        """Saves a serialised context and returns its id. Saving it again adds missing parts.

        `exec_context_dict` has the strings `type`, `pk`, `config` and optionally `sk` (encrypted), `key_provider`,
        `wrapped_key`. The first context saved under a `name` keeps it: if another one has the name, nothing is stored,
        and that one's id is returned. Raises `ContextDiffers` if a different public part is stored under the id.
        """
        return run(self._core.store_exec_context(exec_context_dict, context_id, name=name))

    def find_exec_context(self, name: str) -> str | None:
        """Returns the id of the context saved under a name; None if there is none."""
        return run(self._core.find_exec_context(name))

    def get_serialized_exec_context(self, context_id: str) -> dict[str, str]:
        """Returns a context as it was saved; its `sk` is encrypted. Raises `ContextNotFound`."""
        return run(self._core.get_serialized_exec_context(context_id))

    def list_exec_contexts(self, *, restorable: bool = False) -> list[str]:
        """Returns the ids of the contexts that the key may read; with `restorable` only of those that can be loaded.

        Loading chunks registers only a context's public part: such a context is listed, but its keys are only in its
        file. If the service does not say which contexts can be restored, none are returned.
        """
        return run(self._core.list_exec_contexts(restorable=restorable))

    def describe_exec_contexts(self) -> list[wire.ListedContext]:
        """Returns the contexts that the key may read: type, creation time, and whether they can be restored.

        If the service returns only ids, type and creation time are None.
        """
        return run(self._core.describe_exec_contexts())

    def delete_exec_context(self, context_id: str) -> Literal[True]:
        """Deletes a context and returns True.

        Raises `ContextInUse` while chunks are stored under it, and `ContextNotFound`.
        """
        return run(self._core.delete_exec_context(context_id))

    def retire_exec_context(self, context_id: str) -> None:
        """Retires a context permanently: from then on every write under it raises `ContextRetired`.

        Chunks stored under it can still be read, moved to another context and deleted. Retiring again changes nothing.
        Needs permission 7 on every knowledge base that the context is bound to. Raises `ContextNotFound`.
        """
        return run(self._core.retire_exec_context(context_id))

    def get_successor(self, context_id: str) -> str | None:
        """Returns the id of the context to which a rotation moves a context's chunks; None if no rotation has begun.

        Raises `ContextNotFound`.
        """
        return run(self._core.get_successor(context_id))

    def store_successor(self, context_id: str, successor: str, replaces: str | None = None) -> str:
        """Stores a context's successor if it has none, or if the stored one is `replaces`. Returns the one then stored.

        If several rotations begin at the same time, exactly one succeeds. Needs permission 3 on a knowledge base that
        the context is bound to. Raises `ContextNotFound`, and `InvalidAnswer` if nothing was stored.
        """
        return run(self._core.store_successor(context_id, successor, replaces))

    def get_ctx_for_kb(self, kb_id: str) -> list[str]:
        """Returns the ids of the contexts bound to a knowledge base. Raises `NotFound` if it is unknown."""
        return run(self._core.get_ctx_for_kb(kb_id))

    def get_kbs_for_ctx(self, ctx_id: str) -> list[str]:
        """Returns the ids of the knowledge bases that a context is bound to. Raises `ContextNotFound` if it is
        unknown."""
        return run(self._core.get_kbs_for_ctx(ctx_id))

    def register_kb_binding(self, kb_id: str, context_id: str) -> Literal[True]:
        """Binds a context to a knowledge base, as inserting under it does, and returns True.

        Raises `NotFound` if either is unknown.
        """
        return run(self._core.register_kb_binding(kb_id, context_id))

    def get_name_salt(self, kb_id: str, context_id: str) -> bytes | None:
        """Returns the salt for the names of a context's chunks in a knowledge base; None if there is none.

        Raises `NotFound` if either is unknown.
        """
        return run(self._core.get_name_salt(kb_id, context_id))

    def store_name_salt(self, kb_id: str, context_id: str, salt: bytes, replaces: bytes | None = None) -> bytes:
        """Stores a salt for names if there is none, or if the stored one is `replaces`. Returns the one then stored.

        Binds the context to the knowledge base. If several clients store a first salt, all get the same one. Raises
        `NotFound` if either is unknown, and `InvalidAnswer` if nothing was stored.
        """
        return run(self._core.store_name_salt(kb_id, context_id, salt, replaces))

    def compute_hamming_distances(
        self,
        query: Any,
        context_id: str,
        kb_id: str,
        meta_filter: MetaFilter | None = None,
        range: Sequence[int] | None = None,
    ) -> HammingAnswer:
        """Returns the encrypted Hamming distances between an encrypted query and every candidate.

        Candidates are the chunks under the context that match `meta_filter` and whose ids are in `range`, `(lowest,
        highest)`, both included. `HammingAnswer.nonces` contains the nonces of the chunks. Raises `InvalidFilter`,
        `ContextNotFound`, `CiphertextRefused`.
        """
        return run(self._core.compute_hamming_distances(query, context_id, kb_id, meta_filter, range))

    def stream_hamming_distances(
        self,
        kb_id: str,
        context_id: str,
        queries: Sequence[Any],
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
        *,
        unsealed: bool = False,
    ) -> Generator[RowBlock, None]:
        """Yields the result of `compute_hamming_distances` as blocks of arrays, while later ones are still being
        computed.

        Several queries (at most 32) are answered in one pass: each row then has the ciphertexts of the first query,
        then those of the second, and so on. Rows are sorted by chunk id. Where the connection breaks, the rest is
        requested as another search, which sees what was changed in between. The generator raises `InvalidAnswer` if an
        answer is cut off or inconsistent: discard the blocks received before. With `unsealed`, for one query, only
        chunks in no block of vectors are candidates (docs/schemes.md).
        """
        return iterate(
            self._core.stream_hamming_distances(
                kb_id, context_id, queries, meta_filter, range_filter, unsealed=unsealed
            )
        )

    def meta_search(
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
        return run(self._core.meta_search(kb_id, meta_filter, context_id, return_content, projection))

    def meta_search_paginated(
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
        return run(
            self._core.meta_search_paginated(
                kb_id,
                context_id,
                meta_filter,
                projection,
                limit,
                offset,
                sort_order,
                sort_by,
                return_content,
                page_token,
            )
        )

    def iter_meta_search(
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
    ) -> Generator[StoredChunk, None]:
        """Yields the result of `meta_search` chunk by chunk, fetching pages as they are consumed."""
        return iterate(
            self._core.iter_meta_search(
                kb_id,
                meta_filter,
                context_id,
                return_content,
                projection,
                sort_order=sort_order,
                sort_by=sort_by,
                page_size=page_size,
            )
        )

    def plan_blocks(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
        *,
        listed: bool = False,
    ) -> wire.BlockPlan:
        """Returns how many candidates a search has, how many are in no block, and how many blocks have the others.

        With `listed` also all blocks of the context in the knowledge base. Raises `ContextNotFound`, and `NotFound` if
        the service does not support blocks.
        """
        return run(self._core.plan_blocks(kb_id, context_id, meta_filter, range_filter, listed=listed))

    def search_blocks(
        self,
        kb_id: str,
        context_id: str,
        encrypt: Callable[[], Sequence[bytes]],
        slabs: Positive,
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
    ) -> BlockSearch:
        """Returns the values of all candidates in blocks for 1 to 8 queries, and the records of the others.

        `encrypt` returns the encrypted queries. It is called in a thread for each attempt, so that no query is answered
        twice: read the answer with the queries of the last call. `slabs` is the number of values of each vector. Raises
        `AnswerTooLarge`, `CiphertextRefused`, `ContextNotFound`.
        """
        return run(self._core.search_blocks(kb_id, context_id, encrypt, slabs, meta_filter, range_filter))

    def get_blocks(
        self, kb_id: str, context_id: str, block_ids: Iterable[int], hint_bytes: Positive
    ) -> list[FetchedBlock]:
        """Returns what a client needs of these blocks to read their values, in this order, without removed ones.

        `hint_bytes` is the length of a block's hints. The parts are not authenticated yet.
        """
        return run(self._core.get_blocks(kb_id, context_id, block_ids, hint_bytes))

    def seal_block(
        self,
        kb_id: str,
        context_id: str,
        chunk_ids: Sequence[int],
        nonces: Sequence[bytes],
        header: bytes,
        hints: bytes,
        body: bytes,
        replaces: Sequence[int] = (),
    ) -> wire.SealedBlock:
        """Stores a block made of the vectors of these chunks with these nonces, by ascending id.

        A chunk that was changed since, or is in a block that is not in `replaces`, is not taken. Raises `Conflict` if
        fewer than three quarters are taken, or a block to replace is gone; then nothing is stored.
        """
        return run(self._core.seal_block(kb_id, context_id, chunk_ids, nonces, header, hints, body, replaces))

    def unseal_blocks(self, kb_id: str, context_id: str, block_ids: Iterable[int]) -> int:
        """Removes blocks, and returns how many chunks are in no block because of that. No chunk is changed."""
        return run(self._core.unseal_blocks(kb_id, context_id, block_ids))

    def local_changes(
        self,
        kb_id: str,
        context_id: str,
        since: Count,
        after: Count = 0,
        limit: Annotated[int, AtLeast(1), AtMost(wire.MAX_CHANGES)] = wire.MAX_CHANGES,
    ) -> ChunkChanges:
        """Returns which chunks under the context were written after the revision `since`, or are gone since then.

        Args:
            kb_id: the knowledge base.
            context_id: the execution context of the chunks; under one that is not stored there are none.
            since: the revision that your copy of the chunks has; 0 for an empty copy.
            after: returns only ids above this one. To continue where `has_more` is true, pass the last id.
            limit: the maximum number of ids.

        Once every page is applied, the copy has the `revision` of the *first* page: chunks may have been written
        between two pages. A `revision` below `since` means that the server restored an older state: discard the copy.
        """
        return run(self._core.local_changes(kb_id, context_id, since, after, limit))

    def shared_index(self, kb_id: str, context_id: str, kind: str) -> wire.SharedIndex:
        """Returns the shared index of this kind: its version, its manifest, and the hashes and sizes of its segments.

        Without a shared index, the version is 0 and the rest is empty. Raises `ContextNotFound`, and `NotFound` if the
        service does not support shared indexes.
        """
        return run(self._core.shared_index(kb_id, context_id, kind))

    def get_index_segment(self, kb_id: str, context_id: str, kind: str, sha256: str) -> bytes:
        """Returns the segment with this SHA-256, 64 hexadecimal digits.

        Raises `SegmentNotFound` if the shared index was replaced since it listed the segment.
        """
        return run(self._core.get_index_segment(kb_id, context_id, kind, sha256))

    def add_index_segment(self, kb_id: str, context_id: str, kind: str, segment: bytes) -> str:
        """Stores a segment for the next shared index, and returns its SHA-256. The same one again changes nothing.

        The service deletes it after six hours if no shared index lists it. Raises `ContextRetired`, `QuotaExceeded`.
        """
        return run(self._core.add_index_segment(kb_id, context_id, kind, segment))

    def put_shared_index(
        self, kb_id: str, context_id: str, kind: str, replaces: Count, manifest: bytes, segments: Sequence[str]
    ) -> int:
        """Stores a shared index of stored segments, given by their SHA-256, and returns its version.

        `replaces` is the version that it replaces, 0 for none. Segments of the replaced one that are not listed are
        deleted. Raises `SharedIndexOutdated` if another version is stored or a segment is missing; then nothing
        changed. Raises `ContextRetired`, `QuotaExceeded`.
        """
        return run(self._core.put_shared_index(kb_id, context_id, kind, replaces, manifest, segments))

    def delete_shared_index(self, kb_id: str, context_id: str, kind: str) -> None:
        """Deletes the shared index, if any, and every segment of its kind."""
        return run(self._core.delete_shared_index(kb_id, context_id, kind))

    def list_kbs(self) -> list[wire.KnowledgeBase]:
        """Returns the organisation's knowledge bases, with their numbers of vectors."""
        return run(self._core.list_kbs())

    def get_kb(self, kb_id: str) -> wire.KnowledgeBase:
        """Returns one knowledge base. Raises `NotFound`."""
        return run(self._core.get_kb(kb_id))

    def create_kb(self, name: str, description: str = "") -> wire.KnowledgeBase:
        """Creates a knowledge base, and returns it.

        Not retried if the service may have received the request: after a `NetworkError`, check `list_kbs` first.
        """
        return run(self._core.create_kb(name, description))

    def delete_kb(self, kb_id: str) -> None:
        """Deletes a knowledge base with all its chunks. Raises `NotFound`."""
        return run(self._core.delete_kb(kb_id))

    def list_api_keys(self) -> list[wire.ApiKey]:
        """Returns the organisation's API keys that are not revoked, by hash and first five characters."""
        return run(self._core.list_api_keys())

    def create_api_key(
        self, name: str, description: str = "", *, expires_at: datetime | None = None
    ) -> wire.CreatedApiKey:
        """Creates an API key without permissions, and returns it; its `secret_key` will not be shown again.

        From `expires_at` on, a time in the future with a time zone, calls with the key raise `KeyExpired`. By default
        it does not expire.

        Not retried if the service may have received the request: after a `NetworkError`, check `list_api_keys` first.
        """
        return run(self._core.create_api_key(name, description, expires_at=expires_at))

    def update_api_key(
        self,
        key_hash: str,
        *,
        name: str | EllipsisType = ...,
        description: str | EllipsisType = ...,
        expires_at: datetime | EllipsisType | None = ...,
    ) -> wire.ApiKey:
        """Changes only the given parts of an API key, and returns the key.

        Calls with the key raise `KeyExpired` from the new `expires_at` on, and work again if it had expired before.
        None means that it does not expire. Raises `NotFound`, and `InvalidRequest` for a time that has passed.
        """
        return run(self._core.update_api_key(key_hash, name=name, description=description, expires_at=expires_at))

    def revoke_api_key(self, key_hash: str) -> None:
        """Revokes an API key, which stops working at once. Raises `NotFound`."""
        return run(self._core.revoke_api_key(key_hash))

    def get_key_permissions(self, key_hash: str) -> list[wire.KnowledgeBasePermission]:
        """Returns an API key's permissions, for every knowledge base where it has any. Raises `NotFound`."""
        return run(self._core.get_key_permissions(key_hash))

    def get_organisation(self) -> wire.Organisation:
        """Returns the organisation with its `usage` (chunks, bytes, contexts, requests) and `quotas`; None means
        unlimited."""
        return run(self._core.get_organisation())

    def audit_log(self, limit: int = 100, before: int | None = None) -> list[wire.AuditEntry]:
        """Returns the latest entries of the audit log, newest first: changes in the control plane, and denied accesses.

        Returns at most 1,000 entries; pass the id of the last one as `before` to get older ones.
        """
        return run(self._core.audit_log(limit, before))

    def set_key_permission(self, key_hash: str, kb_id: str, permission: int) -> None:
        """Sets an API key's permission in a knowledge base: 0 none, 1 read, 3 read and write, 7 also delete.

        Raises `NotFound`, and `InvalidArgument` for any other number.
        """
        return run(self._core.set_key_permission(key_hash, kb_id, permission))
