"""A hostile server's answers to everything but searches: chunks, contexts, writes, and what is no proper HTTP."""

import asyncio
import base64
import json
import random
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.hostile_stock import COUNT, QUERY, VECTORS, Stock, chunks, new_stock
from contract.test_hostile_search import FETCHES
from contract.test_rotation import provider, successor
from support.hostile_server import Exchange, flipped, flipped_text, hostile_server
from support.hostile_table import not_noticed, noticed
from support.service import LiveService
from xtrace_core import frames, wire
from xtrace_core.limits import MAX_ROWS
from xtrace_core.wire import MAX_SEGMENT_BYTES
from xtrace_sdk.errors import (
    AnswerTooLarge,
    ChangedSinceSearch,
    ContentTampered,
    ForeignNameSalt,
    InvalidAnswer,
    InvalidContext,
    NetworkError,
    ServerTimeout,
    WrongKey,
    XTraceError,
)
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DATABASES = ("sqlite",)
"""The answers are changed on their way, wherever they come from."""


@pytest.fixture(scope="module")
def stock(live_service: LiveService) -> Stock:
    return new_stock(live_service)


# Fetched chunks

Chunks = list[dict[str, Any]]
FETCHED: list[tuple[type[XTraceError], Callable[[Chunks], Chunks]]] = []


def fetched(does: str, raised: type[XTraceError]) -> Callable[[Callable[[Chunks], Chunks]], Callable[[Chunks], Chunks]]:
    """Enters a change of fetched chunks that is noticed."""
    noticed(does, raised)

    def enter(change: Callable[[Chunks], Chunks]) -> Callable[[Chunks], Chunks]:
        FETCHED.append((raised, change))
        return change

    return enter


def exchanged(found: Chunks, *keys: str) -> Chunks:
    one, other = found[0], found[1]
    for key in keys:
        one[key], other[key] = other[key], one[key]
    return found


@fetched("changes a bit of a content", ContentTampered)
def bit(found: Chunks) -> Chunks:
    return [found[0] | {"chunk_content": flipped_text(found[0]["chunk_content"], 300)}, *found[1:]]


@fetched("changes a bit of a content", ContentTampered)
def shortened(found: Chunks) -> Chunks:
    return [found[0] | {"chunk_content": found[0]["chunk_content"][:40]}, *found[1:]]


@fetched("exchanges the contents of two chunks", ContentTampered)
def exchanged_contents(found: Chunks) -> Chunks:
    return exchanged(found, "chunk_content")


@fetched("exchanges the contents of two chunks together with their nonces", ChangedSinceSearch)
def exchanged_with_nonces(found: Chunks) -> Chunks:
    return exchanged(found, "chunk_content", "nonce")


@fetched("takes the nonce of a fetched chunk away, or changes it", ContentTampered)
def without_nonce(found: Chunks) -> Chunks:
    return [{key: value for key, value in chunk.items() if key != "nonce"} for chunk in found]


@fetched("takes the nonce of a fetched chunk away, or changes it", ContentTampered)
def changed_nonce(found: Chunks) -> Chunks:
    return [chunk | {"nonce": flipped_text(chunk["nonce"], 5)} for chunk in found]


@fetched("gives chunks that were not requested, twice, or in another order", InvalidAnswer)
def not_asked_for(found: Chunks) -> Chunks:
    return [*found, found[0] | {"chunk_id": 99}]


@fetched("gives chunks that were not requested, twice, or in another order", InvalidAnswer)
def twice(found: Chunks) -> Chunks:
    return [found[0], *found]


@fetched("gives chunks that were not requested, twice, or in another order", InvalidAnswer)
def reversed_(found: Chunks) -> Chunks:
    return found[::-1]


@fetched("leaves out a field that was asked for, or gives it another type", InvalidAnswer)
def without_content(found: Chunks) -> Chunks:
    return [{key: value for key, value in chunk.items() if key != "chunk_content"} for chunk in found]


@fetched("leaves out a field that was asked for, or gives it another type", InvalidAnswer)
def without_metadata(found: Chunks) -> Chunks:
    return [{key: value for key, value in chunk.items() if key != "meta_data"} for chunk in found]


@fetched("leaves out a field that was asked for, or gives it another type", InvalidAnswer)
def numbers_for_texts(found: Chunks) -> Chunks:
    return [chunk | {"chunk_content": 7} for chunk in found]


@fetched("leaves out a field that was asked for, or gives it another type", InvalidAnswer)
def strange_metadata(found: Chunks) -> Chunks:
    return [chunk | {"meta_data": {"tag1": ["a"]}} for chunk in found]


@pytest.mark.parametrize(("raised", "change"), [pytest.param(*one, id=one[1].__name__) for one in FETCHED])
async def test_changed_chunks_are_noticed(
    raised: type[XTraceError], change: Callable[[Chunks], Chunks], stock: Stock
) -> None:
    async with stock.lied_to() as (xtrace, hostile):

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                exchange.json = change(exchange.json)

        hostile.lie = lie
        for decoys in (0, 3):
            with pytest.raises(raised) as error:
                await Retriever(stock.context, xtrace).search(QUERY, 4, stock.kb_id, decoys=decoys)
            assert type(error.value) is raised


noticed("gives another organisation's chunks", ContentTampered)


async def test_another_organisations_chunks_are_noticed(stock: Stock) -> None:
    own, foreign = stock.credentials, stock.foreign
    async with stock.lied_to() as (xtrace, hostile):

        async def lie(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                target = exchange.target.replace(own.org_id, foreign.org_id)
                await exchange.ask({"x-api-key": foreign.api_key}, target.replace(stock.kb_id, stock.foreign_kb_id))

        hostile.lie = lie
        for found_before in (True, False):
            retriever = Retriever(stock.context, xtrace)
            if found_before:
                await retriever.nn_search_for_ids(QUERY, COUNT, stock.kb_id)
            with pytest.raises(ContentTampered):
                await retriever.retrieve_and_decrypt([1, 2], stock.kb_id)


noticed("gives the encrypted secret key of a context as content", ContentTampered)


async def test_a_secret_key_as_content_is_noticed(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        await stock.context.save_to_remote(xtrace)
        sk = (await xtrace.get_serialized_exec_context(stock.context.id))["sk"]

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                exchange.json = [chunk | {"chunk_content": sk} for chunk in exchange.json]

        hostile.lie = lie
        with pytest.raises(ContentTampered):
            await Retriever(stock.context, xtrace).search(QUERY, 1, stock.kb_id)


noticed("exchanges contents under cover of a rotation, or withholds the vectors that would show it", ChangedSinceSearch)


async def test_a_rotation_covers_no_exchange(stock: Stock, tmp_path: Path) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        kb_id = (await xtrace.create_kb("rotating")).id
        loader = DataLoader(stock.context, xtrace)
        await loader.upsert_one({"chunk_content": "one"}, VECTORS[0], kb_id)
        await loader.upsert_one({"chunk_content": "two"}, VECTORS[1], kb_id)
        new = successor(stock.context, tmp_path / "new")
        retriever = Retriever(new, xtrace)
        ids = await retriever.nn_search_for_ids(VECTORS[0], 2, kb_id)
        await rotate(new, xtrace, [kb_id])

        def exchange_them(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                exchange.json = exchanged(
                    exchange.json, *(key for key in ("chunk_content", "nonce") if key in exchange.json[0])
                )

        def withhold(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES) and "projection=index" in exchange.target:
                exchange.json = []
            else:
                exchange_them(exchange)

        for lie in (exchange_them, withhold):
            hostile.lie = lie
            with pytest.raises(ChangedSinceSearch):
                await retriever.retrieve_and_decrypt(ids, kb_id)


@not_noticed("changes visible metadata, names, times and counts")
async def test_changed_metadata_is_not_noticed(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                exchange.json = [
                    chunk | {"meta_data": {"tag1": "a lie"}, "name": "false", "updated_at": "never"}
                    for chunk in exchange.json
                ]

        hostile.lie = lie
        retriever = Retriever(stock.context, xtrace)
        (found,) = await retriever.search(QUERY, 1, stock.kb_id)
        assert (found.text, found.meta_data) == ("text 4", {"tag1": "a lie"})
        (chunk,) = await retriever.retrieve_and_decrypt([found.chunk_id], stock.kb_id)
        assert (chunk["name"], chunk["updated_at"]) == ("false", "never")


# Contexts


Data = dict[str, Any]


def with_config(data: Data, **changes: Any) -> Data:
    return data | {"config": json.dumps(json.loads(data["config"]) | changes)}


CONTEXTS: dict[str, list[tuple[set[type[XTraceError]], Callable[[Data], Data]]]] = {
    "changes `pk`, `config` or `type` of a context": [
        ({InvalidContext}, lambda data: data | {"pk": json.dumps({"n": str(int(json.loads(data["pk"])["n"]) + 2)})}),
        ({InvalidContext}, lambda data: with_config(data, embed_len=8)),
        ({InvalidContext}, lambda data: with_config(data, encoding="base3")),
        ({InvalidContext}, lambda data: with_config(data, version=2)),
        ({InvalidContext, WrongKey}, lambda data: with_config(data, version=None)),
        ({InvalidContext}, lambda data: data | {"type": "PaillierClient"}),
        ({InvalidContext}, lambda data: data | {"type": "Another"}),
        ({InvalidContext}, lambda data: data | {"config": "[]"}),
    ],
    "changes `sk` of a context": [
        ({InvalidContext, WrongKey}, lambda data: data | {"sk": flipped_text(data["sk"], 5)}),
        ({InvalidContext, WrongKey}, lambda data: data | {"sk": flipped_text(data["sk"], 1000)}),
        ({InvalidContext, WrongKey}, lambda data: data | {"sk": data["sk"][:-4]}),
        ({InvalidContext, WrongKey}, lambda data: data | {"sk": "AAAA"}),
        ({InvalidContext, WrongKey}, lambda data: data | {"sk": "no base64"}),
    ],
    "changes `wrapped_key` of a context": [
        ({WrongKey}, lambda data: data | {"wrapped_key": flipped_text(data["wrapped_key"], 8 * 20)}),
        ({InvalidContext}, lambda data: data | {"wrapped_key": flipped_text(data["wrapped_key"], 3)}),
        ({InvalidContext}, lambda data: data | {"wrapped_key": "no base64"}),
        ({InvalidContext}, lambda data: data | {"wrapped_key": costing(data["wrapped_key"], 30, 8, 1)}),
        ({InvalidContext}, lambda data: data | {"wrapped_key": costing(data["wrapped_key"], 20, 255, 255)}),
        ({InvalidContext}, lambda data: data | {"wrapped_key": costing(data["wrapped_key"], 20, 16, 1)}),
        ({InvalidContext}, lambda data: data | {"wrapped_key": costing(data["wrapped_key"], 4, 8, 5)}),
    ],
    "leaves out fields of a context, or names another key provider": [
        ({InvalidContext}, lambda data: {key: value for key, value in data.items() if key != "sk"}),
        ({InvalidContext}, lambda data: {key: value for key, value in data.items() if key != "wrapped_key"}),
        ({InvalidContext}, lambda data: data | {"key_provider": "aws_kms"}),
        ({InvalidAnswer}, lambda data: {key: value for key, value in data.items() if key != "pk"}),
        ({InvalidAnswer}, lambda data: data | {"pk": 7}),
    ],
}
for _does, _changes in CONTEXTS.items():
    for _raised, _ in _changes:
        noticed(_does, *_raised)


def costing(wrapped_key: str, log2_n: int, r: int, p: int) -> str:
    """The wrapped key of a passphrase with another cost."""
    raw = base64.b64decode(wrapped_key)
    return base64.b64encode(raw[:-19] + bytes([log2_n, r, p]) + raw[-16:]).decode()


@pytest.mark.parametrize(("does", "number"), [(does, i) for does, found in CONTEXTS.items() for i in range(len(found))])
async def test_changed_contexts_are_noticed(does: str, number: int, stock: Stock) -> None:
    raised, change = CONTEXTS[does][number]
    async with stock.lied_to() as (xtrace, hostile):
        await stock.context.save_to_remote(xtrace)

        def lie(exchange: Exchange) -> None:
            exchange.json = change(exchange.json)

        hostile.lie = lie
        began = time.monotonic()
        with pytest.raises(XTraceError) as error:
            await ExecutionContext.load_from_remote(
                "passphrase", stock.context.id, xtrace, insecure_allow_weak_encryption=True
            )
        assert type(error.value) in raised
        assert time.monotonic() - began < 20


noticed("gives another context than the one asked for", InvalidContext)


async def test_another_context_is_noticed(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        await stock.context.save_to_remote(xtrace)
        await stock.other_context.save_to_remote(xtrace)
        hostile.lie = lambda exchange: exchange.ask(
            target=exchange.target.replace(stock.context.id, stock.other_context.id)
        )
        with pytest.raises(InvalidContext, match="do not use it"):
            await ExecutionContext.load_from_remote(
                "passphrase", stock.context.id, xtrace, insecure_allow_weak_encryption=True
            )


async def test_a_bit_changed_anywhere_gives_no_other_context(stock: Stock) -> None:
    chosen = random.Random(4)
    async with stock.lied_to() as (xtrace, hostile):
        await stock.context.save_to_remote(xtrace)

        def lie(exchange: Exchange) -> None:
            exchange.answer = flipped(exchange.answer, chosen.randrange(8 * len(exchange.answer)))

        hostile.lie = lie
        loaded = 0
        for _ in range(100):
            try:
                context = await ExecutionContext.load_from_remote(
                    "passphrase", stock.context.id, xtrace, insecure_allow_weak_encryption=True
                )
            except XTraceError:
                continue
            loaded += 1
            assert context.id == stock.context.id
            assert context.homomorphic.secrets() == stock.context.homomorphic.secrets()
    assert loaded < 10


@not_noticed("gives an older copy of a context, which an older passphrase opens")
async def test_an_older_copy_is_not_noticed(stock: Stock, tmp_path: Path) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        stock.context.save_to_disk(tmp_path / "context")
        context = ExecutionContext.load_from_disk(
            "passphrase", tmp_path / "context", insecure_allow_weak_encryption=True
        )
        await context.save_to_remote(xtrace)
        old = await xtrace.get_serialized_exec_context(context.id)
        await context.rewrap(provider("another passphrase")).save_to_remote(xtrace)
        hostile.lie = lambda exchange: setattr(exchange, "json", old)
        assert (
            await ExecutionContext.load_from_remote(
                "passphrase", context.id, xtrace, insecure_allow_weak_encryption=True
            )
            == context
        )
        with pytest.raises(WrongKey):
            await ExecutionContext.load_from_remote(
                "another passphrase", context.id, xtrace, insecure_allow_weak_encryption=True
            )


noticed("says that it saved another context than it was given", InvalidAnswer)


async def test_another_saved_context_is_noticed(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = lambda exchange: setattr(exchange, "json", {"context_id": stock.other_context.id})
        with pytest.raises(InvalidAnswer, match="a different context"):
            await stock.context.save_to_remote(xtrace)


# Writes

noticed(
    "answers an insertion with too few or too many ids, the same one twice, or ids that do not exist", InvalidAnswer
)


@pytest.mark.parametrize("ids", [[], [1], [1, 2, 3], [1, 1], [0, 1], [-1, 2]])
async def test_false_ids_of_insertions_are_noticed(ids: list[int], stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        kb_id = (await xtrace.create_kb("kb")).id

        def lie(exchange: Exchange) -> None:
            if exchange.is_for("POST chunk"):
                exchange.json = {"chunk_ids": ids}

        hostile.lie = lie
        loader = DataLoader(stock.context, xtrace)
        index, db = await loader.load_data_from_memory(chunks("new")[:2], list(VECTORS[:2]))
        with pytest.raises(InvalidAnswer, match=r"expected one above 0 for each|>= 0"):
            await loader.dump_db(db, index, kb_id)


noticed("answers for names that were not asked about, or with ids that do not exist", InvalidAnswer)


@pytest.mark.parametrize("answered", [{"another": 1}, {"name": 0}])
async def test_false_names_are_noticed(answered: dict[str, int], stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = lambda exchange: setattr(exchange, "json", {"chunk_ids": answered})
        with pytest.raises(InvalidAnswer, match="names that were not requested"):
            await xtrace.find_chunk_names(stock.kb_id, stock.context.id, ["name"])


noticed(
    "says that chunks changed that were not asked about, out of order, or that ranges of them are left", InvalidAnswer
)


@pytest.mark.parametrize(
    ("since", "after", "lie"),
    [
        (1, 0, {"chunk_ids": [2, 1]}),
        (1, 0, {"chunk_ids": [1, 1]}),
        (1, 0, {"chunk_ids": [0]}),
        (1, 2, {"chunk_ids": [2]}),
        (1, 0, {"chunk_ids": [1, 2, 3, 4]}),
        (1, 0, {"chunk_ids": [1, 2], "has_more": True}),
        (1, 0, {"chunk_ids": [1, 2, 3], "has_more": True, "living": [[1, 9]]}),
        (0, 0, {"living": [[1, 1]]}),
        (9, 0, {"chunk_ids": [1]}),
        (10, 0, {"living": [[1, 1]]}),
        (1, 0, {"living": [[2, 1]]}),
        (1, 0, {"living": [[0, 1]]}),
        (1, 0, {"living": [[1, 3], [3, 4]]}),
        (1, 0, {"living": [[4, 4], [1, 2]]}),
        (1, 0, {"living": [[1, 2, 3]]}),
        (1, 0, {"living": [[2 * i + 1, 2 * i + 1] for i in range(20_000)] + [[1, 1]]}),
        (1, 0, {"gone": [2, 1]}),
        (1, 0, {"gone": [0]}),
        (1, 0, {"gone": [1], "living": [[2, 2]]}),
        (1, 0, {"chunk_ids": [1], "gone": [1]}),
        (1, 0, {"chunk_ids": [1, 2, 3], "has_more": True, "gone": [4]}),
        (0, 0, {"gone": [1]}),
        (9, 0, {"gone": [1]}),
        (1, 0, {"revision": -1}),
        (1, 0, {"revision": None}),
    ],
)
async def test_false_changes_are_noticed(since: int, after: int, lie: dict[str, Any], stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        answer = {"revision": 9, "chunk_ids": [], "has_more": False, "living": None} | lie
        hostile.lie = lambda exchange: setattr(exchange, "json", answer)
        with pytest.raises(InvalidAnswer):
            await xtrace.local_changes(stock.kb_id, stock.context.id, since, after, limit=3)


noticed("gives other bytes for a segment of a shared index, lists one twice, or parts of none", InvalidAnswer)
HASH = sha256(b"segment").hexdigest()


@pytest.mark.parametrize(
    "lie",
    [
        {"segments": [{"sha256": HASH, "bytes": 7}] * 2},
        {"segments": [{"sha256": HASH.upper(), "bytes": 7}]},
        {"segments": [{"sha256": "../" * 21 + "x", "bytes": 7}]},
        {"segments": [{"sha256": HASH, "bytes": 0}]},
        {"segments": [{"sha256": HASH, "bytes": MAX_SEGMENT_BYTES + 1}]},
        {"version": 0},
        {"version": -1},
        {"version": 2**53},
        {"manifest": None},
        {"manifest": "A" * 400_000},
    ],
)
async def test_a_false_description_of_a_shared_index_is_noticed(lie: dict[str, Any], stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        answer = {"version": 7, "manifest": "bQ==", "segments": []} | lie
        hostile.lie = lambda exchange: setattr(exchange, "json", answer)
        with pytest.raises(InvalidAnswer):
            await xtrace.shared_index(stock.kb_id, stock.context.id, "records")


async def test_other_bytes_for_a_segment_of_a_shared_index_are_noticed(stock: Stock) -> None:
    place = (stock.kb_id, stock.context.id, "records")
    async with stock.lied_to() as (xtrace, hostile):
        assert await xtrace.add_index_segment(*place, b"segment") == HASH
        assert await xtrace.get_index_segment(*place, HASH) == b"segment"
        for other in (b"segmenu", b"", b"segment" + bytes(MAX_SEGMENT_BYTES)):
            hostile.lie = lambda exchange, other=other: setattr(exchange, "answer", other)
            with pytest.raises(InvalidAnswer):
                await xtrace.get_index_segment(*place, HASH)
        hostile.lie = lambda exchange: setattr(exchange, "json", {"sha256": HASH, "bytes": 7})
        with pytest.raises(InvalidAnswer, match="other bytes than sent"):
            await xtrace.add_index_segment(*place, b"another")
        await xtrace.delete_shared_index(*place)


noticed("gives another knowledge base's salt for names, or one that it made up", ForeignNameSalt)
noticed("gives a salt for names that is too long, empty or none after one was stored", InvalidAnswer)


SALTS: dict[str, Callable[[Stock, bytes], bytes]] = {
    "another knowledge base's": lambda stock, salt: salt,
    "made up": lambda stock, salt: bytes(64),
    "its own, tagged under another context": lambda stock, salt: stock.other_context.new_name_salt(stock.kb_id),
    "changed": lambda stock, salt: salt[:63] + bytes([salt[63] ^ 1]),
    "cut off": lambda stock, salt: salt[:32],
    "longer": lambda stock, salt: salt + b"x",
}


async def loading(loader: DataLoader, kb_id: str) -> None:
    await loader.load(chunks("new"), list(VECTORS), kb_id)


async def asking_what_is_superseded(loader: DataLoader, kb_id: str) -> None:
    await loader.superseded(chunks("text"), kb_id)


NAMING = pytest.mark.parametrize("name_chunks", [loading, asking_what_is_superseded])


@NAMING
@pytest.mark.parametrize("given", SALTS)
async def test_a_false_salt_for_names_is_noticed_before_anything_is_named(
    given: str, name_chunks: Callable[[DataLoader, str], Awaitable[None]], stock: Stock
) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        other = await xtrace.get_name_salt(stock.other_kb_id, stock.context.id)
        assert other is not None
        salt, named = SALTS[given](stock, other), False

        def lie(exchange: Exchange) -> None:
            nonlocal named
            named |= exchange.is_for("POST chunk", "POST chunk/names")
            if "/name_salt/" in exchange.target:
                exchange.json = {"salt": base64.b64encode(salt).decode()}

        hostile.lie = lie
        with pytest.raises(ForeignNameSalt, match=stock.kb_id):
            await name_chunks(DataLoader(stock.context, xtrace), stock.kb_id)
        assert not named


def with_salt(salt: Any) -> Callable[[Exchange], None]:
    """The lie that this is the salt."""

    def lie(exchange: Exchange) -> None:
        if "/name_salt/" in exchange.target:
            exchange.json = {"salt": salt}

    return lie


@NAMING
@pytest.mark.parametrize(
    "salt", ["", base64.b64encode(bytes(129)).decode(), base64.b64encode(bytes(10**6)).decode(), 7, "!"]
)
async def test_a_salt_for_names_that_is_none_is_noticed(
    salt: Any, name_chunks: Callable[[DataLoader, str], Awaitable[None]], stock: Stock
) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = with_salt(salt)
        with pytest.raises(InvalidAnswer):
            await name_chunks(DataLoader(stock.context, xtrace), stock.kb_id)


async def test_a_salt_for_names_that_was_not_stored_is_noticed(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = with_salt(None)
        with pytest.raises(InvalidAnswer, match="did not store the salt"):
            await loading(DataLoader(stock.context, xtrace), stock.kb_id)


@not_noticed("forgets the salt for names of a knowledge base")
async def test_a_forgotten_salt_for_names_is_not_noticed(stock: Stock) -> None:
    """Everything is stored a second time, under names that tell the service nothing."""
    async with stock.lied_to() as (xtrace, hostile):
        kb_id = (await xtrace.create_kb("kb")).id
        await loading(DataLoader(stock.context, xtrace), kb_id)
        first = {chunk["name"] for chunk in await xtrace.meta_search(kb_id, {}, stock.context.id)}

        def forget(exchange: Exchange) -> None:
            if "/name_salt/" in exchange.target:
                exchange.json = {"salt": exchange.body["salt"]}  # says that the new one is the first

        hostile.lie = forget
        await loading(DataLoader(stock.context, xtrace), kb_id)
        hostile.lie = None
        names = {chunk["name"] for chunk in await xtrace.meta_search(kb_id, {}, stock.context.id)}
        assert len(first) == COUNT
        assert len(names) == 2 * COUNT
        # What to do about it: what one load returned stands for its collection, the other's chunks are superseded.
        loader = DataLoader(stock.context, xtrace)
        assert len(await loader.superseded(chunks("new"), kb_id)) == COUNT


@not_noticed("says that chunks are stored which are not, by their names or after an insertion")
async def test_chunks_said_to_be_stored_are_lost(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        kb_id = (await xtrace.create_kb("kb")).id
        await xtrace.register_kb_binding(kb_id, stock.context.id)

        def all_known(exchange: Exchange) -> None:
            if exchange.is_for("POST chunk/names"):
                names = exchange.body["names"]
                exchange.json = {"chunk_ids": {name: i for i, name in enumerate(names, start=1)}}

        hostile.lie = all_known
        loader = DataLoader(stock.context, xtrace)
        index, db = await loader.load_data_from_memory(chunks("new"), list(VECTORS))
        assert await loader.dump_db(db, index, kb_id) == list(range(1, COUNT + 1))
        hostile.lie = None
        # What to do about it: read what is there.
        assert (await verify(stock.context, xtrace, kb_id)).chunks == 0


@not_noticed("says that it deleted or changed chunks and did not")
async def test_a_deletion_that_did_not_happen_is_not_noticed(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = lambda exchange: setattr(exchange, "json", {"deleted_count": 2})
        assert await xtrace.delete_chunks([901, 902], stock.kb_id) == 2


# Lists

noticed(
    "repeats results of a metadata search, gives them out of order, too many on a page, or pages without end",
    InvalidAnswer,
)


PAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "one result twice": lambda page: {"results": [*page["results"][:1], *page["results"][:-1]]},
    "out of order": lambda page: {"results": page["results"][::-1]},
    "too many": lambda page: {"results": [*page["results"], page["results"][-1] | {"chunk_id": 99}]},
    "the first page for ever": lambda page: {
        "results": page["results"],
        "has_more": True,
        "next_page_token": page["next_page_token"],
    },
    "empty pages for ever": lambda _: {"results": [], "has_more": True, "next_page_token": str(random.random())},
    "a total of chunks, and none": lambda _: {"results": [], "total": 1, "has_more": False, "next_page_token": None},
    "without contents": lambda page: {
        "results": [{key: value for key, value in one.items() if key != "index"} for one in page["results"]]
    },
}


@pytest.mark.parametrize("how", PAGES)
async def test_false_lists_are_noticed(how: str, stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        first: list[dict[str, Any]] = []

        def lie(exchange: Exchange) -> None:
            if exchange.is_for("POST chunk/meta/page"):
                page = exchange.json
                first.append(page)
                if how == "the first page for ever":
                    page, exchange.status = first[0] | {"next_page_token": str(random.random())}, 200
                exchange.json = page | PAGES[how](page)

        hostile.lie = lie
        with pytest.raises(InvalidAnswer):
            async for _ in xtrace.iter_meta_search(
                stock.kb_id, {}, stock.context.id, projection=["index"], page_size=5
            ):
                pass
        assert len(first) <= 2


# What is larger than anything that there is

noticed("announces or gives numbers, lengths, ciphertexts or nonces that no valid answer has", InvalidAnswer)


def packed(*rows: list[Any]) -> bytes:
    return msgspec.msgpack.encode(rows)


SIZES: dict[str, tuple[str, bytes]] = {
    "an array of 2^32 rows": (wire.MSGPACK, b"\xdd\xff\xff\xff\xff"),
    "a row of 2^32 ciphertexts": (wire.MSGPACK, b"\x91\x92\xdd\xff\xff\xff\xff"),
    "a ciphertext of 4 GB": (wire.MSGPACK, b"\x91\x92\x91\xc6\xff\xff\xff\xff"),
    # As it was seen: padded to the width of the first, these took 200 GB.
    "a ciphertext of 2 MB and many of a byte": (
        wire.MSGPACK,
        packed([[bytes(2 << 20)], 1], *([[b"x"], i] for i in range(2, 100_000))),
    ),
    "a nonce of 300 bytes": (wire.MSGPACK, packed([[b"x"], 1, bytes(300)])),
    "an id of 2^64 - 1": (wire.MSGPACK, packed([[b"x"], 2**64 - 1])),
    "2^64 - 1 rows in frames": (frames.MEDIA_TYPE, frames.head(1, 128, 2**64 - 1)),
    "ciphertexts of 4 GB in frames": (frames.MEDIA_TYPE, frames.head(1, 2**32 - 1, 1)),
    "2^32 - 1 ciphertexts in frames": (frames.MEDIA_TYPE, frames.head(2**32 - 1, 128, 1)),
    "2^32 - 1 rows in a block": (frames.MEDIA_TYPE, frames.head(1, 128, MAX_ROWS) + b"\xff" * 4),
    "a block of 200 MB": (frames.MEDIA_TYPE, frames.head(1024, 2048, MAX_ROWS) + (100).to_bytes(4, "little") + b"\0"),
}


@pytest.mark.parametrize("what", SIZES)
async def test_a_search_of_impossible_size_is_refused_as_soon_as_it_is_announced(what: str, stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):

        def lie(exchange: Exchange) -> None:
            exchange.content_type, exchange.answer = SIZES[what]

        hostile.lie = lie
        with pytest.raises(InvalidAnswer, match=r"no scheme|more than|at most|a block has|2\^63"):
            await Retriever(stock.context, xtrace).nn_search_for_ids(QUERY, 1, stock.kb_id)


@pytest.mark.parametrize(
    "field", [{"nonce": "A" * 400}, {"index": ["A" * 4000]}, {"index": [""] * 1025}, {"chunk_id": 2**63}]
)
async def test_a_chunk_of_impossible_size_is_refused(field: dict[str, Any], stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                exchange.json = [chunk | field for chunk in exchange.json]

        hostile.lie = lie
        with pytest.raises(InvalidAnswer):
            await Retriever(stock.context, xtrace).search(QUERY, 1, stock.kb_id)


# What is no proper HTTP

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
noticed("redirects to another host", InvalidAnswer)
noticed(
    "answers without end, with more than `max_answer_bytes`, or with an endless error", AnswerTooLarge, InvalidAnswer
)
noticed("answers compressed, so that a little is a lot", InvalidAnswer)
noticed("answers drop by drop, or not at all", ServerTimeout)
noticed("sends headers without end", InvalidAnswer, ServerTimeout)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int, stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile), hostile_server(stock.credentials.api_url) as elsewhere:

        def lie(exchange: Exchange) -> None:
            exchange.status, exchange.more_headers = status, {"location": f"{elsewhere.url}{exchange.target}"}

        hostile.lie = lie
        with pytest.raises(InvalidAnswer, match=r"redirects to 127\.0\.0\.1"):
            await Retriever(stock.context, xtrace).search(QUERY, 1, stock.kb_id)
        with pytest.raises(InvalidAnswer, match="redirects"):
            await xtrace.list_kbs()
        assert elsewhere.exchanges == []


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return say


def searched(kind: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: " + kind.encode() + b"\r\n\r\n"


FRAMES_WITHOUT_END = b"".join([frames.head(1, 128, MAX_ROWS), (1).to_bytes(4, "little"), b"\0"])
"""The head of an answer of as many rows as there can be, and the head of a block of one row."""
RAW: dict[str, tuple[set[type[NetworkError]], Callable[[asyncio.StreamWriter], Awaitable[None]]]] = {
    "endless JSON": ({AnswerTooLarge}, endless(HEAD + b"\r\n", b"[" * 50_000)),
    "endless MessagePack": ({InvalidAnswer}, endless(searched(wire.MSGPACK), b"\x91" * 50_000)),
    "endless error": ({AnswerTooLarge}, endless(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 50_000)),
    "huge length": (
        {AnswerTooLarge, InvalidAnswer},
        endless(HEAD + b"content-length: 99999999999\r\n\r\n", b" " * 50_000),
    ),
    "endless header": ({InvalidAnswer}, endless(HEAD, b"x: " + b"y" * 5000 + b"\r\n")),
    "one endless header": ({InvalidAnswer}, endless(HEAD + b"x: ", b"y" * 5000)),
    "endless interim answers": ({ServerTimeout}, endless(b"", b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n", 0.001)),
    "drops of a header": ({ServerTimeout}, endless(HEAD, b"x: y\r\n", 0.1)),
    "drops of JSON": ({ServerTimeout}, endless(HEAD + b"\r\n", b" ", 0.1)),
    "drops of MessagePack": ({ServerTimeout}, endless(searched(wire.MSGPACK), b"\x91", 0.1)),
    "drops of frames": (
        {ServerTimeout},
        endless(searched("application/vnd.xtrace.search-rows") + FRAMES_WITHOUT_END, b"\0", 0.1),
    ),
    "nothing arrived": ({ServerTimeout}, endless(b"", b"", 0.1)),
    "silence before JSON": ({ServerTimeout}, endless(HEAD + b"\r\n", b"", 0.1)),
    "silence before MessagePack": ({ServerTimeout}, endless(searched(wire.MSGPACK), b"", 0.1)),
}


@pytest.mark.parametrize("how", RAW)
async def test_answers_have_an_end(how: str, stock: Stock) -> None:
    raised, say = RAW[how]
    async with hostile_server(stock.credentials.api_url) as hostile:
        hostile.lie = lambda exchange: setattr(exchange, "raw", say)
        limits = {"deadline_s": 1.0, "timeout_s": 0.7, "max_answer_bytes": 200_000}
        if "MessagePack" not in how and "frames" not in how:
            async with stock.client(hostile.url, **limits) as xtrace:
                await expect_end(raised, xtrace.get_chunk_by_id([1], stock.kb_id))
        if "JSON" not in how:
            async with stock.client(hostile.url, **limits) as xtrace:
                search = Retriever(stock.context, xtrace).nn_search_for_ids(QUERY, 1, stock.kb_id)
                await expect_end(raised, search)


async def expect_end(raised: set[type[NetworkError]], call: Awaitable[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(NetworkError) as error:
        await call
    assert type(error.value) in raised, error.value
    assert time.monotonic() - began < 15


async def test_a_stream_of_good_blocks_has_a_deadline_too(stock: Stock) -> None:
    """Rows that ascend for ever: as many are announced as there can be."""
    async with hostile_server(stock.credentials.api_url) as hostile:

        async def say(writer: asyncio.StreamWriter) -> None:
            width = ((stock.n**2).bit_length() + 7) // 8
            writer.write(searched(frames.MEDIA_TYPE) + frames.head(1, width, MAX_ROWS))
            for chunk_id in range(1, 10**9):
                row = chunk_id.to_bytes(8, "little") + b"\0" + b"\1" * width
                writer.write((1).to_bytes(4, "little") + b"\0" + row)
                await writer.drain()
                await asyncio.sleep(0.01)

        hostile.lie = lambda exchange: setattr(exchange, "raw", say)
        async with stock.client(hostile.url, deadline_s=1.0) as xtrace:
            search = Retriever(stock.context, xtrace).nn_search_for_ids(QUERY, 1, stock.kb_id)
            await expect_end({ServerTimeout}, search)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP "])
async def test_compressed_answers_are_refused(encoding: str, stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = lambda exchange: setattr(exchange, "more_headers", {"content-encoding": encoding})
        with pytest.raises(InvalidAnswer, match="compressed"):
            await xtrace.get_chunk_by_id([1], stock.kb_id)
        with pytest.raises(InvalidAnswer, match="compressed"):
            await Retriever(stock.context, xtrace).nn_search_for_ids(QUERY, 1, stock.kb_id)


async def test_cookies_are_not_kept(stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):
        hostile.lie = lambda exchange: setattr(exchange, "more_headers", {"set-cookie": "mark=1; Path=/"})
        await xtrace.get_chunk_by_id([1], stock.kb_id)
        await xtrace.get_chunk_by_id([1], stock.kb_id)
        assert len(hostile.exchanges) == 2
        assert all("cookie" not in exchange.headers for exchange in hostile.exchanges)
