"""A hostile server's answers to searches: each lie is an exception of its kind, or is known not to be noticed."""

import os
import random
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from contract.hostile_stock import COUNT, QUERY, VECTORS, Stock, new_stock
from support.hostile_server import Exchange, Hostile, Row, ciphertext, flipped, number
from support.hostile_table import not_noticed, noticed
from support.service import LiveService
from xtrace_core import frames, wire
from xtrace_sdk.errors import (
    ChangedSinceSearch,
    InvalidAnswer,
    InvalidRows,
    ServerUnreachable,
    XTraceError,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever

DATABASES = ("sqlite",)
"""The answers are changed on their way, wherever they come from."""

SMALL_QUERY = "BQ=="
"""What every key takes for a query of one ciphertext: the number 5."""
SEARCHES = ("POST compute_hamming", "POST compute_hamming_batch")
FETCHES = ("GET chunk",)
BITS = 100 if "XTRACE_TEST_FULL" in os.environ else 60
"""How many are changed, each in a search of its own."""


@pytest.fixture(scope="module")
def stock(live_service: LiveService) -> Stock:
    return new_stock(live_service)


@pytest.fixture(params=["frames", "messagepack"])
def frames_allowed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "frames")


@dataclass
class Attack:
    """A search's answer on its way, and what the server knows."""

    exchange: Exchange
    stock: Stock
    earlier: list[Row]
    """The answer to another query."""

    @property
    def rows(self) -> list[Row]:
        return self.exchange.rows

    @property
    def n(self) -> int:
        return self.stock.n

    @property
    def width(self) -> int:
        return ((self.n**2).bit_length() + 7) // 8


Change = Callable[[Attack, list[Row]], Awaitable[list[Row]] | list[Row]]
CHANGES: dict[str, list[tuple[type[XTraceError], Change]]] = {}


def lie(does: str, raised: type[XTraceError]) -> Callable[[Change], Change]:
    """Enters a change of a search's rows that is noticed."""
    noticed(does, raised)

    def enter(change: Change) -> Change:
        CHANGES.setdefault(does, []).append((raised, change))
        return change

    return enter


def with_value(attack: Attack, rows: list[Row], value: int) -> list[Row]:
    rows[3].ciphertexts[0] = ciphertext(value, max(attack.width, (value.bit_length() + 7) // 8))
    return rows


# Rows


@lie("changes a bit of a ciphertext", InvalidRows)
def bit(_: Attack, rows: list[Row]) -> list[Row]:
    rows[3].ciphertexts[0] = flipped(rows[3].ciphertexts[0], 70)
    return rows


@lie("exchanges the ciphertexts of two rows", InvalidRows)
def exchanged_ciphertexts(_: Attack, rows: list[Row]) -> list[Row]:
    rows[3].ciphertexts, rows[7].ciphertexts = rows[7].ciphertexts, rows[3].ciphertexts
    return rows


@lie("exchanges the nonces of two rows", InvalidRows)
def exchanged_nonces(_: Attack, rows: list[Row]) -> list[Row]:
    rows[3].nonce, rows[7].nonce = rows[7].nonce, rows[3].nonce
    return rows


@lie("changes the nonce of a row", InvalidRows)
def changed_nonce(_: Attack, rows: list[Row]) -> list[Row]:
    rows[3].nonce = flipped(rows[3].nonce or b"", 9)
    return rows


@lie("changes the nonce of a row", InvalidRows)
def longer_nonce(_: Attack, rows: list[Row]) -> list[Row]:
    rows[3].nonce = (rows[3].nonce or b"") + b"\0"
    return rows


@lie("takes the nonces away", InvalidRows)
def one_without_nonce(_: Attack, rows: list[Row]) -> list[Row]:
    rows[3].nonce = None
    return rows


@lie("takes the nonces away", InvalidRows)
def all_without_nonces(_: Attack, rows: list[Row]) -> list[Row]:
    return [Row(row.ciphertexts, row.chunk_id, None) for row in rows]


@lie("replays the rows of another query", InvalidRows)
def replayed(attack: Attack, _: list[Row]) -> list[Row]:
    return attack.earlier


@lie("replays the rows of another query", InvalidRows)
def one_replayed(attack: Attack, rows: list[Row]) -> list[Row]:
    return [*rows[:3], attack.earlier[3], *rows[4:]]


@lie("makes up a row: the query times (1+n)^m, or a ciphertext of its own times the query", InvalidRows)
def made_up(attack: Attack, rows: list[Row]) -> list[Row]:
    query = number(b64decode(attack.exchange.body["query"][0]))
    message = sum(int(bit) << 2 * (len(QUERY) - 1 - i) for i, bit in enumerate(QUERY))
    return with_value(attack, rows, query * (1 + message * attack.n) % attack.n**2)


@lie("makes up a row: the query times (1+n)^m, or a ciphertext of its own times the query", InvalidRows)
def encrypted_by_itself(attack: Attack, rows: list[Row]) -> list[Row]:
    n, query = attack.n, number(b64decode(attack.exchange.body["query"][0]))
    own = (1 + 5 * n) * pow(random.Random(7).randrange(2, n), n, n**2) % n**2
    return with_value(attack, rows, query * own % n**2)


for _value in ("0", "1", "n", "n²", "n²-c", "n²+c", "2^4000"):

    def no_ciphertext(attack: Attack, rows: list[Row], value: str = _value) -> list[Row]:
        n, c = attack.n, number(rows[3].ciphertexts[0])
        known = {"0": 0, "1": 1, "n": n, "n²": n**2, "n²-c": n**2 - c, "n²+c": n**2 + c, "2^4000": 1 << 4000}
        return with_value(attack, rows, known[value])

    lie("puts a number into a row that is not a valid answer: 0, 1, n, n², −c, c + n², a longer one", InvalidRows)(
        no_ciphertext
    )


@lie("answers with rows of another context, or another organisation's", InvalidRows)
async def other_context(attack: Attack, rows: list[Row]) -> list[Row]:
    await attack.exchange.ask(context_id=attack.stock.other_context.id, query=[SMALL_QUERY])
    return attack.rows


@lie("answers with rows of another context, or another organisation's", InvalidRows)
async def other_organisation(attack: Attack, rows: list[Row]) -> list[Row]:
    foreign = attack.stock.foreign
    target = attack.exchange.target.replace(attack.stock.credentials.org_id, foreign.org_id)
    async with XTraceIntegration(foreign.org_id, foreign.api_key, api_url=foreign.api_url) as own:
        (context_id,) = await own.list_exec_contexts()
    await attack.exchange.ask(
        {"x-api-key": foreign.api_key},
        target,
        kb_id=attack.stock.foreign_kb_id,
        context_id=context_id,
        query=[SMALL_QUERY],
    )
    return attack.rows


# The form of the answer


@lie("answers for a chunk twice, or not by ascending id", InvalidAnswer)
def twice(_: Attack, rows: list[Row]) -> list[Row]:
    return [*rows[:4], *rows[3:]]


@lie("answers for a chunk twice, or not by ascending id", InvalidAnswer)
def twice_in_two_blocks(_: Attack, rows: list[Row]) -> list[Row]:
    return [*rows, rows[0]]


@lie("answers for a chunk twice, or not by ascending id", InvalidAnswer)
def descending(_: Attack, rows: list[Row]) -> list[Row]:
    return rows[::-1]


@lie("answers with ids that do not exist: below 0, beyond 63 bits", InvalidAnswer)
def negative(_: Attack, rows: list[Row]) -> list[Row]:
    return [Row(rows[0].ciphertexts, -1, rows[0].nonce), *rows[1:]]


@lie("answers with ids that do not exist: below 0, beyond 63 bits", InvalidAnswer)
def enormous(_: Attack, rows: list[Row]) -> list[Row]:
    return [*rows[:-1], Row(rows[-1].ciphertexts, 1 << 63, rows[-1].nonce)]


@lie("gives rows more ciphertexts than the query has", InvalidAnswer)
def doubled(_: Attack, rows: list[Row]) -> list[Row]:
    return [Row(row.ciphertexts * 2, row.chunk_id, row.nonce) for row in rows]


@lie("exchanges the ids of two rows", ChangedSinceSearch)
def exchanged_ids(_: Attack, rows: list[Row]) -> list[Row]:
    a, b = rows[3], rows[4]
    return [*rows[:3], Row(b.ciphertexts, a.chunk_id, b.nonce), Row(a.ciphertexts, b.chunk_id, a.nonce), *rows[5:]]


def under_attack(stock: Stock, hostile: Hostile, change: Change) -> None:
    """From now on the rows of searches are changed."""
    earlier = [exchange for exchange in hostile.exchanges if exchange.is_for(*SEARCHES)]

    async def lie(exchange: Exchange) -> None:
        if exchange.is_for(*SEARCHES):
            rows = change(Attack(exchange, stock, earlier[0].rows), exchange.rows)
            exchange.rows = rows if isinstance(rows, list) else await rows

    hostile.lie = lie


@pytest.mark.parametrize(
    ("raised", "change"),
    [pytest.param(*one, id=f"{one[1].__name__}-{i}") for found in CHANGES.values() for i, one in enumerate(found)],
)
async def test_changed_rows_are_noticed(
    raised: type[XTraceError], change: Change, frames_allowed: bool, stock: Stock
) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):
        retriever = Retriever(stock.context, xtrace)
        assert len(await retriever.search(VECTORS[0], COUNT, stock.kb_id)) == COUNT
        under_attack(stock, hostile, change)
        fetched = sum(exchange.is_for(*FETCHES) for exchange in hostile.exchanges)
        with pytest.raises(raised) as error:
            await retriever.search(QUERY, 4, stock.kb_id)
        assert type(error.value) is raised
        if raised is InvalidRows:
            # Nothing is fetched because of it, and nothing is asked again.
            assert sum(exchange.is_for(*FETCHES) for exchange in hostile.exchanges) == fetched
            assert sum(exchange.is_for(*SEARCHES) for exchange in hostile.exchanges) == 2


noticed("answers for chunks outside the range", InvalidAnswer)


async def test_chunks_outside_the_range_are_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):

        async def lie(exchange: Exchange) -> None:
            if exchange.is_for(*SEARCHES):
                await exchange.ask(range=[2, 9])

        hostile.lie = lie
        for bounds in ((3, 9), (2, 8)):
            with pytest.raises(InvalidAnswer, match="outside the requested range"):
                await Retriever(stock.context, xtrace).search(QUERY, 4, stock.kb_id, range_filter=bounds)


noticed("answers a search with chunks that the filter does not match", ChangedSinceSearch)


async def test_chunks_outside_the_filter_are_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):

        async def lie(exchange: Exchange) -> None:
            if exchange.is_for(*SEARCHES):
                await exchange.ask(meta_filter={})

        retriever = Retriever(stock.context, xtrace)
        for filter_ in ({"tag1": "t1"}, {"$not": {"tag1": "t0"}}, {"facets": {"$size": 1}}):
            hostile.lie = None
            await retriever.search(QUERY, 1, stock.kb_id, meta_filter=filter_)
            hostile.lie = lie
            with pytest.raises(ChangedSinceSearch, match="the metadata of chunk 5 does not match the filter"):
                await retriever.search(QUERY, 1, stock.kb_id, meta_filter=filter_)


noticed("exchanges the answers of two queries of a batch", InvalidRows)


async def test_answers_of_a_batch_are_not_exchanged(stock: Stock) -> None:
    def exchanged(_: Attack, rows: list[Row]) -> list[Row]:
        return [Row(row.ciphertexts[::-1], row.chunk_id, row.nonce) for row in rows]

    async with stock.lied_to() as (xtrace, hostile):
        retriever = Retriever(stock.context, xtrace)
        await retriever.nn_search_batch(list(VECTORS[:2]), 3, stock.kb_id)
        under_attack(stock, hostile, exchanged)
        with pytest.raises(InvalidRows):
            await retriever.nn_search_batch(list(VECTORS[:2]), 3, stock.kb_id)


# The bytes of the answer

noticed("cuts the answer off, goes on after its end, or announces more than comes", InvalidAnswer, ServerUnreachable)
BROKEN: dict[str, tuple[type[XTraceError], Callable[[Exchange], Any]]] = {
    "cut": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", exchange.answer[:-100])),
    "without its last byte": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", exchange.answer[:-1])),
    "beginning only": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", exchange.answer[:9])),
    "nothing": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", b"")),
    "more": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", exchange.answer + b"\0")),
    "twice": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", exchange.answer * 2)),
    "connection broken": (ServerUnreachable, lambda exchange: setattr(exchange, "length", len(exchange.answer) + 1)),
    "more rows announced": (InvalidAnswer, lambda exchange: setattr(exchange, "answer", announcing(exchange, 99))),
    "2^32 rows announced": (
        InvalidAnswer,
        lambda exchange: setattr(exchange, "answer", announcing(exchange, 2**32 - 1)),
    ),
}


def announcing(exchange: Exchange, count: int) -> bytes:
    if exchange.content_type == wire.MSGPACK:
        return b"\xdd" + count.to_bytes(4, "big") + exchange.answer[1:]
    return exchange.answer[:12] + count.to_bytes(8, "little") + exchange.answer[20:]


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_answer_is_noticed(how: str, frames_allowed: bool, stock: Stock) -> None:
    raised, change = BROKEN[how]
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):
        hostile.lie = lambda exchange: change(exchange) if exchange.is_for(*SEARCHES) else None
        with pytest.raises(raised) as error:
            await Retriever(stock.context, xtrace).search(QUERY, 4, stock.kb_id)
        assert type(error.value) is raised


noticed("answers with something else: a page, another type, nonsense", InvalidAnswer)


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        ("text/html", b"<html>"),
        ("", b""),
        ("application/json", b"[]"),
        (wire.MSGPACK, b"\xc1"),
        (wire.MSGPACK, b"\x91" * 100_000),
        (wire.MSGPACK, b"\x80"),
        (wire.MSGPACK, b"\x91\x93\x91\xa1c\x01\xc0"),
        (frames.MEDIA_TYPE, b"XTR2" + bytes(16)),
        (frames.MEDIA_TYPE, b"XTR1" + bytes(8) + b"\xff" * 8),
    ],
)
async def test_nonsense_is_no_answer(content_type: str, answer: bytes, stock: Stock) -> None:
    async with stock.lied_to() as (xtrace, hostile):

        def lie(exchange: Exchange) -> None:
            exchange.content_type, exchange.answer = content_type, answer

        hostile.lie = lie
        with pytest.raises(InvalidAnswer):
            await Retriever(stock.context, xtrace).search(QUERY, 4, stock.kb_id)


async def test_a_bit_changed_anywhere_never_gives_a_wrong_text(frames_allowed: bool, stock: Stock) -> None:
    """Each bit may be anywhere in the two answers; what comes is an exception, or true texts at true distances."""
    true = {f"text {i}": int((VECTORS[i] != QUERY).sum()) for i in range(COUNT)}
    chosen, outcomes = random.Random(3), {"raised": 0, "returned": 0}
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*kind):
                exchange.answer = flipped(exchange.answer, chosen.randrange(8 * len(exchange.answer)))

        hostile.lie = lie
        for number_ in range(BITS):
            kind = (SEARCHES, FETCHES)[number_ % 2]
            try:
                results = await Retriever(stock.context, xtrace).search(QUERY, COUNT, stock.kb_id)
            except XTraceError:
                outcomes["raised"] += 1
            else:
                outcomes["returned"] += 1
                assert all(true[result.text] == result.distance for result in results)
    # What is returned has a changed bit in what nobody vouches for: metadata, times, an id that nothing is found under.
    assert outcomes["raised"] > BITS / 2


# What cannot be noticed


@not_noticed("withholds chunks, all those under one context of two, or everything")
async def test_withheld_chunks_are_not_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):
        retriever = Retriever(stock.context, xtrace)
        (best,) = await retriever.search(QUERY, 1, stock.kb_id)
        assert (best.chunk_id, best.distance) == (5, 0)

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*SEARCHES):
                exchange.rows = [row for row in exchange.rows if row.chunk_id != 5]

        hostile.lie = lie
        (second,) = await retriever.search(QUERY, 1, stock.kb_id)
        assert second.chunk_id != 5

        def nothing(exchange: Exchange) -> None:
            if exchange.is_for(*FETCHES):
                exchange.json = []

        hostile.lie = nothing
        assert await retriever.search(QUERY, 1, stock.kb_id) == []


def exchanged_wholly(exchange: Exchange, one: int, other: int) -> None:
    """Exchanges two chunks, the first with the lower id, in whatever is said of them."""
    if exchange.is_for(*SEARCHES):
        rows = {row.chunk_id: row for row in exchange.rows}
        a, b = rows[one], rows[other]
        rows |= {one: Row(b.ciphertexts, one, b.nonce), other: Row(a.ciphertexts, other, a.nonce)}
        exchange.rows = list(rows.values())


@not_noticed("exchanges two chunks wholly: vector, nonce and content")
async def test_chunks_exchanged_wholly_are_not_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):

        async def lie(exchange: Exchange) -> None:
            exchanged_wholly(exchange, 2, 5)
            if exchange.is_for(*FETCHES):
                (asked,) = exchange.json
                await exchange.ask(target=exchange.target.replace("chunk_ids=2&", "chunk_ids=5&"))
                exchange.json = [{**asked, **{key: exchange.json[0][key] for key in ("chunk_content", "nonce")}}]

        hostile.lie = lie
        (found,) = await Retriever(stock.context, xtrace).search(QUERY, 1, stock.kb_id)
        # The text is the right one, at the right distance; the id and the visible metadata are another chunk's.
        assert (found.text, found.distance) == ("text 4", 0)
        assert (found.chunk_id, found.meta_data) == (2, {"tag1": "t1"})


@not_noticed("gives a chunk under several ids")
async def test_a_chunk_under_two_ids_is_not_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):

        async def lie(exchange: Exchange) -> None:
            if exchange.is_for(*SEARCHES):
                rows = exchange.rows
                exchange.rows = [*rows, Row(rows[4].ciphertexts, 99, rows[4].nonce)]
            if exchange.is_for(*FETCHES):
                (found,) = exchange.json
                exchange.json = [found, found | {"chunk_id": 99}]

        hostile.lie = lie
        found = await Retriever(stock.context, xtrace).search(QUERY, 2, stock.kb_id)
        assert [(one.chunk_id, one.text) for one in found] == [(5, "text 4"), (99, "text 4")]


@not_noticed("serves chunks of another knowledge base of the same context")
async def test_another_knowledge_base_is_not_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):

        async def lie(exchange: Exchange) -> None:
            if exchange.is_for(*SEARCHES):
                await exchange.ask(kb_id=stock.other_kb_id)
            else:
                await exchange.ask(target=exchange.target.replace(stock.kb_id, stock.other_kb_id))

        hostile.lie = lie
        (found,) = await Retriever(stock.context, xtrace).search(QUERY, 1, stock.kb_id)
        assert (found.text, found.distance) == ("other 4", 0)


noticed("multiplies a row by (1+n)^s, also where the sum stays one of two vectors", InvalidRows)


async def test_a_sum_that_was_moved_is_noticed_whatever_the_server_knows(frames_allowed: bool, stock: Stock) -> None:
    """The server knows every vector, and turns the row of one into the row of another, or moves it by one."""
    width = len(VECTORS[0])
    values = [int("".join(map(str, vector)), 4) for vector in VECTORS]

    def moved(attack: Attack, rows: list[Row], step: int) -> list[Row]:
        value = number(rows[0].ciphertexts[0]) * (1 + step * attack.n) % attack.n**2
        rows[0].ciphertexts[0] = ciphertext(value, attack.width)
        return rows

    steps = [value - values[0] for value in values[1:]]
    steps += [sign * size * 4 ** (width - 1 - j) for j in (0, 1, width - 1) for sign in (1, -1) for size in (1, 2)]
    async with stock.lied_to(frames_allowed) as (xtrace, hostile):
        retriever = Retriever(stock.context, xtrace)
        await retriever.search(VECTORS[0], 1, stock.kb_id)
        for step in steps:
            under_attack(stock, hostile, partial(moved, step=step))
            with pytest.raises(InvalidRows):
                await retriever.search(VECTORS[1], COUNT, stock.kb_id)


@not_noticed("serves an older state of a chunk: vector, nonce and content")
async def test_an_older_state_is_not_noticed(frames_allowed: bool, stock: Stock) -> None:
    async with stock.lied_to(frames_allowed) as (xtrace, hostile), stock.client(stock.credentials.api_url) as direct:
        kb_id = (await direct.create_kb("changing")).id
        loader = DataLoader(stock.context, direct)
        chunk_id = await loader.upsert_one({"chunk_content": "old"}, QUERY, kb_id)
        (old,) = await direct.get_chunk_by_id([chunk_id], kb_id)
        await loader.upsert_one({"chunk_content": "new"}, 1 - QUERY, kb_id, chunk_id)

        def lie(exchange: Exchange) -> None:
            if exchange.is_for(*SEARCHES):
                query = number(b64decode(exchange.body["query"][0]))
                product = number(old["index"][0]) * query % stock.n**2
                width = ((stock.n**2).bit_length() + 7) // 8
                exchange.rows = [Row([ciphertext(product, width)], chunk_id, old["nonce"])]
            if exchange.is_for(*FETCHES):
                (now,) = exchange.json
                now |= {"chunk_content": old["chunk_content"], "nonce": b64encode(old["nonce"]).decode()}
                exchange.json = [now]

        hostile.lie = lie
        (found,) = await Retriever(stock.context, xtrace).search(QUERY, 1, kb_id)
        assert (found.text, found.distance) == ("old", 0)


def test_the_stock_is_as_the_tests_take_it() -> None:
    assert len(np.unique(VECTORS, axis=0)) == COUNT
