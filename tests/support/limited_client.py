"""A client in a process of its own with little memory, for a test that gives it hostile answers.

`python limited_client.py` reads a line of JSON with what there is (`World`), and then a line for each call: the name of
one of `CALLS` and the address of the service. For each it prints a line: how the call ended, and how much more memory
there was at some time than before.
"""

import asyncio
import gc
import json
import resource
import sys
import tempfile
import traceback
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.collection.record import Record
from xtrace_sdk.errors import XTraceError
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.notices import NothingStored
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_mem.memory import Memory
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.contexts.weakness import WeakKeyWarning
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.inference.llm import InferenceClient
from xtrace_sdk.x_vec.keys.key_file import KeyFileProvider
from xtrace_sdk.x_vec.retrievers.planning import Planner
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.schemes.blocks import BlockScheme
from xtrace_sdk.x_vec.stored.sealing import seal_chunks
from xtrace_sdk.x_vec.upkeep.audit.fetching import fetch_samples
from xtrace_sdk.x_vec.upkeep.bad_chunks import BadChunk, Problem
from xtrace_sdk.x_vec.upkeep.copying import copy_knowledge_base
from xtrace_sdk.x_vec.upkeep.manifest import write_manifest
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import delete_bad, verify

DIM = 16
COUNT = 6
MORE_MEMORY = 1 << 30
"""Address space beside what the process has when it begins."""
MAX_ANSWER_BYTES = 2 << 20
VECTORS = np.random.default_rng(6).integers(0, 2, (COUNT, DIM), dtype=np.uint8)
QUERY = VECTORS[2]
NO_ID = 999_999
BAD = BadChunk(3, (Problem.CONTENT,), "never")
STATUS = Path("/proc/self/status")
RETRIES = Retries(attempts=2, first_delay_s=0.001, longest_delay_s=0.001, longest_retry_after_s=0.01)


class Network(httpx2.AsyncHTTPTransport):
    """The network, which clients do not close: making it takes longer than a call."""

    async def aclose(self) -> None:
        """Not yet."""


@dataclass
class World:
    """What is stored, and clients of it."""

    org_id: str
    api_key: str
    admin_key: str
    url: str
    kb_id: str
    """With `COUNT` chunks under the context."""
    records_kb_id: str
    """With the records of a collection."""
    old_kb_id: str
    """With chunks under the predecessor of the successor."""
    key_file: str
    context_file: str
    successor_file: str
    context_id: str
    key_hash: str
    blocks_file: str
    """A context of the scheme `lattice`."""
    blocks_kb_id: str
    """With `COUNT` chunks under it, some of which are in a block."""
    block_id: int
    number: int = 0
    xtrace: XTraceIntegration = field(init=False, repr=False)

    @cached_property
    def network(self) -> Network:
        return Network(verify=False)

    @cached_property
    def provider(self) -> KeyFileProvider:
        return KeyFileProvider(self.key_file)

    @cached_property
    def context(self) -> ExecutionContext:
        return ExecutionContext.load_from_disk(
            path=self.context_file, key_provider=self.provider, insecure_allow_weak_encryption=True
        )

    @cached_property
    def successor(self) -> ExecutionContext:
        return ExecutionContext.load_from_disk(
            path=self.successor_file, key_provider=self.provider, insecure_allow_weak_encryption=True
        )

    @cached_property
    def with_blocks(self) -> ExecutionContext:
        return ExecutionContext.load_from_disk(path=self.blocks_file, key_provider=self.provider)

    @property
    def blocks(self) -> BlockScheme:
        assert self.with_blocks.homomorphic.blocks is not None
        return self.with_blocks.homomorphic.blocks

    def new_client(self, url: str) -> XTraceIntegration:
        """From now on, `xtrace` is a client of the service at this address that has seen nothing yet."""
        self.url = url
        self.xtrace = XTraceIntegration(
            self.org_id,
            self.api_key,
            self.admin_key,
            url,
            timeout_s=20,
            deadline_s=60,
            retries=RETRIES,
            max_answer_bytes=MAX_ANSWER_BYTES,
            transport=self.network,
        )
        return self.xtrace

    @property
    def loader(self) -> DataLoader:
        return DataLoader(self.context, self.xtrace)

    @property
    def retriever(self) -> Retriever:
        return Retriever(self.context, self.xtrace)

    def embedding(self, provider: str) -> Embedding:
        base_url = self.url if provider == "ollama" else f"{self.url}/v1"
        return Embedding(
            provider, "model", 4, base_url=base_url, batch_size=2, timeout_s=20, retries=RETRIES, transport=self.network
        )

    def language_model(self) -> InferenceClient:
        address = f"{self.url}/v1"
        return InferenceClient(
            "custom", "model", base_url=address, timeout_s=20, retries=RETRIES, transport=self.network
        )

    def query(self) -> list[bytes]:
        (query,) = self.context.homomorphic.encrypt_queries([QUERY]).sent
        return query

    def new_file(self) -> Path:
        self.number += 1
        return Path(self.key_file).with_name(f"manifest {self.number}")

    def new(self) -> list[dict[str, Any]]:
        """A chunk that is not stored yet."""
        self.number += 1
        return [{"chunk_content": f"new {self.number}", "meta_data": {"tag1": "new"}}]

    @property
    def records(self) -> Collection:
        """Two records that are stored, in a knowledge base of their own."""
        return Collection(self.xtrace, self.context, self.records_kb_id)

    @property
    def memory(self) -> Memory:
        """Facts beside the records."""
        collection = Collection(
            self.xtrace, self.context, self.records_kb_id, namespace="memory", embedding=SignsOfLengths()
        )
        return Memory(collection, llm=NothingToMerge()).scope(user="anna")

    def record(self, name: str) -> Record:
        return Record(name, f"text {name}", {"topic": "cats"}, [float(bit) - 0.5 for bit in QUERY])


class SignsOfLengths:
    """A model in no time."""

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return np.array([VECTORS[len(text) % COUNT] for text in texts], dtype=np.uint8)


class NothingToMerge:
    """A language model that keeps each text as it is."""

    async def complete(self, messages: Sequence[Mapping[str, str]]) -> str:
        told = json.loads(messages[-1]["content"])
        found = [{"text": one["content"], "key": "k"} for one in told["messages"]] if isinstance(told, dict) else []
        return json.dumps({"facts": found, "merges": []})


def collection(label: str, count: int = COUNT) -> list[dict[str, Any]]:
    return [
        {"chunk_content": f"{label} {i}", "meta_data": {"tag1": f"t{i % 2}", "facets": ["f"]}} for i in range(count)
    ]


async def every(items: AsyncGenerator[Any, None]) -> list[Any]:
    return [item async for item in items]


async def _encrypted(world: World, label: str = "encrypted", count: int = COUNT) -> tuple[Any, Any]:
    return await world.loader.load_data_from_memory(collection(label, count), list(VECTORS[:count]))


async def _named(world: World, count: int = COUNT) -> tuple[Any, Any]:
    """As whoever knows no loader names them."""
    index, db = await _encrypted(world, "named", count)
    plain = [{key: value for key, value in chunk.items() if key != "base_name"} for chunk in db]
    return index, [chunk | {"name": f"name {i}"} for i, chunk in enumerate(plain)]


async def _insert(world: World) -> Any:
    index, db = await _named(world)
    return await world.xtrace.insert_chunks(world.kb_id, db, world.context.id, index=index)


async def _store(world: World) -> Any:
    index, db = await _named(world)
    return await world.xtrace.store_db(db, index, world.kb_id, world.context.id, concurrent=True, batch_size=2)


async def _update(world: World) -> Any:
    index, db = await _named(world, 1)
    updates = [{"chunk_id": 1, **db[0]}]
    return await world.xtrace.update_chunks(index, updates, world.context.id, world.kb_id)


async def _dump(world: World) -> Any:
    index, db = await world.loader.load_data_from_memory(world.new(), [QUERY])
    return await world.loader.dump_db(db, index, world.kb_id, concurrent=True)


async def _replace(world: World) -> Any:
    return await world.loader.update_chunks([{"chunk_id": 1, **world.new()[0]}], [QUERY], world.kb_id)


async def _undo(world: World) -> Any:
    loader = world.loader
    return await loader.undo(await loader.load(world.new(), [QUERY], world.kb_id))


async def _verify_local_index(world: World) -> Any:
    with _indexed(world) as records:
        return await records.verify_local_index()


async def _share_local_index(world: World) -> Any:
    with _indexed(world) as records:
        return await records.share_local_index()


@contextmanager
def _indexed(world: World) -> Iterator[Collection]:
    """The collection with a new local index."""
    with tempfile.TemporaryDirectory() as folder:
        yield Collection(world.xtrace, world.context, world.records_kb_id, local_index="replica", local_folder=folder)


async def _share_local_index_of_chunks(world: World) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        retriever = Retriever(world.context, world.xtrace, local_index="codes", local_folder=folder)
        return await retriever.share_local_index(world.kb_id)


async def _retrieve(world: World) -> Any:
    retriever = world.retriever
    found = await retriever.nn_search_for_ids(QUERY, 2, world.kb_id)
    return await retriever.retrieve_and_decrypt(found, world.kb_id, decoys=2)


async def _samples(world: World) -> Any:
    public = PublicParts(**world.context.public_data())
    return await fetch_samples(world.xtrace, world.kb_id, public, 10)


async def _load(world: World) -> Any:
    return await ExecutionContext.load_from_remote(
        context_id=world.context_id,
        integration=world.xtrace,
        key_provider=world.provider,
        insecure_allow_weak_encryption=True,
    )


async def _copy(world: World) -> Any:
    copy = await world.xtrace.create_kb("copy")
    return await copy_knowledge_base(world.xtrace, world.kb_id, world.xtrace, copy.id, world.context, batch_size=4)


async def _create_or_load(world: World) -> Any:
    return await ExecutionContext.create_or_load(
        world.provider,
        "paillier_lookup",
        24,
        256,
        name="app",
        integration=world.xtrace,
        insecure_allow_weak_parameters=True,
    )


async def _search_lineage(world: World) -> Any:
    return await Retriever(world.successor, world.xtrace).search(QUERY, 2, world.old_kb_id)


async def _seal_block(world: World) -> Any:
    block = world.blocks.seal(VECTORS[:2], world.blocks_kb_id)
    return await world.xtrace.seal_block(
        world.blocks_kb_id, world.with_blocks.id, [1, 2], [bytes(16)] * 2, block.header, block.hints, block.body
    )


async def _search_blocks(world: World) -> Any:
    with patch.object(Planner, "_costs", return_value=(2, 1)):  # there are too few chunks to pay
        return await Retriever(world.with_blocks, world.xtrace).search(QUERY, 2, world.blocks_kb_id, decoys=1)


CALLS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "XTraceIntegration.insert_chunks": _insert,
    "XTraceIntegration.store_db": _store,
    "XTraceIntegration.find_chunk_names": lambda w: w.xtrace.find_chunk_names(w.kb_id, w.context.id, ["a", "b"]),
    "XTraceIntegration.get_chunk_by_id": lambda w: w.xtrace.get_chunk_by_id(range(1, 5), w.kb_id),
    "XTraceIntegration.local_changes": lambda w: w.xtrace.local_changes(w.kb_id, w.context.id, 1),
    "XTraceIntegration.shared_index": lambda w: w.xtrace.shared_index(w.kb_id, w.context.id, "records"),
    "XTraceIntegration.get_index_segment": lambda w: w.xtrace.get_index_segment(
        w.kb_id, w.context.id, "records", sha256(b"segment").hexdigest()
    ),
    "XTraceIntegration.add_index_segment": lambda w: w.xtrace.add_index_segment(
        w.kb_id, w.context.id, "records", b"segment"
    ),
    "XTraceIntegration.put_shared_index": lambda w: w.xtrace.put_shared_index(
        w.kb_id, w.context.id, "records", 0, b"manifest", [sha256(b"segment").hexdigest()]
    ),
    "XTraceIntegration.delete_shared_index": lambda w: w.xtrace.delete_shared_index(w.kb_id, w.context.id, "chunks"),
    "XTraceIntegration.update_chunks": _update,
    "XTraceIntegration.patch_chunks": lambda w: w.xtrace.patch_chunks(
        w.kb_id, w.context.id, [{"chunk_id": 1, "meta_data": {"tag3": "x"}}]
    ),
    "XTraceIntegration.delete_chunks": lambda w: w.xtrace.delete_chunks([NO_ID], w.kb_id),
    "XTraceIntegration.compute_hamming_distances": lambda w: w.xtrace.compute_hamming_distances(
        w.query(), w.context.id, w.kb_id, range=(1, COUNT)
    ),
    "XTraceIntegration.stream_hamming_distances": lambda w: every(
        w.xtrace.stream_hamming_distances(w.kb_id, w.context.id, [w.query()], range_filter=(1, COUNT))
    ),
    "XTraceIntegration.plan_blocks": lambda w: w.xtrace.plan_blocks(w.blocks_kb_id, w.with_blocks.id, listed=True),
    "XTraceIntegration.search_blocks": lambda w: w.xtrace.search_blocks(
        w.blocks_kb_id, w.with_blocks.id, lambda: w.blocks.queries([QUERY]).sent, w.blocks.sizes.slabs
    ),
    "XTraceIntegration.get_blocks": lambda w: w.xtrace.get_blocks(
        w.blocks_kb_id, w.with_blocks.id, [w.block_id], w.blocks.sizes.hints
    ),
    "XTraceIntegration.seal_block": _seal_block,
    "XTraceIntegration.unseal_blocks": lambda w: w.xtrace.unseal_blocks(w.blocks_kb_id, w.with_blocks.id, [NO_ID]),
    "XTraceIntegration.meta_search": lambda w: w.xtrace.meta_search(w.kb_id, {"tag1": "t1"}, w.context.id, True),
    "XTraceIntegration.meta_search_paginated": lambda w: w.xtrace.meta_search_paginated(
        w.kb_id, w.context.id, {"tag1": "t1"}, limit=2
    ),
    "XTraceIntegration.iter_meta_search": lambda w: every(
        w.xtrace.iter_meta_search(w.kb_id, {"tag1": "t0"}, w.context.id, page_size=2)
    ),
    "XTraceIntegration.delete_chunks_by_meta": lambda w: w.xtrace.delete_chunks_by_meta(
        w.kb_id, w.context.id, {"tag1": "there is none"}
    ),
    "XTraceIntegration.patch_chunks_by_meta": lambda w: w.xtrace.patch_chunks_by_meta(
        w.kb_id, w.context.id, {"tag1": "t1"}, {"tag3": "x"}
    ),
    "XTraceIntegration.store_exec_context": lambda w: w.xtrace.store_exec_context(
        w.context.public_data(), w.context.id
    ),
    "XTraceIntegration.get_serialized_exec_context": lambda w: w.xtrace.get_serialized_exec_context(w.context_id),
    "XTraceIntegration.list_exec_contexts": lambda w: w.xtrace.list_exec_contexts(),
    "XTraceIntegration.describe_exec_contexts": lambda w: w.xtrace.describe_exec_contexts(),
    "XTraceIntegration.find_exec_context": lambda w: w.xtrace.find_exec_context("nobody"),
    "XTraceIntegration.delete_exec_context": lambda w: w.xtrace.delete_exec_context("unknown"),
    "XTraceIntegration.retire_exec_context": lambda w: w.xtrace.retire_exec_context("unknown"),
    "XTraceIntegration.get_successor": lambda w: w.xtrace.get_successor(w.context.id),
    "XTraceIntegration.store_successor": lambda w: w.xtrace.store_successor(w.context.id, "other"),
    "XTraceIntegration.get_ctx_for_kb": lambda w: w.xtrace.get_ctx_for_kb(w.kb_id),
    "XTraceIntegration.get_kbs_for_ctx": lambda w: w.xtrace.get_kbs_for_ctx(w.context.id),
    "XTraceIntegration.register_kb_binding": lambda w: w.xtrace.register_kb_binding(w.kb_id, w.context.id),
    "XTraceIntegration.get_name_salt": lambda w: w.xtrace.get_name_salt(w.kb_id, w.context.id),
    "XTraceIntegration.store_name_salt": lambda w: w.xtrace.store_name_salt(w.kb_id, w.context.id, bytes(32)),
    "XTraceIntegration.list_kbs": lambda w: w.xtrace.list_kbs(),
    "XTraceIntegration.get_kb": lambda w: w.xtrace.get_kb(w.kb_id),
    "XTraceIntegration.create_kb": lambda w: w.xtrace.create_kb("kb"),
    "XTraceIntegration.delete_kb": lambda w: w.xtrace.delete_kb("unknown"),
    "XTraceIntegration.list_api_keys": lambda w: w.xtrace.list_api_keys(),
    "XTraceIntegration.create_api_key": lambda w: w.xtrace.create_api_key("key"),
    "XTraceIntegration.update_api_key": lambda w: w.xtrace.update_api_key(w.key_hash, name="key", expires_at=None),
    "XTraceIntegration.revoke_api_key": lambda w: w.xtrace.revoke_api_key("unknown"),
    "XTraceIntegration.get_key_permissions": lambda w: w.xtrace.get_key_permissions(w.key_hash),
    "XTraceIntegration.get_organisation": lambda w: w.xtrace.get_organisation(),
    "XTraceIntegration.audit_log": lambda w: w.xtrace.audit_log(10),
    "XTraceIntegration.set_key_permission": lambda w: w.xtrace.set_key_permission(w.key_hash, w.kb_id, 7),
    "DataLoader.dump_db": _dump,
    "DataLoader.load": lambda w: w.loader.load(w.new(), [QUERY], w.kb_id),
    "DataLoader.undo": _undo,
    "DataLoader.superseded": lambda w: w.loader.superseded(collection("text"), w.kb_id),
    "DataLoader.upsert_one": lambda w: w.loader.upsert_one(collection("text")[0], VECTORS[0], w.kb_id),
    "DataLoader.update_chunks": _replace,
    "DataLoader.adopt_names": lambda w: w.loader.adopt_names(w.kb_id, w.kb_id),
    "DataLoader.delete_chunks": lambda w: w.loader.delete_chunks([NO_ID], w.kb_id),
    "DataLoader.patch_chunks": lambda w: w.loader.patch_chunks(
        [{"chunk_id": 2, "meta_data": {"tag2": "private"}}], w.kb_id
    ),
    "DataLoader.patch_chunks_by_meta": lambda w: w.loader.patch_chunks_by_meta(
        {"tag1": "t1"}, {"tag2": "private"}, w.kb_id
    ),
    "DataLoader.delete_chunks_by_meta": lambda w: w.loader.delete_chunks_by_meta({"tag1": "there is none"}, w.kb_id),
    "Retriever.nn_search_for_ids": lambda w: w.retriever.nn_search_for_ids(QUERY, 3, w.kb_id),
    "Retriever.nn_search_batch": lambda w: w.retriever.nn_search_batch(list(VECTORS[:3]), 2, w.kb_id),
    "Retriever.search": lambda w: w.retriever.search(QUERY, 3, w.kb_id, meta_filter={"tag1": "t0"}, decoys=1),
    "Retriever.retrieve_and_decrypt": _retrieve,
    "Retriever.share_local_index": _share_local_index_of_chunks,
    "Retriever.meta_search": lambda w: w.retriever.meta_search({"tag1": "t0"}, w.kb_id, ["chunk_content", "tag1"]),
    "Retriever.iter_meta_search": lambda w: every(
        w.retriever.iter_meta_search({"tag1": "t0"}, w.kb_id, ["chunk_content", "meta_data"], sort_by="updated_at")
    ),
    "ExecutionContext.save_to_remote": lambda w: w.context.save_to_remote(w.xtrace),
    "ExecutionContext.load_from_remote": _load,
    "ExecutionContext.create_or_load": _create_or_load,
    "Collection.open": lambda w: Collection.open(w.xtrace, w.context, "records"),
    "Collection.upsert": lambda w: w.records.upsert([w.record("a"), w.record("new")]),
    "Collection.get": lambda w: w.records.get(["a", "b", "missing"], include_vectors=True),
    "Collection.update": lambda w: w.records.update("a", metadata={"topic": "dogs"}),
    "Collection.delete": lambda w: w.records.delete(["missing"]),
    "Collection.clear": lambda w: Collection(w.xtrace, w.context, w.records_kb_id, namespace="empty").clear(),
    "Collection.count": lambda w: w.records.count({"topic": "cats"}),
    "Collection.iter": lambda w: every(w.records.iter({"topic": {"$ne": "birds"}}, order_by="topic")),
    "Collection.values": lambda w: w.records.values("topic"),
    "Collection.search": lambda w: w.records.search(w.record("a").vector or [], 2, where={"topic": "cats"}, decoys=1),
    "Collection.verify_local_index": _verify_local_index,
    "Collection.share_local_index": _share_local_index,
    "Collection.search_mmr": lambda w: w.records.search_mmr(
        w.record("a").vector or [], 2, candidates=3, where={"topic": "cats"}
    ),
    "Memory.remember": lambda w: w.memory.remember(f"fact {w.new()}"),
    "Memory.consolidate": lambda w: w.memory.consolidate(),
    "Memory.recall": lambda w: w.memory.recall("fact", 2),
    "Memory.get": lambda w: w.memory.get("a"),
    "Memory.facts": lambda w: w.memory.facts(superseded=True),
    "Memory.history": lambda w: w.memory.history("k"),
    "Memory.forget": lambda w: w.memory.forget(where={"key": "other"}),
    "rotate": lambda w: rotate(w.successor, w.xtrace, batch_size=2),
    "copy_knowledge_base": _copy,
    "verify": lambda w: verify(w.successor, w.xtrace, w.old_kb_id, batch_size=2),
    "seal_chunks": lambda w: seal_chunks(w.with_blocks, w.xtrace, w.blocks_kb_id),
    "write_manifest": lambda w: write_manifest(w.xtrace, w.kb_id, w.context, w.new_file()),
    "delete_bad": lambda w: delete_bad(w.xtrace, w.kb_id, [BadChunk(NO_ID, (Problem.VECTOR,), "never"), BAD]),
    "fetch_samples": _samples,
    "Embedding.embed": lambda w: w.embedding("ollama").embed("text"),
    "Embedding.bin_embed": lambda w: w.embedding("openai").bin_embed("text"),
    "Embedding.embed_query": lambda w: w.embedding("ollama").embed_query("text"),
    "Embedding.bin_embed_query": lambda w: w.embedding("openai").bin_embed_query("text"),
    "Embedding.embed_many": lambda w: w.embedding("openai").embed_many(["one", "two", "three"]),
    "Embedding.bin_embed_many": lambda w: w.embedding("ollama").bin_embed_many(["one", "two", "three"]),
    "InferenceClient.query": lambda w: w.language_model().query("question", "context"),
    "InferenceClient.complete": lambda w: w.language_model().complete([{"role": "user", "content": "question"}]),
    "InferenceClient.stream": lambda w: every(w.language_model().stream("question", "context")),
    # Paths that no name stands for.
    "a search of what a rotation has not moved": _search_lineage,
    "a search by blocks": _search_blocks,
}
BAD = BadChunk(3, (Problem.CONTENT,), "never")


async def outcome(world: World, name: str, url: str) -> dict[str, Any]:
    """How the call ended: the name of a result's or an `XTraceError`'s class, or the traceback of anything else."""
    try:
        with warnings.catch_warnings():
            # What a lying service leaves empty is rightly said to be empty.
            warnings.simplefilter("ignore", NothingStored)
            # The contexts of these tests have short primes.
            warnings.simplefilter("ignore", WeakKeyWarning)
            async with world.new_client(url):
                result = await CALLS[name](world)
    except XTraceError as error:
        return {"ended": type(error).__name__, "said": str(error)}
    except BaseException:
        return {"bug": traceback.format_exc()}
    return {"ended": type(result).__name__, "said": ""}


def limit_memory() -> None:
    """From here on the process gets `MORE_MEMORY` address space and no more, where the system tells what it has."""
    if STATUS.exists():
        now = 1024 * kib("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (now + MORE_MEMORY, now + MORE_MEMORY))


def begin_to_measure() -> int:
    """The memory that the process has now; its peak is measured from here on, where the system does that."""
    gc.collect()
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path("/proc/self/clear_refs").write_text("5")
    return kib("VmRSS")


def peak_kib() -> int:
    return kib("VmHWM") if STATUS.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def kib(name: str) -> int:
    """A line of the system's account of this process."""
    (line,) = [one for one in STATUS.read_text().splitlines() if one.startswith(f"{name}:")]
    return int(line.split()[1])


def main() -> None:
    warnings.simplefilter("error")
    world = World(**json.loads(sys.stdin.readline()))
    _ = world.context, world.successor, world.network
    limit_memory()
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            asked = json.loads(line)
            before = begin_to_measure()
            ended = runner.run(outcome(world, asked["call"], asked["url"]))
            ended["more_kib"] = peak_kib() - before
            sys.stdout.write(json.dumps(ended) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
