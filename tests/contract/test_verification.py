"""Verification of knowledge bases: what is damaged is found, whatever it is, and searching goes on without it."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from contract.test_rotation import COUNT, load, new_context, successor, vectors
from support.existing_client import fixture
from support.schemes import SCHEMES
from support.service import Http, ok
from xtrace_sdk.errors import InvalidArgument, InvalidRows, NotFound
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep import bad_chunks
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import Problem, Verification, delete_bad, verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

EVERY_ID = list(range(1, COUNT + 1))


@pytest.fixture(scope="module", params=SCHEMES)
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return new_context(request.param)


async def damage(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> dict[int, tuple[Problem, ...]]:
    """Damages chunks, each in another way; gives their ids with the problems."""
    first, second = context.homomorphic.encrypt_vec_batch(vectors(2))
    (stored,) = await xtrace.get_chunk_by_id([1], kb_id, projection=["index", "nonce", "chunk_content"])
    flipped = bytes([stored["index"][0][0] ^ 1]) + stored["index"][0][1:]
    both = (Problem.VECTOR, Problem.CONTENT)
    kinds: dict[int, tuple[tuple[Problem, ...], dict[str, Any]]] = {
        7: (both, {"index": first.ciphertexts(), "nonce": second.nonce}),
        11: ((Problem.CONTENT,), {"chunk_content": stored["chunk_content"]}),
        12: ((Problem.CONTENT,), {"chunk_content": "no base64!"}),
        30: (both, {"nonce": None}),
        31: (both, {"nonce": second.nonce}),
        32: (both, {"nonce": b"short"}),
        COUNT: (
            (Problem.VECTOR,),
            {"index": [flipped], "nonce": stored["nonce"], "chunk_content": stored["chunk_content"]},
        ),
    }
    for chunk_id, (_, patch) in kinds.items():
        await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": chunk_id, **patch}])
    return {chunk_id: problems for chunk_id, (problems, _) in kinds.items()}


def problems(found: Verification) -> dict[int, tuple[Problem, ...]]:
    return {bad.chunk_id: bad.problems for bad in found.bad}


async def test_a_sound_knowledge_base_has_no_bad_chunks(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    found = await verify(context, xtrace, kb_id)
    assert (found.chunks, found.bad) == (COUNT, ())
    assert found.seconds > 0


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
async def test_every_bad_chunk_is_listed_with_its_problems(
    batch_size: int, context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    expected = await damage(context, xtrace, kb_id)
    found = await verify(context, xtrace, kb_id, batch_size=batch_size)
    assert found.chunks == COUNT
    assert problems(found) == expected
    assert [bad.chunk_id for bad in found.bad] == sorted(expected)


@pytest.mark.parametrize("private_metadata", [(), ("tag1",), ("facets",)])
async def test_private_metadata_that_is_not_that_of_the_content_is_a_problem(
    private_metadata: tuple[str, ...], xtrace: XTraceIntegration, kb_id: str, http: Http
) -> None:
    context = new_context(private_metadata=private_metadata)
    await load(context, xtrace, kb_id)
    other, given, none = {"tag1": "#" + "0" * 32}, {"tag2": "set"}, {"facets": None}
    patches = [{"chunk_id": i, "meta_data": change} for i, change in ((3, other), (4, given), (5, none))]
    body = {"kb_id": kb_id, "context_id": context.id, "chunk_patches": patches}
    ok(http.data("PATCH", "/chunk/{org}", json=body))
    noticed = {"tag1": 3, "facets": 5}
    expected = {noticed[field]: (Problem.METADATA,) for field in private_metadata}
    assert problems(await verify(context, xtrace, kb_id)) == expected


async def test_searching_works_again_when_the_bad_chunks_are_deleted(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    expected = await damage(context, xtrace, kb_id)
    retriever = Retriever(context, xtrace)
    with pytest.raises(InvalidRows, match="`xtrace kb verify` finds every bad chunk") as raised:
        await retriever.search(vectors()[0], COUNT, kb_id)
    found = await verify(context, xtrace, kb_id)
    assert set(raised.value.chunk_ids or ()) == {i for i, kinds in problems(found).items() if Problem.VECTOR in kinds}
    assert await delete_bad(xtrace, kb_id, found.bad) == sorted(expected)
    assert (await verify(context, xtrace, kb_id)).bad == ()
    results = await retriever.search(vectors()[0], COUNT, kb_id)
    assert sorted(result.chunk_id for result in results) == [i for i in EVERY_ID if i not in expected]


async def test_a_chunk_that_was_replaced_meanwhile_is_left_alone(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    expected = await damage(context, xtrace, kb_id)
    found = await verify(context, xtrace, kb_id)
    await DataLoader(context, xtrace).upsert_one({"chunk_content": "again"}, vectors()[6], kb_id, chunk_id=7)
    await xtrace.delete_chunks([11], kb_id)
    assert await delete_bad(xtrace, kb_id, found.bad) == sorted(set(expected) - {7, 11})
    found = await verify(context, xtrace, kb_id)
    assert (found.chunks, found.bad) == (COUNT - len(expected) + 1, ())


async def test_the_list_of_bad_chunks_is_bounded(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(context, xtrace, kb_id)
    expected = sorted(await damage(context, xtrace, kb_id))
    monkeypatch.setattr(bad_chunks, "MAX_LISTED_CHUNKS", 4)
    found = await verify(context, xtrace, kb_id, batch_size=7)
    assert [bad.chunk_id for bad in found.bad] == expected[:4]
    assert (found.chunks, found.more, found.unsteady) == (COUNT, len(expected) - 4, ())
    assert await delete_bad(xtrace, kb_id, found.bad) == expected[:4]
    found = await verify(context, xtrace, kb_id)
    assert ([bad.chunk_id for bad in found.bad], found.more) == (expected[4:], 0)


async def test_nothing_bad_is_nothing_to_delete(xtrace: XTraceIntegration, kb_id: str) -> None:
    assert await delete_bad(xtrace, kb_id, []) == []


async def test_chunks_under_the_predecessor_are_read_as_well(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    await load(context, xtrace, kb_id)
    new = successor(context, tmp_path / "new")
    await xtrace.store_exec_context(new.public_data(), new.id)
    # Half of them have been moved.
    loader = DataLoader(new, xtrace)
    for chunk_id in EVERY_ID[: COUNT // 2]:
        await loader.upsert_one({"chunk_content": f"text {chunk_id}"}, vectors()[chunk_id - 1], kb_id, chunk_id)
    assert (await verify(new, xtrace, kb_id)).bad == ()
    (other,) = new.homomorphic.encrypt_vec_batch(vectors(1))
    await xtrace.patch_chunks(kb_id, new.id, [{"chunk_id": 2, "index": other.ciphertexts()}])
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": COUNT, "chunk_content": "AAAA"}])
    found = await verify(new, xtrace, kb_id)
    assert found.chunks == COUNT
    assert problems(found) == {2: (Problem.VECTOR, Problem.CONTENT), COUNT: (Problem.CONTENT,)}
    await delete_bad(xtrace, kb_id, found.bad)
    await rotate(new, xtrace)
    assert (await verify(new, xtrace, kb_id)).chunks == COUNT - 2


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_chunks_of_another_client_have_no_nonces_and_are_sound(
    http: Http, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    data = fixture("paillier_lookup")
    ok(http.data("POST", "/exec_context/{org}", json={"data": data["context"], "context_id": data["context_id"]}))
    chunks = [{key: row[key] for key in ("chunk_content", "index")} | {"meta_data": {}} for row in data["rows"]]
    http.insert(kb_id, chunks, data["context_id"])
    (tmp_path / "context").write_text(json.dumps(data["context"]))
    context = ExecutionContext.load_from_disk(
        data["passphrase"], tmp_path / "context", insecure_allow_weak_encryption=True
    )
    assert (await verify(context, xtrace, kb_id)).bad == ()
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": 3, "chunk_content": data["context"]["sk"]}])
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": 4, "nonce": bytes(14)}])
    found = await verify(context, xtrace, kb_id)
    assert problems(found) == {3: (Problem.CONTENT,), 4: (Problem.VECTOR, Problem.CONTENT)}


async def test_only_a_few_batches_are_in_memory(xtrace: XTraceIntegration, kb_id: str) -> None:
    context = new_context()
    peaks = []
    for last in (200, 2000):
        await load(context, xtrace, kb_id, last)
        tracemalloc.start()
        assert (await verify(context, xtrace, kb_id, batch_size=25)).chunks >= last
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3 * peaks[0], "ten times as many chunks"


async def test_what_cannot_be_verified_is_one_clear_error(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(InvalidArgument, match=r"nothing was ever stored .* under this context"):
        await verify(context, xtrace, kb_id)
    await context.save_to_remote(xtrace)
    await xtrace.register_kb_binding(kb_id, context.id)
    assert (await verify(context, xtrace, kb_id)).chunks == 0
    with pytest.raises(NotFound):
        await verify(context, xtrace, "no-such-kb")
    with pytest.raises(InvalidArgument, match="batch_size is 0, expected a whole number of at least 1"):
        await verify(context, xtrace, kb_id, batch_size=0)
