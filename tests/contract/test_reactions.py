"""What a server learns from the client's reactions when it shows bad rows, and that every loop over pages ends.

A server that shows rows otherwise once learns whether anything was bad, never what: its later requests are the same
whichever rows it chose. It is run, and its whole view is compared.
"""

import base64
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.test_rotation import load, new_context, number_under, successor
from support.hostile_server import Exchange, Hostile, hostile_server
from xtrace_core.wire import MSGPACK
from xtrace_sdk.errors import InvalidAnswer, TamperedData
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.upkeep import rotation
from xtrace_sdk.x_vec.upkeep.rotation import EMPTY_PASSES, READINGS, rotate
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)
"""It is about what a client does after answers that were changed on their way."""

COUNT = 24
BATCH = 8
PAGE = "POST chunk/meta/page"


@asynccontextmanager
async def lied_to(credentials: Credentials) -> AsyncIterator[tuple[XTraceIntegration, Hostile]]:
    async with (
        hostile_server(credentials.api_url) as hostile,
        XTraceIntegration(
            credentials.org_id,
            credentials.api_key,
            credentials.admin_key,
            hostile.url,
            retries=Retries(attempts=1),
        ) as xtrace,
    ):
        yield xtrace, hostile


def changes_rows(ids: Collection[int], n: int, times: int = 1) -> Callable[[Exchange], None]:
    """Multiplies the ciphertexts of these chunks by 1 + n the first times that each is read."""
    left = dict.fromkeys(ids, times)

    def lie(exchange: Exchange) -> None:
        if not exchange.is_for(PAGE):
            return
        page = exchange.json
        for chunk in page["results"]:
            if "index" in chunk and left.get(chunk["chunk_id"], 0):
                left[chunk["chunk_id"]] -= 1
                stored = int.from_bytes(base64.b64decode(chunk["index"][0]), "little")
                changed = stored * (1 + n) % n**2
                chunk["index"][0] = base64.b64encode(changed.to_bytes(2 * (n.bit_length() // 8 + 1), "little")).decode()
        exchange.json = page

    return lie


def view(hostile: Hostile) -> tuple[list[Any], list[Any]]:
    """What the server sees, reads and writes in their orders, but for fresh encryption and opaque tokens."""
    reads, writes = [], []
    for exchange in hostile.exchanges:
        target = f"{exchange.method} {exchange.target}"
        if exchange.headers.get("content-type") == MSGPACK:
            body = msgspec.msgpack.decode(exchange.request)
            writes.append((target, body["context_id"], [one["chunk_id"] for one in body["chunk_updates"]]))
        else:
            body = dict(exchange.body, page_token=None) if exchange.request else None
            reads.append((target, body, len(exchange.answer) if exchange.is_for("GET chunk") else None))
    return reads, writes


def modulus(context: ExecutionContext) -> int:
    return int(context.homomorphic.public_key()["n"])


def chosen_rows() -> list[list[int]]:
    """One row, and so many that some are in every batch, of which any subset may be bad."""
    generator = random.Random(12)
    return [[1], [COUNT], *[sorted(generator.sample(range(1, COUNT + 1), size)) for size in (5, 5, 12, COUNT)]]


async def test_a_verification_looks_the_same_whichever_rows_were_shown_otherwise_once(
    xtrace: XTraceIntegration, credentials: Credentials, kb_id: str
) -> None:
    context = new_context()
    await load(context, xtrace, kb_id, COUNT)
    views = []
    for ids in chosen_rows():
        async with lied_to(credentials) as (deceived, hostile):
            hostile.lie = changes_rows(ids, modulus(context))
            found = await verify(context, deceived, kb_id, batch_size=BATCH)
            assert (found.chunks, found.bad, found.unsteady) == (COUNT, (), tuple(ids))
            views.append(view(hostile))
    assert all(one == views[0] for one in views)
    assert views[0][1] == []
    # What is left to learn: whether anything was bad at all. Everything was read once more then.
    async with lied_to(credentials) as (deceived, hostile):
        assert (await verify(context, deceived, kb_id, batch_size=BATCH)).unsteady == ()
        once, _ = view(hostile)
    assert views[0][0] == once + once[1:]


async def test_what_is_bad_at_both_readings_is_listed(
    xtrace: XTraceIntegration, credentials: Credentials, kb_id: str
) -> None:
    context = new_context()
    await load(context, xtrace, kb_id, COUNT)
    async with lied_to(credentials) as (deceived, hostile):
        once, always = changes_rows([3, 4], modulus(context)), changes_rows([5, 20], modulus(context), 1 << 30)

        def lie(exchange: Exchange) -> None:
            once(exchange)
            always(exchange)

        hostile.lie = lie
        found = await verify(context, deceived, kb_id, batch_size=BATCH)
    assert [bad.chunk_id for bad in found.bad] == [5, 20]
    assert found.unsteady == (3, 4)


async def test_a_rotation_looks_the_same_whichever_rows_of_a_batch_were_shown_otherwise_once(
    xtrace: XTraceIntegration, credentials: Credentials, tmp_path: Path
) -> None:
    views = []
    for number, ids in enumerate([[1], [8], [2, 3], [1, 5, 7], [1, 2, 3, 4, 5, 6, 7, 8]]):
        kb_id = (await xtrace.create_kb("kb")).id
        old = new_context()
        await load(old, xtrace, kb_id, COUNT)
        new = successor(old, tmp_path / f"new {number}")
        async with lied_to(credentials) as (deceived, hostile):
            hostile.lie = changes_rows(ids, modulus(old))
            assert (await rotate(new, deceived, [kb_id], batch_size=BATCH)).total == COUNT
            reads, writes = view(hostile)
        names = {kb_id: "kb", old.id: "old", new.id: "new"}
        assert [(names[context], moved) for _, context, moved in writes] == [
            ("new", list(range(first, first + BATCH))) for first in range(1, COUNT, BATCH)
        ]
        # The page after the bad one may be on its way when the pass ends, or not yet: which, only the clock decides.
        again = [one for one in reads if "page" in one[0] and "name" not in one[1]["projection"]]
        text = repr((again, sorted({repr(one) for one in reads if "/exec_context/" not in one[0]})))
        for name, short in names.items():
            text = text.replace(name, short)
        views.append(text)
        assert await number_under(new, xtrace, kb_id) == COUNT
    assert all(one == views[0] for one in views)


async def test_a_rotation_reads_again_a_few_times_and_no_more(
    xtrace: XTraceIntegration, credentials: Credentials, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id, COUNT)
    new = successor(old, tmp_path / "new")
    async with lied_to(credentials) as (deceived, hostile):
        readings = 0

        def lie(exchange: Exchange) -> None:
            """Shows a row otherwise whenever a pass of the rotation reads it, never when everything is read again."""
            nonlocal readings
            if exchange.is_for(PAGE) and "name" in exchange.body["projection"] and exchange.body["limit"] == BATCH:
                readings += 1
                changes_rows([9], modulus(old))(exchange)

        hostile.lie = lie
        with pytest.raises(TamperedData, match=f"{READINGS} times .* do not trust it"):
            await rotate(new, deceived, batch_size=BATCH)
        _, writes = view(hostile)
    assert readings >= READINGS
    assert [moved for _, _, moved in writes] == [list(range(1, 9))]
    assert (await rotate(new, xtrace)).total == COUNT - BATCH


async def test_every_chunk_that_does_not_decrypt_is_named_at_once(
    xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id, COUNT)
    new = successor(old, tmp_path / "new")
    await xtrace.patch_chunks(kb_id, old.id, [{"chunk_id": i, "nonce": None} for i in (2, 12, 23)])
    with pytest.raises(TamperedData, match="chunks 2, 12, 23 do not decrypt"):
        await rotate(new, xtrace, batch_size=BATCH)
    assert await number_under(new, xtrace, kb_id) == 0


# Loops


def says_that_one_is_left(exchange: Exchange) -> None:
    if exchange.is_for(PAGE):
        exchange.json = {"results": [], "total": 1, "limit": 1, "offset": 0, "has_more": False, "next_page_token": None}


def says_that_there_is_more(exchange: Exchange) -> None:
    if exchange.is_for(PAGE):
        exchange.json = {**exchange.json, "results": [], "has_more": True, "next_page_token": str(random.random())}


def refuses_every_update(exchange: Exchange) -> None:
    """And says that the chunks are as they were."""
    if exchange.is_for("PUT chunk"):
        refuses_every_update.moments = {  # type: ignore[attr-defined]
            one["chunk_id"]: one["if_updated_at"] for one in msgspec.msgpack.decode(exchange.request)["chunk_updates"]
        }
        exchange.status, exchange.content_type = 409, "application/problem+json"
        exchange.answer = msgspec.json.encode({"code": "chunks_changed", "detail": "changed"})
    elif exchange.is_for("GET chunk"):
        moments = refuses_every_update.moments  # type: ignore[attr-defined]
        exchange.json = [{**one, "updated_at": moments[one["chunk_id"]]} for one in exchange.json]


@pytest.mark.parametrize("lie", [says_that_one_is_left, says_that_there_is_more, refuses_every_update])
async def test_a_rotation_ends_whatever_the_service_says(
    lie: Callable[[Exchange], None], xtrace: XTraceIntegration, credentials: Credentials, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id, COUNT)
    new = successor(old, tmp_path / "new")
    async with lied_to(credentials) as (deceived, hostile):
        hostile.lie = lie
        with pytest.raises(InvalidAnswer):
            await rotate(new, deceived, batch_size=BATCH)
        assert len(hostile.exchanges) < 4 + 4 * EMPTY_PASSES
        if lie is says_that_there_is_more:
            with pytest.raises(InvalidAnswer):
                await verify(new, deceived, kb_id)
            with pytest.raises(InvalidAnswer):
                async for _ in deceived.iter_meta_search(kb_id, {}, old.id, sort_by="tag1"):
                    pass


async def test_a_rotation_does_not_move_the_same_chunks_for_ever(
    xtrace: XTraceIntegration,
    credentials: Credentials,
    kb_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service says that it stored them, and gives them as they were before."""
    monkeypatch.setattr(rotation, "MAX_PASSES", 5)
    old = new_context()
    await load(old, xtrace, kb_id, COUNT)
    new = successor(old, tmp_path / "new")
    async with lied_to(credentials) as (deceived, hostile):

        def lie(exchange: Exchange) -> None:
            if exchange.is_for("PUT chunk"):
                exchange.json = {"updated_count": BATCH}

        hostile.lie = lie
        hostile.forwards = lambda exchange: not exchange.is_for("PUT chunk")
        with pytest.raises(InvalidAnswer, match="after 5 passes"):
            await rotate(new, deceived, batch_size=BATCH)


async def test_chunks_that_others_keep_changing_do_not_hold_a_rotation_for_ever(
    xtrace: XTraceIntegration, credentials: Credentials, kb_id: str, tmp_path: Path
) -> None:
    old = new_context()
    await load(old, xtrace, kb_id, 1)
    new = successor(old, tmp_path / "new")
    async with lied_to(credentials) as (deceived, hostile):
        changes = 0

        async def lie(exchange: Exchange) -> None:
            nonlocal changes
            if exchange.is_for(PAGE) and exchange.json["results"] and "index" in exchange.body["projection"]:
                changes += 1
                await xtrace.patch_chunks(kb_id, old.id, [{"chunk_id": 1, "meta_data": {"tag5": str(changes)}}])

        hostile.lie = lie
        with pytest.raises(InvalidAnswer, match="when no client writes under the old context"):
            await rotate(new, deceived, batch_size=BATCH)
    assert (await rotate(new, xtrace)).total == 1
