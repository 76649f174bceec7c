"""`Collection`: records with ids and metadata of one's own, stored and searched under encryption."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import EllipsisType
from typing import Annotated, Any, Final, Self

import numpy as np

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import Count, Fraction, OwnCheck, Positive, checked_calls
from xtrace_sdk.collection.contents import ReadRecord, RecordCipher
from xtrace_sdk.collection.embedding import RecordEmbedder
from xtrace_sdk.collection.filterable import Filterable, FilterableFields
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
from xtrace_sdk.stages import stage
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.chunks.vectors import Embedder, FloatEmbedder, embedded_query, resolve
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.embedding import embedding_for
from xtrace_sdk.x_vec.inference.model import agreed_model

__all__ = ["Collection"]

WhereFilter = Annotated[Mapping[str, Any] | str, OwnCheck]
"""A filter of docs/collection.md: an object, or its JSON text."""
Records = Annotated[Iterable[Record | Mapping[str, Any]], OwnCheck]
"""What can be stored: records, or objects with the keys of one."""
_PAGE: Final = 500


@checked_calls
class Collection(Secretive):
    """Records in a knowledge base: texts and vectors under ids of your own, with any metadata.

    Texts, vectors, ids and metadata are encrypted here. The service gets a keyed hash of each id and, of the filterable
    fields, keyed hashes of names and values, so it can filter without seeing either (docs/security.md, "Records").
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
    ) -> None:
        """The collection in the knowledge base of this id; `open` finds or creates one by its name.

        Args:
            xtrace: the connection to a server.
            context: the keys; one context in one knowledge base is one collection, or one for each namespace.
            kb_id: the knowledge base.
            embedding: the model for texts, by default the one that the context remembers.
            namespace: keeps records apart from those of other namespaces, as if each were a collection of its own.
            filterable: the fields of metadata by which the service can filter: True for all, False for none, the names
                of some, or names with True, False or a `Range` each, `"*"` among them for all others. A field stands
                for what is inside it too, as far as that is not named itself. The first record that is stored fixes it
                for good. By default as it was fixed, all for a new collection.
            vector_copy: the copy of each float vector that is stored inside the encrypted content, for rescoring and
                exact similarities: `"int8"`, `"float32"`, or None for none.

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
        self._store = RecordStore(xtrace, context, kb_id, self._cipher, self._tokens.kept, wanted)
        own_writes, embedder = OwnWrites(), RecordEmbedder(embedding, vector_copy is not None)
        self._inserter = RecordInserter(self._store, self._cipher, embedder, own_writes)
        self._updater = RecordUpdater(xtrace, context, self._store, self._cipher, embedder, own_writes)
        self._searching = Searching(xtrace, context, kb_id, self._cipher, own_writes)
        self._has_copies = vector_copy is not None

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
    ) -> Self:
        """The collection of this name, in a knowledge base that is created if there is none.

        Knowledge bases have names only for a connection with an admin key. Without one, `name` is taken for the id of
        a knowledge base. The other arguments are those of the class.

        Raises `OtherCollection` if it was created with other filterable fields, `InvalidArgument`, `OtherModel`,
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
        )
        await opened._store.fields()
        return opened

    @property
    def kb_id(self) -> str:
        """The id of the knowledge base that the records are in."""
        return self._kb_id

    @property
    def namespace(self) -> str:
        """The namespace; empty unless one was given."""
        return self._namespace

    @property
    def embeds_texts(self) -> bool:
        """Whether it has a model, so that texts can be stored and searched without vectors."""
        return self._embedding is not None

    # By id

    async def upsert(self, records: Records, *, on_conflict: OnConflict = "replace") -> Written:
        """Stores records under their ids, and says which were inserted, replaced and skipped.

        Args:
            records: `Record`s, or objects with the keys `id`, `text`, `metadata` and `vector`, of which all but `id`
                may be missing. A record with a text and without a vector is embedded; one with an empty list as vector
                is not, nor is a blank text, and no search by similarity finds those. All are read and checked before
                anything is stored.
            on_conflict: what is done with a record whose id is there: `"replace"` takes its place, `"skip"` leaves it
                as it is, `"fail"` raises `RecordsExist`. An id that comes twice counts as there the second time.

        New and replaced records of a batch are one transaction: 500 at a time, fewer where they are large. Embedding,
        encrypting and storing overlap. While a context replaces another, records that are still under the old one are
        moved by a transaction of their own.

        Raises `InvalidRecord`, `InvalidArgument` and `RecordsExist` before anything is stored. Nothing is stored of a
        batch that fails: `InvalidVector`, what the model raises, and what `XTraceIntegration` raises. If batches before
        it are stored, it is a `PartlyStored` with the fault as its cause; doing it all again is safe.
        """
        return await self._inserter.upsert(records, on_conflict)

    async def get(self, ids: Sequence[str], *, include_vectors: bool = False) -> list[Record]:
        """The records with these ids, in their order; unknown ids are left out.

        Raises `OtherRecord` if the service gives another record for an id, `ContentTampered`, `UnknownContent`.
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
        """Changes what is given of a record, and returns it; everything else stays.

        `metadata` replaces all of it. A new text without a vector is embedded. Where neither text nor vector change,
        the ciphertexts of the vector stay as they are. What others change meanwhile is read again, never overwritten.

        Raises `RecordNotFound`, `InvalidRecord`, `InvalidVector`, `InvalidArgument` for a new text without a vector or
        a model, `ContentTampered`.
        """
        return await self._updater.update(checked_id(id), text, metadata, vector)

    async def delete(self, ids: Sequence[str] | None = None, *, where: WhereFilter | None = None) -> int:
        """Deletes the records with these ids, or those that match, and says how many there were.

        `where={}` matches every record, as `clear` does. What hashes decide the service deletes in one go; for anything
        else the records are read first, and one that others change meanwhile may be deleted too.

        Raises `InvalidArgument` unless either is given, and `InvalidFilter`.
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
        """Deletes all records of the namespace, and says how many there were."""
        return await self._store.delete_matching(self._within(None))

    # By metadata

    async def count(self, where: WhereFilter | None = None) -> int:
        """How many records match.

        The service counts where hashes decide; otherwise every record that may match is read.
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
        """The records that match, in the order in which they were first stored, fetched while they are consumed.

        With `order_by`, by the value at that path of their metadata: truths, numbers, times, other texts, lists,
        objects, and last those without a value, also where it is `descending`. The service cannot sort what it does not
        see, so all that match are read first and are in memory.
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
        """The different values that a field has in the records that match, in the order that `iter` sorts by.

        `field` is a path. Of a list each element counts; null never does. The service has hashes alone, so the records
        that have the field and may match are read. Raises `InvalidArgument` for a field that begins with `$`.
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
    ) -> list[Hit]:
        """The `k` records that are most similar to a text or a vector, most similar first.

        Args:
            query: a text, which the model embeds, or floats or bits as the model gives them.
            k: how many; fewer come back only where fewer match.
            where: a filter (docs/collection.md). What hashes can answer the service does, and the rest is decided here.
            rescore: the `rescore`·k nearest by the distance of bits are fetched and ordered by the cosine similarity of
                their vectors' copies. Without copies, or with bits as query, k are fetched and ordered by distance.
            min_similarity: leaves out what is less similar.
            include_vectors: gives the vectors' copies, too.
            decoys: fetches at least as many other records along, so that the service cannot tell which are wanted
                (docs/security.md, "Decoys"). Keep the collection, then: groups last as long as it does.

        The service learns the hashes that the filter asks for, how many records pass it, and which are fetched, among
        them those that the rest of the filter excludes; nothing about the query.

        Raises `InvalidFilter`, `InvalidVector`, `InvalidRows` as `Retriever.nn_search_for_ids` does,
        `ChangedSinceSearch` if others wrote meanwhile what it found, and what the model raises.
        """
        tree, found = await self._bounds(where)
        vector = self._cipher.query(await self._query_vector(query))
        if found.wide is False:
            return []
        count = k * rescore if self._has_copies and vector.dtype.kind == "f" else k
        wanted = Wanted(vector, count, tree, self._within(found, with_vector=True), found.is_exact, decoys)
        nearest = await self._searching.nearest(wanted)
        records, distances = [one.record for one in nearest], [one.distance for one in nearest]
        with stage("rescore"):
            similarities = await asyncio.to_thread(self._cipher.similarities, vector, records, distances)
        ranked = sorted(range(len(nearest)), key=lambda i: (-similarities[i], distances[i]))
        return [
            Hit(records[i].as_record(include_vectors), similarities[i], distances[i])
            for i in ranked[:k]
            if min_similarity is None or similarities[i] >= min_similarity
        ]

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
    ) -> list[Hit]:
        """`k` records that are similar to a text or a vector and differ from each other, in the order of their choice.

        Chosen by maximal marginal relevance: the most similar record first, then each time the one for which similarity
        to the query, less similarity to what is chosen, is greatest.

        Args:
            query: a text, which the model embeds, or floats as the model gives them.
            k: how many; fewer come back only where fewer match.
            candidates: among how many of the most similar records, by default 4·k, at least k.
            diversity: how much difference weighs, from 0 (as `search`) to 1.
            where: a filter (docs/collection.md).
            rescore: how the candidates are found, as in `search`.
            min_similarity: leaves out candidates that are less similar.
            include_vectors: gives the vectors' copies, too.
            decoys: as in `search`.

        The service learns what it learns of `search` for that many candidates; the choice is made here. A record
        without a copy of its vector counts as different from all others.

        Raises `InvalidArgument` for bits as query and for a collection that keeps no copies of vectors, and what
        `search` raises.
        """
        vector = self._cipher.query(await self._query_vector(query))
        if vector.dtype.kind != "f" or not self._has_copies:
            raise InvalidArgument(
                "maximal marginal relevance compares vectors of floats: open the collection with vector_copy, and give "
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
            raise InvalidArgument("a text was given, but no model is known: open the collection with embedding=…")
        with stage("embed"):
            return await embedded_query(self._embedding, query, as_floats=isinstance(self._embedding, FloatEmbedder))

    # Filters

    async def _bounds(self, where: Any, *, is_chosen: bool = False) -> tuple[Where, Bounds]:
        """The parsed filter, and what the service can decide of it."""
        tree = parse_where(where, is_chosen=is_chosen)
        if tree == EVERYTHING:
            return tree, Bounds(True, True)
        fields = await self._store.fields() or FilterableFields({})
        return tree, bounds(tree, fields, self._tokens)

    def _within(self, found: Bounds | None, *, with_vector: bool = False) -> ServiceFilter:
        """The wide filter for the records of the namespace, perhaps those with a vector alone."""
        tokens = self._tokens
        inside: ServiceFilter = {"tag2": tokens.with_vector} if with_vector else {"tag1": tokens.all_records}
        return inside if found is None or isinstance(found.wide, bool) else {"$and": [inside, found.wide]}

    async def _matching(self, tree: Where, found: Bounds) -> AsyncGenerator[Batch, None]:
        """The records that match, with the ids of their chunks, in batches."""
        batches = self._store.matching(self._within(found), _PAGE)
        async with aclosing(batches):
            async for batch in batches:
                yield [(chunk_id, one) for chunk_id, one in batch if matches(tree, one.metadata, one.id, one.text)]


def _ordered(records: list[ReadRecord], path: str, is_descending: bool) -> list[ReadRecord]:
    present = [one for one in records if at_path(one.metadata, path) is not None]
    missing = [one for one in records if at_path(one.metadata, path) is None]
    return sorted(present, key=lambda one: order_key(at_path(one.metadata, path)), reverse=is_descending) + missing
