"""Made by `scripts/sync-twins` from `xtrace_sdk.collection.collection`: change that, and run the script."""

from collections.abc import Generator, Mapping, Sequence
from types import EllipsisType
from typing import Any, Self

from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import Count, Fraction, Positive
from xtrace_sdk.collection import collection as core
from xtrace_sdk.collection.collection import Records, WhereFilter
from xtrace_sdk.collection.filterable import Filterable
from xtrace_sdk.collection.record import Hit, Record, Written
from xtrace_sdk.sync._background import Twin, core_of, in_threads, iterate, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.sync._vectors import Embedder
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext


class Collection(Twin[core.Collection]):
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
        self._core = core.Collection(
            core_of(xtrace),
            context,
            kb_id,
            embedding=in_threads(embedding, Embedder),
            namespace=namespace,
            filterable=filterable,
            vector_copy=vector_copy,
        )
        self._held = [xtrace, embedding]  # a twin that is dropped closes its connections

    @classmethod
    def open(
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
        twin = cls.__new__(cls)
        twin._core = run(
            core.Collection.open(
                core_of(xtrace),
                context,
                name,
                embedding=in_threads(embedding, Embedder),
                namespace=namespace,
                filterable=filterable,
                vector_copy=vector_copy,
            )
        )
        twin._held = [xtrace, embedding]
        return twin

    @property
    def kb_id(self) -> str:
        """The id of the knowledge base that the records are in."""
        return self._core.kb_id

    @property
    def namespace(self) -> str:
        """The namespace; empty unless one was given."""
        return self._core.namespace

    @property
    def embeds_texts(self) -> bool:
        """Whether it has a model, so that texts can be stored and searched without vectors."""
        return self._core.embeds_texts

    def upsert(self, records: Records, *, on_conflict: OnConflict = "replace") -> Written:
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
        return run(self._core.upsert(records, on_conflict=on_conflict))

    def get(self, ids: Sequence[str], *, include_vectors: bool = False) -> list[Record]:
        """The records with these ids, in their order; unknown ids are left out.

        Raises `OtherRecord` if the service gives another record for an id, `ContentTampered`, `UnknownContent`.
        """
        return run(self._core.get(ids, include_vectors=include_vectors))

    def update(
        self,
        id: str,
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
        return run(self._core.update(id, text=text, metadata=metadata, vector=vector))

    def delete(self, ids: Sequence[str] | None = None, *, where: WhereFilter | None = None) -> int:
        """Deletes the records with these ids, or those that match, and says how many there were.

        `where={}` matches every record, as `clear` does. What hashes decide the service deletes in one go; for anything
        else the records are read first, and one that others change meanwhile may be deleted too.

        Raises `InvalidArgument` unless either is given, and `InvalidFilter`.
        """
        return run(self._core.delete(ids, where=where))

    def clear(self) -> int:
        """Deletes all records of the namespace, and says how many there were."""
        return run(self._core.clear())

    def count(self, where: WhereFilter | None = None) -> int:
        """How many records match.

        The service counts where hashes decide; otherwise every record that may match is read.
        """
        return run(self._core.count(where))

    def iter(
        self,
        where: WhereFilter | None = None,
        *,
        include_vectors: bool = False,
        order_by: str | None = None,
        descending: bool = False,
    ) -> Generator[Record, None]:
        """The records that match, in the order in which they were first stored, fetched while they are consumed.

        With `order_by`, by the value at that path of their metadata: truths, numbers, times, other texts, lists,
        objects, and last those without a value, also where it is `descending`. The service cannot sort what it does not
        see, so all that match are read first and are in memory.
        """
        return iterate(
            self._core.iter(where, include_vectors=include_vectors, order_by=order_by, descending=descending)
        )

    def values(self, field: str, where: WhereFilter | None = None) -> list[Any]:
        """The different values that a field has in the records that match, in the order that `iter` sorts by.

        `field` is a path. Of a list each element counts; null never does. The service has hashes alone, so the records
        that have the field and may match are read. Raises `InvalidArgument` for a field that begins with `$`.
        """
        return run(self._core.values(field, where))

    def search(
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
        return run(
            self._core.search(
                query,
                k,
                where=where,
                rescore=rescore,
                min_similarity=min_similarity,
                include_vectors=include_vectors,
                decoys=decoys,
            )
        )

    def search_mmr(
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
        return run(
            self._core.search_mmr(
                query,
                k,
                candidates=candidates,
                diversity=diversity,
                where=where,
                rescore=rescore,
                min_similarity=min_similarity,
                include_vectors=include_vectors,
                decoys=decoys,
            )
        )
