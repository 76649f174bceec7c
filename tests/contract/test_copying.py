"""A copy of a knowledge base is searched like the original, whatever interrupted it."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.test_rotation import COUNT, expect_everything, load, new_context, number_under, successor, vectors
from contract.test_verification import damage
from support.existing_client import fixture
from support.schemes import SCHEMES
from support.service import Http, LiveService, ok
from xtrace_sdk.errors import InvalidArgument, ServerUnreachable, TamperedData
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.copying import copy_knowledge_base
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


@pytest.fixture
async def other(live_service: LiveService) -> AsyncIterator[XTraceIntegration]:
    """Another organisation, which knows nothing of the first."""
    new = live_service.new_organisation()
    async with XTraceIntegration(new.org_id, new.api_key, new.admin_key, new.api_url) as integration:
        yield integration


@pytest.fixture(scope="module", params=SCHEMES)
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return new_context(request.param)


@pytest.mark.parametrize("batch_size", [7, 1000])
async def test_a_copy_is_searched_and_goes_on_as_the_original(
    batch_size: int, context: ExecutionContext, xtrace: XTraceIntegration, other: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    copy = (await other.create_kb("copy")).id
    done = await copy_knowledge_base(xtrace, kb_id, other, copy, context, batch_size=batch_size)
    assert (done.copied, done.known, done.bad_ids, done.taken_ids) == (COUNT, 0, [], [])
    await expect_everything(context, other, copy)
    assert not (await verify(context, other, copy)).bad
    again = await copy_knowledge_base(xtrace, kb_id, other, copy, context, batch_size=batch_size)
    assert (again.copied, again.known) == (0, COUNT)
    await load(context, other, copy)  # recognises every chunk by its name
    assert await number_under(context, other, copy) == COUNT
    await expect_everything(context, xtrace, kb_id)


async def test_a_copy_beside_the_original_gets_what_was_added_since(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id, 10)
    copy = (await xtrace.create_kb("copy")).id
    assert (await copy_knowledge_base(xtrace, kb_id, xtrace, copy, context)).copied == 10
    loader = DataLoader(context, xtrace)
    await loader.upsert_one({"chunk_content": "The March invoice is still unpaid."}, vectors(1)[0], kb_id)
    done = await copy_knowledge_base(xtrace, kb_id, xtrace, copy, context)
    assert (done.copied, done.known) == (1, 10)


class Interrupted(XTraceIntegration):
    """Loses the connection at the second write, after the service has stored it."""

    writes = 0

    async def store_db(self, db: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        stored = await super().store_db(db, *arguments, **options)
        self.writes += 1
        if self.writes == 2:
            raise ServerUnreachable("the connection broke")
        return stored


async def test_an_interrupted_copy_resumes(
    context: ExecutionContext, xtrace: XTraceIntegration, live_service: LiveService, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    new = live_service.new_organisation()
    async with Interrupted(new.org_id, new.api_key, new.admin_key, new.api_url) as other:
        copy = (await other.create_kb("copy")).id
        with pytest.raises(ServerUnreachable):
            await copy_knowledge_base(xtrace, kb_id, other, copy, context, batch_size=20)
        assert await number_under(context, other, copy) == 40
        done = await copy_knowledge_base(xtrace, kb_id, other, copy, context, batch_size=20)
        assert (done.copied, done.known) == (COUNT - 40, 40)
        await expect_everything(context, other, copy)


async def test_what_does_not_decrypt_is_left_out_and_named(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    bad = await damage(context, xtrace, kb_id)
    copy = (await xtrace.create_kb("copy")).id
    done = await copy_knowledge_base(xtrace, kb_id, xtrace, copy, context, batch_size=9)
    assert (done.copied, sorted(done.bad_ids)) == (COUNT - len(bad), sorted(bad))
    assert not (await verify(context, xtrace, copy)).bad


async def test_a_chunk_that_the_target_has_otherwise_is_left_alone(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await load(context, xtrace, kb_id, 3)
    copy = (await xtrace.create_kb("copy")).id
    await copy_knowledge_base(xtrace, kb_id, xtrace, copy, context)
    (chunk,) = await Retriever(context, xtrace).retrieve_and_decrypt(ids[:1], kb_id)
    given = {"chunk_content": chunk["chunk_content"], "meta_data": chunk["meta_data"]}
    await DataLoader(context, xtrace).upsert_one(given, 1 - vectors(3)[0], kb_id)
    done = await copy_knowledge_base(xtrace, kb_id, xtrace, copy, context)
    assert (done.copied, done.known, done.taken_ids) == (0, 2, ids[:1])


class Forgetful(XTraceIntegration):
    """A service that acknowledges the last batch and does not store it."""

    async def store_db(self, db: Sequence[Any], index: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        stored = await super().store_db(db, index, *arguments, **options)
        await self.delete_chunks(list(stored)[-1:], arguments[0])
        return stored


async def test_a_target_that_loses_what_it_acknowledged_is_noticed(
    context: ExecutionContext, xtrace: XTraceIntegration, live_service: LiveService, kb_id: str
) -> None:
    await load(context, xtrace, kb_id, 5)
    new = live_service.new_organisation()
    async with Forgetful(new.org_id, new.api_key, new.admin_key, new.api_url) as other:
        copy = (await other.create_kb("copy")).id
        with pytest.raises(TamperedData, match="acknowledged 1 chunks"):
            await copy_knowledge_base(xtrace, kb_id, other, copy, context)


async def test_a_copy_with_names_of_its_own_or_into_itself_is_refused(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id, 3)
    taken = (await xtrace.create_kb("taken")).id
    await load(context, xtrace, taken, 2)
    with pytest.raises(InvalidArgument, match="new knowledge base"):
        await copy_knowledge_base(xtrace, kb_id, xtrace, taken, context)
    with pytest.raises(InvalidArgument, match="same knowledge base"):
        await copy_knowledge_base(xtrace, kb_id, xtrace, kb_id, context)
    assert await number_under(context, xtrace, taken) == 2


async def test_a_rotation_is_finished_before_a_copy(xtrace: XTraceIntegration, kb_id: str, tmp_path: Path) -> None:
    old = new_context()
    await load(old, xtrace, kb_id, 4)
    new = successor(old, tmp_path / "new")
    copy = (await xtrace.create_kb("copy")).id
    with pytest.raises(InvalidArgument, match="finish the rotation"):
        await copy_knowledge_base(xtrace, kb_id, xtrace, copy, new)
    await rotate(new, xtrace)
    assert (await copy_knowledge_base(xtrace, kb_id, xtrace, copy, new)).copied == 4


async def test_another_clients_data_is_copied(
    xtrace: XTraceIntegration, http: Http, kb_id: str, tmp_path: Path
) -> None:
    data = fixture("paillier_lookup")
    ok(http.data("POST", "/exec_context/{org}", json={"data": data["context"], "context_id": data["context_id"]}))
    chunks = [{key: row[key] for key in ("chunk_content", "index")} | {"meta_data": {}} for row in data["rows"]]
    http.insert(kb_id, chunks, data["context_id"])
    (tmp_path / "context").write_text(json.dumps(data["context"]))
    context = ExecutionContext.load_from_disk(
        data["passphrase"], tmp_path / "context", insecure_allow_weak_encryption=True
    )
    copy = (await xtrace.create_kb("copy")).id
    count = await number_under(context, xtrace, kb_id)
    for copied, known in ((count, 0), (0, count)):
        done = await copy_knowledge_base(xtrace, kb_id, xtrace, copy, context)
        assert (done.copied, done.known) == (copied, known)


async def test_an_insertion_without_nonces_is_refused_before_it_is_sent(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await load(context, xtrace, kb_id, 3)
    chunks = await xtrace.get_chunk_by_id(ids, kb_id)
    for chunk in chunks:
        chunk.pop("nonce")
    copies = [{"chunk_content": chunk["chunk_content"], "index": chunk["index"]} for chunk in chunks]
    index = [chunk["index"] for chunk in chunks]
    updates = [{"chunk_id": one, **copy} for one, copy in zip(ids, copies, strict=True)]
    with pytest.raises(InvalidArgument, match="no nonce"):
        await xtrace.insert_chunks(kb_id, copies, context.id)
    with pytest.raises(InvalidArgument, match="no nonce"):
        await xtrace.store_db(copies, index, kb_id, context.id)
    with pytest.raises(InvalidArgument, match="no nonce"):
        await xtrace.update_chunks(index, updates, context.id, kb_id)
    assert await number_under(context, xtrace, kb_id) == 3
