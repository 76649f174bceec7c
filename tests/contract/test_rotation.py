"""Rotation against the real server: nothing is lost, doubled or changed, whoever reads and whatever is killed."""

import asyncio
import json
import os
import random
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.existing_client import ExistingClientKey, fixture
from support.forked import Account, forking
from support.rotating import rotate_to
from support.schemes import SCHEMES, key_len
from support.service import Http, ok
from xtrace_core.frames import RowBlock
from xtrace_sdk.errors import (
    ChangedSinceSearch,
    ContentTampered,
    ContextNotFound,
    InvalidArgument,
    TamperedData,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.schemes.registry import scheme_name
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext, WeakKeyWarning
from xtrace_server.credentials import Credentials

DIM = 16
COUNT = 60


def provider(passphrase: str = "passphrase") -> PassphraseKeyProvider:  # noqa: S107 - a test's
    return PassphraseKeyProvider(passphrase, insecure_log2_n=1)


def new_context(scheme: str = "paillier_lookup", dim: int = DIM, **options: Any) -> ExecutionContext:
    return ExecutionContext.create(
        provider(), scheme, dim, key_len(scheme), insecure_allow_weak_parameters=True, **options
    )


def successor(old: ExecutionContext, path: Path, scheme: str | None = None, prime_len: int = 256) -> ExecutionContext:
    scheme = scheme or scheme_name(old.public_data()["type"])
    return old.successor(provider(), scheme, key_len(scheme, prime_len), path, insecure_allow_weak_parameters=True)


def collection(count: int = COUNT) -> list[dict[str, Any]]:
    return [
        {"chunk_content": f"text {i}", "meta_data": {"tag1": f"tag {i % 3}", "facets": ["a", f"f{i}"]}}
        for i in range(count)
    ]


def vectors(count: int = COUNT, dim: int = DIM) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 2, (count, dim), dtype=np.uint8)


def distances(query: NDArray[np.uint8], count: int = COUNT) -> dict[int, int]:
    """The right answer: the distance of every chunk."""
    return {i + 1: int(d) for i, d in enumerate((vectors(count, len(query)) != query).sum(axis=1))}


class Hooked(XTraceIntegration):
    """An integration that does something of the test's before a search of one context, or before chunks are fetched."""

    before_search: tuple[str, Callable[[], Awaitable[Any]]] | None = None

    async def stream_hamming_distances(
        self,
        kb_id: str,
        context_id: str,
        queries: Sequence[Any],
        meta_filter: Mapping[str, Any] | str | None = None,
        range_filter: Sequence[int] | None = None,
        *,
        unsealed: bool = False,
    ) -> AsyncGenerator[RowBlock, None]:
        if self.before_search is not None and self.before_search[0] == context_id:
            await self.before_search[1]()
        blocks = super().stream_hamming_distances(
            kb_id, context_id, queries, meta_filter, range_filter, unsealed=unsealed
        )
        async with aclosing(blocks):
            async for block in blocks:
                yield block


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[Hooked]:
    async with Hooked(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as integration:
        yield integration


async def load(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, count: int = COUNT) -> list[int]:
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(collection(count), list(vectors(count, context.embed_len())))
    return await loader.dump_db(db, index, kb_id)


async def expect_everything(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, count: int = COUNT
) -> None:
    """Every chunk is found exactly once, at its distance, with its text and metadata."""
    retriever = Retriever(context, xtrace)
    query = np.zeros(context.embed_len(), dtype=np.uint8)
    ids, scores = await retriever.nn_search_for_ids(query, count + 5, kb_id, include_scores=True)
    assert dict(zip(ids, scores, strict=True)) == distances(query, count)
    assert len(ids) == count
    chunks = await retriever.retrieve_and_decrypt(sorted(ids), kb_id)
    assert [{name: chunk[name] for name in ("chunk_content", "meta_data")} for chunk in chunks] == collection(count)


async def number_under(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> int:
    return len(await xtrace.meta_search(kb_id, {}, context.id, projection=["name"]))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("dim", "prime_len"), [(1, 256), (16, 384), (300, 256), (600, 512)])
async def test_everything_moves_and_nothing_changes(
    scheme: str, dim: int, prime_len: int, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context(scheme, dim)
    ids = await load(old, xtrace, kb_id, 12)
    names = [chunk["name"] for chunk in await xtrace.get_chunk_by_id(ids, kb_id, ["name"])]
    other_scheme = SCHEMES[SCHEMES.index(scheme) - 1]
    new = successor(old, tmp_path / "new", other_scheme, prime_len)
    summary = await rotate(new, xtrace, batch_size=5)
    assert (summary.chunks, summary.total, summary.removed_old) == ({kb_id: 12}, 12, False)
    assert await number_under(old, xtrace, kb_id) == 0
    assert await number_under(new, xtrace, kb_id) == 12
    await expect_everything(new, xtrace, kb_id, 12)
    assert [chunk["name"] for chunk in await xtrace.get_chunk_by_id(ids, kb_id, ["name"])] == names
    assert await load(new, xtrace, kb_id, 12) == ids  # nothing is stored twice
    assert (await rotate(new, xtrace)).total == 0


async def test_a_dry_run_reads_everything_and_changes_nothing(
    xtrace: XTraceIntegration, kb_id: str, http: Http, tmp_path: Path
) -> None:
    old = new_context()
    ids = await load(old, xtrace, kb_id)
    before = http.get(kb_id, *ids)
    new = successor(old, tmp_path / "new")
    summary = await rotate(new, xtrace, batch_size=25, remove_old=True, dry_run=True)
    assert (summary.chunks, summary.removed_old) == ({kb_id: COUNT}, False)
    assert http.get(kb_id, *ids) == before
    assert await xtrace.list_exec_contexts() == [old.id]


async def test_several_knowledge_bases_or_those_that_were_named(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    other = (await xtrace.create_kb("other")).id
    for kb, count in ((kb_id, 10), (other, 7)):
        await load(old, xtrace, kb, count)
    new = successor(old, tmp_path / "new")
    assert (await rotate(new, xtrace, [other, other])).chunks == {other: 7}
    for end in ("finish", "remove_old"):
        with pytest.raises(InvalidArgument, match="for all knowledge bases"):
            await rotate(new, xtrace, [other], finish=end == "finish", remove_old=end == "remove_old")
    await expect_everything(new, xtrace, kb_id, 10)
    await expect_everything(new, xtrace, other, 7)
    assert (await rotate(new, xtrace)).chunks == {kb_id: 10, other: 0}


async def test_the_old_context_is_removed_at_the_end_when_asked(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await old.save_to_remote(xtrace)
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    reader = Retriever(
        ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True), xtrace
    )
    summary = await rotate(new, xtrace, remove_old=True)
    assert summary.removed_old
    assert await xtrace.list_exec_contexts() == [new.id]
    assert new.predecessor is None
    new.save_to_disk(tmp_path / "new")
    await new.save_to_remote(xtrace)
    again = ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True)
    assert (again, again.predecessor) == (new, None)
    await expect_everything(again, xtrace, kb_id)
    # Readers that still know the predecessor go on.
    assert len(await reader.nn_search_for_ids(vectors()[0], COUNT, kb_id)) == COUNT
    with pytest.raises(ContextNotFound):
        await Retriever(old, xtrace).nn_search_for_ids(vectors()[0], 1, kb_id)
    # A run that was cut off after the removal, before the file was written.
    late = old.successor(provider(), path=tmp_path / "late", key_len=256, insecure_allow_weak_parameters=True)
    assert (await rotate(late, xtrace, remove_old=True)).chunks == {}


async def test_a_rotation_needs_a_saved_successor(xtrace: XTraceIntegration, kb_id: str, tmp_path: Path) -> None:
    old = new_context()
    await load(old, xtrace, kb_id, 3)
    with pytest.raises(InvalidArgument, match="does not have a predecessor"):
        await rotate(old, xtrace)
    unsaved = old.successor(provider(), key_len=256, insecure_allow_weak_parameters=True)
    with pytest.raises(InvalidArgument, match="save it first"):
        await rotate(unsaved, xtrace)
    with pytest.raises(InvalidArgument, match="batch_size"):
        await rotate(successor(old, tmp_path / "new"), xtrace, batch_size=0)
    with pytest.raises(InvalidArgument, match="finish that rotation"):
        unsaved.successor(provider())
    assert unsaved.predecessor is not None
    with pytest.raises(InvalidArgument, match="rewrap"):
        unsaved.predecessor.save_to_disk(tmp_path / "old")
    await unsaved.save_to_remote(xtrace)
    assert (await rotate(unsaved, xtrace)).total == 3


def test_a_successor_is_saved_with_its_predecessor_sealed_inside(tmp_path: Path) -> None:
    old = new_context()
    new = successor(old, tmp_path / "new")
    assert old.id not in (tmp_path / "new").read_text()
    loaded = ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True)
    assert loaded.predecessor == old
    assert [context.id for context in loaded.lineage] == [old.id, new.id]
    assert loaded.pseudonym("a", "b") == old.pseudonym("a", "b")
    assert new.homomorphic.secrets()["p"] != old.homomorphic.secrets()["p"]
    assert new.aes.secret() != old.aes.secret()
    index = old.homomorphic.encrypt_vec_one([1] * DIM)
    before = loaded.predecessor
    assert before is not None
    assert before.aes.decrypt_bytes(old.aes.encrypt("text", index.nonce), index.nonce) == b"text"
    before.rewrap(provider("other")).save_to_disk(tmp_path / "old")
    assert ExecutionContext.load_from_disk("other", tmp_path / "old", insecure_allow_weak_encryption=True) == old
    rewrapped = loaded.rewrap(provider("other"))
    rewrapped.save_to_disk(tmp_path / "new")
    assert (
        ExecutionContext.load_from_disk("other", tmp_path / "new", insecure_allow_weak_encryption=True).predecessor
        == old
    )


# Readers during a rotation


async def test_readers_see_every_chunk_exactly_once_all_the_while(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    await expect_everything(new, xtrace, kb_id)  # before it begins
    rotation = asyncio.create_task(rotate(new, xtrace, batch_size=3))
    looks = 0
    while not rotation.done():
        await asyncio.gather(*(expect_everything(new, xtrace, kb_id) for _ in range(2)))
        looks += 1
    assert (await rotation).total == COUNT
    assert looks >= 2
    await expect_everything(new, xtrace, kb_id)


@pytest.mark.parametrize("which", ["predecessor", "successor"])
async def test_a_chunk_that_moves_before_either_search_is_seen_once(
    which: str, xtrace: Hooked, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    await xtrace.store_exec_context(new.public_data(), new.id)
    xtrace.before_search = ((old if which == "predecessor" else new).id, lambda: rotate(new, xtrace))
    for k in (5, COUNT):
        query = vectors()[3]
        ids, scores = await Retriever(new, xtrace).nn_search_for_ids(query, k, kb_id, include_scores=True)
        nearest = sorted((distance, chunk_id) for chunk_id, distance in distances(query).items())[:k]
        assert list(zip(scores, ids, strict=True)) == nearest


async def test_a_chunk_that_moves_between_search_and_fetch_is_read(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    retriever = Retriever(new, xtrace)
    ids = await retriever.nn_search_for_ids(vectors()[3], 5, kb_id)
    await rotate(new, xtrace)
    for _ in range(2):
        texts = await retriever.retrieve_and_decrypt(ids, kb_id)
        assert [chunk["chunk_content"] for chunk in texts] == [f"text {i - 1}" for i in ids]


async def test_contents_exchanged_under_cover_of_a_rotation_are_noticed(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    retriever = Retriever(new, xtrace)
    (found,) = await retriever.nn_search_for_ids(vectors()[3], 1, kb_id)
    await rotate(new, xtrace)
    far = max(distances(vectors()[3]).items(), key=lambda item: item[1])[0]
    (chunk,) = await xtrace.get_chunk_by_id([far], kb_id, ["index", "nonce", "chunk_content"])
    await xtrace.patch_chunks(kb_id, new.id, [{**chunk, "chunk_id": found}])
    with pytest.raises(ChangedSinceSearch, match=f"chunk {found} "):
        await retriever.retrieve_and_decrypt([found], kb_id)


async def test_replaced_chunks_and_foreign_content_are_noticed_during_a_rotation(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    retriever = Retriever(new, xtrace)
    await retriever.nn_search_for_ids(vectors()[3], COUNT, kb_id)
    await DataLoader(old, xtrace).upsert_one({"chunk_content": "replaced"}, vectors()[3], kb_id, chunk_id=1)
    with pytest.raises(ChangedSinceSearch, match="chunk 1 "):
        await retriever.retrieve_and_decrypt([1], kb_id)
    assert (await Retriever(new, xtrace).retrieve_and_decrypt([1], kb_id))[0]["chunk_content"] == "replaced"
    await xtrace.patch_chunks(kb_id, old.id, [{"chunk_id": 2, "chunk_content": new.aes.encrypt("x", bytes(14))}])
    with pytest.raises(ContentTampered, match="chunk 2"):
        await retriever.retrieve_and_decrypt([2], kb_id)


# Writers during a rotation


async def test_loads_during_a_rotation_find_what_is_under_either_context(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    ids = await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    assert await load(new, xtrace, kb_id) == ids
    loader = DataLoader(new, xtrace)
    await loader.upsert_one(collection()[4], vectors()[4], kb_id, chunk_id=5)  # moves it
    assert await load(new, xtrace, kb_id) == ids
    assert await loader.superseded(collection()[:-2], kb_id) == ids[-2:]
    assert await loader.superseded(collection()[5:], kb_id) == ids[:5]
    await expect_everything(new, xtrace, kb_id)


async def test_chunks_that_are_stored_changed_or_deleted_meanwhile_are_as_their_writers_left_them(
    xtrace: Hooked, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    done = False

    class Writers(Hooked):
        """Others write while the first batch is on its way."""

        async def update_chunks(self, *arguments: Any, **options: Any) -> None:
            nonlocal done
            if not done:
                done = True
                await self.delete_chunks([1, 2], kb_id)
                await self.patch_chunks(kb_id, old.id, [{"chunk_id": 3, "meta_data": {"tag5": "kept"}}])
                await DataLoader(new, xtrace).upsert_one({"chunk_content": "newer"}, [1] * DIM, kb_id, chunk_id=4)
                await DataLoader(old, self).upsert_one({"chunk_content": "late"}, [0] * DIM, kb_id)
            await super().update_chunks(*arguments, **options)

    service = xtrace._service
    async with Writers(xtrace.org_id, service.api_key, api_url=xtrace.api_url) as writers:
        assert (await rotate(new, writers, batch_size=10)).total == COUNT - 2 - 1 + 1
    chunks = await Retriever(new, xtrace).retrieve_and_decrypt([1, 2, 3, 4, COUNT + 1], kb_id)
    assert [chunk["chunk_content"] for chunk in chunks] == ["text 2", "newer", "late"]
    assert chunks[0]["meta_data"]["tag5"] == "kept"
    assert await number_under(old, xtrace, kb_id) == 0
    assert await number_under(new, xtrace, kb_id) == COUNT - 1


async def test_damaged_chunks_are_named_and_nothing_of_their_batch_moves(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    one, other = old.homomorphic.encrypt_vec_batch([[1] * DIM] * 2)
    patches = [
        {"chunk_id": 17, "index": one.ciphertexts(), "nonce": other.nonce},
        {"chunk_id": 19, "chunk_content": old.aes.encrypt("other", bytes(14))},
    ]
    await xtrace.patch_chunks(kb_id, old.id, patches)
    for dry_run in (True, False):
        with pytest.raises(TamperedData, match=r"chunks 17, 19 do not decrypt"):
            await rotate(new, xtrace, batch_size=10, dry_run=dry_run)
    assert await number_under(new, xtrace, kb_id) in (0, 10)
    await xtrace.delete_chunks([17, 19], kb_id)
    await rotate(new, xtrace, batch_size=10)
    assert await number_under(new, xtrace, kb_id) == COUNT - 2


# From other clients' contexts


async def test_a_weak_context_of_another_client_is_rotated_away(
    http: Http, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    data = fixture("paillier_lookup")
    ok(http.data("POST", "/exec_context/{org}", json={"data": data["context"], "context_id": data["context_id"]}))
    chunks = [
        {"chunk_content": row["chunk_content"], "index": row["index"], "meta_data": {"tag1": "t"}, "name": f"name {i}"}
        for i, row in enumerate(data["rows"])
    ]
    ids = http.insert(kb_id, chunks, data["context_id"])
    (tmp_path / "old").write_text(json.dumps(data["context"]))
    with pytest.warns(WeakKeyWarning):
        old = ExecutionContext.load_from_disk(data["passphrase"], tmp_path / "old")
    new = old.successor(provider(), path=tmp_path / "new")
    assert (new.key_len(), new.is_ours, old.is_ours) == (1024, True, False)
    query = [int(bit) for bit in data["query"]]
    expected = sorted((row["distance"], i) for i, row in zip(ids, data["rows"], strict=True))
    with pytest.warns(WeakKeyWarning):
        reader = Retriever(ExecutionContext.load_from_disk("passphrase", tmp_path / "new"), xtrace)
    found, scores = await reader.nn_search_for_ids(query, 5, kb_id, include_scores=True)
    assert list(zip(scores, found, strict=True)) == expected
    summary = await rotate(new, xtrace, batch_size=2, remove_old=True)
    assert (summary.total, summary.removed_old) == (5, True)
    # What was found under the old context is read under the new one.
    texts = await reader.retrieve_and_decrypt(found, kb_id)
    assert [chunk["chunk_content"] for chunk in texts] == [data["rows"][i - 1]["text"] for i in found]
    assert [chunk["name"] for chunk in texts] == [f"name {i - 1}" for i in found]
    new.save_to_disk(tmp_path / "new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        final = ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True)
    found, scores = await Retriever(final, xtrace).nn_search_for_ids(query, 5, kb_id, include_scores=True)
    assert list(zip(scores, found, strict=True)) == expected


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_their_chunks_are_told_from_ours_by_the_nonce(
    http: Http, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    key = ExistingClientKey(512, DIM, 25)
    document = key.context()
    context_id = key.context_id(document)
    ok(http.data("POST", "/exec_context/{org}", json={"data": document, "context_id": context_id}))
    http.insert(kb_id, [key.chunk(vector, f"text {i}") for i, vector in enumerate(vectors(4).tolist())], context_id)
    (tmp_path / "old").write_text(json.dumps(document))
    old = ExecutionContext.load_from_disk(
        "correct horse battery staple", tmp_path / "old", insecure_allow_weak_encryption=True
    )
    assert old.id == context_id
    new = successor(old, tmp_path / "new")
    await DataLoader(new, xtrace).upsert_one({"chunk_content": "new"}, [1] * DIM, kb_id, chunk_id=2)
    retriever = Retriever(new, xtrace)
    ids = await retriever.nn_search_for_ids([1] * DIM, 4, kb_id)
    assert sorted(ids) == [1, 2, 3, 4]
    for reader in (retriever, Retriever(new, xtrace)):
        chunks = await reader.retrieve_and_decrypt([1, 2, 3, 4], kb_id)
        assert [chunk["chunk_content"] for chunk in chunks] == ["text 0", "new", "text 2", "text 3"]


# Interruption


async def test_a_rotation_killed_again_and_again_loses_nothing(
    xtrace: XTraceIntegration, kb_id: str, credentials: Credentials, tmp_path: Path
) -> None:
    count, kills_wanted = (400, 5) if "XTRACE_TEST_FULL" in os.environ else (200, 3)
    old = new_context()
    await load(old, xtrace, kb_id, count)
    new = successor(old, tmp_path / "new")
    chance, kills, moved = random.Random(), 0, 0
    stopped_at: set[int] = set()
    while True:
        process = forking().Process(target=rotate_to, args=(str(tmp_path / "new"), Account.of(credentials), 7))
        process.start()
        if kills < kills_wanted:
            goal = moved + chance.randint(1, count // kills_wanted)
            while process.is_alive() and await number_under(new, xtrace, kb_id) < goal:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            await asyncio.sleep(chance.uniform(0, 0.05))
            process.kill()
        process.join()
        await expect_everything(new, xtrace, kb_id, count)
        moved = await number_under(new, xtrace, kb_id)
        assert moved + await number_under(old, xtrace, kb_id) == count
        if process.exitcode == 0:
            break
        kills += 1
        stopped_at.add(moved)
    assert stopped_at - {0, count}, "no kill hit the rotation's middle"
    assert await number_under(old, xtrace, kb_id) == 0
    assert (await rotate(new, xtrace, remove_old=True)).removed_old
    await expect_everything(new, xtrace, kb_id, count)
