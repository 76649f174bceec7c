"""Made by `scripts/sync-twins` from `xtrace_sdk.collection.collection`: change that, and run the script."""

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Annotated, Any, Literal, Self

from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import Count, Fraction, OwnCheck, Positive
from xtrace_sdk.collection import collection as core
from xtrace_sdk.collection.collection import Records, WhereFilter
from xtrace_sdk.collection.filterable import Filterable
from xtrace_sdk.collection.record import Hit, Record, Written
from xtrace_sdk.sync._background import Twin, core_of, in_threads, iterate, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.sync._vectors import Embedder
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.local_index import LOCAL_BYTES, LocalKind
from xtrace_sdk.x_vec.local.shared_index import SharedLocalIndex
from xtrace_sdk.x_vec.local.verifying import LocalIndexReport
from xtrace_sdk.x_vec.retrievers.results import SearchMode, SearchResults


class Collection(Twin[core.Collection]):
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
        self._core = core.Collection(
            core_of(xtrace),
            context,
            kb_id,
            embedding=in_threads(embedding, Embedder),
            namespace=namespace,
            filterable=filterable,
            vector_copy=vector_copy,
            local_index=local_index,
            local_folder=local_folder,
            local_bytes=local_bytes,
            local_sharing=local_sharing,
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
                local_index=local_index,
                local_folder=local_folder,
                local_bytes=local_bytes,
                local_sharing=local_sharing,
            )
        )
        twin._held = [xtrace, embedding]
        return twin

    @property
    def kb_id(self) -> str:
        """The id of the knowledge base that stores the records."""
        return self._core.kb_id

    @property
    def namespace(self) -> str:
        """The namespace, by default empty."""
        return self._core.namespace

    @property
    def local_index_path(self) -> Path | None:
        """The file of the local index; None without one."""
        return self._core.local_index_path

    def share_local_index(self) -> SharedLocalIndex:
        """Brings the local index up to date, and leaves a sealed copy on the service for other clients.

        A client whose index is empty, or far behind, then fetches this copy, and what changed since, instead of all
        contents. Only segments that the service lacks are sent, and nothing if its copy is as new.

        Raises `InvalidArgument` without a local index, `PermissionDenied` without permission to write, `QuotaExceeded`,
        and what `search` raises.
        """
        return run(self._core.share_local_index())

    def verify_local_index(self, *, fetch: Count | None = 0) -> LocalIndexReport:
        """Brings the local index up to date, and compares it with all chunks that the service has.

        So it is noticed if the service left out a change. Contents that are kept are compared with what the index says
        of them, and so are `fetch` others, chosen at random, or all with None: rows that came from a
        shared index are not checked otherwise until a search finds them.

        The service learns that the client compares. Raises `InvalidArgument` without a local index,
        `ChangedSinceSearch` if others keep changing the records, and what `search` raises.
        """
        return run(self._core.verify_local_index(fetch=fetch))

    def clear_local_index(self) -> None:
        """Removes the file of the local index. The next search that uses it fetches the contents again."""
        return run(self._core.clear_local_index())

    @property
    def embeds_texts(self) -> bool:
        """Whether the collection has a model, so that texts can be stored and searched without vectors."""
        return self._core.embeds_texts

    def upsert(self, records: Records, *, on_conflict: OnConflict = "replace") -> Written:
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
        return run(self._core.upsert(records, on_conflict=on_conflict))

    def get(self, ids: Sequence[str], *, include_vectors: bool = False) -> list[Record]:
        """Returns the records with these ids, in the same order, without unknown ids.

        Raises `OtherRecord` if the service returns a different record for an id, `ContentTampered`, `UnknownContent`.
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
        """Changes only the given parts of a record, and returns the record.

        `metadata` replaces all metadata. A new text without a vector is embedded. If neither text nor vector changes,
        the ciphertexts of the vector stay the same. If others change the record meanwhile, it is read again, never
        overwritten.

        Raises `RecordNotFound`, `InvalidRecord`, `InvalidVector`, `InvalidArgument` for a new text without a vector or
        a model, `ContentTampered`.
        """
        return run(self._core.update(id, text=text, metadata=metadata, vector=vector))

    def delete(self, ids: Sequence[str] | None = None, *, where: WhereFilter | None = None) -> int:
        """Deletes the records with these ids, or those that match, and returns their number.

        `where={}` matches every record, as `clear` does. If hashes decide the filter, the service deletes the records
        in one call. Otherwise the client reads them first, and a record that others change meanwhile may be deleted
        too.

        Raises `InvalidArgument` unless exactly one of the two is given, and `InvalidFilter`.
        """
        return run(self._core.delete(ids, where=where))

    def clear(self) -> int:
        """Deletes all records of the namespace, and returns their number."""
        return run(self._core.clear())

    def count(self, where: WhereFilter | None = None) -> int:
        """Returns the number of records that match.

        If hashes decide the filter, the service counts. Otherwise the client reads every record that may match.
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
        """Yields the records that match, in the order in which they were first stored. Fetches them as they are
        consumed.

        With `order_by`, they are sorted by the value at that path of their metadata: booleans, numbers, times, other
        texts, lists, objects. Records without a value come last, even if `descending`. The service cannot sort values
        that it does not see, so all matching records are read first and held in memory.
        """
        return iterate(
            self._core.iter(where, include_vectors=include_vectors, order_by=order_by, descending=descending)
        )

    def values(self, field: str, where: WhereFilter | None = None) -> list[Any]:
        """Returns the distinct values of a field in the records that match, in the sort order of `iter`.

        `field` is a path. For a list, each element is a value; null is not. The service has only hashes, so the client
        reads the records that have the field and may match. Raises `InvalidArgument` if `field` begins with `$`.
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
        return run(
            self._core.search(
                query,
                k,
                where=where,
                rescore=rescore,
                min_similarity=min_similarity,
                include_vectors=include_vectors,
                decoys=decoys,
                mode=mode,
                max_staleness=max_staleness,
                hybrid=hybrid,
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
                mode=mode,
                max_staleness=max_staleness,
            )
        )
