"""`XTraceStore`: the long-term memory of LangGraph's agents, in a collection.

An item is one record. Its metadata contain the item's value, its namespace, and every prefix of the namespace, so the
server can search below a prefix by comparing hashes.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    ensure_embeddings,
    get_text_at_path,
)
from langgraph.store.base.embed import AEmbeddingsFunc, EmbeddingsFunc

import xtrace_sdk
from xtrace_sdk import Record, sync

Namespace = tuple[str, ...]
Vector = list[float]
T = TypeVar("T")


class XTraceStore(BaseStore):
    """Items in an end-to-end encrypted collection, found by namespace, by their values and by similarity.

    Use the collection for nothing else. Items do not expire.
    """

    def __init__(
        self,
        collection: xtrace_sdk.Collection | sync.Collection,
        embedding: Embeddings | EmbeddingsFunc | AEmbeddingsFunc | None = None,
        *,
        fields: Sequence[str] = ("$",),
    ) -> None:
        """Creates a store on top of a collection.

        Args:
            collection: from `xtrace_sdk` or `xtrace_sdk.sync`; both support synchronous and asynchronous calls.
            embedding: the embedding model; by default the collection's own. Without one, items cannot be found by
                similarity.
            fields: the paths in an item's value whose texts are embedded together, unless `put` names others; `"$"`
                means the whole value.
        """
        self._collection = sync.Collection.of(collection).asynchronous
        self._model = None if embedding is None else ensure_embeddings(embedding)
        self._is_indexed = self._model is not None or self._collection.embeds_texts
        self._fields = list(fields)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Returns the result of each operation.

        Reads see the state before the batch; then the last `put` of each item is written.
        """
        plan = self._plan(ops)
        if self._model is not None:
            plan.vectors = self._model.embed_documents(plan.texts) if plan.texts else []
            plan.queries = {query: self._model.embed_query(query) for query in plan.queries}
        return sync.run(self._carry_out(plan))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Asynchronous form of `batch`."""
        plan = self._plan(ops)
        if self._model is not None:
            plan.vectors = await self._model.aembed_documents(plan.texts) if plan.texts else []
            embedded = await asyncio.gather(*map(self._model.aembed_query, plan.queries))
            plan.queries = dict(zip(plan.queries, embedded, strict=True))
        return await self._carry_out(plan)

    def _plan(self, ops: Iterable[Op]) -> "_Plan":
        plan = _Plan()
        last: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            plan.results.append(None)
            if isinstance(op, PutOp):
                last[op.namespace, op.key] = op
            else:
                plan.reads[len(plan.results) - 1] = op
            if isinstance(op, SearchOp) and op.query and self._is_indexed:
                plan.queries[op.query] = op.query
        for op in last.values():
            if op.value is None:
                plan.deleted.append(_record_id(op.namespace, op.key))
            elif text := self._text(op.value, op.index):
                plan.indexed.append(op)
                plan.texts.append(text)
            else:
                plan.plain.append(op)
        return plan

    def _text(self, value: Mapping[str, Any], index: Any) -> str:
        if index is False or not self._is_indexed:
            return ""
        paths = self._fields if index is None else index
        return "\n".join(text for path in paths for text in get_text_at_path(value, path))

    async def _carry_out(self, plan: "_Plan") -> list[Result]:
        results = await asyncio.gather(*[self._read(op, plan) for op in plan.reads.values()])
        for i, result in zip(plan.reads, results, strict=True):
            plan.results[i] = result
        if plan.deleted:
            await self._collection.delete(plan.deleted)
        vectors: Sequence[Vector | None] = plan.vectors or [None] * len(plan.texts)
        records = [
            _record(op, text, vector) for op, text, vector in zip(plan.indexed, plan.texts, vectors, strict=True)
        ]
        records += [_record(op, None, []) for op in plan.plain]
        if records:
            await self._collection.upsert(records)
        return plan.results

    async def _read(self, op: Op, plan: "_Plan") -> Result:
        if isinstance(op, GetOp):
            found = await self._collection.get([_record_id(op.namespace, op.key)])
            return Item(**_fields(found[0])) if found else None
        if isinstance(op, ListNamespacesOp):
            return await self._namespaces(op)
        if isinstance(op, SearchOp):
            query = plan.queries.get(op.query) if op.query else None
            return await (self._listed(op) if query is None else self._similar(op, query))
        raise ValueError(f"got an operation of type {type(op).__name__}, expected one of langgraph.store.base")

    async def _similar(self, op: SearchOp, query: str | Vector) -> list[SearchItem]:
        where, end = _where(op), op.offset + op.limit
        hits = await self._collection.search(query, end, where=where) if end > 0 else []
        found = [SearchItem(**_fields(hit.record), score=hit.similarity) for hit in hits[op.offset :]]
        if len(found) < op.limit:
            # Like LangGraph's own store: items without a vector fill the rest of the page.
            unindexed = self._collection.iter({"$and": [where, {"indexed": False}]})
            found += [SearchItem(**_fields(one)) for one in await _first(unindexed, op.limit - len(found))]
        return found

    async def _listed(self, op: SearchOp) -> list[SearchItem]:
        found = await _first(self._collection.iter(_where(op)), op.offset + op.limit)
        return [SearchItem(**_fields(one)) for one in found[op.offset :]]

    async def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        where = [_below(one.path) for one in conditions if one.match_type == "prefix" and "*" not in one.path]
        names = await self._collection.values("namespace", {"$and": where} if where else None)
        found = [
            namespace for namespace in map(_namespace, names) if all(_matches(namespace, one) for one in conditions)
        ]
        return sorted({namespace[: op.max_depth] for namespace in found})[op.offset : op.offset + op.limit]


@dataclass
class _Plan:
    """What a batch of operations will do."""

    results: list[Result] = field(default_factory=list)
    reads: dict[int, Op] = field(default_factory=dict)
    """The operations that read, by the index of their result."""
    queries: dict[str, str | Vector] = field(default_factory=dict)
    """What to search for, for each query: its vector, or its text if the collection embeds."""
    deleted: list[str] = field(default_factory=list)
    indexed: list[PutOp] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """The texts of `indexed`."""
    vectors: list[Vector] = field(default_factory=list)
    """The vectors of `texts`; empty if the collection embeds."""
    plain: list[PutOp] = field(default_factory=list)


def _record_id(namespace: Namespace, key: str) -> str:
    return json.dumps([*namespace, key], ensure_ascii=False)


def _name(namespace: Sequence[str]) -> str:
    return json.dumps(list(namespace), ensure_ascii=False)


def _namespace(name: str) -> Namespace:
    return tuple(json.loads(name))


def _record(op: PutOp, text: str | None, vector: Vector | None) -> Record:
    metadata = {
        "namespace": _name(op.namespace),
        "prefixes": [_name(op.namespace[: i + 1]) for i in range(len(op.namespace))],
        "key": op.key,
        "value": op.value,
        "indexed": text is not None,
    }
    return Record(_record_id(op.namespace, op.key), text, metadata, vector)


def _fields(record: Record) -> dict[str, Any]:
    """The arguments of an `Item`."""
    return {
        "value": record.metadata["value"],
        "key": record.metadata["key"],
        "namespace": _namespace(record.metadata["namespace"]),
        "created_at": _time(record.created_at),
        "updated_at": _time(record.updated_at),
    }


def _time(time: datetime | None) -> datetime:
    return datetime.now(UTC) if time is None else time


def _below(prefix: Namespace) -> dict[str, Any]:
    return {"prefixes": {"$contains": _name(prefix)}} if prefix else {}


def _where(op: SearchOp) -> dict[str, Any]:
    parts = [_below(op.namespace_prefix)]
    for key, value in (op.filter or {}).items():
        parts += _conditions(f"value.{key}", value)
    return {"$and": parts}


def _conditions(path: str, value: Any) -> list[dict[str, Any]]:
    """The conditions for a value. As in LangGraph, an object without operators matches items that contain it."""
    if not isinstance(value, Mapping) or any(key.startswith("$") for key in value):
        return [{path: value}]
    return [{path: {"$exists": True}}] + [
        condition for key, inner in value.items() for condition in _conditions(f"{path}.{key}", inner)
    ]


def _matches(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))


async def _first(records: Any, count: int) -> list[Record]:
    found: list[Record] = []
    if count > 0:
        async for one in records:
            found.append(one)
            if len(found) == count:
                break
    await records.aclose()
    return found
