"""Where the game of docs/security.md is played: the client searches, and a server answers as it likes and guesses.

The client is the product's: the code of a search encrypts the queries, and reads, checks and ranks the rows. The server
has the public key, the stored rows and the query's ciphertexts, and knows what it is told to know.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from fractions import Fraction
from math import comb
from typing import Any, TypeVar

import numpy as np
import pytest
from gmpy2 import powmod
from numpy.typing import NDArray

from support import reference_paillier as reference
from support.hostile_server import Row, ciphertext, number
from xtrace_core.frames import RowBlock
from xtrace_sdk.errors import InvalidRows
from xtrace_sdk.x_vec.retrievers.scan import nearest_rows
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient

Vector = NDArray[np.uint8]
Vectors = NDArray[np.uint8]
Numbers = list[int]
"""The ciphertexts of a row or a query."""
Answer = Callable[[Numbers], list[Row]]
"""How the server answers a query."""
Reaction = tuple[int, ...] | None
"""What the server sees of it: the ids that are fetched, ascending, or None where the search failed and nothing is."""
Search = Callable[[Answer], Awaitable[Reaction]]
"""One search of the client's, whose query is not said."""

Test = TypeVar("Test", bound=Callable[..., Any])
CHANGED, TRUE, DECOYS_AND_KEYS, THEIRS = (
    "The server changes rows",
    "The server answers with genuine rows",
    "Decoys and old keys",
    "Contexts of other clients",
)
"""The headings in docs/security.md, "The game"."""

Line = tuple[str, str, str, str, str]
"""The heading; what the server knows, what it does, in how many searches, and what the client does."""
LINES: dict[Line, str] = {}
"""What the server learns, as the tests measure it: each is a row of a table in docs/security.md."""


def line(heading: str, knows: str, does: str, searches: str, client: str, learns: str) -> Callable[[Test], Test]:
    """Enters a line of the game; the test gets `learns`, and measures it."""
    assert LINES.setdefault((heading, knows, does, searches, client), learns) == learns
    return pytest.mark.parametrize("learns", [learns], ids=["game"])


class Client:
    """The client's side, under some reader."""

    def __init__(self, reader: HomomorphicClient, k: int = 1) -> None:
        self._reader = reader
        self._k = k
        self.reactions: list[Reaction] = []
        """All that a server sees after its answers."""

    def search(self, vector: Vector) -> Search:
        """A search with this query."""

        async def run(answer: Answer) -> Reaction:
            queries = self._reader.encrypt_queries([vector])
            rows = answer([number(one) for one in queries.sent[0]])
            try:
                (nearest,), _ = await nearest_rows(_blocks(rows), queries, self._k)
            except InvalidRows:
                self.reactions.append(None)
            else:
                self.reactions.append(tuple(sorted(nearest.chunk_ids.tolist())))
            return self.reactions[-1]

        return run


async def _blocks(rows: list[Row]) -> AsyncIterator[RowBlock]:
    """One block of an answer, as `FrameReader` gives it."""
    rows = sorted(rows, key=lambda row: row.chunk_id)
    width = max(len(part) for row in rows for part in row.ciphertexts)
    data = b"".join(part.ljust(width, b"\0") for row in rows for part in row.ciphertexts)
    nonces = [row.nonce or b"" for row in rows]
    longest = max(map(len, nonces))
    yield RowBlock(
        np.array([row.chunk_id for row in rows], dtype=np.int64),
        np.frombuffer(data, dtype=np.uint8).reshape(len(rows), -1, width),
        np.frombuffer(b"".join(one.ljust(longest, b"\0") for one in nonces), dtype=np.uint8).reshape(len(rows), -1),
        np.array([len(one) for one in nonces], dtype=np.uint8),
    )


class Server:
    """What the service has of some chunks, with ids from 1 on."""

    def __init__(
        self,
        public_key: Mapping[str, Any],
        config: Mapping[str, Any],
        stored: list[Numbers],
        nonces: list[bytes | None],
    ) -> None:
        self.n = int(public_key["n"])
        self._g = int(public_key.get("g", self.n + 1))
        self._key_len, self._base = config["key_len"], config.get("encoding", "base4")
        self.stored = stored
        self.nonces = nonces

    @classmethod
    def of(cls, owner: HomomorphicClient, vectors: Vectors) -> "Server":
        """After the owner has stored these vectors."""
        index = owner.encrypt_vec_batch(vectors)
        rows, nonces = [list(one) for one in index], [one.nonce or None for one in index]
        return cls(owner.public_key(), owner.config(), rows, nonces)

    @property
    def width(self) -> int:
        return -(-((self.n**2).bit_length()) // 8)

    def row(self, chunk_id: int, position: int, query: Numbers, change: Sequence[int] = ()) -> Row:
        """The true answer for the chunk of this position under an id, or one whose messages have changed."""
        product = [c * q % self.n**2 for c, q in zip(self.stored[position], query, strict=True)]
        if change:
            product = [c * self.g_to(d) % self.n**2 for c, d in zip(product, change, strict=True)]
        return self.made(chunk_id, product, self.nonces[position])

    def g_to(self, message: int) -> int:
        """What encrypts a message with the noise 1, and adds it to that of a ciphertext: everybody can compute it."""
        if self._g == self.n + 1:
            return (1 + message * self.n) % self.n**2
        return int(powmod(self._g, message, self.n**2))

    def made(self, chunk_id: int, numbers: Numbers, nonce: bytes | None) -> Row:
        """A row of these numbers."""
        return Row([ciphertext(one, self.width) for one in numbers], chunk_id, nonce)

    def messages(self, vector: Vector) -> list[int]:
        """What the ciphertexts of a vector encrypt: everybody can compute it."""
        return reference.messages(vector.tolist(), self._key_len, self._base)

    def change(self, old: Vector, new: Vector) -> list[int]:
        """What makes the messages of one vector those of another."""
        return [b - a for a, b in zip(self.messages(old), self.messages(new), strict=True)]

    def units(self, position: int, dimensions: int) -> list[int]:
        """What adds 1 to one position of a vector."""
        zeros = np.zeros(dimensions, dtype=np.uint8)
        return self.change(zeros, flipped(zeros, position))


def flipped(vector: Vector, *positions: int) -> Vector:
    """The vector with some bits changed."""
    changed = vector.copy()
    changed[list(positions)] ^= 1
    return changed


def random_vectors(count: int, dimensions: int, seed: int) -> Vectors:
    """The same for the same seed, whatever the version of NumPy: what is learned is stated to the bit."""
    data = np.frombuffer(random.Random(seed).randbytes(count * dimensions), dtype=np.uint8)
    return data.reshape(count, dimensions) & np.uint8(1)


def near(vector: Vector, bits: int, coin: random.Random) -> Vector:
    """The vector with so many bits changed."""
    return flipped(vector, *coin.sample(range(len(vector)), bits))


def learned(right: int, trials: int, what: str, chance: Fraction = Fraction(1, 2)) -> str:
    """What so many right guesses say: nothing, if guessing may give them.

    Fewer than one of 2^30 who only guess are told to have learned something.
    """
    return "nothing" if is_chance(right, trials, chance) else f"{right} of {trials} {what}"


def is_chance(right: int, trials: int, chance: Fraction = Fraction(1, 2)) -> bool:
    """Whether neither so few nor so many right ones are rarer than 2^-31."""
    tails = [range(right + 1), range(right, trials + 1)]
    return min(sum(_probability(i, trials, chance) for i in tail) for tail in tails) > Fraction(1, 1 << 31)


def _probability(right: int, trials: int, chance: Fraction) -> Fraction:
    return comb(trials, right) * chance**right * (1 - chance) ** (trials - right)
