"""The end of a rotation: nothing under the old keys counts any more, for the new file and for the service."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from contract.test_reactions import lied_to
from contract.test_rotation import (
    COUNT,
    DIM,
    Hooked,
    expect_everything,
    load,
    new_context,
    number_under,
    provider,
    successor,
)
from support.hostile_server import Exchange
from support.service import Http, ok
from xtrace_sdk.errors import (
    ContentTampered,
    ContextInUse,
    ContextRetired,
    PermissionDenied,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials


async def forge(old: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, text: str = "forged") -> int:
    """What a thief of the old keys stores: genuine under them by every check, at distance 0 of all zeros."""
    index, db = await DataLoader(old, xtrace).load_data_from_memory([{"chunk_content": text}], [[0] * DIM])
    chunks = [{"chunk_content": db[0]["chunk_content"], "meta_data": {}, "name": ""}]
    (chunk_id,) = await xtrace.insert_chunks(kb_id, chunks, old.id, index=index)
    return chunk_id


async def finished(
    xtrace: XTraceIntegration, kb_id: str, folder: Path, **options: Any
) -> tuple[ExecutionContext, ExecutionContext]:
    """The old context, and the new one as its file holds it."""
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, folder / "new")
    new.save_to_disk(folder / "copy")
    summary = await rotate(new, xtrace, finish=True, **options)
    assert (summary.finished, summary.total, summary.left) == (True, COUNT, {})
    assert "replace every copy that was saved before" in summary.next_step
    new.save_to_disk(folder / "new")
    return old, ExecutionContext.load_from_disk("passphrase", folder / "new", insecure_allow_weak_encryption=True)


async def test_the_file_says_that_it_is_finished(xtrace: XTraceIntegration, kb_id: str, tmp_path: Path) -> None:
    old, new = await finished(xtrace, kb_id, tmp_path)
    assert (new.predecessor, new.replaced, new.lineage) == (None, old.id, (new,))
    assert old.id in await xtrace.list_exec_contexts()
    await expect_everything(new, xtrace, kb_id)
    again = await rotate(new, xtrace)
    assert (again.chunks, again.finished, again.removed_old) == ({}, True, False)
    assert (await rotate(new, xtrace, remove_old=True)).removed_old
    assert await xtrace.list_exec_contexts() == [new.id]
    assert (await rotate(new, xtrace, remove_old=True)).removed_old
    # It goes through rewrapping, saving, and a rotation of its own.
    await new.rewrap(provider("other")).save_to_remote(xtrace)
    restored = await ExecutionContext.load_from_remote("other", new.id, xtrace, insecure_allow_weak_encryption=True)
    assert restored.replaced == old.id
    newest = successor(restored, tmp_path / "newest")
    assert (await rotate(newest, xtrace, finish=True)).total == COUNT
    assert newest.replaced == new.id


async def test_a_rotation_that_is_not_finished_says_so(xtrace: XTraceIntegration, kb_id: str, tmp_path: Path) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    summary = await rotate(successor(old, tmp_path / "new"), xtrace)
    assert (summary.finished, summary.removed_old) == (False, False)
    assert "chunks under the old keys are still accepted" in summary.next_step
    await load(old, xtrace, kb_id, 3)  # others go on writing under the old context


async def test_the_service_refuses_everything_new_under_the_old_context(
    xtrace: XTraceIntegration,
    kb_id: str,
    tmp_path: Path,
) -> None:
    old, new = await finished(xtrace, kb_id, tmp_path)
    loader = DataLoader(old, xtrace)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: load(old, xtrace, kb_id, COUNT + 1),
        lambda: loader.upsert_one({"chunk_content": "new"}, [1] * DIM, kb_id),
        lambda: loader.upsert_one({"chunk_content": "new"}, [1] * DIM, kb_id, chunk_id=2),
        lambda: forge(old, xtrace, kb_id),
        lambda: xtrace.register_kb_binding(kb_id, old.id),
    ]
    for call in calls:
        with pytest.raises(ContextRetired, match="use the context that replaced it"):
            await call()
    await expect_everything(new, xtrace, kb_id)
    assert await number_under(old, xtrace, kb_id) == 0
    # Also when the old context is deleted: who still has it cannot save it again.
    await rotate(new, xtrace, remove_old=True)
    with pytest.raises(ContextRetired):
        await loader.upsert_one({"chunk_content": "new"}, [1] * DIM, kb_id)
    with pytest.raises(ContextRetired):
        await DataLoader(old, xtrace).upsert_one({"chunk_content": "new"}, [1] * DIM, kb_id)


async def test_what_is_written_under_the_old_context_until_it_is_retired_moves(
    xtrace: XTraceIntegration,
    kb_id: str,
    tmp_path: Path,
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    late = (await xtrace.create_kb("late")).id

    class Late(Hooked):
        """Others write at the last moment, also into a knowledge base that was not there when the rotation began."""

        async def retire_exec_context(self, context_id: str) -> None:
            await load(old, xtrace, kb_id, COUNT + 1)
            await load(old, xtrace, late, 2)
            await super().retire_exec_context(context_id)

    async with Late(xtrace.org_id, xtrace._service.api_key, api_url=xtrace.api_url) as integration:
        summary = await rotate(new, integration, finish=True)
    assert summary.chunks == {kb_id: 2 * COUNT + 1, late: 2}
    for kb in (kb_id, late):
        assert await number_under(old, xtrace, kb) == 0
    assert await load(new, xtrace, late, 2) == [1, 2]


async def test_a_forged_chunk_is_neither_served_nor_moved_once_the_rotation_is_finished(
    xtrace: XTraceIntegration,
    credentials: Credentials,
    kb_id: str,
    tmp_path: Path,
) -> None:
    """The service is the thief's: it hides the chunk from the rotation, and shows it when that is finished."""
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    new.save_to_disk(tmp_path / "copy")
    forged = await forge(old, xtrace, kb_id)
    assert forged in await Retriever(new, xtrace).nn_search_for_ids([0] * DIM, COUNT + 5, kb_id)  # genuine so far
    async with lied_to(credentials) as (deceived, hostile):
        hostile.lie = lambda exchange: hides(forged, exchange)
        assert (await rotate(new, deceived, finish=True)).total == COUNT
    assert await number_under(old, xtrace, kb_id) == 1
    new.save_to_disk(tmp_path / "new")
    new = ExecutionContext.load_from_disk("passphrase", tmp_path / "new", insecure_allow_weak_encryption=True)
    retriever = Retriever(new, xtrace)
    ids = await retriever.nn_search_for_ids([0] * DIM, COUNT + 5, kb_id)
    assert sorted(ids) == list(range(1, COUNT + 1))
    with pytest.raises(ContentTampered, match=f"chunk {forged}"):
        await Retriever(new, xtrace).retrieve_and_decrypt([forged], kb_id)
    found = [one["chunk_id"] async for one in retriever.iter_meta_search({}, kb_id, ["chunk_content"])]
    assert found == list(range(1, COUNT + 1))
    assert (await rotate(new, xtrace)).total == 0
    assert (await verify(new, xtrace, kb_id)).chunks == COUNT
    assert await number_under(old, xtrace, kb_id) == 1
    with pytest.raises(ContextInUse):
        await rotate(new, xtrace, remove_old=True)
    # Copies that were saved before accept it, as `rotate` says.
    copy = ExecutionContext.load_from_disk("passphrase", tmp_path / "copy", insecure_allow_weak_encryption=True)
    assert forged in await Retriever(copy, xtrace).nn_search_for_ids([0] * DIM, COUNT + 5, kb_id)


def hides(chunk_id: int, exchange: Exchange) -> None:
    if exchange.is_for("POST chunk/meta/page"):
        page = exchange.json
        is_count = exchange.body["limit"] == 1
        page["results"] = [one for one in page["results"] if is_count or one["chunk_id"] != chunk_id]
        page["total"] -= 1
        exchange.json = page if page["total"] else page | {"results": [], "has_more": False, "next_page_token": None}


async def test_a_run_that_was_cut_off_before_the_file_was_saved_is_done_again(
    xtrace: XTraceIntegration,
    kb_id: str,
    tmp_path: Path,
) -> None:
    await finished(xtrace, kb_id, tmp_path)
    copy = ExecutionContext.load_from_disk("passphrase", tmp_path / "copy", insecure_allow_weak_encryption=True)
    again = await rotate(copy, xtrace, finish=True)
    assert (again.finished, again.total, copy.predecessor) == (True, 0, None)
    copy = ExecutionContext.load_from_disk("passphrase", tmp_path / "copy", insecure_allow_weak_encryption=True)
    assert (await rotate(copy, xtrace, remove_old=True)).removed_old
    copy = ExecutionContext.load_from_disk("passphrase", tmp_path / "copy", insecure_allow_weak_encryption=True)
    assert (await rotate(copy, xtrace, remove_old=True)).removed_old


async def test_copies_of_the_file_go_on_as_before(xtrace: XTraceIntegration, kb_id: str, tmp_path: Path) -> None:
    await finished(xtrace, kb_id, tmp_path)
    copy = ExecutionContext.load_from_disk("passphrase", tmp_path / "copy", insecure_allow_weak_encryption=True)
    await expect_everything(copy, xtrace, kb_id)
    loader = DataLoader(copy, xtrace)
    assert await load(copy, xtrace, kb_id) == list(range(1, COUNT + 1))
    await loader.patch_chunks([{"chunk_id": 1, "meta_data": {"tag5": "p"}}], kb_id)
    assert await loader.patch_chunks_by_meta({"tag5": "p"}, {"tag5": None}, kb_id) == 1
    await expect_everything(copy, xtrace, kb_id)


async def test_finishing_needs_the_permission_to_delete_everywhere(
    xtrace: XTraceIntegration,
    http: Http,
    credentials: Credentials,
    kb_id: str,
    tmp_path: Path,
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id)
    new = successor(old, tmp_path / "new")
    made = ok(http.control("POST", "/keys", json={"name": "writer"}))
    ok(http.control("PUT", f"/keys/{made['apiKey']['hash']}/permissions/{kb_id}", json={"permission": 3}))
    async with XTraceIntegration(credentials.org_id, made["secretKey"], api_url=credentials.api_url) as writer:
        with pytest.raises(PermissionDenied):
            await rotate(new, writer, finish=True)
    assert new.predecessor == old
    assert await number_under(old, xtrace, kb_id) == 0  # moving needs no more than writing
    assert (await rotate(new, xtrace, finish=True)).finished
