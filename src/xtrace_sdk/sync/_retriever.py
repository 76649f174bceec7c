"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.retrievers.retriever`: change that, and run the script."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal, overload

from xtrace_sdk.arguments import Count, MetaFilter, Positive
from xtrace_sdk.sync._background import Twin, core_of, in_threads, iterate, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.sync._vectors import Embedder
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.retrievers import retriever as core
from xtrace_sdk.x_vec.retrievers.retriever import META_FIELDS, SearchResult
from xtrace_sdk.x_vec.retrievers.scope import Range


class Retriever(Twin[core.Retriever]):
    """Searches a knowledge base with encrypted queries and decrypts what was found.

    The service learns which context is searched and when, how many candidates there are, the metadata filter, and which
    chunks are fetched afterwards; never the query, the vectors, the distances or their order. With `decoys` those that
    are wanted are among others, which stay the same as long as the retriever lives: keep it.
    """

    def __init__(
        self,
        execution_context: ExecutionContext,
        integration: XTraceIntegration,
        embedding: Embedder | bool | None = None,
        *,
        parallel: bool = False,
    ) -> None:
        """`embedding` is the model that the chunks were embedded with, by default the one that the context remembers.

        Only `search` with a text needs it. Raises `OtherModel` if the context remembers another one. `parallel`, or
        True or False in the model's place, is ignored: decryption always uses all cores.
        """
        self._core = core.Retriever(
            execution_context, core_of(integration), in_threads(embedding, Embedder), parallel=parallel
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
        """The ids of the `k` chunks nearest to the query, nearest first; of equal distance, the smaller id first.

        Args:
            query_vector: bits, floats (taken by their sign), or an awaitable of either, of the context's length.
            k: how many; fewer come back where the knowledge base has fewer.
            kb_id: the knowledge base.
            meta_filter: a metadata filter; the service sees it, of private fields the hashes of the values in it.
            range_filter: `(lowest, highest)` chunk id, both included.
            include_scores: gives `(ids, scores)`; scores are the Hamming distances of just those ids, in that order.

        Raises `InvalidRows`, naming the chunks, if any answer is not the sum of a stored vector and this query;
        nothing is fetched then. The search is not repeated by itself, because what follows a bad row would tell the
        server about it. Raises `NothingToSearch` if nothing is stored under this context in the knowledge base, but
        other contexts are in use there; warns (`NothingStored`) if none is.
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
        """For each query `(ids, scores)` as `nn_search_for_ids` gives them, in the order of the queries.

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
    ) -> list[SearchResult]:
        """The `k` chunks nearest to a text or a vector, nearest first, decrypted: search and retrieval in one call.

        A text needs the `embedding` that this retriever was made with. Chunks that were deleted in between are left
        out. Raises what `nn_search_for_ids` and `retrieve_and_decrypt` raise.

        With `rescore=4` the 4·k nearest by Hamming distance are fetched, and the k of them that are most similar by the
        cosine of their vectors' copies come back, most similar first (docs/recall.md). The chunks must have been loaded
        with `DataLoader(…, vector_copy=…)`, else `InvalidArgument`; a vector must be floats, else `InvalidVector`. The
        service sees that 4·k chunks are fetched, not which of them are wanted.
        """
        return run(self._core.search(query, k, kb_id, meta_filter, range_filter, decoys=decoys, rescore=rescore))

    def retrieve_and_decrypt(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str] | None = None, *, decoys: Count = 0
    ) -> list[dict[str, Any]]:
        """The chunks in the order of the ids, each a dict with `chunk_id`, `chunk_content` (the text), `meta_data`, ….

        `projection` names the fields to fetch, by default all but the ciphertexts; private metadata brings the content
        along, which holds its values. Ids that are not there any more are left out. The ids are requested in ascending
        order, so that the request does not show which was nearest.

        `decoys` also fetches at least as many other candidates of the search that found the ids (all, if there are
        fewer), decrypts them alike and drops them. The service learns that some of these are wanted, not which. What is
        fetched together once is always fetched together by this retriever (docs/security.md, "Decoys").

        Raises `ContentTampered`, and `ChangedSinceSearch` if a chunk was replaced since this retriever found it, or its
        metadata does not match the filter of the latest search that found it; with decoys also for a decoy. With
        decoys raises `InvalidArgument` for ids that this retriever did not find, and `DecoyGroupTooLarge` if more than
        1,000 chunks would have to be fetched together.
        """
        return run(self._core.retrieve_and_decrypt(chunk_ids, kb_id, projection, decoys=decoys))

    def meta_search(
        self, meta_filter: MetaFilter | None, kb_id: str, projection: Sequence[str] = META_FIELDS
    ) -> list[dict[str, Any]]:
        """All chunks of the context that the filter matches, in one list: see `iter_meta_search`."""
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
        """The chunks of the context that the filter matches, fetched page by page, each a dict with clear values.

        The filter is written with clear values, also of private fields. With `chunk_content` in the projection the
        texts come decrypted; private metadata brings the content along anyway, which holds its values. While a
        context takes another's place, the chunks under the other come first, each once.

        Raises `InvalidFilter`, `NotOnPrivateField` for operators and sorting that need clear values on a private field,
        `ContentTampered`, and what `XTraceIntegration.iter_meta_search` raises.
        """
        return iterate(
            self._core.iter_meta_search(meta_filter, kb_id, projection, sort_by=sort_by, sort_order=sort_order)
        )

    @staticmethod
    def format_context(chunks: Sequence[Mapping[str, Any] | str], separator: str = "\n\n") -> str:
        """The texts, or those of retrieved chunks, numbered in their order, as one text for a language model's prompt.

        Raises `InvalidArgument` for a chunk without `chunk_content`.
        """
        return core.Retriever.format_context(chunks, separator)
