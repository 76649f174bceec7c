"""Encrypted nearest-neighbour search, and retrieval of the results' texts."""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, overload

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import MAX_QUERIES
from xtrace_sdk.arguments import Count, MetaFilter, OwnCheck, Positive, checked_calls
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.stages import measured_stages, stage
from xtrace_sdk.x_vec.chunks.vector_copies import as_floats
from xtrace_sdk.x_vec.chunks.vectors import Embedder, FloatEmbedder, embedded_query, resolve
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.embedding import embedding_for
from xtrace_sdk.x_vec.inference.model import agreed_model, vector_form
from xtrace_sdk.x_vec.local.folder import default_folder
from xtrace_sdk.x_vec.local.local_index import LOCAL_BYTES, LocalIndex, LocalKind, checked_staleness
from xtrace_sdk.x_vec.local.shared_index import SharedLocalIndex
from xtrace_sdk.x_vec.retrievers.contents import Contents
from xtrace_sdk.x_vec.retrievers.decoys import Decoys
from xtrace_sdk.x_vec.retrievers.engine import SearchEngine
from xtrace_sdk.x_vec.retrievers.kept_decoys import kept_decoys
from xtrace_sdk.x_vec.retrievers.local_chunks import LocalChunks
from xtrace_sdk.x_vec.retrievers.local_searching import RESCORE, LocalQuestion, LocalSearching, in_local_index
from xtrace_sdk.x_vec.retrievers.metadata_search import search_metadata
from xtrace_sdk.x_vec.retrievers.planning import SearchPlan
from xtrace_sdk.x_vec.retrievers.rescoring import rescored
from xtrace_sdk.x_vec.retrievers.results import SearchMode, SearchResults
from xtrace_sdk.x_vec.retrievers.scan import Nearest
from xtrace_sdk.x_vec.retrievers.scope import Range, SearchScope

FIELDS = ("chunk_content", "meta_data", "name", "created_at", "updated_at")
"""The fields of a chunk that are fetched by default."""
META_FIELDS = ("meta_data", "name", "created_at", "updated_at")
"""The fields that a metadata search fetches by default."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One chunk that a search found."""

    chunk_id: int
    text: str
    meta_data: dict[str, Any]
    distance: int
    """The Hamming distance to the query, 0 to the number of dimensions."""
    similarity: float | None = None
    """The cosine similarity to the query, −1 to 1; None without rescoring."""


@checked_calls
class Retriever(Secretive):
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
        if isinstance(embedding, bool):  # where existing clients have `parallel`
            embedding = None
        model = agreed_model(execution_context.embedding_model, embedding)
        self._context = execution_context
        self._integration = integration
        self._embedding = embedding
        self._form = vector_form(execution_context.embed_len(), model)
        self._contents = Contents(execution_context)
        self._local_kind = local_index
        self._local_folder = default_folder() if local_folder is None else Path(local_folder)
        self._decoys = Decoys() if local_index is None else kept_decoys(execution_context, self._local_folder)
        self._engine = SearchEngine(execution_context, integration, self._decoys)
        self._local_bytes = local_bytes
        self._local_sharing = local_sharing
        self._local: dict[str, LocalSearching] = {}

    @overload
    async def nn_search_for_ids(
        self,
        query_vector: Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        include_scores: Literal[False] = False,
    ) -> list[int]: ...
    @overload
    async def nn_search_for_ids(
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
    async def nn_search_for_ids(
        self,
        query_vector: Any,
        k: Positive = 3,
        kb_id: str = "",
        meta_filter: MetaFilter | None = None,
        range_filter: Range | None = None,
        include_scores: bool = False,
    ) -> list[int] | tuple[list[int], list[int]]: ...
    async def nn_search_for_ids(
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
        ((ids, scores),) = await self.nn_search_batch([query_vector], k, kb_id, meta_filter, range_filter)
        return (ids, scores) if include_scores else ids

    async def nn_search_batch(
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
        scope = SearchScope.of(kb_id, range_filter, meta_filter)
        vectors = [self._form.as_bits(await resolve(vector)) for vector in query_vectors]
        found: list[Nearest] = []
        for start in range(0, len(vectors), MAX_QUERIES):
            found += (
                await self._engine.nearest(vectors[start : start + MAX_QUERIES], k, scope, self._contents)
            ).nearest
        return [(nearest.chunk_ids.tolist(), nearest.distances.tolist()) for nearest in found]

    async def search(
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
        scope = SearchScope.of(kb_id, range_filter, meta_filter)
        local = self._local_searching(kb_id) if mode != "service" else None
        with measured_stages() as seconds:
            vector = await self._query_vector(query, as_given=rescore is not None, prefers_floats=local is not None)
            question = LocalQuestion(
                vector if local is None else self._form.elements(vector),
                query if isinstance(query, str) and hybrid is not False else None,
                k,
                k * (rescore or RESCORE),
                decoys,
            )
            staleness = checked_staleness(max_staleness)
            ranked = await in_local_index(local, question, LocalChunks(scope), mode, staleness, hybrid)
            if ranked is None:
                found, plan = await self._search_service(vector, k, scope, decoys, rescore)
                return SearchResults(found, "service", seconds, plan)
        results = [
            SearchResult(one.found.id, one.found.text, one.found.meta_data, one.distance, one.similarity)
            for one in ranked
        ]
        return SearchResults(results, "local", seconds)

    async def share_local_index(self, kb_id: str) -> SharedLocalIndex:
        """Brings the local index of a knowledge base up to date, and leaves a sealed copy on the service.

        As `Collection.share_local_index`, for other retrievers.
        """
        if (local := self._local_searching(kb_id)) is None:
            raise InvalidArgument('no local index is kept to share: create the retriever with local_index="auto"')
        return await local.index.share()

    async def clear_local_index(self, kb_id: str) -> None:
        """Removes the local index of a knowledge base. The next search that uses it fetches the contents again."""
        if (local := self._local_searching(kb_id)) is not None:
            await local.index.clear()

    def _local_searching(self, kb_id: str) -> LocalSearching | None:
        """The searches in the local index of a knowledge base; None if this retriever keeps none."""
        if self._local_kind is None:
            return None
        if kb_id not in self._local:
            index = LocalIndex(
                self._integration,
                self._context,
                kb_id,
                kind=self._local_kind,
                folder=self._local_folder,
                max_bytes=self._local_bytes,
                with_meta_data=True,
                shares=self._local_sharing,
            )
            self._local[kb_id] = LocalSearching(index, self._form, self._decoys.groups(kb_id))
        return self._local[kb_id]

    async def _search_service(
        self, vector: Any, k: int, scope: SearchScope, decoys: int, rescore: int | None
    ) -> tuple[list[SearchResult], SearchPlan | None]:
        wanted = None if rescore is None else as_floats(vector, self._form.dim)
        bits = self._form.as_bits(await resolve(vector))
        ((nearest,), _, plan) = await self._engine.nearest([bits], k * (rescore or 1), scope, self._contents)
        distances = dict(zip(nearest.chunk_ids.tolist(), nearest.distances.tolist(), strict=True))
        # Nothing else ran in between, so this search is the latest that found them, and its filter applies.
        found = await self._engine.decrypted(list(distances), scope.kb_id, FIELDS, decoys, self._contents)
        ranked = [(one, None) for one in found] if wanted is None else rescored(wanted, found)[:k]
        results = [
            SearchResult(
                one.chunk["chunk_id"],
                one.chunk["chunk_content"],
                one.chunk["meta_data"],
                distances[one.chunk["chunk_id"]],
                similarity,
            )
            for one, similarity in ranked
        ]
        return results, plan

    async def retrieve_and_decrypt(
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
        found = await self._engine.decrypted(chunk_ids, kb_id, projection or FIELDS, decoys, self._contents)
        return [one.chunk for one in found]

    async def meta_search(
        self, meta_filter: MetaFilter | None, kb_id: str, projection: Sequence[str] = META_FIELDS
    ) -> list[dict[str, Any]]:
        """Returns all chunks of the context that match the filter, in one list: see `iter_meta_search`."""
        return [chunk async for chunk in self.iter_meta_search(meta_filter, kb_id, projection)]

    async def iter_meta_search(
        self,
        meta_filter: MetaFilter | None,
        kb_id: str,
        projection: Sequence[str] = META_FIELDS,
        *,
        sort_by: str = "chunk_id",
        sort_order: str = "asc",
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yields the chunks of the context that match the filter, fetched page by page, as dicts with plaintext values.

        Write the filter with plaintext values, also for private fields. With `chunk_content` in the projection the
        texts are decrypted; private metadata always fetches the content, which contains its values. During a rotation
        the chunks under the old context come first, each once.

        Raises `InvalidFilter`, `NotOnPrivateField` for operators and sort orders that need plaintext values of a
        private field, `ContentTampered`, and what `XTraceIntegration.iter_meta_search` raises.
        """
        found = search_metadata(self._context, self._integration, meta_filter, kb_id, projection, sort_by, sort_order)
        async with aclosing(found):
            async for chunk in found:
                yield chunk

    @staticmethod
    def format_context(chunks: Sequence[Mapping[str, Any] | str], separator: str = "\n\n") -> str:
        """Formats texts, or the texts of retrieved chunks, as one numbered text for a language model's prompt.

        Raises `InvalidArgument` for a chunk without `chunk_content`.
        """
        texts = [chunk if isinstance(chunk, str) else chunk.get("chunk_content") for chunk in chunks]
        if None in texts:
            raise InvalidArgument(
                f"chunk {texts.index(None)} has no chunk_content: include that field in the projection"
            )
        return separator.join(f"[{i}] {text}" for i, text in enumerate(texts, start=1))

    async def _query_vector(self, query: str | Any, *, as_given: bool, prefers_floats: bool) -> Any:
        """Returns the query as a vector; for a text, the model's floats if needed or preferred, else bits."""
        if not isinstance(query, str):
            return await resolve(query)
        if self._embedding is None:
            self._embedding = embedding_for(self._context.embedding_model)
        as_floats = as_given or (prefers_floats and isinstance(self._embedding, FloatEmbedder))
        with stage("embed"):
            return await embedded_query(self._embedding, query, as_floats=as_floats)
