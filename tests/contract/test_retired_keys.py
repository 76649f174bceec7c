"""Nothing new is encrypted under the keys of a replaced context, at any moment, by any holder of the new file."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.test_rotation import new_context, provider
from support.capture import Capture, Keys, Sent
from support.existing_client import PASSPHRASE, ExistingClientKey
from support.service import Http, ok
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.manifest import write_manifest
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)
"""It is about what a client encrypts and sends, which does not depend on the server's database."""

DIM = 16
COUNT = 30
FLOATS = np.random.default_rng(5).normal(size=(COUNT, DIM)).astype(np.float32)


class Model:
    """Gives every text a vector of its own."""

    async def embed_many(self, texts: Sequence[str]) -> Any:
        return np.array([np.random.default_rng(sum(text.encode())).normal(size=DIM) for text in texts], np.float32)

    async def bin_embed_many(self, texts: Sequence[str]) -> Any:
        return (await self.embed_many(texts) > 0).astype(np.uint8)


class Recorded(XTraceIntegration):
    """Keeps what is sent, and may stop a rotation after some batches."""

    batches_left = 1 << 30

    def __init__(self, credentials: Credentials) -> None:
        self.capture = Capture()
        super().__init__(
            credentials.org_id,
            credentials.api_key,
            credentials.admin_key,
            credentials.api_url,
            transport=self.capture,
        )

    async def update_chunks(self, *arguments: Any, **options: Any) -> None:
        if self.batches_left == 0:
            raise ConnectionAbortedError
        self.batches_left -= 1
        await super().update_chunks(*arguments, **options)


@pytest.fixture
async def recorded(credentials: Credentials) -> AsyncIterator[Recorded]:
    async with Recorded(credentials) as integration:
        yield integration


def keys_of(context: ExecutionContext, key: ExistingClientKey | None = None) -> Keys:
    if key is not None:
        return Keys(*key.primes, key.g, context.aes)
    p, q = (int(context.homomorphic.secrets()[name], 16) for name in ("p", "q"))
    return Keys(p, q, 1 + p * q, context.aes)


def collection(first: int = 0, last: int = COUNT) -> list[dict[str, Any]]:
    return [{"chunk_content": f"text {i}", "meta_data": {"tag1": f"t{i % 3}", "tag2": "x"}} for i in range(first, last)]


async def load(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, first: int, last: int) -> None:
    loader = DataLoader(context, xtrace, vector_copy="int8")
    await loader.load(collection(first, last), list(FLOATS[first:last]), kb_id)


async def use(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, turn: int, by_metadata: bool = True
) -> None:
    """Every call of a reader and a writer that may send anything encrypted."""
    retriever, loader = Retriever(context, xtrace, Model()), DataLoader(context, xtrace, vector_copy="int8")
    query = (FLOATS[0] > 0).astype(np.uint8)
    for _ in range(2):
        ids = await retriever.nn_search_for_ids(query, 5, kb_id)
        await retriever.nn_search_for_ids(query, 5, kb_id, range_filter=(2, 9), meta_filter={"tag1": "t1"})
    assert len(ids) == 5
    await retriever.nn_search_batch([query] * 33, 3, kb_id)
    await retriever.search("question", 3, kb_id, decoys=2)
    if context.is_ours and (context.predecessor is None or context.predecessor.is_ours):
        await retriever.search(FLOATS[0], 2, kb_id, rescore=2)
    new = {"chunk_content": f"new {turn} {context.id}", "meta_data": {"tag1": "new", "tag2": "y"}}
    added = await loader.upsert_one(new, FLOATS[1], kb_id)
    await loader.upsert_one({**new, "chunk_content": f"other {turn}"}, FLOATS[2], kb_id, chunk_id=turn * 2 + 1)
    await loader.load([new, {"chunk_content": f"more {turn}"}], Model(), kb_id)
    for field in ("tag1", "tag2"):
        await loader.patch_chunks([{"chunk_id": i, "meta_data": {field: "p"}} for i in (turn * 2 + 2, added)], kb_id)
        if by_metadata:
            await loader.patch_chunks_by_meta({field: "p"}, {field: "q"}, kb_id)
    await loader.delete_chunks_by_meta({"tag1": "q", "tag2": "q"}, kb_id)


async def stored_nonces(xtrace: XTraceIntegration, kb_id: str) -> set[bytes]:
    chunks = await xtrace.get_chunk_by_id(range(1, 300), kb_id, ["nonce"])
    return {chunk["nonce"] for chunk in chunks if chunk.get("nonce")}


@pytest.fixture(params=[pytest.param("paillier", marks=pytest.mark.full), "paillier_lookup", "another client's"])
async def old(
    request: pytest.FixtureRequest, recorded: Recorded, kb_id: str, http: Http, tmp_path: Path
) -> tuple[ExecutionContext, Keys]:
    """A context with chunks, and its keys."""
    if request.param != "another client's":
        context = new_context(request.param, DIM, private_metadata=("tag1",))
        await load(context, recorded, kb_id, 0, COUNT)
        return context, keys_of(context)
    key = ExistingClientKey(260, DIM)
    document = key.context()
    context_id = key.context_id(document)
    ok(http.data("POST", "/exec_context/{org}", json={"data": document, "context_id": context_id}))
    http.insert(kb_id, [key.chunk((row > 0).tolist(), f"text {i}") for i, row in enumerate(FLOATS)], context_id)
    (tmp_path / "old").write_text(json.dumps(document))
    context = ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "old", insecure_allow_weak_encryption=True)
    return context, keys_of(context, key)


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_nothing_is_encrypted_under_the_old_keys_once_there_is_a_successor(
    old: tuple[ExecutionContext, Keys], recorded: Recorded, kb_id: str, tmp_path: Path
) -> None:
    context, keys = old
    nonces = await stored_nonces(recorded, kb_id)
    recorded.capture.sent = Sent()

    def successor_from(name: str) -> ExecutionContext:
        return ExecutionContext.load_from_disk("passphrase", tmp_path / name, insecure_allow_weak_encryption=True)

    async def nothing_under_old_keys(turn: int, *contexts: ExecutionContext) -> None:
        for number, one in enumerate(contexts):
            await use(one, recorded, kb_id, turn + number)
        sent = recorded.capture.sent
        assert sent.calls == {"query", "queries", "index", "chunk_content"}
        assert keys.encrypted_under(sent, nonces | await stored_nonces(recorded, kb_id)) == ([], [])
        recorded.capture.sent = Sent()

    new = context.successor(provider(), key_len=256, path=tmp_path / "new", insecure_allow_weak_parameters=True)
    new.save_to_disk(tmp_path / "copy from the start")
    await nothing_under_old_keys(0, new)  # before the first batch
    recorded.batches_left = 2
    with pytest.raises(ConnectionAbortedError):
        await rotate(new, recorded, batch_size=7)
    recorded.batches_left = 1 << 30
    new.save_to_disk(tmp_path / "copy from the middle")
    assert 0 < len(await recorded.meta_search(kb_id, {}, context.id)) < COUNT
    await nothing_under_old_keys(1, new, successor_from("copy from the start"))
    await rotate(new, recorded, batch_size=7)
    await nothing_under_old_keys(3, new, successor_from("new"))
    await rotate(new, recorded, finish=True)
    new.save_to_disk(tmp_path / "new")
    assert successor_from("new").predecessor is None
    copies = [successor_from(f"copy from the {moment}") for moment in ("start", "middle")]
    await nothing_under_old_keys(5, successor_from("new"), *copies)
    await rotate(new, recorded, remove_old=True)
    await nothing_under_old_keys(8, successor_from("new"), *copies)


async def test_nor_while_a_manifest_says_what_moves(recorded: Recorded, kb_id: str, tmp_path: Path) -> None:
    context = new_context("paillier_lookup", DIM, private_metadata=("tag1",))
    await load(context, recorded, kb_id, 0, COUNT)
    keys = keys_of(context)
    await write_manifest(recorded, kb_id, context, tmp_path / "manifest")
    await DataLoader(context, recorded).load([{"chunk_content": "not listed"}], Model(), kb_id)
    nonces = await stored_nonces(recorded, kb_id)
    new = context.successor(
        provider(),
        key_len=256,
        path=tmp_path / "new",
        manifests=[tmp_path / "manifest"],
        insecure_allow_weak_parameters=True,
    )
    recorded.capture.sent = Sent()
    await use(new, recorded, kb_id, 0, by_metadata=False)  # which would meet what is not listed
    recorded.batches_left = 2
    with pytest.raises(ConnectionAbortedError):
        await rotate(new, recorded, batch_size=7)
    recorded.batches_left = 1 << 30
    await use(new, recorded, kb_id, 1, by_metadata=False)
    assert (await rotate(new, recorded, finish=True)).left == {kb_id: 1}
    await use(new, recorded, kb_id, 2)
    assert keys.encrypted_under(recorded.capture.sent, nonces | await stored_nonces(recorded, kb_id)) == ([], [])


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_the_look_finds_what_is_encrypted_under_the_old_keys(
    old: tuple[ExecutionContext, Keys], recorded: Recorded, kb_id: str
) -> None:
    context, keys = old
    recorded.capture.sent = Sent()
    loader, retriever = DataLoader(context, recorded), Retriever(context, recorded)
    await retriever.nn_search_for_ids([1] * DIM, 1, kb_id)
    if context.is_ours:
        assert len(keys.encrypted_under(recorded.capture.sent, [])[0]) == 1
        await loader.upsert_one({"chunk_content": "hello"}, [1] * DIM, kb_id)
        await loader.patch_chunks([{"chunk_id": 1, "meta_data": {"tag1": "p"}}], kb_id)
        vectors, texts = keys.encrypted_under(recorded.capture.sent, await stored_nonces(recorded, kb_id))
        assert len(vectors) == 2
        assert len(texts) == 2
    else:
        assert len(keys.encrypted_under(recorded.capture.sent, [])[0]) == 1


def test_a_predecessor_refuses_to_encrypt() -> None:
    old = new_context()
    new = old.successor(provider(), key_len=256, insecure_allow_weak_parameters=True)
    before = new.predecessor
    assert before is not None
    for encrypt in (
        lambda: before.homomorphic.encrypt_vec_one([0] * DIM),
        lambda: before.homomorphic.encrypt_vec_batch([[0] * DIM]),
        lambda: before.homomorphic.encrypt_queries([[0] * DIM]),
        lambda: before.aes.encrypt("text"),
    ):
        with pytest.raises(InvalidArgument, match="replaced by its successor"):
            encrypt()
    index = old.homomorphic.encrypt_vec_one([1] * DIM)
    vectors, valid = before.homomorphic.decrypt_vec_batch([index.ciphertexts()], [index.nonce])
    assert (vectors.tolist(), valid.tolist()) == ([[1] * DIM], [True])
    assert before.embed_len() == DIM
    assert before.key_len() == old.key_len()
