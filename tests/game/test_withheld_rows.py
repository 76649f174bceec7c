"""The server answers with genuine rows, all or some: no client can tell, and what is fetched says which were nearest.

What such a server learns is measured here, so that docs/security.md can say it.
"""

from collections.abc import Awaitable
from itertools import combinations

import pytest

from game.adversaries import bits_by_choosing, bits_by_comparing, bits_by_watching, topic_by_answering
from game.arena import TRUE, Search, Server, line, random_vectors
from game.arena import Client as Searcher
from game.challenges import CHUNKS, QUERIES, TOPICS, Topics, bits_of, topics_of
from support.crypto_support import Client, client


@pytest.fixture
def owner() -> Client:
    return client("paillier_lookup", 512, 256)


def guess_from_all(game: Topics, search: Search) -> Awaitable[int]:
    return topic_by_answering(search, game.server, game.chunks[:TOPICS], CHUNKS, game.topics)


def guess_from_known(game: Topics, search: Search) -> Awaitable[int]:
    return topic_by_answering(search, game.server, game.chunks[:TOPICS], TOPICS, game.topics)


@line(
    TRUE,
    "nothing",
    "answers truly",
    "20",
    "fetches 1",
    "whether two queries are about the same: 190 of 190 pairs",
)
async def test_queries_about_the_same_fetch_the_same(owner: Client, learns: str) -> None:
    game = topics_of(owner, about_topics=True)
    _, seen = await game.right(owner, guess_from_all)
    pairs = list(combinations(range(QUERIES), 2))
    same = [(seen.reactions[i] == seen.reactions[j], game.secret[i] == game.secret[j]) for i, j in pairs]
    assert {True, False} == {one for _, one in same}
    right = sum(one == other for one, other in same)
    assert learns == f"whether two queries are about the same: {right} of {len(pairs)} pairs"


@line(TRUE, "a text about each topic", "answers truly", "20", "fetches 2", "20 of 20 topics")
async def test_a_known_text_that_is_fetched_tells_the_topic(owner: Client, learns: str) -> None:
    right, _ = await topics_of(owner, about_topics=True).right(owner, guess_from_all, k=2)
    assert learns == f"{right} of {QUERIES} topics"


@line(TRUE, "a text about each topic", "withholds all other chunks", "20", "fetches 1", "20 of 20 topics")
async def test_withholding_chooses_what_is_compared(owner: Client, learns: str) -> None:
    game = topics_of(owner, about_topics=True)
    right, seen = await game.right(owner, guess_from_known)
    assert learns == f"{right} of {QUERIES} topics"
    _, truly = await game.right(owner, guess_from_all)
    assert all(fetched is not None and fetched[0] > TOPICS for fetched in truly.reactions)
    assert all(fetched is not None and fetched[0] <= TOPICS for fetched in seen.reactions)


@line(TRUE, "eight of the stored vectors", "withholds all other chunks", "20", "fetches 1", "7 of 20 topics")
async def test_what_is_nearest_of_unrelated_texts_says_something_too(owner: Client, learns: str) -> None:
    right, _ = await topics_of(owner).right(owner, guess_from_known)
    assert learns == f"{right} of {QUERIES} topics"


@line(
    TRUE,
    "a text about each topic, in another knowledge base of the context",
    "answers with the rows of that one",
    "20",
    "fetches 1",
    "20 of 20 topics",
)
async def test_rows_of_another_knowledge_base_are_compared_as_well(owner: Client, learns: str) -> None:
    game, other = topics_of(owner), topics_of(owner, about_topics=True)

    def guess(_: Topics, search: Search) -> Awaitable[int]:
        return topic_by_answering(search, other.server, other.chunks[:TOPICS], TOPICS, other.topics)

    right, _ = await game.right(owner, guess)
    assert learns == f"{right} of {QUERIES} topics"


@line(TRUE, "all queries", "answers truly", "1,000", "fetches 3", "of the 20 vectors 4,394 of 5,120 bits")
async def test_known_queries_tell_what_they_fetch(owner: Client, learns: str) -> None:
    vectors, queries = random_vectors(CHUNKS, 256, 105), random_vectors(1000, 256, 106)
    seen, server = Searcher(owner, 3), Server.of(owner, vectors)
    guess = await bits_by_watching([seen.search(query) for query in queries], server, queries, CHUNKS)
    assert learns == f"of the {CHUNKS} vectors {int((guess == vectors).sum()):,} of {vectors.size:,} bits"


COMPARING = "withholds all rows but that one and a known one"


async def compared(owner: Client, searches: int) -> int:
    game, seen = bits_of(owner, searches), Searcher(owner)
    asked = [seen.search(query) for query in game.queries]
    guess = await bits_by_comparing(asked, game.server, game.known, game.queries)
    assert None not in seen.reactions
    return game.right(guess)


@line(TRUE, "all queries, and all vectors but one", COMPARING, "264", "fetches 1", "195 of 256 bits")
async def test_comparisons_with_known_queries_tell_a_vector_little_by_little(owner: Client, learns: str) -> None:
    assert learns == f"{await compared(owner, 264)} of 256 bits"


@line(TRUE, "all queries, and all vectors but one", COMPARING, "1,000", "fetches 1", "237 of 256 bits")
async def test_more_of_them_tell_nearly_all_of_it(owner: Client, learns: str) -> None:
    assert learns == f"{await compared(owner, 1000)} of 256 bits"


@line(TRUE, "all vectors but one, and chooses the queries", COMPARING, "263", "fetches 1", "256 of 256 bits")
async def test_comparisons_with_chosen_queries_tell_every_bit(owner: Client, learns: str) -> None:
    game, seen = bits_of(owner, 1), Searcher(owner)
    guess, asked = await bits_by_choosing(seen.search, game.server, game.known)
    assert learns == f"{game.right(guess)} of 256 bits"
    assert asked == 263
    assert None not in seen.reactions
