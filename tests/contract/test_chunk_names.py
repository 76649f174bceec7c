"""Names of chunks against the real server: known again in one knowledge base, and never equal in two."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT, examples, run
from support import databases
from support.existing_client import PASSPHRASE, fixture
from support.forked import Account, forking
from support.loading import load
from support.recording_proxy import recording_proxy
from support.service import Http, LiveService, ok
from xtrace_sdk.errors import ContextNotFound, ForeignNameSalt, InvalidArgument, PermissionDenied
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.chunks import plain_chunks
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader, LoadSummary
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 16
COUNT = 12
COLLECTION = [{"chunk_content": f"text {i}", "meta_data": {"tag1": f"t{i % 2}"}} for i in range(COUNT)]
VECTORS = [[i % 2] * DIM for i in range(COUNT)]


def provider() -> PassphraseKeyProvider:
    return PassphraseKeyProvider("passphrase", insecure_log2_n=1)


@pytest.fixture
def context(tmp_path: Path) -> ExecutionContext:
    return ExecutionContext.create(
        provider(),
        "paillier_lookup",
        DIM,
        256,
        path=tmp_path / "context",
        private_metadata=["tag5"],
        insecure_allow_weak_parameters=True,
    )


def successor(old: ExecutionContext, path: Path) -> ExecutionContext:
    return old.successor(provider(), key_len=256, path=path, insecure_allow_weak_parameters=True)


async def stored_by(loader: DataLoader, kb_id: str) -> LoadSummary:
    return await loader.load(COLLECTION, VECTORS, kb_id)


def names_in(service: LiveService, kb_id: str) -> list[str]:
    """The names of the chunks of a knowledge base, as they are in the server's database."""
    query = (
        "SELECT chunk.name FROM chunk JOIN binding ON chunk.binding_pk = binding.pk "
        "JOIN knowledge_base ON binding.kb_pk = knowledge_base.pk WHERE knowledge_base.id = ? ORDER BY chunk.pk"
    )
    return [name for (name,) in databases.execute(service.folder, query, kb_id)]


# In one knowledge base and in several


async def by_load(loader: DataLoader, kb_id: str) -> None:
    assert (await stored_by(loader, kb_id)).stored == COUNT


async def by_dump_db(loader: DataLoader, kb_id: str) -> None:
    index, db = await loader.load_data_from_memory(COLLECTION, VECTORS)
    assert await loader.dump_db(db, index, kb_id) == list(range(1, COUNT + 1))


async def by_upsert_one(loader: DataLoader, kb_id: str) -> None:
    for number, (chunk, vector) in enumerate(zip(COLLECTION, VECTORS, strict=True), start=1):
        assert await loader.upsert_one(chunk, vector, kb_id) == number


async def by_update_chunks(loader: DataLoader, kb_id: str) -> None:
    others = [{"chunk_content": f"other {i}"} for i in range(COUNT)]
    await loader.load(others, VECTORS, kb_id)
    updates = [{"chunk_id": i, **chunk} for i, chunk in enumerate(COLLECTION, start=1)]
    await loader.update_chunks(updates, VECTORS, kb_id)


@pytest.mark.parametrize("store", [by_load, by_dump_db, by_upsert_one, by_update_chunks])
async def test_the_same_chunks_in_two_knowledge_bases_have_no_name_in_common(
    store: Callable[[DataLoader, str], Awaitable[None]],
    context: ExecutionContext,
    credentials: Credentials,
    live_service: LiveService,
) -> None:
    base_names = [chunk.base_name for chunk in plain_chunks(COLLECTION, context)]
    async with (
        recording_proxy(credentials.api_url) as recording,
        XTraceIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, recording.url) as xtrace,
    ):
        one, two = [(await xtrace.create_kb("kb")).id for _ in range(2)]
        loader = DataLoader(context, xtrace)
        for kb_id in (one, two):
            await store(loader, kb_id)
        names = {*names_in(live_service, one), *names_in(live_service, two)}
        assert len(names) == 2 * COUNT
        # However they were stored, any loader knows them again.
        for kb_id in (one, two):
            assert await stored_by(DataLoader(context, xtrace), kb_id) == LoadSummary(0, COUNT)
            assert await loader.superseded(COLLECTION[1:], kb_id) == [1]
    seen = bytes(recording.data) + b"".join(file.read_bytes() for file in live_service.folder.glob("*.db*"))
    assert all(name.encode() in seen for name in names)
    assert not any(base_name.encode() in seen for base_name in base_names)


async def test_a_finished_load_stands_for_its_collection_in_every_knowledge_base(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    other = (await xtrace.create_kb("other")).id
    loader = DataLoader(context, xtrace)
    await stored_by(loader, other)
    summary = await loader.load(COLLECTION[2:], VECTORS[2:], kb_id)
    assert await loader.superseded(summary, other) == [1, 2]
    assert await loader.superseded(summary, kb_id) == []


async def test_contexts_of_other_clients_name_chunks_alike(
    xtrace: XTraceIntegration, live_service: LiveService, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_text(json.dumps(fixture("paillier")["context"]))
    theirs = ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "theirs", insecure_allow_weak_encryption=True)
    vectors = [[0] * theirs.embed_len()] * COUNT
    kb_ids = [(await xtrace.create_kb("kb")).id for _ in range(2)]
    for stored in (COUNT, 0):
        for kb_id in kb_ids:
            assert (await DataLoader(theirs, xtrace).load(COLLECTION, vectors, kb_id)).stored == stored
    assert len({name for kb_id in kb_ids for name in names_in(live_service, kb_id)}) == 2 * COUNT


async def test_first_loads_of_several_processes_agree_on_one_salt(
    context: ExecutionContext, credentials: Credentials, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    count = 4
    await context.save_to_remote(xtrace)
    barrier = forking().Barrier(count)
    known = (Account.of(credentials), str(tmp_path / "context"), kb_id)
    processes = [forking().Process(target=load, args=(*known, range(i, i + 1), barrier)) for i in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    everything = [{"chunk_content": f"text {i}"} for i in range(count)]
    summary = await DataLoader(context, xtrace).load(everything, VECTORS[:count], kb_id)
    assert summary == LoadSummary(0, count)


async def test_who_may_only_read_sees_what_is_superseded(
    context: ExecutionContext, credentials: Credentials, http: Http, xtrace: XTraceIntegration, kb_id: str
) -> None:
    made = ok(http.control("POST", "/keys", json={"name": "reader"}))
    ok(http.control("PUT", f"/keys/{made['apiKey']['hash']}/permissions/{kb_id}", json={"permission": 1}))
    await context.save_to_remote(xtrace)
    async with XTraceIntegration(credentials.org_id, made["secretKey"], api_url=credentials.api_url) as reading:
        reader = DataLoader(context, reading)
        assert await reader.superseded(COLLECTION, kb_id) == []
        with pytest.raises(PermissionDenied):
            await stored_by(reader, kb_id)
        await stored_by(DataLoader(context, xtrace), kb_id)
        assert await reader.superseded(COLLECTION[3:], kb_id) == [1, 2, 3]


# Through a rotation


async def test_names_stay_through_a_rotation(
    context: ExecutionContext, xtrace: XTraceIntegration, live_service: LiveService, kb_id: str, tmp_path: Path
) -> None:
    await stored_by(DataLoader(context, xtrace), kb_id)
    before = names_in(live_service, kb_id)
    new = successor(context, tmp_path / "new")
    await rotate(new, xtrace, remove_old=True)
    assert names_in(live_service, kb_id) == before
    assert await stored_by(DataLoader(new, xtrace), kb_id) == LoadSummary(0, COUNT)


async def test_names_stay_where_a_rotation_finds_nothing_left_to_move(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    """Every chunk was moved before, by a patch of a private field, which names nothing."""
    await stored_by(DataLoader(context, xtrace), kb_id)
    new = successor(context, tmp_path / "new")
    await DataLoader(new, xtrace).patch_chunks_by_meta({}, {"tag5": "moved"}, kb_id)
    assert (await rotate(new, xtrace, remove_old=True)).removed_old
    assert await stored_by(DataLoader(new, xtrace), kb_id) == LoadSummary(0, COUNT)


async def test_either_context_gives_the_same_names_during_a_rotation(
    context: ExecutionContext, xtrace: XTraceIntegration, live_service: LiveService, kb_id: str, tmp_path: Path
) -> None:
    """The successor loads into a knowledge base that the predecessor has not seen, and then the predecessor does."""
    await context.save_to_remote(xtrace)
    new = successor(context, tmp_path / "new")
    await DataLoader(new, xtrace).load(COLLECTION[:5], VECTORS[:5], kb_id)
    await DataLoader(context, xtrace).load(COLLECTION[5:], VECTORS[5:], kb_id)
    assert await stored_by(DataLoader(new, xtrace), kb_id) == LoadSummary(0, COUNT)
    assert (await rotate(new, xtrace, remove_old=True)).total == COUNT - 5
    assert await stored_by(DataLoader(new, xtrace), kb_id) == LoadSummary(0, COUNT)
    assert len(set(names_in(live_service, kb_id))) == COUNT


async def test_a_retired_predecessor_passes_its_salt_on_and_gets_no_new_one(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    other = (await xtrace.create_kb("other")).id
    await stored_by(DataLoader(context, xtrace), kb_id)
    await xtrace.retire_exec_context(context.id)
    new = successor(context, tmp_path / "new")
    assert await stored_by(DataLoader(new, xtrace), kb_id) == LoadSummary(0, COUNT)
    for stored in (COUNT, 0):
        assert (await stored_by(DataLoader(new, xtrace), other)).stored == stored
    assert await xtrace.get_name_salt(other, context.id) is None
    assert (await rotate(new, xtrace, remove_old=True)).total == COUNT
    for one in (kb_id, other):
        assert await stored_by(DataLoader(new, xtrace), one) == LoadSummary(0, COUNT)


async def test_a_predecessor_that_the_service_has_no_more_is_passed_over(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    new = successor(context, tmp_path / "new")
    for stored in (COUNT, 0):
        assert (await stored_by(DataLoader(new, xtrace), kb_id)).stored == stored
    with pytest.raises(ContextNotFound):
        await xtrace.get_name_salt(kb_id, context.id)


# Copies


async def copied(http: Http, xtrace: XTraceIntegration, context_id: str, kb_id: str) -> str:
    """A copy of a knowledge base, made without keys, under another id."""
    target = http.new_kb()
    chunks = [
        {name: chunk[name] for name in ("chunk_content", "index", "meta_data", "name", "nonce")}
        for chunk in http.get(kb_id, *range(1, COUNT + 1))
    ]
    http.insert(target, chunks, context_id)
    salt = await xtrace.get_name_salt(kb_id, context_id)
    assert salt is not None
    assert await xtrace.store_name_salt(target, context_id, salt) == salt
    return target


async def test_a_copy_is_loaded_into_once_somebody_with_the_keys_has_confirmed_it(
    context: ExecutionContext, http: Http, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    await stored_by(loader, kb_id)
    target = await copied(http, xtrace, context.id, kb_id)
    index, db = await loader.load_data_from_memory(COLLECTION[:1], VECTORS[:1])
    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: stored_by(loader, target),
        lambda: loader.dump_db(db, index, target),
        lambda: loader.update_chunks([{"chunk_id": 1, **COLLECTION[0]}], VECTORS[:1], target),
        lambda: loader.upsert_one(COLLECTION[0], VECTORS[0], target),
        lambda: loader.superseded(COLLECTION, target),
    ]
    for attempt in attempts:
        with pytest.raises(ForeignNameSalt, match="adopt_names"):
            await attempt()
    with pytest.raises(ForeignNameSalt, match="either"):
        await loader.adopt_names(target, http.new_kb())
    for _ in range(2):
        await loader.adopt_names(target, kb_id)
    for one in (loader, DataLoader(context, xtrace)):
        assert await stored_by(one, target) == LoadSummary(0, COUNT)
    assert await loader.superseded(COLLECTION[1:], target) == [1]
    assert (await xtrace.get_kb(target)).number_of_vectors == COUNT


async def test_a_copy_can_be_confirmed_and_rotated_in_either_order(
    context: ExecutionContext, http: Http, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    await stored_by(DataLoader(context, xtrace), kb_id)
    early, late = [await copied(http, xtrace, context.id, kb_id) for _ in range(2)]
    new = successor(context, tmp_path / "new")
    loader = DataLoader(new, xtrace)
    await loader.adopt_names(early, kb_id)
    assert (await rotate(new, xtrace, remove_old=True)).total == 3 * COUNT
    await loader.adopt_names(late, kb_id)
    for copy in (early, late):
        assert await stored_by(DataLoader(new, xtrace), copy) == LoadSummary(0, COUNT)


async def test_a_copy_under_a_retired_context_is_confirmed_under_its_successor(
    context: ExecutionContext, http: Http, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    await stored_by(DataLoader(context, xtrace), kb_id)
    target = await copied(http, xtrace, context.id, kb_id)
    await xtrace.retire_exec_context(context.id)
    loader = DataLoader(successor(context, tmp_path / "new"), xtrace)
    with pytest.raises(ForeignNameSalt):
        await stored_by(loader, target)
    await loader.adopt_names(target, kb_id)
    assert await stored_by(loader, target) == LoadSummary(0, COUNT)


async def test_a_target_with_a_salt_of_its_own_keeps_it(
    context: ExecutionContext, http: Http, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    await stored_by(loader, kb_id)
    target = http.new_kb()
    await stored_by(loader, target)
    own, carried = [await xtrace.get_name_salt(one, context.id) for one in (target, kb_id)]
    assert carried is not None
    assert await xtrace.store_name_salt(target, context.id, carried) == own != carried
    assert await stored_by(DataLoader(context, xtrace), target) == LoadSummary(0, COUNT)


async def test_what_has_no_salt_cannot_be_adopted(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await context.save_to_remote(xtrace)
    with pytest.raises(InvalidArgument, match="has no salt for names"):
        await DataLoader(context, xtrace).adopt_names(kb_id, "other")


async def test_the_page_on_security_says_how_to_go_on(
    context: ExecutionContext, http: Http, xtrace: XTraceIntegration, live_service: LiveService, kb_id: str
) -> None:
    blocks = examples(ROOT / "docs" / "security.md")
    loader = DataLoader(context, xtrace)
    await stored_by(loader, kb_id)
    target = await copied(http, xtrace, context.id, kb_id)
    names = {"loader": loader, "xtrace": xtrace, "ctx": context, "collection": COLLECTION, "embed": VECTORS}
    await run(blocks.pop("copy"), names | {"kb_id": target, "original_id": kb_id})
    assert await stored_by(DataLoader(context, xtrace), target) == LoadSummary(0, COUNT)

    salt = await xtrace.get_name_salt(kb_id, context.id)
    await xtrace.store_name_salt(kb_id, context.id, b"spoiled", replaces=salt)
    loader = DataLoader(context, xtrace)
    with pytest.raises(ForeignNameSalt):
        await stored_by(loader, kb_id)
    await run(blocks.pop("new salt"), names | {"kb_id": kb_id, "loader": loader})
    assert await stored_by(DataLoader(context, xtrace), kb_id) == LoadSummary(0, COUNT)
    assert len(names_in(live_service, kb_id)) == COUNT
