"""`Collection`: records with your own ids and metadata, stored and searched under encryption."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import EllipsisType
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import Count, Fraction, OwnCheck, Positive, checked_calls
from xtrace_sdk.collection.contents import ReadRecord, RecordCipher
from xtrace_sdk.collection.embedding import RecordEmbedder
from xtrace_sdk.collection.filterable import Filterable, FilterableFields
from xtrace_sdk.collection.local_records import LocalRecords
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.metadata import at_path
from xtrace_sdk.collection.own_writes import OwnWrites
from xtrace_sdk.collection.record import Hit, Record, Written, checked_id
from xtrace_sdk.collection.relevance import most_relevant
from xtrace_sdk.collection.searching import Searching, Wanted
from xtrace_sdk.collection.service_filter import Bounds, ServiceFilter, bounds
from xtrace_sdk.collection.storage import Batch, RecordStore, knowledge_base
from xtrace_sdk.collection.tokens import Tokens
from xtrace_sdk.collection.updating import RecordUpdater
from xtrace_sdk.collection.upserting import RecordInserter
from xtrace_sdk.collection.values import order_key
from xtrace_sdk.collection.where import EVERYTHING, Where, parse_where
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.stages import measured_stages, stage
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.chunks.vectors import Embedder, FloatEmbedder, embedded_query, resolve
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.sealing import SealAtEnd
from xtrace_sdk.x_vec.inference.embedding import embedding_for
from xtrace_sdk.x_vec.inference.model import agreed_model
from xtrace_sdk.x_vec.local.folder import default_folder
from xtrace_sdk.x_vec.local.local_index import LOCAL_BYTES, LocalIndex, LocalKind, checked_staleness
from xtrace_sdk.x_vec.local.shared_index import SharedLocalIndex
from xtrace_sdk.x_vec.local.verifying import LocalIndexReport
from xtrace_sdk.x_vec.retrievers.decoys import Decoys
from xtrace_sdk.x_vec.retrievers.kept_decoys import kept_decoys
from xtrace_sdk.x_vec.retrievers.local_searching import LocalQuestion, LocalSearching, Ranked, in_local_index
from xtrace_sdk.x_vec.retrievers.planning import SearchPlan
from xtrace_sdk.x_vec.retrievers.results import SearchMode, SearchResults

__all__ = ["Collection"]

WhereFilter = Annotated[Mapping[str, Any] | str, OwnCheck]
"""A filter of docs/collection.md: an object, or its JSON text."""
Records = Annotated[Iterable[Record | Mapping[str, Any]], OwnCheck]
"""Records, or dictionaries with a record's keys."""
_PAGE: Final = 500


@checked_calls
class Collection(Secretive):
    """Records in a knowledge base: texts and vectors under ids that you choose, with any metadata.

    Texts, vectors, ids and metadata are encrypted on this machine. The service gets a keyed hash of each id, and keyed
    hashes of the names and values of filterable fields, so it can filter without seeing either (docs/security.md,
    "Records").
    """

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        *,
        embedding: Embedder | None = None,
        namespace: str = "",
        filterable: Filterable | None = None,
        vector_copy: CopyKind | None = "int8",
        local_index: LocalKind | None = None,
        local_folder: str | os.PathLike[str] | None = None,
        local_bytes: Positive = LOCAL_BYTES,
        local_sharing: bool = True,
    ) -> None:
        """Uses the knowledge base with this id; `open` finds or creates one by name.

        Args:
            xtrace: the connection to a server.
            context: the keys; one context in one knowledge base is one collection, or one for each namespace.
            kb_id: the knowledge base.
            embedding: the model for texts, by default the context's.
            namespace: separates records from those of other namespaces, as if each were a separate collection.
            filterable: the metadata fields by which the service can filter: True for all, False for none, a list of
                names, or a dictionary of names with True, False or a `Range`, in which `"*"` means all other fields. A
                field includes everything inside it that is not named itself. The first stored record fixes this
                permanently. By default the stored choice, or all fields for a new collection.
            vector_copy: the copy of each float vector stored inside the encrypted content, for rescoring and exact
                similarities: `"int8"`, `"float32"`, or None for no copy.
            local_index: keeps a sealed index of the knowledge base in a folder of this machine, which searches use
                instead of the service (docs/local-index.md): `"replica"` with all contents, `"codes"` with those that
                were fetched, `"auto"` a replica of up to 100,000 chunks, `"small"` the same, but larger knowledge bases
                are searched on the service, None for no index.
            local_folder: where the index is kept, by default the user's folder for caches.
            local_bytes: the size of that folder. Beyond it, kept contents are dropped first, then the indexes of other
                knowledge bases, the least recently used first.
            local_sharing: whether an index that was built from at least 16,384 contents is left on the service, sealed,
                so that other clients need not build it (docs/local-index.md). Without permission to write, it is not.

        Nothing is sent yet. Raises `InvalidArgument`, `OtherModel`.
        """
        model = agreed_model(context.embedding_model, embedding)
        if embedding is None and model is not None:
            embedding = embedding_for(model)
        wanted = None if filterable is None else FilterableFields.of(filterable)
        self._context = context
        self._kb_id = kb_id
        self._namespace = namespace
        self._embedding = embedding
        self._tokens = Tokens(context, namespace)
        self._cipher = RecordCipher(context, namespace, self._tokens, vector_copy, model)
        self._store = RecordStore(xtrace, context, kb_id, self._cipher, self._tokens.kept, wanted, model)
        own_writes, embedder = OwnWrites(), RecordEmbedder(embedding, vector_copy is not None)
        sealing = SealAtEnd(context, xtrace)
        self._inserter = RecordInserter(self._store, self._cipher, embedder, own_writes, sealing)
        self._updater = RecordUpdater(xtrace, context, self._store, self._cipher, embedder, own_writes)
        folder = default_folder() if local_folder is None else Path(local_folder)
        decoys = Decoys() if local_index is None else kept_decoys(context, folder)
        self._searching = Searching(xtrace, context, kb_id, self._cipher, own_writes, decoys)
        self._has_copies = vector_copy is not None
        self._local: LocalSearching | None = None
        if local_index is not None:
            index = LocalIndex(
                xtrace,
                context,
                kb_id,
                kind=local_index,
                folder=folder,
                max_bytes=local_bytes,
                shares=local_sharing,
            )
            self._local = LocalSearching(index, self._cipher.form, decoys.groups(kb_id))

    @classmethod
    async def open(
        cls,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        name: str,
        *,
        embedding: Embedder | None = None,
        namespace: str = "",
        filterable: Filterable | None = None,
        vector_copy: CopyKind | None = "int8",
        local_index: LocalKind | None = None,
        local_folder: str | os.PathLike[str] | None = None,
        local_bytes: Positive = LOCAL_BYTES,
        local_sharing: bool = True,
    ) -> Self:
        """Opens the collection with this name, and creates its knowledge base if it does not exist.

        Looking up names needs a connection with an admin key. Without one, `name` must be the id of a knowledge base.
        The other arguments are those of the class.

        Raises `OtherCollection` if it was created with different filterable fields, `InvalidArgument`, `OtherModel`,
        `KnowledgeBaseNotFound`, and what `XTraceIntegration` raises.
        """
        kb_id = await knowledge_base(xtrace, name)
        opened = cls(
            xtrace,
            context,
            kb_id,
            embedding=embedding,
            namespace=namespace,
            filterable=filterable,
            vector_copy=vector_copy,
            local_index=local_index,
            local_folder=local_folder,
            local_bytes=local_bytes,
            local_sharing=local_sharing,
        )
        await opened._store.fields()
        return opened

    @property
    def kb_id(self) -> str:
        """The id of the knowledge base that stores the records."""
        return self._kb_id

    @property
    def namespace(self) -> str:
        """The namespace, by default empty."""
        return self._namespace

    @property
    def local_index_path(self) -> Path | None:
        """The file of the local index; None without one."""
        return None if self._local is None else self._local.index.path

    async def share_local_index(self) -> SharedLocalIndex:
        """Brings the local index up to date, and leaves a sealed copy on the service for other clients.

        A client whose index is empty, or far behind, then fetches this copy, and what changed since, instead of all
        contents. Only segments that the service lacks are sent, and nothing if its copy is as new.

        Raises `InvalidArgument` without a local index, `PermissionDenied` without permission to write, `QuotaExceeded`,
        and what `search` raises.
        """
        return await self._local_index("share").share()

    async def verify_local_index(self, *, fetch: Count | None = 0) -> LocalIndexReport:
        """Brings the local index up to date, and compares it with all chunks that the service has.

        So it is noticed if the service left out a change. Contents that are kept are compared with what the index says
        of them, and so are `fetch` others, chosen at random, or all with None: rows that came from a
        shared index are not checked otherwise until a search finds them.

        The service learns that the client compares. Raises `InvalidArgument` without a local index,
        `ChangedSinceSearch` if others keep changing the records, and what `search` raises.
        """
        return await self._local_index("verify").verify(fetch)

    def _local_index(self, purpose: str) -> LocalIndex:
        if self._local is None:
            raise InvalidArgument(f'no local index is kept to {purpose}: open the collection with local_index="auto"')
        return self._local.index

    async def clear_local_index(self) -> None:
        """Removes the file of the local index. The next search that uses it fetches the contents again."""
        if self._local is not None:
            await self._local.index.clear()

    @property
    def embeds_texts(self) -> bool:
        """Whether the collection has a model, so that texts can be stored and searched without vectors."""
        return self._embedding is not None

    # By id

    async def upsert(self, records: Records, *, on_conflict: OnConflict = "replace") -> Written:
        """Stores records under their ids. Returns which were inserted, replaced and skipped.

        Args:
            records: `Record`s, or dictionaries with the keys `id`, `text`, `metadata` and `vector`, of which only `id`
                is required. A text without a vector is embedded. A blank text, or a record with an empty list as
                vector, is stored without a vector, and similarity searches do not find it. All records are checked
                before anything is stored.
            on_conflict: what to do if the id exists: `"replace"` replaces the stored record, `"skip"` keeps it,
                `"fail"` raises `RecordsExist`. If an id occurs twice, it exists the second time.

        Each batch of 500 records, fewer if they are large, is one transaction. Embedding, encrypting and storing
        overlap. During a rotation, records that are still under the old context are moved in separate transactions.

        Raises `InvalidRecord`, `InvalidArgument` and `RecordsExist` before anything is stored. A batch can fail with
        `InvalidVector`, what the model raises, and what `XTraceIntegration` raises; nothing of that batch is stored.
        If earlier batches were stored, raises `PartlyStored` with the error as its cause; it is safe to repeat the
        call.
        """
        return await self._inserter.upsert(records, on_conflict)

    async def get(self, ids: Sequence[str], *, include_vectors: bool = False) -> list[Record]:
        """Returns the records with these ids, in the same order, without unknown ids.

        Raises `OtherRecord` if the service returns a different record for an id, `ContentTampered`, `UnknownContent`.
        """
        found = await self._store.fetched(list(map(checked_id, ids)))
        return [found[one][2].as_record(include_vectors) for one in ids if one in found]

    async def update(
        self,
        id: str,  # noqa: A002 - the field of a record
        *,
        text: str | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType = ...,
        vector: Any = ...,
    ) -> Record:
        """Changes only the given parts of a record, and returns the record.

        `metadata` replaces all metadata. A new text without a vector is embedded. If neither text nor vector changes,
        the ciphertexts of the vector stay the same. If others change the record meanwhile, it is read again, never
        overwritten.

        Raises `RecordNotFound`, `InvalidRecord`, `InvalidVector`, `InvalidArgument` for a new text without a vector or
        a model, `ContentTampered`.
        """
        return await self._updater.update(checked_id(id), text, metadata, vector)

    async def delete(self, ids: Sequence[str] | None = None, *, where: WhereFilter | None = None) -> int:
        """Deletes the records with these ids, or those that match, and returns their number.

        `where={}` matches every record, as `clear` does. If hashes decide the filter, the service deletes the records
        in one call. Otherwise the client reads them first, and a record that others change meanwhile may be deleted
        too.

        Raises `InvalidArgument` unless exactly one of the two is given, and `InvalidFilter`.
        """
        if (ids is None) == (where is None):
            raise InvalidArgument("expected either ids or where; clear() deletes all records")
        if ids is not None:
            places = await self._store.located(list(map(checked_id, ids)))
            return await self._store.delete([place.chunk_id for place in places.values()])
        tree, found = await self._bounds(where, is_chosen=True)
        if found.wide is False:
            return 0
        if found.is_exact:
            return await self._store.delete_matching(self._within(found))
        chosen = [chunk_id async for batch in self._matching(tree, found) for chunk_id, _ in batch]
        return await self._store.delete(chosen)

    async def clear(self) -> int:
        """Deletes all records of the namespace, and returns their number."""
        return await self._store.delete_matching(self._within(None))

    # By metadata

    async def count(self, where: WhereFilter | None = None) -> int:
        """Returns the number of records that match.

        If hashes decide the filter, the service counts. Otherwise the client reads every record that may match.
        """
        tree, found = await self._bounds(where)
        if found.wide is False:
            return 0
        if found.is_exact:
            return await self._store.count(self._within(found))
        return sum([len(batch) async for batch in self._matching(tree, found)])

    async def iter(
        self,
        where: WhereFilter | None = None,
        *,
        include_vectors: bool = False,
        order_by: str | None = None,
        descending: bool = False,
    ) -> AsyncGenerator[Record, None]:
        """Yields the records that match, in the order in which they were first stored. Fetches them as they are
        consumed.

        With `order_by`, they are sorted by the value at that path of their metadata: booleans, numbers, times, other
        texts, lists, objects. Records without a value come last, even if `descending`. The service cannot sort values
        that it does not see, so all matching records are read first and held in memory.
        """
        tree, found = await self._bounds(where)
        if found.wide is False:
            return
        if order_by is not None:
            matching = [record async for batch in self._matching(tree, found) for _, record in batch]
            for record in _ordered(matching, order_by, descending):
                yield record.as_record(include_vectors)
            return
        batches = self._matching(tree, found)
        async with aclosing(batches):
            async for batch in batches:
                for _, record in batch:
                    yield record.as_record(include_vectors)

    async def values(self, field: str, where: WhereFilter | None = None) -> list[Any]:
        """Returns the distinct values of a field in the records that match, in the sort order of `iter`.

        `field` is a path. For a list, each element is a value; null is not. The service has only hashes, so the client
        reads the records that have the field and may match. Raises `InvalidArgument` if `field` begins with `$`.
        """
        if field.startswith("$"):
            raise InvalidArgument("field begins with $, expected a path in the metadata of records")
        tree, found = await self._bounds({"$and": [{field: {"$exists": True}}, *([] if where is None else [where])]})
        different: dict[tuple[Any, ...], Any] = {}
        if found.wide is not False:
            async for batch in self._matching(tree, found):
                for _, record in batch:
                    value = at_path(record.metadata, field)
                    for one in value if isinstance(value, list) else [value]:
                        if one is not None:
                            different.setdefault(order_key(one), one)
        return [different[key] for key in sorted(different)]

    # By similarity

    async def search(
        self,
        query: str | Any,
        k: Positive = 10,
        *,
        where: WhereFilter | None = None,
        rescore: Positive = 4,
        min_similarity: float | None = None,
        include_vectors: bool = False,
        decoys: Count = 0,
        mode: SearchMode = "auto",
        max_staleness: Annotated[float, OwnCheck] = 0,
        hybrid: bool | Literal["auto"] = "auto",
    ) -> SearchResults[Hit]:
        """Returns the `k` records most similar to a text or a vector, most similar first, and how they were found
        (`SearchResults`).

        Args:
            query: a text, which the model embeds, or floats or bits as the model returns them.
            k: the number of results; fewer are returned only if fewer match.
            where: a filter (docs/collection.md). The service evaluates what hashes can decide, the client the rest.
            rescore: the `rescore`·k nearest records by distance of bits are fetched, and ranked by the cosine
                similarity of their vectors' copies. Without copies, or with bits as query, k are fetched and ranked by
                distance.
            min_similarity: drops results that are less similar.
            include_vectors: also returns the copies of the vectors.
            decoys: fetches at least this many other records, so that the service cannot tell which were wanted
                (docs/security.md, "Decoys"). Keep the collection object: groups last as long as it does.
            mode: `"service"` compares on the service, `"local"` in the local index, `"auto"` in the local index if the
                collection has one that can compare the query with every record.
            max_staleness: how many seconds old the local index may be. With 0 the service is asked for changes first;
                with infinity it is not, so a search of a replica works offline.
            hybrid: whether a text is also searched by its words, in the local index alone. The order is then BM25 plus
                the share of the text's word pairs plus the similarity. By default wherever it can be done.

        On the service: it learns the hashes in the filter, how many records match them, and which records are fetched,
        including those that the rest of the filter excludes. It learns nothing about the query. In the local index: it
        learns that a client synchronises, which records changed since its last time, and which contents are fetched
        that the index does not keep; nothing of the query or the filter.

        Raises `InvalidFilter`, `InvalidVector`, `OtherModel` if the collection was created with a different model,
        `InvalidRows` as `Retriever.nn_search_for_ids` does, `ChangedSinceSearch` if others changed a result meanwhile,
        `InvalidArgument` for a search that the chosen mode cannot do, `ServiceRolledBack`, and what the model raises.
        """
        among = LocalRecords(self._cipher, parse_where(where), self._store.check_kept)
        with measured_stages() as seconds:
            vector = self._cipher.query(await self._query_vector(query))
            words = query if isinstance(query, str) and hybrid is not False else None
            question = LocalQuestion(vector, words, k, k * rescore, decoys)
            local = self._local if self._has_copies else None
            staleness = checked_staleness(max_staleness)
            ranked = await in_local_index(local, question, among, mode, staleness, hybrid)
            way: Literal["local", "service"] = "service" if ranked is None else "local"
            plan = None
            if ranked is None:
                ranked, plan = await self._on_service(vector, k, where, rescore, decoys)
        hits = [
            Hit(one.found.as_record(include_vectors), one.similarity, one.distance)
            for one in ranked
            if min_similarity is None or one.similarity >= min_similarity
        ]
        return SearchResults(hits, way, seconds, plan)

    async def _on_service(
        self, vector: NDArray[Any], k: int, where: Any, rescore: int, decoys: int
    ) -> tuple[list[Ranked[ReadRecord]], SearchPlan | None]:
        """The `k` best records by a search on the service, and how it compared vectors."""
        await self._store.check_model()
        tree, found = await self._bounds(where)
        if found.wide is False:
            return [], None
        count = k * rescore if self._has_copies and vector.dtype.kind == "f" else k
        wanted = Wanted(vector, count, tree, self._within(found, with_vector=True), found.is_exact, decoys)
        nearest, plan = await self._searching.nearest(wanted)
        records, distances = [one.record for one in nearest], [one.distance for one in nearest]
        with stage("rescore"):
            similarities = await asyncio.to_thread(self._cipher.similarities, vector, records, distances)
        ranked = sorted(range(len(nearest)), key=lambda i: (-similarities[i], distances[i]))
        return [Ranked(records[i], similarities[i], distances[i]) for i in ranked[:k]], plan

    async def search_mmr(
        self,
        query: str | Any,
        k: Positive = 10,
        *,
        candidates: Positive | None = None,
        diversity: Fraction = 0.5,
        where: WhereFilter | None = None,
        rescore: Positive = 4,
        min_similarity: float | None = None,
        include_vectors: bool = False,
        decoys: Count = 0,
        mode: SearchMode = "auto",
        max_staleness: Annotated[float, OwnCheck] = 0,
    ) -> list[Hit]:
        """Returns `k` records that are similar to a text or a vector but differ from each other, in the order chosen.

        They are chosen by maximal marginal relevance: first the most similar record, then each time the one with the
        greatest similarity to the query minus similarity to the records already chosen.

        Args:
            query: a text, which the model embeds, or floats as the model returns them.
            k: the number of results; fewer are returned only if fewer match.
            candidates: the number of most similar records to choose from, at least k, by default 4·k.
            diversity: the weight of difference, from 0 (same as `search`) to 1.
            where: a filter (docs/collection.md).
            rescore: how the candidates are found, as in `search`.
            min_similarity: drops candidates that are less similar.
            include_vectors: also returns the copies of the vectors.
            decoys, mode, max_staleness: as in `search`.

        The service learns the same as in a `search` for that many candidates; the choice is made on this machine. A
        record without a copy of its vector counts as different from all others.

        Raises `InvalidArgument` if the query is bits or the collection does not store copies of vectors, and what
        `search` raises.
        """
        vector = self._cipher.query(await self._query_vector(query))
        if vector.dtype.kind != "f" or not self._has_copies:
            raise InvalidArgument(
                "maximal marginal relevance compares float vectors: open the collection with vector_copy, and pass "
                "a text or floats"
            )
        reach = max(k, 4 * k if candidates is None else candidates)
        hits = await self.search(
            vector,
            reach,
            where=where,
            rescore=rescore,
            min_similarity=min_similarity,
            include_vectors=True,
            decoys=decoys,
            mode=mode,
            max_staleness=max_staleness,
        )
        copies = [np.zeros_like(vector) if hit.record.vector is None else hit.record.vector for hit in hits]
        relevances = np.array([hit.similarity for hit in hits])
        chosen = [hits[i] for i in most_relevant(relevances, np.array(copies), k, diversity)]
        if not include_vectors:
            for hit in chosen:
                hit.record.vector = None
        return chosen

    async def _query_vector(self, query: Any) -> Any:
        if not isinstance(query, str):
            return await resolve(query)
        if self._embedding is None:
            raise InvalidArgument("got a text, but no model is known: open the collection with embedding=…")
        with stage("embed"):
            return await embedded_query(self._embedding, query, as_floats=isinstance(self._embedding, FloatEmbedder))

    # Filters

    async def _bounds(self, where: Any, *, is_chosen: bool = False) -> tuple[Where, Bounds]:
        """Returns the parsed filter, and the part that the service can decide."""
        tree = parse_where(where, is_chosen=is_chosen)
        if tree == EVERYTHING:
            return tree, Bounds(True, True)
        fields = await self._store.fields() or FilterableFields({})
        return tree, bounds(tree, fields, self._tokens)

    def _within(self, found: Bounds | None, *, with_vector: bool = False) -> ServiceFilter:
        """Returns the wide filter for the records of the namespace, or only for those with a vector."""
        tokens = self._tokens
        inside: ServiceFilter = {"tag2": tokens.with_vector} if with_vector else {"tag1": tokens.all_records}
        return inside if found is None or isinstance(found.wide, bool) else {"$and": [inside, found.wide]}

    async def _matching(self, tree: Where, found: Bounds) -> AsyncGenerator[Batch, None]:
        """Yields the matching records with the ids of their chunks, in batches."""
        batches = self._store.matching(self._within(found), _PAGE)
        async with aclosing(batches):
            async for batch in batches:
                yield [(chunk_id, one) for chunk_id, one in batch if matches(tree, one.metadata, one.id, one.text)]


def _ordered(records: list[ReadRecord], path: str, is_descending: bool) -> list[ReadRecord]:
    present = [one for one in records if at_path(one.metadata, path) is not None]
    missing = [one for one in records if at_path(one.metadata, path) is None]
    return sorted(present, key=lambda one: order_key(at_path(one.metadata, path)), reverse=is_descending) + missing
