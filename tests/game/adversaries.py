"""Servers that know something and want to know more. Each is given what it knows, searches, and nothing secret."""

import random
from collections.abc import Callable, Sequence
from math import erf, sqrt

import numpy as np

from game.arena import Numbers, Search, Server, Vector, Vectors, flipped
from support.hostile_server import Row

Coin = random.Random
"""For guesses where nothing was learned."""


# What a query is about


async def topic_by_moving(search: Search, server: Server, known: Vectors, topics: Vectors, coin: Coin) -> int:
    """Knows the vectors of the first chunks: turns the row of each into that of a topic, and sees which is fetched."""

    def answer(query: Numbers) -> list[Row]:
        changes = [server.change(own, topic) for own, topic in zip(known, topics, strict=True)]
        return [server.row(i + 1, i, query, change) for i, change in enumerate(changes)]

    fetched = await search(answer)
    return coin.randrange(len(topics)) if fetched is None else fetched[0] - 1


async def topic_by_forging(search: Search, server: Server, topics: Vectors, coin: Coin) -> int:
    """Knows nothing: encrypts the topics itself, with noise 1, under the public key."""

    def answer(query: Numbers) -> list[Row]:
        own = [[server.g_to(m) for m in server.messages(topic)] for topic in topics]
        rows = [[c * q % server.n**2 for c, q in zip(row, query, strict=True)] for row in own]
        return [server.made(i + 1, row, server.nonces[i]) for i, row in enumerate(rows)]

    fetched = await search(answer)
    return coin.randrange(len(topics)) if fetched is None else fetched[0] - 1


async def topic_by_answering(search: Search, server: Server, known: Vectors, chunks: int, topics: Vectors) -> int:
    """Knows the vectors of the first chunks, and answers truly for so many: a known one that is fetched tells.

    −1 if none of those is fetched.
    """
    fetched = await search(lambda query: [server.row(i + 1, i, query) for i in range(chunks)])
    assert fetched is not None
    distances = (topics[:, None] != known[None]).sum(axis=2)
    found = [one - 1 for one in fetched if one <= len(known)]
    # The topic for which the known chunks that were fetched are the nearest ones, or miss that by least.
    best = np.sort(distances, axis=1)[:, : len(found)].sum(axis=1)
    missed = distances[:, found].sum(axis=1) - best
    return int(missed.argmin()) if found else -1


# The bits of a stored vector, that of the second chunk


async def bits_by_moving(searches: Sequence[Search], server: Server, known: Vector, queries: Vectors) -> Vector:
    """Knows the queries and the vector of the first chunk.

    It exchanges the query of the victim's row for one that stays the same, and the known chunk's row for one at any
    distance it likes. A few comparisons find the victim's distance, and one more for each bit tells how it changes.
    """
    dimensions, fixed = len(known), queries[0]
    turn = iter(range(len(searches)))

    async def is_victim_nearer(asked: Vector, distance: int) -> bool | None:
        """Whether the victim is nearer to `asked` than `distance`; None if the search fails."""
        number = next(turn)

        def answer(query: Numbers) -> list[Row]:
            target = flipped(asked, *range(distance))  # at that distance from `asked`
            placed = [a + b for a, b in zip(server.messages(target), server.messages(asked), strict=True)]
            was = [a + b for a, b in zip(server.messages(known), server.messages(queries[number]), strict=True)]
            change = [b - a for a, b in zip(was, placed, strict=True)]
            return [
                server.row(1, 0, query, change),
                server.row(2, 1, query, server.change(queries[number], asked)),
            ]

        fetched = await searches[number](answer)
        return None if fetched is None else fetched == (2,)

    low, high = 0, dimensions - 1  # where the victim's distance is: it is not the very opposite
    while low < high:
        middle = (low + high + 1) // 2
        if await is_victim_nearer(fixed, middle):
            high = middle - 1
        else:
            low = middle
    guess: Vector = fixed.copy()
    for i in range(dimensions):
        # One bit of the query flipped: the distance falls below `low` if the bits differed.
        guess[i] ^= bool(await is_victim_nearer(flipped(fixed, i), low))
    return guess


async def bits_by_errors(
    searches: Sequence[Search], server: Server, steps: Sequence[int], dimensions: int
) -> tuple[Vector, int]:
    """Adds a step to one position of the victim's row in each search, and takes failures for ones.

    Also gives how many searches failed.
    """
    guess: Vector = np.zeros(dimensions, dtype=np.uint8)
    for i, (search, step) in enumerate(zip(searches, steps, strict=True)):
        change = [step * unit for unit in server.units(i, dimensions)]

        def answer(query: Numbers, change: Sequence[int] = change) -> list[Row]:
            return [server.row(1, 0, query), server.row(2, 1, query, change)]

        guess[i] = await search(answer) is None
    return guess, int(guess.sum())


async def bits_by_comparing(searches: Sequence[Search], server: Server, known: Vector, queries: Vectors) -> Vector:
    """Knows the queries and the vector of the first chunk: answers with the two rows, and sees which is nearer.

    A query that is nearer to the victim agrees with more of its bits. What was less to be expected counts for more.
    """
    score = np.zeros(len(known))
    for search, query in zip(searches, queries, strict=True):
        fetched = await search(both_rows(server))
        if fetched is not None:
            expected = is_nearer_by_chance(int((query != known).sum()), len(known))
            score += ((fetched == (2,)) - expected) * (2.0 * query - 1)
    return np.asarray(score > 0, dtype=np.uint8)


def is_nearer_by_chance(distance: int, dimensions: int) -> float:
    """With which probability a random vector is nearer to a query than this distance."""
    return 0.5 * (1 + erf((distance - 0.5 - dimensions / 2) / sqrt(dimensions / 2)))


async def bits_by_choosing(ask: Callable[[Vector], Search], server: Server, known: Vector) -> tuple[Vector, int]:
    """Knows the vector of the first chunk and chooses the queries: answers with the two rows, and sees which is nearer.

    Between the known vector and its opposite the victim becomes the nearer one, at a bit in which the two differ. Next
    to that point every other bit decides. Also gives the number of searches.
    """
    asked = 0

    async def is_victim_nearer(query: Vector) -> bool:
        nonlocal asked
        asked += 1
        return await ask(query)(both_rows(server)) == (2,)

    dimensions = len(known)
    low, high = 0, dimensions  # with `low` leading bits flipped the victim is not nearer, with `high` it is
    while high - low > 1:
        middle = (low + high) // 2
        if await is_victim_nearer(flipped(known, *range(middle))):
            high = middle
        else:
            low = middle
    guess = flipped(known, low)
    for i in range(dimensions):
        if i == low:
            continue
        beside = flipped(known, *range(low if i > low else high))
        guess[i] ^= await is_victim_nearer(flipped(beside, i)) != (i < low)
    return guess, asked


def both_rows(server: Server) -> Callable[[Numbers], list[Row]]:
    """The first two chunks' true rows, and no others."""
    return lambda query: [server.row(1, 0, query), server.row(2, 1, query)]


async def bits_by_watching(searches: Sequence[Search], server: Server, queries: Vectors, chunks: int) -> Vectors:
    """Knows the queries and answers truly: a chunk agrees in most bits with most queries that fetch it."""
    agreeing = np.zeros((chunks, queries.shape[1]), dtype=np.float64)
    for search, query in zip(searches, queries, strict=True):
        fetched = await search(lambda asked: [server.row(i + 1, i, asked) for i in range(chunks)])
        assert fetched is not None
        agreeing[[one - 1 for one in fetched]] += 2.0 * query - 1
    return np.asarray(agreeing > 0, dtype=np.uint8)
