"""Encodes binary vectors as integers whose sum shows their Hamming distance (docs/formats.md, "Vectors").

Base 4 gives each position a pair of bits, `00` or `01`: m(x) = Σ xᵢ·4^(w−1−i). In m(x) + m(q), a pair is 0, 1 or 2 and
never carries; its low bit is xᵢ XOR qᵢ. Base 3 gives each position a digit, and is used if a vector then fits into one
ciphertext instead of two. Integers are little-endian rows, as everywhere in the arithmetic.
"""

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.schemes.bits import PackedBits, check_embed_len
from xtrace_sdk.x_vec.schemes.interface import Bits

Flags = NDArray[np.bool_]

Base = Literal["base4", "base3"]


def choose_base(embed_len: int, key_len: int) -> Base:
    """Returns base 3 if it saves a ciphertext and fits every modulus of this key length, else base 4.

    Both primes have their two top bits set, so n is at least 9/16 of 4^key_len.
    """
    smallest_modulus = 9 << (2 * key_len - 4)
    # The upper bound does not affect the choice (3^d > 4^key_len there), but keeps the power small for any input.
    saves = key_len <= embed_len < 2 * key_len and 3**embed_len <= smallest_modulus
    return "base3" if saves else "base4"


def check_one_ciphertext(embed_len: int, key_len: int) -> None:
    """Raises `InvalidArgument` if vectors of this length take more than one ciphertext of this key length."""
    if embed_len < key_len or choose_base(embed_len, key_len) == "base3":
        return
    most = key_len - 1
    while choose_base(most + 1, key_len) == "base3":
        most += 1
    raise InvalidArgument(
        f"{embed_len} bits do not fit into one ciphertext at key_len {key_len}, which holds at most {most}: choose "
        f"fewer bits, or a larger key_len"
    )


class VectorEncoding:
    """How vectors of one length are divided into ciphertexts of one key length."""

    def __init__(self, embed_len: int, key_len: int, base: Base) -> None:
        """Raises `InvalidArgument` for a length outside 1 to 4096, and for a base that is unknown or too small for
        vectors of this length."""
        check_embed_len(embed_len)
        if base not in ("base4", "base3"):
            raise InvalidArgument("the encoding is unknown, expected base4 or base3")
        if base == "base3" and choose_base(embed_len, key_len) != "base3":
            raise InvalidArgument(f"base 3 cannot encode {embed_len} positions at key length {key_len}")
        self.embed_len = embed_len
        self.base = base
        count = 1 if base == "base3" else -(-embed_len // (key_len - 1))
        widest = -(-embed_len // count)
        self.widths = [min(widest, embed_len - start) for start in range(0, embed_len, widest)]
        self._positions = [slice(start, start + widest) for start in range(0, embed_len, widest)]

    @property
    def count(self) -> int:
        """The number of ciphertexts of one vector."""
        return len(self.widths)

    def largest_sum(self) -> int:
        """The largest possible sum of two encoded vectors in a ciphertext."""
        return int(3**self.embed_len - 1) if self.base == "base3" else 2 * (4 ** self.widths[0] - 1) // 3

    def encode(self, bits: Bits) -> list[Rows]:
        """Returns the messages for each ciphertext of the vectors, `(n, width)` little-endian rows."""
        encode = arithmetic.encode_digits if self.base == "base3" else arithmetic.encode_slots
        return [encode(bits[:, positions]) for positions in self._positions]

    def pack(self, bits: Bits) -> PackedBits:
        """Packs the vectors with eight positions per byte: Σ xᵢ·2^(w−1−i) for each ciphertext, little-endian."""
        return np.concatenate([_packed(bits[:, positions]) for positions in self._positions], axis=1)

    def unpack(self, packed: PackedBits) -> Bits:
        """Reverses `pack`."""
        edges = np.cumsum([-(-width // 8) for width in self.widths])[:-1]
        parts = zip(np.split(packed, edges, axis=1), self.widths, strict=True)
        return np.concatenate(
            [np.unpackbits(part, axis=1, count=width, bitorder="little")[:, ::-1] for part, width in parts], axis=1
        )

    def vectors(self, sums: list[Rows], query: Sequence[Rows] | None) -> tuple[PackedBits, Flags]:
        """Returns `(vectors, valid)`, `(n, bytes)` and `(n,)`: the sums of each ciphertext without the query.

        The query (the output of `encode` for one vector), if any, is subtracted from each sum as an integer. A row is
        valid if the result is exactly the encoding of a vector; ignore the vectors of other rows.
        """
        queries = [None] * self.count if query is None else query
        if self.base == "base3":
            return _bits_of_digits(sums[0], self.embed_len, queries[0])
        return _bits_of_slots(sums, self.widths, queries)

    def distances(self, sums: list[Rows]) -> tuple[NDArray[np.int64], Flags]:
        """Returns `(distances, valid)`, both `(n,)`, only from the sums: for use without the query.

        A row is valid if each of its sums is a sum of two encoded vectors; ignore the distances of other rows.
        """
        read = arithmetic.count_digits if self.base == "base3" else arithmetic.count_slots
        parts = [read(rows, width) for rows, width in zip(sums, self.widths, strict=True)]
        distances = np.zeros(len(sums[0]), dtype=np.int64)
        good = np.ones(len(sums[0]), dtype=np.bool_)
        for distance, valid in parts:
            distances += distance
            good &= valid
        return distances, good


def _packed(bits: Bits) -> PackedBits:
    # The same as np.packbits(bits[:, ::-1], bitorder="little"), which reads every byte by itself.
    missing = -bits.shape[1] % 8
    whole = np.pad(bits, ((0, 0), (missing, 0))) if missing else bits
    return np.packbits(whole, axis=1)[:, ::-1]


_NOTHING = np.zeros((1, 1), dtype=np.uint64)
_HALVINGS = [
    (np.uint64(1), np.uint64(0x3333333333333333)),
    (np.uint64(2), np.uint64(0x0F0F0F0F0F0F0F0F)),
]
"""Shifts and masks that move every other bit of a byte into its low half."""


def _bits_of_slots(sums: list[Rows], widths: list[int], queries: Sequence[Rows | None]) -> tuple[PackedBits, Flags]:
    # If a difference of words has only low bits of pairs set, no pair borrowed: added to the query's pairs, each 0 or
    # 1, it gives the sum without a carry. So every word can be checked by itself. The words of all ciphertexts are one
    # array, which is changed in place, because calls and new memory cost more than the work.
    words = -(-max(sums[0].shape[1], -(-widths[0] // 4)) // 8)
    left = np.empty((len(sums), len(sums[0]), words), dtype=np.uint64)
    scratch = np.empty_like(left)
    for part, beyond, rows, width, query in zip(left, scratch, sums, widths, queries, strict=True):
        np.subtract(_words(rows, words), _NOTHING if query is None else _words(query, words), out=part)
        np.bitwise_and(part, _all_but_low_bits(width, words), out=beyond)
    good: Flags = ~np.asarray(np.bitwise_or.reduce(scratch, axis=0).any(axis=1))
    for shift, mask in _HALVINGS:
        np.right_shift(left, shift, out=scratch)
        np.bitwise_or(left, scratch, out=left)
        np.bitwise_and(left, mask, out=left)
    np.right_shift(left, np.uint64(4), out=scratch)
    np.bitwise_or(left, scratch, out=left)
    packed = left.view("<u2").astype(np.uint8)
    return np.concatenate([part[:, : -(-width // 8)] for part, width in zip(packed, widths, strict=True)], axis=1), good


@cache
def _all_but_low_bits(width: int, words: int) -> NDArray[np.uint64]:
    """Returns the bits that no encoded vector of this width has, as words."""
    return ~np.frombuffer(((4**width - 1) // 3).to_bytes(8 * words, "little"), dtype="<u8")


def _bits_of_digits(sums: Rows, width: int, query: Rows | None) -> tuple[PackedBits, Flags]:
    left, good = (sums, np.ones(len(sums), dtype=np.bool_)) if query is None else _difference(sums, query)
    bits, valid = arithmetic.decode_digits(left, width)
    return np.packbits(bits[:, ::-1], axis=1, bitorder="little"), valid & good


def _difference(rows: Rows, subtrahend: Rows) -> tuple[Rows, Flags]:
    """Returns `(row − subtrahend, not negative)`: subtracts one integer, `(1, width)`, from each row."""
    count = -(-max(rows.shape[1], subtrahend.shape[1]) // 8)
    minuends, subtrahends = np.ascontiguousarray(_words(rows, count).T), _words(subtrahend, count)[0]
    borrow = np.zeros(len(rows), dtype=np.uint64)
    differences = np.empty_like(minuends)
    for i, (minuend, taken) in enumerate(zip(minuends, subtrahends, strict=True)):
        differences[i] = minuend - taken - borrow
        borrow = ((minuend < taken) | ((minuend == taken) & (borrow != 0))).astype(np.uint64)
    not_negative: Flags = borrow == 0
    return np.ascontiguousarray(differences.T).view(np.uint8)[:, : rows.shape[1]], not_negative


def _words(rows: Rows, count: int) -> NDArray[np.uint64]:
    """Returns the first `count` 64-bit words of each row, with zeros after its end."""
    missing = max(8 * count - rows.shape[1], -rows.shape[1] % 8)
    if missing:
        padded = np.zeros((len(rows), rows.shape[1] + missing), dtype=np.uint8)
        padded[:, : rows.shape[1]] = rows
        rows = padded
    return rows.view("<u8")[:, :count]
