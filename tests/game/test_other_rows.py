"""The server knows all vectors but one and all queries, and answers with whatever it can make of what it has.

Each kind of row is tried with a secret vector and with its opposite. What the server sees must be the same.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import pytest

from game.arena import CHANGED, Numbers, Reaction, Server, Vectors, line, random_vectors
from game.arena import Client as Searcher
from game.readers import NoiseAlone, WithoutNonces, weakened
from support.crypto_support import Client
from support.crypto_support import client as with_length
from support.hostile_server import Row, number

KNOWN, SECRET, OTHER = range(3)
"""The chunks; the last one's vector is known as well."""


@dataclass
class Play:
    """What the server has when a query comes."""

    server: Server
    old: Server
    """An earlier state of the same chunks: the same vectors, encrypted before."""
    foreign: Server
    """The same vectors in another context."""
    vectors: Vectors
    """What the server knows them to be, but for the secret one."""
    queries: Vectors
    """What the two queries are."""
    query: Numbers
    earlier: Numbers
    """The other query: of another search, or of the same batch."""

    @property
    def n(self) -> int:
        return self.server.n

    @property
    def product(self) -> Numbers:
        """The true answer for the secret vector."""
        return [number(one) for one in self.server.row(2, SECRET, self.query).ciphertexts]

    def times(self, *factors: Numbers, nonce: bytes | None = None) -> Row:
        """A row of products, with the secret chunk's nonce unless another is given."""
        row = [1] * len(self.query)
        for factor in factors:
            row = [a * b % self.n**2 for a, b in zip(row, factor, strict=True)]
        return self.server.made(2, row, nonce or self.server.nonces[SECRET])

    def shifted(self, *changes: int) -> Row:
        """The true row with so much added to its messages."""
        return self.times(self.product, [1 + change * self.n for change in changes])


Kind = Callable[[Play], Row]
KINDS: dict[str, Kind] = {
    "its square": lambda p: p.times(p.product, p.product),
    "its inverse": lambda p: p.times([pow(c, -1, p.n**2) for c in p.product]),
    "a power of it": lambda p: p.times([pow(c, 1 + p.n, p.n**2) for c in p.product]),
    "without the query": lambda p: p.times(p.server.stored[SECRET]),
    "with the query twice": lambda p: p.times(p.product, p.query),
    "with another query": lambda p: p.times(p.server.stored[SECRET], p.earlier),
    "with both queries": lambda p: p.times(p.product, p.earlier),
    "times another row": lambda p: p.times(p.product, p.server.stored[KNOWN]),
    "divided by another row and times a third": lambda p: p.times(
        p.product, [pow(c, -1, p.n**2) for c in p.server.stored[KNOWN]], p.server.stored[OTHER]
    ),
    "another chunk's nonce": lambda p: p.times(p.product, nonce=p.server.nonces[KNOWN]),
    "another chunk's ciphertexts": lambda p: p.times(p.server.stored[KNOWN], p.query),
    "an earlier nonce": lambda p: p.times(p.product, nonce=p.old.nonces[SECRET]),
    "earlier ciphertexts": lambda p: p.times(p.old.stored[SECRET], p.query),
    "half of its nonce, half of another": lambda p: p.times(
        p.product, nonce=(p.server.nonces[SECRET] or b"")[:16] + (p.server.nonces[KNOWN] or b"")[16:]
    ),
    "of another context": lambda p: p.times(p.foreign.stored[SECRET], p.query, nonce=p.foreign.nonces[SECRET]),
    "made up under the public key": lambda p: p.times(
        [1 + m * p.n for m in p.server.messages(p.vectors[KNOWN])], p.query
    ),
    "made up with its own noise": lambda p: p.times(
        [pow(3, p.n, p.n**2) * (1 + m * p.n) for m in p.server.messages(p.vectors[KNOWN])], p.query
    ),
    "negated": lambda p: p.times([p.n**2 - c for c in p.product]),
    "about p added": lambda p: p.shifted(*[isqrt(p.n)] * len(p.query)),
    "n - 1 added": lambda p: p.shifted(*[p.n - 1] * len(p.query)),
    "a random amount added": lambda p: p.shifted(*[random.Random(1).randrange(p.n) for _ in p.query]),
    "a known vector exchanged for another": lambda p: p.shifted(*p.server.change(p.vectors[KNOWN], p.vectors[OTHER])),
    "a query exchanged for another": lambda p: p.shifted(*p.server.change(p.queries[0], p.queries[1])),
}
for _place in ("first", "last"):
    for _step in (1, -1, 2, -2):

        def one_position(p: Play, place: str = _place, step: int = _step) -> Row:
            dimensions = len(p.vectors[KNOWN])
            units = p.server.units(0 if place == "first" else dimensions - 1, dimensions)
            return p.shifted(*[step * unit for unit in units])

        KINDS[f"{_step:+} at the {_place} position"] = one_position

OF_SEVERAL: dict[str, Kind] = {
    "the first ciphertext of another chunk": lambda p: p.times(
        [p.server.stored[KNOWN][0], *p.server.stored[SECRET][1:]], p.query
    ),
    "the last ciphertext of another chunk": lambda p: p.times(
        [*p.server.stored[SECRET][:-1], p.server.stored[KNOWN][-1]], p.query
    ),
    "its ciphertexts in another order": lambda p: p.times(p.product[::-1]),
    "one of them twice": lambda p: p.times([p.product[0], *p.product[:-1]]),
    "the first one of an earlier state": lambda p: p.times(
        [p.old.stored[SECRET][0], *p.server.stored[SECRET][1:]], p.query
    ),
}

DIMENSIONS = {"one ciphertext": 120, "three ciphertexts": 512, "base 3": 300}


@pytest.fixture(params=DIMENSIONS)
def owner(request: pytest.FixtureRequest) -> Client:
    return with_length("paillier_lookup", 256, DIMENSIONS[request.param])


def kinds_for(owner: Client) -> dict[str, Kind]:
    return KINDS | OF_SEVERAL if owner._encoding.count > 1 else KINDS


async def played(owner: Client, reader: Client, opposite: bool) -> dict[str, Reaction]:
    """What the server sees after each kind of row, between two true ones."""
    dimensions = owner.embed_len
    vectors, queries = random_vectors(3, dimensions, 200), random_vectors(2, dimensions, 201)
    stored = vectors.copy()
    stored[SECRET] ^= np.uint8(opposite)
    stranger = type(owner).generate(dimensions, owner.key_len, insecure_allow_weak_parameters=True)
    server, old, foreign = Server.of(owner, stored), Server.of(owner, stored), Server.of(stranger, stored)
    earlier = [number(one) for one in owner.encrypt_query(queries[1]).ciphertexts]
    client, seen = Searcher(reader), {}
    for name, kind in kinds_for(owner).items():

        def answer(query: Numbers, kind: Kind = kind) -> list[Row]:
            play = Play(server, old, foreign, vectors, queries, query, earlier)
            return [server.row(1, KNOWN, query), kind(play), server.row(3, OTHER, query)]

        seen[name] = await client.search(queries[0])(answer)
    return seen


async def repeated(owner: Client, reader: Client, opposite: bool) -> list[Reaction]:
    """What the server sees of a program that searches up to five times, while it moves the row otherwise each time."""
    vectors, queries = random_vectors(3, owner.embed_len, 200), random_vectors(20, owner.embed_len, 202)
    vectors[SECRET] ^= np.uint8(opposite)
    server, client = Server.of(owner, vectors), Searcher(reader)
    for position, query in enumerate(queries):
        for step in (1, -1, 2, -2, 3):
            change = [step * unit for unit in server.units(position, owner.embed_len)]

            def answer(query: Numbers, change: Sequence[int] = change) -> list[Row]:
                return [server.row(1, KNOWN, query), server.row(2, SECRET, query, change)]

            if await client.search(query)(answer) is not None:
                break
    return client.reactions


ALL_BUT_ONE = "all queries, and all vectors but one"


@line(CHANGED, ALL_BUT_ONE, "puts any other numbers into that row", "any number", "fails", "nothing")
async def test_no_other_row_is_taken_whatever_the_vector_is(owner: Client, learns: str) -> None:
    views = [await played(owner, owner, opposite) for opposite in (False, True)]
    differing = [kind for kind in views[0] if views[0][kind] != views[1][kind]]
    taken = [kind for kind, fetched in views[0].items() if fetched is not None]
    assert (differing, taken) == ([], [])
    assert len(views[0]) == len(kinds_for(owner))
    assert learns == "nothing"


async def test_some_would_be_taken_and_tell_the_two_vectors_apart(owner: Client) -> None:
    reader = weakened(owner, NoiseAlone)
    views = [await played(owner, reader, opposite) for opposite in (False, True)]
    assert [kind for kind in views[0] if views[0][kind] != views[1][kind]]


@line(CHANGED, ALL_BUT_ONE, "moves that row otherwise each time", "20", "fails; is repeated 5 times", "nothing")
async def test_a_program_that_tries_again_shows_no_more(owner: Client, learns: str) -> None:
    views = [await repeated(owner, owner, opposite) for opposite in (False, True)]
    assert views == [[None] * 100] * 2
    assert learns == "nothing"


async def test_it_would_show_more(owner: Client) -> None:
    reader = weakened(owner, WithoutNonces)
    assert await repeated(owner, reader, opposite=False) != await repeated(owner, reader, opposite=True)
