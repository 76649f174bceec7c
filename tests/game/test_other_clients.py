"""The same games under contexts of other clients, whose chunks have no nonces: the server wins.

These are not bugs to be found by a test; they are what docs/security.md says of such contexts, measured.
"""

import random
from collections.abc import Awaitable

import pytest

from game.adversaries import bits_by_errors, bits_by_moving, topic_by_forging, topic_by_moving
from game.arena import THEIRS, Search, Server, line, random_vectors
from game.arena import Client as Searcher
from game.challenges import QUERIES, TOPICS, Topics, bits_of, topics_of
from support.existing_client import ExistingClientKey
from xtrace_sdk.x_vec.compat.paillier import ExistingClient, load_existing
from xtrace_sdk.x_vec.keys.hedging import Hedge

DIMENSIONS = 256
COIN = random.Random(5)


@pytest.fixture(scope="module", params=["paillier", "paillier_lookup"])
def owner(request: pytest.FixtureRequest) -> ExistingClient:
    """Short primes, and noise groups as long as native ones: the games need no weakness of the key."""
    key = ExistingClientKey(512, DIMENSIONS, 224 if request.param == "paillier_lookup" else None)
    saved = key.context()
    return load_existing(saved["type"], saved["pk"], saved["config"], key.secret_key, Hedge(bytes(32)))


def guess_by_forging(game: Topics, search: Search) -> Awaitable[int]:
    return topic_by_forging(search, game.server, game.topics, COIN)


def guess_by_moving(game: Topics, search: Search) -> Awaitable[int]:
    return topic_by_moving(search, game.server, game.chunks[:TOPICS], game.topics, COIN)


@line(THEIRS, "nothing", "makes up rows about the topics", "20", "fetches 1", "20 of 20 topics")
async def test_made_up_rows_tell_the_topic(owner: ExistingClient, learns: str) -> None:
    for guess in (guess_by_forging, guess_by_moving):
        right, _ = await topics_of(owner).right(owner, guess)
        assert learns == f"{right} of {QUERIES} topics"


@line(
    THEIRS,
    "all queries",
    "moves a row, and compares it with one that it made up",
    "264",
    "fetches 1",
    "256 of 256 bits",
)
async def test_moved_rows_tell_every_bit(owner: ExistingClient, learns: str) -> None:
    game, client = bits_of(owner, 266), Searcher(owner)
    searches = [client.search(query) for query in game.queries]
    guess = await bits_by_moving(searches, game.server, game.known, game.queries)
    assert learns == f"{game.right(guess)} of 256 bits"
    assert None not in client.reactions
    assert len(client.reactions) == 264


@line(THEIRS, "all queries", "moves a row by one bit at a time", "256", "fails or not", "256 of 256 bits")
async def test_which_searches_fail_tells_every_bit(owner: ExistingClient, learns: str) -> None:
    game, client = bits_of(owner, 256), Searcher(owner)
    searches = [client.search(query) for query in game.queries]
    steps = [1 if query[i] else 2 for i, query in enumerate(game.queries)]
    guess, failed = await bits_by_errors(searches, game.server, steps, 256)
    assert learns == f"{game.right(guess)} of 256 bits"
    assert 0 < failed < 256


@line(
    THEIRS,
    "nothing",
    "moves every row by one bit while it is verified",
    "–",
    "lists some rows",
    "1 bit of each of 200 vectors",
)
def test_what_verification_lists_tells_a_bit_of_each(owner: ExistingClient, learns: str) -> None:
    vectors = random_vectors(200, DIMENSIONS, 104)
    server = Server.of(owner, vectors)
    rows = [server.row(i + 1, i, [1], server.units(7, DIMENSIONS)) for i in range(200)]
    _, valid = owner.decrypt_vec_batch([row.ciphertexts for row in rows], [row.nonce for row in rows])
    right = int(((~valid) == (vectors[:, 7] == 1)).sum())
    assert learns == f"1 bit of each of {right} vectors"
