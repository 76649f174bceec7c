"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.retrievers.retriever`: change that, and run the script."""

import os
from collections.abc import Generator, Mapping, Sequence
from typing import Annotated, Any, Literal, overload

from xtrace_sdk.arguments import Count, MetaFilter, OwnCheck, Positive
from xtrace_sdk.sync._background import Twin, core_of, in_threads, iterate, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.sync._vectors import Embedder
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.local_index import LOCAL_BYTES, LocalKind
from xtrace_sdk.x_vec.local.shared_index import SharedLocalIndex
from xtrace_sdk.x_vec.retrievers import retriever as core
from xtrace_sdk.x_vec.retrievers.results import SearchMode, SearchResults
from xtrace_sdk.x_vec.retrievers.retriever import META_FIELDS, SearchResult
from xtrace_sdk.x_vec.retrievers.scope import Range


class Retriever(Twin[core.Retriever]):
    """Searches a knowledge base with encrypted queries, and decrypts the results.

    The service learns which context is searched and when, how many candidates there are, the metadata filter, and
    which chunks are fetched afterwards. It never learns the query, the vectors, the distances or their order. `decoys`
    hide the wanted chunks among others, which stay the same for the lifetime of the retriever: keep it.
    """

    def __init__(
        self,
        execution_context: ExecutionContext,
        integration: XTraceIntegration,
        embedding: Embedder | bool | None = None,
        *,
        parallel: bool = False,
        local_index: LocalKind | None = None,
        local_folder: str | os.PathLike[str] | None = None,
        local_bytes: Positive = LOCAL_BYTES,
        local_sharing: bool = True,
    ) -> None:
        """Args:
            execution_context: the keys.
            integration: the connection to a server.
            embedding: the model of the chunks, by default the context's. Only `search` with a text needs it.
            parallel: ignored, as is a boolean in place of the model: decryption always uses all cores.
            local_index: keeps a sealed index of each knowledge base that `search` is asked about in a folder of this
                machine, and searches there instead of on the service (docs/local-index.md). The values and
                `local_folder`, `local_bytes`, `local_sharing` are those of `Collection`.

        Raises `InvalidArgument`, and `OtherModel` if the context has a different model.
        """
        self._core = core.Retriever(
            execution_context,
            core_of(integration),
            in_threads(embedding, Embedder),
            parallel=parallel,
            local_index=local_index,
            local_folder=local_folder,
            local_bytes=local_bytes,
            local_sharing=local_sharing,
        )
        self._held = [integration, embedding]  # a twin that is dropped closes its connections

    @overload
    def nn_search_for_ids(
        self,
        query_vector: Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        include_scores: Literal[False] = False,
    ) -> list[int]: ...

    @overload
    def nn_search_for_ids(
        self,
        query_vector: Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        *,
        include_scores: Literal[True],
    ) -> tuple[list[int], list[int]]: ...

    @overload
    def nn_search_for_ids(
        self,
        query_vector: Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        include_scores: bool = False,
    ) -> list[int] | tuple[list[int], list[int]]: ...

    def nn_search_for_ids(
        self,
        query_vector: Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        include_scores: bool = False,
    ) -> list[int] | tuple[list[int], list[int]]:
        """Returns the ids of the `k` chunks nearest to the query, sorted by distance, then by id.

        Args:
            query_vector: bits, floats (only their signs count), or an awaitable of either, of the context's length.
            k: the number of results; fewer are returned if the knowledge base has fewer.
            kb_id: the knowledge base.
            meta_filter: a metadata filter, which the service sees; values of private fields are sent as hashes.
            range_filter: `(lowest, highest)` chunk id, both included.
            include_scores: returns `(ids, scores)`, where scores are the Hamming distances of these ids, in the same
                order.

        Of many chunks under a context of the scheme `lattice`, the service may compute the distances
        (docs/schemes.md). They are then the service's word until `retrieve_and_decrypt` confirms them with the chunks'
        own vectors.

        Raises `InvalidRows`, with the chunks' ids, if a row is not the sum of a stored vector and this query; nothing
        is fetched then. The search is not retried automatically, because any reaction to a bad row would give the
        server information about it. If nothing is stored under this context in the knowledge base, raises
        `NothingToSearch` if other contexts are in use there, else warns (`NothingStored`).
        """
        return run(self._core.nn_search_for_ids(query_vector, k, kb_id, meta_filter, range_filter, include_scores))

    def nn_search_batch(
        self,
        query_vectors: Sequence[Any],
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
    ) -> list[tuple[list[int], list[int]]]:
        """Returns `(ids, scores)` for each query as `nn_search_for_ids` does, in the order of the queries.

        The service reads the ciphertexts once for up to 32 queries. Raises what `nn_search_for_ids` raises.
        """
        return run(self._core.nn_search_batch(query_vectors, k, kb_id, meta_filter, range_filter))

    def search(
        self,
        query: str | Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        *,
        decoys: Count = 0,
        rescore: Positive | None = None,
        mode: SearchMode = "auto",
        max_staleness: Annotated[float, OwnCheck] = 0,
        hybrid: bool | Literal["auto"] = "auto",
    ) -> SearchResults[SearchResult]:
        """Returns the `k` chunks nearest to a text or a vector, nearest first and decrypted: search and retrieval in
        one.

        A text needs this retriever's `embedding`. Chunks that were deleted meanwhile are omitted. Raises what
        `nn_search_for_ids` and `retrieve_and_decrypt` raise.

        With `rescore=4` the 4·k nearest chunks by Hamming distance are fetched, and the k most similar by the cosine
        of their vectors' copies are returned, most similar first (docs/recall.md). Raises `InvalidArgument` unless the
        chunks were loaded with `DataLoader(…, vector_copy=…)`, and `InvalidVector` unless a vector is floats. The
        service sees that 4·k chunks are fetched, but not which of them are wanted.

        With a local index, `mode`, `max_staleness` and `hybrid` are as in `Collection.search`, and filters may compare
        private fields in every way. Chunks are then always ranked by the cosine, by default of the 4·k nearest. Raises
        `InvalidArgument` for a search that the chosen mode cannot do, and `ServiceRolledBack`.
        """
        return run(
            self._core.search(
                query,
                k,
                kb_id,
                meta_filter,
                range_filter,
                decoys=decoys,
                rescore=rescore,
                mode=mode,
                max_staleness=max_staleness,
                hybrid=hybrid,
            )
        )

    def share_local_index(self, kb_id: str) -> SharedLocalIndex:
        """Brings the local index of a knowledge base up to date, and leaves a sealed copy on the service.

        As `Collection.share_local_index`, for other retrievers.
        """
        return run(self._core.share_local_index(kb_id))

    def clear_local_index(self, kb_id: str) -> None:
        """Removes the local index of a knowledge base. The next search that uses it fetches the contents again."""
        return run(self._core.clear_local_index(kb_id))

    def retrieve_and_decrypt(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None, *, decoys: Count = 0
    ) -> list[dict[str, Any]]:
        """Returns the chunks in the order of the ids: dicts with `chunk_id`, `chunk_content` (the text), `meta_data`,
        ….

        `projection` names the fields to fetch, by default all except the ciphertexts; private metadata also fetches
        the content, which contains its values. Ids that no longer exist are omitted. The ids are requested in
        ascending order, so that the request does not reveal which was nearest.

        `decoys` also fetches at least this many other candidates of the search that found the ids (all, if there are
        fewer), decrypts them in the same way and discards them. The service learns that some of these are wanted, but
        not which. Chunks fetched together once are always fetched together by this retriever (docs/security.md,
        "Decoys").

        If the service computed the distances, the chunks' own vectors are fetched in the same request and must have
        them: raises `InvalidRows` otherwise, and never repeats the search itself.

        Raises `ContentTampered`, and `ChangedSinceSearch` if a chunk was replaced since this retriever found it, or its
        metadata does not match the filter of the latest search that found it; with decoys also for a decoy. With
        decoys raises `InvalidArgument` for ids that this retriever did not find, and `DecoyGroupTooLarge` if more than
        1,000 chunks would have to be fetched together.
        """
        return run(self._core.retrieve_and_decrypt(chunk_ids, kb_id, projection, decoys=decoys))

    def meta_search(
        self, meta_filter: MetaFilter | None, kb_id: str, projection: Sequence[str] = META_FIELDS
    ) -> list[dict[str, Any]]:
        """Returns all chunks of the context that match the filter, in one list: see `iter_meta_search`."""
        return run(self._core.meta_search(meta_filter, kb_id, projection))

    def iter_meta_search(
        self,
        meta_filter: MetaFilter | None,
        kb_id: str,
        projection: Sequence[str] = META_FIELDS,
        *,
        sort_by: str = "chunk_id",
        sort_order: str = "asc",
    ) -> Generator[dict[str, Any], None]:
        """Yields the chunks of the context that match the filter, fetched page by page, as dicts with plaintext values.

        Write the filter with plaintext values, also for private fields. With `chunk_content` in the projection the
        texts are decrypted; private metadata always fetches the content, which contains its values. During a rotation
        the chunks under the old context come first, each once.

        Raises `InvalidFilter`, `NotOnPrivateField` for operators and sort orders that need plaintext values of a
        private field, `ContentTampered`, and what `XTraceIntegration.iter_meta_search` raises.
        """
        return iterate(
            self._core.iter_meta_search(meta_filter, kb_id, projection, sort_by=sort_by, sort_order=sort_order)
        )

    @staticmethod
    def format_context(chunks: Sequence[Mapping[str, Any] | str], separator: str = "\n\n") -> str:
        """Formats texts, or the texts of retrieved chunks, as one numbered text for a language model's prompt.

        Raises `InvalidArgument` for a chunk without `chunk_content`.
        """
        return core.Retriever.format_context(chunks, separator)
