"""Stolen keys: a manifest that was written before says what may be read and moved; everything else is left."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from contract.test_finishing import forge
from contract.test_rotation import COUNT, DIM, distances, load, new_context, number_under, provider, vectors
from support.existing_client import PASSPHRASE, ExistingClientKey
from support.service import Http, ok
from xtrace_sdk.errors import (
    ContentTampered,
    ContextRetired,
    InaccessibleFile,
    InvalidArgument,
    InvalidManifest,
    InvalidRows,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.notices import NothingStored
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.manifest import write_manifest
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import Problem, delete_bad, verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

REPLACED, RETOLD, SWAPPED = 3, 4, 5
"""Listed chunks of which a thief exchanges everything, the content, and vector with content of another listed one."""
GENUINE = [i for i in range(1, COUNT + 1) if i not in (REPLACED, RETOLD, SWAPPED)]


@pytest.fixture
async def old(xtrace: XTraceIntegration, kb_id: str, tmp_path: Path) -> ExecutionContext:
    """A context with chunks and a manifest of them; after that the keys are stolen, and somebody writes with them."""
    context = new_context(private_metadata=("tag1",))
    await load(context, xtrace, kb_id)
    written = await write_manifest(xtrace, kb_id, context, tmp_path / "manifest")
    assert written.chunks == COUNT
    await forge(context, xtrace, kb_id)
    (index,) = context.homomorphic.encrypt_vec_batch([[0] * DIM])
    (retold,) = await xtrace.get_chunk_by_id([RETOLD], kb_id, ["nonce"])
    (other,) = await xtrace.get_chunk_by_id([9], kb_id, ["index", "nonce", "chunk_content", "meta_data"])
    everything = {"index": index, "nonce": index.nonce, "chunk_content": context.aes.encrypt("forged", index.nonce)}
    patches = [
        {"chunk_id": REPLACED, **everything, "meta_data": {"tag1": None}},
        {
            "chunk_id": RETOLD,
            "chunk_content": context.aes.encrypt("forged", retold["nonce"]),
            "meta_data": {"tag1": None},
        },
        {**other, "chunk_id": SWAPPED},
    ]
    await xtrace.patch_chunks(kb_id, context.id, patches)
    return context


def successor(old: ExecutionContext, folder: Path, *manifests: str) -> ExecutionContext:
    return old.successor(
        provider(),
        key_len=256,
        path=folder / "new",
        manifests=[folder / name for name in manifests or ("manifest",)],
        insecure_allow_weak_parameters=True,
    )


async def test_without_a_manifest_whatever_is_under_the_stolen_keys_is_served(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    plain = old.successor(provider(), key_len=256, insecure_allow_weak_parameters=True)
    found = await Retriever(plain, xtrace).search([0] * DIM, 2, kb_id)
    assert {one.text for one in found} == {"forged"}


async def test_what_the_manifest_does_not_list_is_not_served(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    new = successor(old, tmp_path)
    right = {i: distance for i, distance in distances(vectors()[0]).items() if i not in (REPLACED, SWAPPED)}
    retriever = Retriever(new, xtrace)
    for _ in range(2):
        ids, scores = await retriever.nn_search_for_ids(vectors()[0], COUNT + 9, kb_id, include_scores=True)
        assert dict(zip(ids, scores, strict=True)) == right  # the vector of the retold one is what it was
        texts = await retriever.retrieve_and_decrypt(GENUINE, kb_id)
        assert [one["chunk_content"] for one in texts] == [f"text {i - 1}" for i in GENUINE]
        for chunk_id in (REPLACED, RETOLD, SWAPPED, COUNT + 1):
            with pytest.raises(ContentTampered, match=f"chunk {chunk_id}: it is stored under the replaced"):
                await retriever.retrieve_and_decrypt([chunk_id], kb_id)
    found = [one["chunk_id"] async for one in Retriever(new, xtrace).iter_meta_search({}, kb_id, ["name"])]
    assert found == list(range(1, COUNT + 1))
    with pytest.raises(ContentTampered, match=f"chunk {REPLACED}"):
        await Retriever(new, xtrace).meta_search({}, kb_id, ["chunk_content"])
    for chunk_id in (REPLACED, RETOLD, SWAPPED, COUNT + 1):
        with pytest.raises(ContentTampered):
            await DataLoader(new, xtrace).patch_chunks([{"chunk_id": chunk_id, "meta_data": {"tag1": "p"}}], kb_id)
    assert await number_under(new, xtrace, kb_id) == 0
    await DataLoader(new, xtrace).patch_chunks([{"chunk_id": 1, "meta_data": {"tag1": "p"}}], kb_id)
    assert await number_under(new, xtrace, kb_id) == 1


async def test_what_the_manifest_does_not_list_stays_where_it_is_and_is_reported(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    new = successor(old, tmp_path)
    dry = await rotate(new, xtrace, batch_size=7, dry_run=True)
    assert (dry.chunks, dry.left) == ({kb_id: len(GENUINE)}, {kb_id: 4})
    await load(old, xtrace, kb_id, 1)
    summary = await rotate(new, xtrace, batch_size=7)
    assert (summary.chunks, summary.left, summary.finished) == ({kb_id: len(GENUINE)}, {kb_id: 4}, False)
    with pytest.raises(ContextRetired):  # from the beginning of this rotation on
        await forge(old, xtrace, kb_id)
    assert (await rotate(new, xtrace, batch_size=7)).left == {kb_id: 4}
    found = await verify(new, xtrace, kb_id)
    assert {one.chunk_id for one in found.bad} == {REPLACED, RETOLD, SWAPPED, COUNT + 1}
    assert {one.problems for one in found.bad} == {(Problem.UNLISTED,)}
    with pytest.raises(InvalidArgument, match=r"4 chunks that are in no manifest remain .* delete them"):
        await rotate(new, xtrace, remove_old=True)
    assert new.predecessor is not None
    assert (await rotate(new, xtrace, finish=True)).left == {kb_id: 4}
    new.save_to_disk(tmp_path / "new")
    new = ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True)
    texts = await Retriever(new, xtrace).search([0] * DIM, COUNT, kb_id)
    assert sorted(one.chunk_id for one in texts) == GENUINE
    assert all(one.text == f"text {one.chunk_id - 1}" for one in texts)
    assert await xtrace.delete_chunks_by_meta(kb_id, old.id, {}) == 4
    assert (await rotate(new, xtrace, remove_old=True)).removed_old


async def test_what_is_left_can_be_deleted_before_the_end(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    new = successor(old, tmp_path)
    await rotate(new, xtrace)
    found = await verify(new, xtrace, kb_id)
    assert await delete_bad(xtrace, kb_id, found.bad) == [REPLACED, RETOLD, SWAPPED, COUNT + 1]
    summary = await rotate(new, xtrace, remove_old=True)
    assert (summary.left, summary.removed_old) == ({}, True)


async def test_a_load_stores_anew_what_is_only_claimed_to_be_there(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    """The thief has the key of names too: a chunk of its own has the name of one that is still to be loaded."""
    loader = DataLoader(old, xtrace)
    index, db = await loader.load_data_from_memory([{"chunk_content": "to be loaded"}], [[1] * DIM])
    (claimed,) = await loader.dump_db(db, index, kb_id)
    new = successor(old, tmp_path)
    stored = await DataLoader(new, xtrace).upsert_one({"chunk_content": "to be loaded"}, [1] * DIM, kb_id)
    assert stored > claimed
    genuine = await DataLoader(new, xtrace).load([{"chunk_content": "to be loaded"}], [[1] * DIM], kb_id)
    assert genuine.known == 1


async def test_the_manifest_is_the_one_that_is_sealed_in_the_file(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    await write_manifest(xtrace, kb_id, old, tmp_path / "late")  # with what the thief wrote
    made = successor(old, tmp_path)
    assert (await rotate(made, xtrace, dry_run=True)).left == {kb_id: 4}
    new = ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True)
    retriever = Retriever(new, xtrace)
    for call in (
        lambda: retriever.nn_search_for_ids([0] * DIM, 3, kb_id),
        lambda: rotate(new, xtrace),
        lambda: verify(new, xtrace, kb_id),
        lambda: load(new, xtrace, kb_id),
    ):
        with pytest.raises(InvalidArgument, match="open_manifests"):
            await call()
    await forge(old, xtrace, kb_id)  # nothing is retired yet
    with pytest.raises(InvalidManifest, match="not the one that the new context was created with"):
        new.open_manifests([tmp_path / "late"])
    with pytest.raises(InaccessibleFile):
        new.open_manifests([tmp_path / "missing"])
    assert new.open_manifests([tmp_path / "manifest"]) is new
    assert len(await retriever.nn_search_for_ids([0] * DIM, COUNT + 9, kb_id)) == COUNT - 2
    assert (await rotate(new, xtrace, finish=True)).left == {kb_id: 5}
    with pytest.raises(InvalidArgument, match="do not pass any"):
        new.open_manifests([tmp_path / "manifest"])


async def test_manifests_are_of_this_context_and_one_for_each_knowledge_base(
    old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    stranger = new_context()
    second = (await xtrace.create_kb("second")).id
    for context, kb in ((old, second), (stranger, kb_id)):
        await load(context, xtrace, kb, 3)
    with pytest.raises(InvalidArgument, match="nothing was ever stored"):
        await write_manifest(xtrace, second, stranger, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    await write_manifest(xtrace, kb_id, stranger, tmp_path / "strange")
    with pytest.raises(InvalidManifest, match="another context"):
        successor(old, tmp_path, "strange")
    with pytest.raises(InvalidManifest, match="two manifests"):
        successor(old, tmp_path, "manifest", "manifest")
    with pytest.raises(InaccessibleFile, match="cannot be written"):
        await write_manifest(xtrace, kb_id, old, tmp_path)
    # A knowledge base without a manifest has nothing that counts.
    new = successor(old, tmp_path)
    with pytest.warns(NothingStored):
        assert await Retriever(new, xtrace).nn_search_for_ids([0] * DIM, 3, second) == []
    assert (await rotate(new, xtrace)).left == {kb_id: 4, second: 3}


async def test_a_listed_chunk_that_is_damaged_is_an_error_as_ever(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    await xtrace.patch_chunks(kb_id, old.id, [{"chunk_id": 2, "nonce": None}])
    await write_manifest(xtrace, kb_id, old, tmp_path / "manifest")
    new = successor(old, tmp_path)
    with pytest.raises(InvalidRows) as raised:
        await Retriever(new, xtrace).nn_search_for_ids([0] * DIM, 3, kb_id)
    assert raised.value.chunk_ids == [2]
    found = await verify(new, xtrace, kb_id)
    assert [(one.chunk_id, one.problems) for one in found.bad] == [(2, (Problem.VECTOR, Problem.CONTENT))]


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_chunks_of_another_client_are_told_by_their_ciphertexts(
    xtrace: XTraceIntegration, http: Http, kb_id: str, tmp_path: Path
) -> None:
    """They have no nonces. Their file does not tell the id: the public parts are enough."""
    key = ExistingClientKey(512, DIM)
    document = key.context()
    context_id = key.context_id(document)
    ok(http.data("POST", "/exec_context/{org}", json={"data": document, "context_id": context_id}))
    bits = vectors(4).tolist()
    http.insert(kb_id, [key.chunk(vector, f"text {i}") for i, vector in enumerate(bits)], context_id)
    public = PublicParts(document["type"], document["pk"], document["config"])
    assert (await write_manifest(xtrace, kb_id, public, tmp_path / "manifest")).chunks == 4
    http.insert(kb_id, [key.chunk([0] * DIM, "forged")], context_id)
    replaced: dict[str, Any] = key.chunk([0] * DIM, "forged")
    body = {"kb_id": kb_id, "context_id": context_id, "chunk_patches": [{"chunk_id": 2, "index": replaced["index"]}]}
    ok(http.data("PATCH", "/chunk/{org}", json=body))
    (tmp_path / "old").write_text(json.dumps(document))
    new = successor(
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "old", insecure_allow_weak_encryption=True), tmp_path
    )
    found = await Retriever(new, xtrace).search([0] * DIM, 9, kb_id)
    assert sorted((one.chunk_id, one.text) for one in found) == [(1, "text 0"), (3, "text 2"), (4, "text 3")]
    summary = await rotate(new, xtrace)
    assert (summary.chunks, summary.left) == ({kb_id: 3}, {kb_id: 2})


@pytest.fixture
async def large(xtrace: XTraceIntegration) -> tuple[ExecutionContext, str, str]:
    """Two knowledge bases of a context, one ten times as large."""
    context = new_context()
    kbs = []
    for count in (600, 6000):
        kbs.append((await xtrace.create_kb(str(count))).id)
        await load(context, xtrace, kbs[-1], count)
    return context, kbs[0], kbs[1]


async def test_a_manifest_is_written_as_it_is_read(
    large: tuple[ExecutionContext, str, str], xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    context, *kbs = large
    peaks = []
    for kb in kbs:
        tracemalloc.start()
        await write_manifest(xtrace, kb, context, tmp_path / kb)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / kbs[1]).stat().st_size - (tmp_path / kbs[0]).stat().st_size == 5400 * 40
    assert peaks[1] < 2 * peaks[0], "ten times as many chunks"
