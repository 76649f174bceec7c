"""Made by `scripts/sync-twins` from `xtrace_sdk.service.integration`: change that, and run the script."""

import os
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

import httpx2

from xtrace_core import wire
from xtrace_core.frames import RowBlock
from xtrace_sdk.arguments import MetaFilter, Positive, Seconds
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.limits import MAX_ANSWER_BYTES
from xtrace_sdk.service import integration as core
from xtrace_sdk.service.chunks import DEFAULT_BATCH_SIZE, RESULTS_PER_PAGE, InsertedIds, StoredChunk
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.searches import HammingAnswer, MetaDataPage
from xtrace_sdk.sync._background import Twin, close_when_dropped, iterate, run


class XTraceIntegration(Twin[core.XTraceIntegration]):
    """All communication with an XTrace service.

    Works as a context manager, which closes the connections at the end, and without one. Can be used
    from several threads. Every call may raise `NetworkError` (no usable answer, after all retries) and
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
            timeout_s: the maximum idle time of the service.
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
        """The organisation's id; empty if none was given."""
        return self._core.org_id

    @property
    def api_url(self) -> str:
        """The service's address, without a slash at the end."""
        return self._core.api_url

    @property
    def admin_api_url(self) -> str:
        """The control plane's address, without a slash at the end."""
        return self._core.admin_api_url

    @property
    def api_key(self) -> str:
        """The API key; empty if none was given. A secret."""
        return self._core.api_key

    @property
    def admin_key(self) -> str:
        """The admin key; empty if none was given. A secret."""
        return self._core.admin_key

    @property
    def batch_size(self) -> int:
        """How many chunks `store_db` sends together unless it is told otherwise."""
        return self._core.batch_size

    def declare_private(self, context_id: str, fields: Iterable[str]) -> None:
        """From now on, refuses calls that would send a clear value of these fields of metadata of this context.

        `DataLoader` and `Retriever`, which replace such values by hashes, declare the private fields of their context.
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

        The arguments are those of `insert_chunks`; with `concurrent`, `concurrency` batches travel at once.
        `on_stored` is told of each batch, when it is stored, the ids and what was done. Each batch is stored wholly
        or not at all. When one fails, those under way are finished and no further one begins: `PartlyStored` says what
        is stored, with the fault as its cause; if nothing is, the fault itself is raised.
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
        """Which of the names are stored under the context, each with the smallest id of a chunk that has it."""
        return run(self._core.find_chunk_names(kb_id, context_id, names))

    def get_chunk_by_id(
        self, chunk_ids: Iterable[int], kb_id: str, projection: Iterable[str] | None = None
    ) -> list[StoredChunk]:
        """The chunks in the order of the ids; unknown ids are left out, and one that comes twice is returned once.

        `projection` names the fields to return: `chunk_content`, `index`, `nonce`, `meta_data`, single tags, `facets`,
        `name`, `created_at`, `updated_at`; without it all come. `nonce` and the ciphertexts are bytes.
        """
        return run(self._core.get_chunk_by_id(chunk_ids, kb_id, projection))

    def update_chunks(
        self, index_updates: Sequence[Any], chunk_updates: Sequence[Mapping[str, Any]], context_id: str, kb_id: str
    ) -> None:
        """Replaces chunks wholly: `chunk_updates` are chunks as for `insert_chunks`, each with its `chunk_id`.

        `index_updates` has the encrypted vector of each, as `insert_chunks` takes it.

        Up to 10,000 chunks and 32 MiB are one transaction: all or none. More go in several, in order; when a later one
        fails, `PartlyStored` says which chunks are updated, and doing it all again is safe. The chunks belong to
        `context_id` from then on. A chunk with `if_updated_at`, the `updated_at` that it was read with, is not written
        over what others wrote since. Raises `ChunksNotFound`, which names unknown ids, and `ChunksChanged`.
        """
        return run(self._core.update_chunks(index_updates, chunk_updates, context_id, kb_id))

    def patch_chunks(self, kb_id: str, context_id: str, chunk_patches: Sequence[Mapping[str, Any]]) -> None:
        """Changes the named fields of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each.

        None removes a tag, the facets or the name; what is not named stays. One transaction, or several as with
        `update_chunks`, and `if_updated_at` as there. Raises `ChunksNotFound`, which names unknown ids, and
        `ChunksChanged`.
        """
        return run(self._core.patch_chunks(kb_id, context_id, chunk_patches))

    def delete_chunks(self, chunk_ids: Iterable[int], kb_id: str) -> ChunkCount:
        """Deletes chunks and returns how many; unknown ids are ignored.

        After a lost answer the count may leave out those that the first attempt deleted.
        """
        return run(self._core.delete_chunks(chunk_ids, kb_id))

    def delete_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, dry_run: bool = False
    ) -> ChunkCount:
        """Deletes the chunks of the context that the filter matches and returns how many; `{}` matches every chunk.

        With `dry_run` nothing is deleted and the number is that of those that would be.
        """
        return run(self._core.delete_chunks_by_meta(kb_id, context_id, meta_filter, dry_run))

    def patch_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, patch: Mapping[str, Any], dry_run: bool = False
    ) -> ChunkCount:
        """Changes tags and facets of the chunks of the context that the filter matches and returns how many.

        `{}` matches every chunk; None removes a field. With `dry_run` nothing is changed and the number is that of
        those that would be. Raises `InvalidMetaData` for a patch with other fields.
        """
        return run(self._core.patch_chunks_by_meta(kb_id, context_id, meta_filter, patch, dry_run))

    def store_exec_context(
        self, exec_context_dict: Mapping[str, Any], context_id: str, *, name: str | None = None
    ) -> str:
        """Saves a serialised context and returns its id; saving it again adds what was missing.

        `exec_context_dict` has the texts `type`, `pk`, `config` and perhaps `sk` (encrypted), `key_provider`,
        `wrapped_key`. The first context that is saved under a `name` keeps it: if another one has it, nothing is
        stored, and the id of that one is returned. Raises `ContextDiffers` if the id is taken by another public part.
        """
        return run(self._core.store_exec_context(exec_context_dict, context_id, name=name))

    def find_exec_context(self, name: str) -> str | None:
        """The id of the context that was saved under a name; None if there is none."""
        return run(self._core.find_exec_context(name))

    def get_serialized_exec_context(self, context_id: str) -> dict[str, str]:
        """A context as it was saved, of which `sk` is encrypted. Raises `ContextNotFound`."""
        return run(self._core.get_serialized_exec_context(context_id))

    def list_exec_contexts(self, *, restorable: bool = False) -> list[str]:
        """The ids of the contexts that the key may read; with `restorable` of those that can be loaded from there.

        Loading chunks registers a context's public part alone: such a context is listed, and its file is the only one
        that has its keys. A service that does not say which can be restored is taken to have none.
        """
        return run(self._core.list_exec_contexts(restorable=restorable))

    def describe_exec_contexts(self) -> list[wire.ListedContext]:
        """The contexts that the key may read, each with its type, its creation and whether it can be restored.

        Of a service that does not tell more than the ids, the type and the creation are None.
        """
        return run(self._core.describe_exec_contexts())

    def delete_exec_context(self, context_id: str) -> Literal[True]:
        """Deletes a context and returns True.

        Raises `ContextInUse` while chunks are stored under it, and `ContextNotFound`.
        """
        return run(self._core.delete_exec_context(context_id))

    def retire_exec_context(self, context_id: str) -> None:
        """Retires a context for good: from then on the service raises `ContextRetired` for every write under it.

        What is stored under it can still be read, moved to another context and deleted. Retiring again changes
        nothing. Needs permission 7 on every knowledge base that the context is bound to. Raises `ContextNotFound`.
        """
        return run(self._core.retire_exec_context(context_id))

    def get_successor(self, context_id: str) -> str | None:
        """The id of the context that a rotation moves a context's chunks to; None if no rotation has begun.

        Raises `ContextNotFound`.
        """
        return run(self._core.get_successor(context_id))

    def store_successor(self, context_id: str, successor: str, replaces: str | None = None) -> str:
        """Stores a context's successor if there is none, or if `replaces` is there, and returns the one stored then.

        However many rotations begin at once, one of them gets its own. Needs permission 3 on a knowledge base that the
        context is bound to. Raises `ContextNotFound`, and `InvalidAnswer` if nothing is stored.
        """
        return run(self._core.store_successor(context_id, successor, replaces))

    def get_ctx_for_kb(self, kb_id: str) -> list[str]:
        """The ids of the contexts that are bound to a knowledge base. Raises `NotFound` for an unknown one."""
        return run(self._core.get_ctx_for_kb(kb_id))

    def get_kbs_for_ctx(self, ctx_id: str) -> list[str]:
        """The ids of the knowledge bases that a context is bound to. Raises `ContextNotFound` for an unknown one."""
        return run(self._core.get_kbs_for_ctx(ctx_id))

    def register_kb_binding(self, kb_id: str, context_id: str) -> Literal[True]:
        """Binds a context to a knowledge base, as inserting under it does, and returns True.

        Raises `NotFound` if either is unknown.
        """
        return run(self._core.register_kb_binding(kb_id, context_id))

    def get_name_salt(self, kb_id: str, context_id: str) -> bytes | None:
        """The salt that clients of a context keep for the names of chunks in a knowledge base; None if there is none.

        Raises `NotFound` if either is unknown.
        """
        return run(self._core.get_name_salt(kb_id, context_id))

    def store_name_salt(self, kb_id: str, context_id: str, salt: bytes, replaces: bytes | None = None) -> bytes:
        """Stores a salt for the names of chunks if there is none, or if `replaces` is there, and returns what is then.

        Binds the context to the knowledge base. However many clients store a first one, each gets the same. Raises
        `NotFound` if either is unknown, and `InvalidAnswer` if nothing is stored.
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
        """The encrypted Hamming distances between an encrypted query and every candidate.

        Candidates are the chunks stored under the context that `meta_filter` matches and whose ids lie in
        `range`, `(lowest, highest)`, both included. `HammingAnswer.nonces` has the nonces of the chunks. Raises
        `InvalidFilter`, `ContextNotFound`, `CiphertextRefused`.
        """
        return run(self._core.compute_hamming_distances(query, context_id, kb_id, meta_filter, range))

    def stream_hamming_distances(
        self,
        kb_id: str,
        context_id: str,
        queries: Sequence[Any],
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
    ) -> Generator[RowBlock, None]:
        """What `compute_hamming_distances` returns, as blocks of arrays that come while later ones are computed.

        Several queries (at most 32) are answered in one pass: each row then has the ciphertexts of the first, of the
        second, and so on. Rows ascend by chunk id. The generator raises `InvalidAnswer` when the stream is cut off or
        its parts do not fit together: what came before is then no answer.
        """
        return iterate(self._core.stream_hamming_distances(kb_id, context_id, queries, meta_filter, range_filter))

    def meta_search(
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
        """One page of what the filter matches.

        Sorted by `chunk_id`, `created_at`, `updated_at` or a tag, ties by chunk id. The next page begins at `offset` +
        `limit`, or has the `page_token` that came with this one, and is then stable under insertions. Without `limit`
        everything comes.
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
        """What `meta_search` returns, chunk by chunk, fetched page by page while it is consumed."""
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

    def list_kbs(self) -> list[wire.KnowledgeBase]:
        """The organisation's knowledge bases, with their numbers of vectors."""
        return run(self._core.list_kbs())

    def get_kb(self, kb_id: str) -> wire.KnowledgeBase:
        """One knowledge base. Raises `NotFound`."""
        return run(self._core.get_kb(kb_id))

    def create_kb(self, name: str, description: str = "") -> wire.KnowledgeBase:
        """The knowledge base just created.

        Not tried again once the service may have received it: after a `NetworkError`, look at `list_kbs` first.
        """
        return run(self._core.create_kb(name, description))

    def delete_kb(self, kb_id: str) -> None:
        """Deletes a knowledge base with every chunk in it. Raises `NotFound`."""
        return run(self._core.delete_kb(kb_id))

    def list_api_keys(self) -> list[wire.ApiKey]:
        """The organisation's API keys that are not revoked, by hash and first five characters."""
        return run(self._core.list_api_keys())

    def create_api_key(
        self, name: str, description: str = "", *, expires_at: datetime | None = None
    ) -> wire.CreatedApiKey:
        """A new API key, which may do nothing yet; its `secret_key` will not be shown again.

        From `expires_at` on, a time in the future with its time zone, calls with it raise `KeyExpired`; by default it
        does not expire.

        Not tried again once the service may have received it: after a `NetworkError`, look at `list_api_keys` first.
        """
        return run(self._core.create_api_key(name, description, expires_at=expires_at))

    def revoke_api_key(self, key_hash: str) -> None:
        """Revokes an API key; it opens nothing from now on. Raises `NotFound`."""
        return run(self._core.revoke_api_key(key_hash))

    def get_key_permissions(self, key_hash: str) -> list[wire.KnowledgeBasePermission]:
        """What an API key may do, for every knowledge base where it may do anything. Raises `NotFound`."""
        return run(self._core.get_key_permissions(key_hash))

    def get_organisation(self) -> wire.Organisation:
        """The organisation, with its `usage` (chunks, bytes, contexts, requests) and `quotas`; None is unlimited."""
        return run(self._core.get_organisation())

    def audit_log(self, limit: int = 100, before: int | None = None) -> list[wire.AuditEntry]:
        """The newest entries of the audit log, the newest first: changes of the control plane, and denied accesses.

        At most 1,000 come at once; `before`, the id of the last entry, gives those that came before it.
        """
        return run(self._core.audit_log(limit, before))

    def set_key_permission(self, key_hash: str, kb_id: str, permission: int) -> None:
        """Sets what an API key may do in a knowledge base: 0 nothing, 1 read, 3 and write, 7 and delete.

        Raises `NotFound`, and `InvalidArgument` for another number.
        """
        return run(self._core.set_key_permission(key_hash, kb_id, permission))
