"""The server multiplies rows by (1+n)^s, so that a vector or a query that it knows becomes another one.

Before rows authenticated themselves this told all of it without an error, and it still does if the client leaves a part
of the check away: that shows that the adversaries can play.
"""

import random
from collections.abc import Awaitable
from fractions import Fraction

import pytest

from game.adversaries import bits_by_errors, bits_by_moving, topic_by_moving
from game.arena import CHANGED, Reaction, Search, Server, learned, line, random_vectors
from game.arena import Client as Searcher
from game.challenges import QUERIES, TOPICS, Topics, bits_of, topics_of
from game.readers import NoiseAlone, WithoutNonces, weakened
from support.crypto_support import Client
from support.crypto_support import client as with_length
from support.hostile_server import number

SHAPES = {
    "one ciphertext": ("paillier_lookup", 512, 256),
    "one ciphertext, other scheme": ("paillier", 512, 256),
    "three ciphertexts": ("paillier_lookup", 256, 512),
    "base 3": ("paillier_lookup", 256, 300),
}
"""The scheme, the bits of a prime and the dimensions."""


@pytest.fixture(params=SHAPES)
def owner(request: pytest.FixtureRequest) -> Client:
    made = with_length(*SHAPES[request.param])
    assert made._encoding.count == (3 if "three" in request.param else 1)
    assert made._encoding.base == ("base3" if "base 3" in request.param else "base4")
    return made


COIN = random.Random(3)


def guess_by_moving(game: Topics, search: Search) -> Awaitable[int]:
    return topic_by_moving(search, game.server, game.chunks[:TOPICS], game.topics, COIN)


@line(CHANGED, "eight of the stored vectors", "moves their rows onto the topics", "20", "fails", "nothing")
async def test_a_moved_row_does_not_tell_the_topic(owner: Client, learns: str) -> None:
    played, views = [topics_of(owner, seed) for seed in (1, 2)], []
    for game in played:
        right, client = await game.right(owner, guess_by_moving)
        assert learned(right, QUERIES, "topics", Fraction(1, TOPICS)) == learns
        views.append(client.reactions)
    # The whole of what the server sees, and the same whatever the queries are about.
    assert played[0].secret != played[1].secret
    assert views == [[None] * QUERIES] * 2


@pytest.mark.parametrize("lacking", [NoiseAlone, WithoutNonces])
async def test_it_would_tell_every_topic(owner: Client, lacking: type) -> None:
    right, client = await topics_of(owner).right(weakened(owner, lacking), guess_by_moving)
    assert right == QUERIES
    assert None not in client.reactions


@line(CHANGED, "all queries, and all vectors but one", "moves that row and a known one", "264", "fails", "nothing")
async def test_moved_rows_do_not_tell_a_vector(owner: Client, learns: str) -> None:
    views = []
    for opposite in (False, True):
        game = bits_of(owner, owner.embed_len + 10, opposite)
        client = Searcher(owner)
        searches = [client.search(query) for query in game.queries]
        guess = await bits_by_moving(searches, game.server, game.known, game.queries)
        assert learned(game.right(guess), owner.embed_len, "bits") == learns
        views.append(client.reactions)
    assert len(views[0]) >= owner.embed_len + 8
    assert views[0] == views[1] == [None] * len(views[0])


async def test_they_would_tell_every_bit_without_an_error(owner: Client) -> None:
    game = bits_of(owner, owner.embed_len + 10)
    client = Searcher(weakened(owner, NoiseAlone))
    searches = [client.search(query) for query in game.queries]
    guess = await bits_by_moving(searches, game.server, game.known, game.queries)
    assert game.right(guess) == owner.embed_len
    assert None not in client.reactions
    assert len(client.reactions) <= owner.embed_len + 10
    if owner.embed_len == 256:
        assert len(client.reactions) == 264


@line(CHANGED, "all queries, and all vectors but one", "moves that row by one bit at a time", "256", "fails", "nothing")
async def test_which_searches_fail_does_not_tell_a_vector(owner: Client, learns: str) -> None:
    views = []
    for opposite in (False, True):
        game = bits_of(owner, owner.embed_len, opposite)
        client = Searcher(owner)
        searches = [client.search(query) for query in game.queries]
        steps = [(1, -1, 2, -2)[i % 4] for i in range(owner.embed_len)]
        guess, failed = await bits_by_errors(searches, game.server, steps, owner.embed_len)
        assert learned(game.right(guess), owner.embed_len, "bits") == learns
        assert failed == owner.embed_len
        views.append(client.reactions)
    assert views[0] == views[1]


async def test_it_would_tell_every_bit_if_nonces_were_not_looked_at(owner: Client) -> None:
    game = bits_of(owner, owner.embed_len)
    client = Searcher(weakened(owner, WithoutNonces))
    searches = [client.search(query) for query in game.queries]
    guess, failed = await bits_by_errors(searches, game.server, [1] * owner.embed_len, owner.embed_len)
    assert game.right(guess) == owner.embed_len
    assert 0 < failed < owner.embed_len


COUNT = 200


def listed(owner: Client, reader: Client, step: int) -> tuple[list[bool], list[int]]:
    """Which of 200 chunks a verification lists after a bit of each was moved, and that bit of each."""
    vectors = random_vectors(COUNT, owner.embed_len, 104)
    server = Server.of(owner, vectors)
    change = [step * unit for unit in server.units(7, owner.embed_len)]
    one = [1] * len(server.stored[0])  # what verification asks with: the stored rows themselves
    rows = [server.row(i + 1, i, one, change) for i in range(COUNT)]
    _, valid = reader.decrypt_vec_batch([row.ciphertexts for row in rows], [row.nonce for row in rows])
    return (~valid).tolist(), vectors[:, 7].tolist()


@line(CHANGED, "anything", "moves every row by one bit while it is verified", "–", "lists every row", "nothing")
def test_what_verification_lists_does_not_tell_a_bit(owner: Client, learns: str) -> None:
    for step in (1, -1, 2, -2):
        bad, bits = listed(owner, owner, step)
        assert bad == [True] * COUNT
        assert learned(sum(bits), COUNT, "bits") == learns


def test_it_would_tell_a_bit_of_each(owner: Client) -> None:
    bad, bits = listed(owner, weakened(owner, WithoutNonces), 1)
    assert bad == [bit == 1 for bit in bits]


@line(
    CHANGED,
    "one vector, and has a key that may write",
    "patches its row, to be at distance 0 of a question",
    "any number",
    "fails until the chunk that `xtrace kb verify` lists is replaced",
    "nothing",
)
async def test_a_stored_row_that_was_moved_is_neither_found_nor_sound(owner: Client, learns: str) -> None:
    found, sound = await patched(owner, owner)
    assert (found, sound) == (None, False)
    assert learns == "nothing"


async def test_it_would_be_found_first_and_be_sound(owner: Client) -> None:
    assert await patched(owner, weakened(owner, WithoutNonces)) == ((2,), True)


async def patched(owner: Client, reader: Client) -> tuple[Reaction, bool]:
    """What a question finds to which the second chunk was moved, and whether a verification takes that chunk."""
    vectors, question = random_vectors(3, owner.embed_len, 107), random_vectors(1, owner.embed_len, 108)[0]
    server = Server.of(owner, vectors)
    moved = server.row(2, 1, [1] * len(server.stored[1]), server.change(vectors[1], question))
    server.stored[1] = [number(one) for one in moved.ciphertexts]
    seen = await Searcher(reader).search(question)(lambda query: [server.row(i + 1, i, query) for i in range(3)])
    _, valid = reader.decrypt_vec_batch([moved.ciphertexts], [moved.nonce])
    return seen, bool(valid[0])
