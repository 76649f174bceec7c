"""The game with all of the product against a real server, behind one that lies: at least one of each kind."""

import base64
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from game.adversaries import bits_by_moving, both_rows, topic_by_forging, topic_by_moving
from game.arena import (
    CHANGED,
    DECOYS_AND_KEYS,
    THEIRS,
    TRUE,
    Numbers,
    Reaction,
    Server,
    Vector,
    learned,
    line,
    near,
    random_vectors,
)
from game.end_to_end import FETCH, PAGE, SEARCH, Searcher, fetched, lied_to, new_context, provider, stored, view
from game.readers import NoiseAlone, WithoutNonces
from support.crypto_support import reference_key
from support.existing_client import PASSPHRASE, ExistingClientKey
from support.hostile_server import Exchange, Hostile, Lie, Row, number
from support.service import Http, ok
from xtrace_core.permissions import Permission
from xtrace_sdk.errors import ChangedSinceSearch, InvalidRows
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.service.integration import StoredChunk
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.schemes.paillier.scheme import PaillierScheme
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIMENSIONS = 32
TOPICS = random_vectors(8, DIMENSIONS, 300)
CHUNKS = random_vectors(20, DIMENSIONS, 301)
COIN = random.Random(6)


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return new_context(DIMENSIONS)


@pytest.fixture
def before_the_mend(context: ExecutionContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client reads rows as it did before they authenticated themselves."""
    monkeypatch.setattr(type(context.homomorphic), "_read", NoiseAlone._read)


def questions(seed: int) -> tuple[list[int], list[Vector]]:
    """Topics, and a question about each."""
    coin = random.Random(seed)
    topics = [coin.randrange(len(TOPICS)) for _ in range(20)]
    return topics, [near(TOPICS[topic], DIMENSIONS // 10, coin) for topic in topics]


async def ask_about_topics(
    context: ExecutionContext, credentials: Credentials, seed: int
) -> tuple[int, Searcher, list[str]]:
    """The number of topics that the server says rightly, the client, and the server's view."""
    topics, queries = questions(seed)
    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, server = await stored(context, xtrace, CHUNKS)
        hostile.exchanges.clear()
        client = Searcher(Retriever(context, xtrace), hostile, kb_id)
        right = 0
        for topic, query in zip(topics, queries, strict=True):
            guess = await topic_by_moving(client.search(query), server, CHUNKS[: len(TOPICS)], TOPICS, COIN)
            right += guess == topic
        return right, client, view(hostile, {kb_id: "kb"})


@line(CHANGED, "eight of the stored vectors", "moves their rows onto the topics", "20", "fails", "nothing")
async def test_moved_rows_do_not_tell_the_topic(
    context: ExecutionContext, credentials: Credentials, learns: str
) -> None:
    views = []
    for seed in (1, 2):
        right, client, seen = await ask_about_topics(context, credentials, seed)
        assert learned(right, 20, "topics", Fraction(1, len(TOPICS))) == learns
        assert client.errors == [InvalidRows] * 20
        views.append(seen)
    assert len(views[0]) == 20  # every search once, nothing fetched, nothing repeated
    assert views[0] == views[1]


@pytest.mark.usefixtures("before_the_mend")
async def test_they_would_tell_each_topic(context: ExecutionContext, credentials: Credentials) -> None:
    right, client, seen = await ask_about_topics(context, credentials, 1)
    # Each search fetches what the server has placed there; its content is true, so there is no error at all.
    assert (right, client.errors) == (20, [None] * 20)
    assert len(seen) == 40


async def guess_a_vector(
    context: ExecutionContext, credentials: Credentials, opposite: bool
) -> tuple[int, Searcher, list[str]]:
    known, secret = random_vectors(2, DIMENSIONS, 302)
    secret ^= np.uint8(opposite)
    queries = random_vectors(DIMENSIONS + 8, DIMENSIONS, 303)
    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, server = await stored(context, xtrace, np.array([known, secret]))
        hostile.exchanges.clear()
        client = Searcher(Retriever(context, xtrace), hostile, kb_id)
        guess = await bits_by_moving([client.search(query) for query in queries], server, known, queries)
        return int((guess == secret).sum()), client, view(hostile, {kb_id: "kb"})


async def test_moved_rows_do_not_tell_a_vector(context: ExecutionContext, credentials: Credentials) -> None:
    views = []
    for opposite in (False, True):
        right, client, seen = await guess_a_vector(context, credentials, opposite)
        assert learned(right, DIMENSIONS, "bits") == "nothing"
        assert set(client.errors) == {InvalidRows}
        views.append(seen)
    assert len(views[0]) >= DIMENSIONS + 5  # some for its distance, and one for each bit
    assert views[0] == views[1]


@pytest.mark.usefixtures("before_the_mend")
async def test_they_would_tell_every_bit(context: ExecutionContext, credentials: Credentials) -> None:
    right, client, _ = await guess_a_vector(context, credentials, opposite=False)
    assert (right, set(client.errors)) == (DIMENSIONS, {None})


# Withheld rows


async def compare(
    context: ExecutionContext, credentials: Credentials, decoys: int, opposite: bool
) -> tuple[list[Reaction], list[Reaction], list[str]]:
    """What is fetched when the server answers with two chunks of 20, which is nearer, and the server's view."""
    vectors, queries = CHUNKS.copy(), random_vectors(30, DIMENSIONS, 304)
    vectors[1] ^= np.uint8(opposite)
    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, server = await stored(context, xtrace, vectors)
        hostile.exchanges.clear()
        client = Searcher(Retriever(context, xtrace), hostile, kb_id, decoys=decoys)
        fetched = [await client.search(query)(both_rows(server)) for query in queries]
        assert client.errors == [None] * len(queries)
        nearer: list[Reaction] = [(1 + int((q != vectors[1]).sum() < (q != vectors[0]).sum()),) for q in queries]
        return fetched, nearer, view(hostile, {kb_id: "kb"})


async def test_what_is_fetched_says_which_is_nearer(context: ExecutionContext, credentials: Credentials) -> None:
    fetched, nearer, _ = await compare(context, credentials, 0, opposite=False)
    assert fetched == nearer
    assert set(fetched) == {(1,), (2,)}


@line(
    TRUE,
    "all queries, and all vectors but one",
    "withholds all rows but that one and a known one",
    "30",
    "fetches 1 and 5 decoys",
    "nothing",
)
async def test_with_decoys_both_are_fetched(context: ExecutionContext, credentials: Credentials, learns: str) -> None:
    views = []
    for opposite in (False, True):
        fetched, nearer, seen = await compare(context, credentials, 5, opposite)
        assert set(nearer) == {(1,), (2,)}
        assert fetched == [(1, 2)] * len(nearer)
        views.append(seen)
    assert views[0] == views[1]
    assert learns == "nothing"


# Rows that are shown otherwise while a knowledge base is verified


async def verified(
    context: ExecutionContext, xtrace: XTraceIntegration, hostile: Hostile, kb_id: str, server: Server
) -> list[int]:
    """What a verification lists while the server adds 1 to the eighth position of every row that it shows."""
    change = server.units(7, context.embed_len())

    def lie(exchange: Exchange) -> None:
        if exchange.is_for(PAGE) and exchange.json["results"]:
            page = exchange.json
            for chunk in page["results"]:
                if "index" in chunk:
                    row = server.row(0, chunk["chunk_id"] - 1, [1], change)
                    chunk["index"] = [base64.b64encode(one).decode() for one in row.ciphertexts]
            exchange.json = page

    hostile.lie = lie
    try:
        return [bad.chunk_id for bad in (await verify(context, xtrace, kb_id, batch_size=7)).bad]
    finally:
        hostile.lie = None


@line(
    CHANGED,
    "anything",
    "moves every row by one bit while it is verified",
    "–",
    "lists every row",
    "nothing",
)
async def test_a_verification_lists_the_same_whatever_the_vectors_are(
    context: ExecutionContext, credentials: Credentials, learns: str
) -> None:
    lists, views = [], []
    for opposite in (False, True):
        async with lied_to(credentials) as (xtrace, hostile):
            kb_id, server = await stored(context, xtrace, CHUNKS ^ np.uint8(opposite))
            hostile.exchanges.clear()
            lists.append(await verified(context, xtrace, hostile, kb_id, server))
            views.append(view(hostile, {kb_id: "kb"}))
    assert lists == [list(range(1, len(CHUNKS) + 1))] * 2
    assert views[0] == views[1]
    assert learns == "nothing"


# A key that may write, without the context


async def put_at_distance_0(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, server: Server, position: int, query: Vector
) -> None:
    """Knows the vector of one chunk, and makes its row that of another vector: the nonce and the text stay."""
    change = server.change(CHUNKS[position], query)
    moved = server.row(0, position, [1], change)
    patch = {"chunk_id": position + 1, "index": moved.ciphertexts, "nonce": moved.nonce}
    await xtrace.patch_chunks(kb_id, context.id, [patch])


@line(
    CHANGED,
    "one vector, and has a key that may write",
    "patches its row, to be at distance 0 of a question",
    "any number",
    "fails until the chunk that `xtrace kb verify` lists is replaced",
    "nothing",
)
async def test_a_patched_row_is_not_found_but_noticed(
    context: ExecutionContext, credentials: Credentials, learns: str
) -> None:
    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, server = await stored(context, xtrace, CHUNKS)
        async with writer(credentials, kb_id) as other:
            await put_at_distance_0(context, other, kb_id, server, 5, TOPICS[0])
        hostile.exchanges.clear()
        with pytest.raises(InvalidRows) as raised:
            await Retriever(context, xtrace).search(TOPICS[0], 1, kb_id)
        assert raised.value.chunk_ids == [6]
        assert len(hostile.exchanges) == 1
        found = await verify(context, xtrace, kb_id)
    assert [bad.chunk_id for bad in found.bad] == [6]
    assert learns == "nothing"


@pytest.mark.usefixtures("before_the_mend")
async def test_it_would_be_found_at_distance_0(
    context: ExecutionContext, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lied_to(credentials) as (xtrace, _):
        kb_id, server = await stored(context, xtrace, CHUNKS)
        async with writer(credentials, kb_id) as other:
            await put_at_distance_0(context, other, kb_id, server, 5, TOPICS[0])
        (found,) = await Retriever(context, xtrace).search(TOPICS[0], 1, kb_id)
        assert (found.chunk_id, found.distance, found.text) == (6, 0, "text 5")
        monkeypatch.setattr(type(context.homomorphic), "_authenticated", WithoutNonces._authenticated)
        assert (await verify(context, xtrace, kb_id)).bad == ()


@asynccontextmanager
async def writer(credentials: Credentials, kb_id: str) -> AsyncIterator[XTraceIntegration]:
    """Somebody with an API key that may write to this knowledge base, and nothing else."""
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as owner:
        made = await owner.create_api_key("writer")
        await owner.set_key_permission(made.api_key.hash, kb_id, Permission.WRITE)
    async with XTraceIntegration(credentials.org_id, made.secret_key, api_url=credentials.api_url) as xtrace:
        yield xtrace


# Decoys


@line(
    DECOYS_AND_KEYS,
    "nothing",
    "exchanges the content and nonce of one fetched chunk after another",
    "4",
    "fetches 1 and 3 decoys; where the wanted one changed, searches again",
    "which of the 4 was wanted: 5 of 5 times",
)
async def test_a_search_that_is_repeated_tells_what_was_wanted(
    context: ExecutionContext, credentials: Credentials, learns: str
) -> None:
    right, queries = 0, random_vectors(5, DIMENSIONS, 305)
    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, _ = await stored(context, xtrace, CHUNKS)
        for query in queries:
            retriever, nearest = Retriever(context, xtrace), 1 + int((query != CHUNKS).sum(axis=1).argmin())
            (suspects,) = await fetches_of_a_program(retriever, hostile, query, kb_id)
            (other,) = await xtrace.get_chunk_by_id([min(set(range(1, 21)) - set(suspects))], kb_id)
            guesses = []
            for suspect in suspects:
                hostile.lie = exchanging(suspect, other)
                if len(await fetches_of_a_program(retriever, hostile, query, kb_id)) > 1:
                    guesses.append(suspect)
            hostile.lie = None
            assert len(suspects) == 4
            right += guesses == [nearest]
    assert learns == f"which of the 4 was wanted: {right} of {len(queries)} times"


async def fetches_of_a_program(
    retriever: Retriever, hostile: Hostile, query: Vector, kb_id: str
) -> list[tuple[int, ...]]:
    """What is fetched by a program that searches again, once, when what it found was replaced meanwhile."""
    before = len(hostile.exchanges)
    try:
        await retriever.search(query, 1, kb_id, decoys=3)
    except ChangedSinceSearch:
        hostile.lie = None
        await retriever.search(query, 1, kb_id, decoys=3)
    return [fetched(exchange) for exchange in hostile.exchanges[before:] if exchange.is_for(FETCH)]


def exchanging(chunk_id: int, other: StoredChunk) -> Lie:
    """Gives another chunk's content with its nonce."""

    def lie(exchange: Exchange) -> None:
        if exchange.is_for(FETCH):
            as_stored = {
                "chunk_content": other["chunk_content"],
                "nonce": base64.b64encode(other["nonce"]).decode(),
            }
            exchange.json = [one | as_stored if one["chunk_id"] == chunk_id else one for one in exchange.json]

    return lie


# An old copy of the keys, after they were replaced


@pytest.fixture
def rotated(tmp_path: Path) -> tuple[ExecutionContext, ExecutionContext]:
    """A thief's copy of a context, and the one that replaces it; the rotation has not ended."""
    old = new_context(DIMENSIONS)
    old.save_to_disk(tmp_path / "stolen")
    new = old.successor(provider(), key_len=256, path=tmp_path / "new", insecure_allow_weak_parameters=True)
    return ExecutionContext.load_from_disk("passphrase", tmp_path / "stolen", insecure_allow_weak_encryption=True), new


def topic_of_requests(thief: ExecutionContext, exchanges: Sequence[Exchange]) -> int:
    """The topic of what decrypts under the old keys to a vector, in all requests, or a guess."""
    assert isinstance(thief.homomorphic, PaillierScheme)
    key, positions = reference_key(thief.homomorphic), range(DIMENSIONS - 1, -1, -1)
    for exchange in exchanges:
        for one in exchange.body["query"] if exchange.is_for(SEARCH) else []:
            message = key.decrypt(number(base64.b64decode(one)))
            vector = np.array([message >> 2 * i & 1 for i in positions], dtype=np.uint8)
            if message and message == int("".join(map(str, vector)), 4):
                return int((vector != TOPICS).sum(axis=1).argmin())
    return COIN.randrange(len(TOPICS))


async def steal_queries(
    thief: ExecutionContext, reader: ExecutionContext, stored_under: ExecutionContext, credentials: Credentials
) -> int:
    """How many topics of 20 queries the thief says rightly."""
    topics, queries = questions(1)
    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, _ = await stored(stored_under, xtrace, CHUNKS)
        await reader.save_to_remote(xtrace)
        right = 0
        for topic, query in zip(topics, queries, strict=True):
            hostile.exchanges.clear()
            assert len(await Retriever(reader, xtrace).search(query, 1, kb_id)) == 1
            right += topic_of_requests(thief, hostile.exchanges) == topic
    return right


OLD_KEYS = "an old copy of the keys"


@line(DECOYS_AND_KEYS, OLD_KEYS, "tries them on all queries under the new ones", "20", "fetches 1", "nothing")
async def test_old_keys_do_not_read_new_queries(
    rotated: tuple[ExecutionContext, ExecutionContext], credentials: Credentials, learns: str
) -> None:
    thief, new = rotated
    right = await steal_queries(thief, new, thief, credentials)
    assert learned(right, 20, "topics", Fraction(1, len(TOPICS))) == learns


async def test_they_read_those_of_who_goes_on_with_the_old_ones(
    rotated: tuple[ExecutionContext, ExecutionContext], credentials: Credentials
) -> None:
    thief, _ = rotated
    assert await steal_queries(thief, thief, thief, credentials) == 20


@line(
    DECOYS_AND_KEYS,
    OLD_KEYS,
    "makes up chunks under them, until the rotation ends",
    "20",
    "fetches 1",
    "20 of 20 topics",
)
async def test_chunks_that_are_made_up_under_old_keys_are_taken_until_the_rotation_ends(
    rotated: tuple[ExecutionContext, ExecutionContext], credentials: Credentials, learns: str
) -> None:
    thief, new = rotated
    topics, queries = questions(1)
    index = thief.homomorphic.encrypt_vec_batch(TOPICS)

    def lie(exchange: Exchange) -> None:
        if exchange.is_for(SEARCH) and exchange.body["context_id"] == thief.id:
            exchange.rows = [Row(one.ciphertexts(), i + 1, one.nonce) for i, one in enumerate(index)]
        elif exchange.is_for(FETCH):
            (chunk_id,) = fetched(exchange)
            nonce = index[chunk_id - 1].nonce
            content = thief.aes.encrypt(f"made up {chunk_id - 1}", nonce)
            made_up = {"chunk_content": content, "nonce": base64.b64encode(nonce).decode()}
            exchange.json = [exchange.json[0] | made_up]

    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, _ = await stored(thief, xtrace, CHUNKS)
        await new.save_to_remote(xtrace)
        retriever, hostile.lie = Retriever(new, xtrace), lie
        found = [(await retriever.search(query, 1, kb_id))[0] for query in queries]
    right = sum(one.text == f"made up {topic}" for one, topic in zip(found, topics, strict=True))
    assert learns == f"{right} of 20 topics"


@line(DECOYS_AND_KEYS, OLD_KEYS, "makes up chunks under them, after the rotation ended", "20", "fails", "nothing")
async def test_chunks_that_are_made_up_under_old_keys_are_not_taken_afterwards(
    rotated: tuple[ExecutionContext, ExecutionContext], credentials: Credentials, learns: str
) -> None:
    thief, new = rotated
    topics, queries = questions(1)
    index = thief.homomorphic.encrypt_vec_batch(TOPICS)

    def answer(query: Numbers) -> list[Row]:
        products = [[c * query[0] % thief_n**2 for c in one] for one in index]
        return [server.made(i + 1, row, index[i].nonce) for i, row in enumerate(products)]

    async with lied_to(credentials) as (xtrace, hostile):
        kb_id, server = await stored(thief, xtrace, CHUNKS)
        thief_n = server.n
        assert (await rotate(new, xtrace, finish=True)).finished
        hostile.exchanges.clear()
        client = Searcher(Retriever(new, xtrace), hostile, kb_id)
        reactions = [await client.search(query)(answer) for query in queries]
        asked = {exchange.body["context_id"] for exchange in hostile.exchanges}
    assert reactions == [None] * len(topics)
    assert client.errors == [InvalidRows] * len(topics)
    assert asked == {new.id}
    assert learns == "nothing"


# Contexts of other clients


@pytest.fixture
async def theirs(http: Http, tmp_path: Path) -> tuple[ExecutionContext, str, Server]:
    """Another client's context, a knowledge base with chunks under it, and what the server has of them."""
    key = ExistingClientKey(260, DIMENSIONS)
    document = key.context()
    context_id = key.context_id(document)
    ok(http.data("POST", "/exec_context/{org}", json={"data": document, "context_id": context_id}))
    kb_id = http.new_kb()
    chunks = [key.chunk(vector, f"text {i}") for i, vector in enumerate(CHUNKS.tolist())]
    http.insert(kb_id, chunks, context_id)
    (tmp_path / "theirs").write_text(json.dumps(document))
    context = ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "theirs", insecure_allow_weak_encryption=True)
    rows = [[number(base64.b64decode(one)) for one in chunk["index"]] for chunk in chunks]
    return context, kb_id, Server(context.homomorphic.public_key(), context.homomorphic.config(), rows, [None] * 20)


@line(THEIRS, "nothing", "makes up rows about the topics", "20", "fetches 1", "20 of 20 topics")
async def test_made_up_rows_tell_the_topic(
    theirs: tuple[ExecutionContext, str, Server], credentials: Credentials, learns: str
) -> None:
    context, kb_id, server = theirs
    topics, queries = questions(1)
    async with lied_to(credentials) as (xtrace, hostile):
        client = Searcher(Retriever(context, xtrace), hostile, kb_id)
        guesses = [await topic_by_forging(client.search(query), server, TOPICS, COIN) for query in queries]
    right = sum(one == other for one, other in zip(guesses, topics, strict=True))
    assert learns == f"{right} of 20 topics"
    assert client.errors == [None] * 20


async def test_what_is_deleted_tells_a_bit_of_each(
    theirs: tuple[ExecutionContext, str, Server], credentials: Credentials
) -> None:
    context, kb_id, server = theirs
    async with lied_to(credentials) as (xtrace, hostile):
        listed = await verified(context, xtrace, hostile, kb_id, server)
    assert listed == [i + 1 for i, vector in enumerate(CHUNKS) if vector[7]]


@line(
    THEIRS,
    "nothing, and has a key that may write",
    "makes up a row at distance 0 of a question",
    "1",
    "finds it; `xtrace kb verify` lists nothing",
    "nothing, but it chooses what is found",
)
async def test_a_made_up_row_is_found_at_distance_0(
    theirs: tuple[ExecutionContext, str, Server], credentials: Credentials, learns: str
) -> None:
    context, kb_id, server = theirs
    row = server.made(6, [server.g_to(m) for m in server.messages(TOPICS[0])], None)
    async with lied_to(credentials) as (xtrace, _):
        async with writer(credentials, kb_id) as other:
            await other.patch_chunks(kb_id, context.id, [{"chunk_id": 6, "index": row.ciphertexts}])
        (found,) = await Retriever(context, xtrace).search(TOPICS[0], 1, kb_id)
        assert (found.chunk_id, found.distance, found.text) == (6, 0, "text 5")
        assert (await verify(context, xtrace, kb_id)).bad == ()
    assert learns == "nothing, but it chooses what is found"
