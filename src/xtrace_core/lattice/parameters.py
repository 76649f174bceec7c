"""The parameters `lattice-1`, and the sizes of what they make."""

from typing import Final

DEGREE: Final = 1024
"""Of the ring Z_Q[X]/(X^DEGREE + 1)."""
BLOCK_ROWS: Final = DEGREE
"""The most vectors in a block: one for each coefficient."""
RANK: Final = 3
"""The number of ring elements of a secret, so that the dimension of learning with errors is 3,072."""
PRIMES: Final = (1067261953, 1061244929)
"""The factors of Q: below 2^30, and 1 modulo 2 DEGREE."""

BASE: Final = 513
"""Of the digits in which four positions of a vector become one integer."""
ROW_SCALE: Final = 1034
"""D1, by which rows are multiplied: Q = D1 D2 BASE^4 + 1467953."""
QUERY_SCALE: Final = 15816
"""D2, by which queries are multiplied."""
FOLD: Final = 4
"""Positions of a vector in one integer."""

HINT_BITS: Final = 20
VALUE_BITS: Final = 12
FRACTION_BITS: Final = 34
"""Of the fractions with which distances are computed."""
MAX_NOISE: Final = int(0.44 * (1 << FRACTION_BITS))
"""How far a reading may be from an integer: further away happens once in 2^50 values of an honest service."""
HEADER_BYTES: Final = 112
WORD_BYTES: Final = 8
"""Of a ring element's coefficient: its residues modulo both primes."""

_SLAB_POSITIONS: Final = 512


def slabs(embed_len: int) -> int:
    """Returns how many slabs the positions are divided into; each has its own sums in an answer."""
    return -(-embed_len // _SLAB_POSITIONS)


def words(embed_len: int) -> int:
    """Returns how many ring elements a block or a query consists of."""
    return -(-embed_len // FOLD)


def slab_words(embed_len: int) -> list[int]:
    """Returns the ring elements of each slab: equally many, except in the last."""
    total, each = words(embed_len), -(-words(embed_len) // slabs(embed_len))
    return [min(each, total - first) for first in range(0, total, each)]


def slab_positions(embed_len: int) -> list[tuple[int, int]]:
    """Returns for each slab its positions, in whole words, and how many of them vectors use."""
    positions = [FOLD * count for count in slab_words(embed_len)]
    in_use = [*positions[:-1], positions[-1] - (sum(positions) - embed_len)]
    return list(zip(positions, in_use, strict=True))


def body_bytes(embed_len: int) -> int:
    """Returns the length of a block's body."""
    return WORD_BYTES * DEGREE * words(embed_len)


def query_bytes(embed_len: int) -> int:
    """Returns the length of a query."""
    return body_bytes(embed_len)


def hint_bytes(embed_len: int) -> int:
    """Returns the length of a block's hints."""
    return slabs(embed_len) * RANK * DEGREE * HINT_BITS // 8
