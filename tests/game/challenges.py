"""What is played for: the topic of queries, and the bits of a stored vector."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from game.arena import Client, Search, Server, Vectors, near, random_vectors
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient

TOPICS = 8
QUERIES = 20
CHUNKS = 20


@dataclass(frozen=True)
class Topics:
    """Queries about one of eight topics each, whose vectors everybody knows, over twenty chunks."""

    server: Server
    chunks: Vectors
    """The vectors of the stored chunks."""
    topics: Vectors
    queries: Vectors
    secret: list[int]
    """The topic of each query."""

    async def right(
        self, reader: HomomorphicClient, guess: Callable[["Topics", Search], Awaitable[int]], k: int = 1
    ) -> tuple[int, Client]:
        """How many of the topics an adversary says rightly, and the client that it played with."""
        client = Client(reader, k)
        guesses = [await guess(self, client.search(query)) for query in self.queries]
        return sum(one == other for one, other in zip(guesses, self.secret, strict=True)), client


def topics_of(owner: HomomorphicClient, seed: int = 1, about_topics: bool = False) -> Topics:
    """A challenge, always the same one for a seed.

    `about_topics`: the first eight chunks are about a topic each, and the next eight still nearer to it.
    """
    coin, tenth = random.Random(seed), owner.embed_len // 10
    topics, chunks = (random_vectors(count, owner.embed_len, 100 + count) for count in (TOPICS, CHUNKS))
    if about_topics:
        for i, topic in enumerate(topics):
            chunks[i], chunks[i + TOPICS] = near(topic, tenth, coin), near(topic, tenth // 5, coin)
    secret = [coin.randrange(TOPICS) for _ in range(QUERIES)]
    queries = np.array([near(topics[topic], tenth, coin) for topic in secret])
    return Topics(Server.of(owner, chunks), chunks, topics, queries, secret)


@dataclass(frozen=True)
class Bits:
    """A stored vector, the second of two chunks. The first one's vector is known, and so are the queries."""

    server: Server
    known: Vectors
    secret: Vectors
    queries: Vectors

    def right(self, guess: Vectors) -> int:
        """How many bits an adversary says rightly."""
        return int((guess == self.secret).sum())


def bits_of(owner: HomomorphicClient, queries: int, opposite: bool = False) -> Bits:
    """A challenge, always the same; or the one with the opposite secret."""
    known, secret = random_vectors(2, owner.embed_len, 102)
    secret ^= np.uint8(opposite)
    server = Server.of(owner, np.array([known, secret]))
    return Bits(server, known, secret, random_vectors(queries, owner.embed_len, 103))
