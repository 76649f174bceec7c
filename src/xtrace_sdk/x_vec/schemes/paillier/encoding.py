"""Binary vectors as integers whose sum shows their Hamming distance (docs/formats.md, "Vectors").

Base 4 gives each position a pair of bits, `00` or `01`: m(x) = Σ xᵢ·4^(w−1−i). In m(x) + m(q) a pair reads 0, 1 or 2
and never carries; its low bit is xᵢ XOR qᵢ. Base 3 gives each position a digit instead, and is used where a vector
then fits into one ciphertext instead of two. Integers are little-endian rows, as everywhere in the arithmetic.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic
from xtrace_sdk.errors import InvalidArgument

Bits = NDArray[np.uint8]
"""Binary vectors: shape `(n, embed_len)`, dtype uint8, every element 0 or 1."""

MAX_EMBED_LEN = 4096
Base = Literal["base4", "base3"]


def choose_base(embed_len: int, key_len: int) -> Base:
    """Base 3 where it saves a ciphertext and every modulus of this key length holds it, else base 4.

    Both primes have their two top bits set, so n is at least 9/16 of 4^key_len.
    """
    smallest_modulus = 9 << (2 * key_len - 4)
    # The upper bound changes no choice (3^d > 4^key_len there); it keeps the power small whatever is asked for.
    saves = key_len <= embed_len < 2 * key_len and 3**embed_len <= smallest_modulus
    return "base3" if saves else "base4"


class VectorEncoding:
    """How vectors of one length are spread over the ciphertexts of one key length."""

    def __init__(self, embed_len: int, key_len: int, base: Base) -> None:
        """Raises `InvalidArgument` for a length outside 1 to 4096 and for a base that is unknown or cannot
        hold vectors of this length."""
        if not 1 <= embed_len <= MAX_EMBED_LEN:
            raise InvalidArgument(f"the embedding length is {embed_len}, expected 1 to {MAX_EMBED_LEN}")
        if base not in ("base4", "base3"):
            raise InvalidArgument("the encoding is unknown, expected base4 or base3")
        if base == "base3" and choose_base(embed_len, key_len) != "base3":
            raise InvalidArgument(f"base 3 cannot encode {embed_len} positions at key length {key_len}")
        self.embed_len = embed_len
        self.base = base
        count = 1 if base == "base3" else -(-embed_len // (key_len - 1))
        widest = -(-embed_len // count)
        self.widths = [min(widest, embed_len - start) for start in range(0, embed_len, widest)]

    @property
    def count(self) -> int:
        """The number of ciphertexts of one vector."""
        return len(self.widths)

    def largest_sum(self) -> int:
        """The largest value that the sum of two encoded vectors can have in a ciphertext."""
        return int(3**self.embed_len - 1) if self.base == "base3" else 2 * (4 ** self.widths[0] - 1) // 3

    def encode(self, bits: Bits) -> list[Rows]:
        """For each ciphertext of the vectors its messages, `(n, width)` little-endian rows."""
        edges = np.cumsum(self.widths)[:-1]
        encode = arithmetic.encode_digits if self.base == "base3" else arithmetic.encode_slots
        return [encode(part) for part in np.split(bits, edges, axis=1)]

    def decode(self, messages: list[Rows]) -> tuple[Bits, NDArray[np.bool_]]:
        """`(vectors, valid)` of shapes `(n, embed_len)` and `(n,)` from the messages of each ciphertext.

        A row is valid if each of its messages is what `encode` gives for a vector.
        """
        decode = arithmetic.decode_digits if self.base == "base3" else _decode_base4
        parts = [decode(rows, width) for rows, width in zip(messages, self.widths, strict=True)]
        good = np.ones(len(messages[0]), dtype=np.bool_)
        for _, valid in parts:
            good &= valid
        return np.concatenate([bits for bits, _ in parts], axis=1), good

    def distances(self, sums: list[Rows]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """`(distances, valid)`, both of shape `(n,)`, from the decrypted sums of each ciphertext.

        A row is valid if each of its sums is one of two encoded vectors. The distance of any other row means nothing.
        """
        read = arithmetic.count_digits if self.base == "base3" else arithmetic.count_slots
        parts = [read(rows, width) for rows, width in zip(sums, self.widths, strict=True)]
        distances = np.zeros(len(sums[0]), dtype=np.int64)
        good = np.ones(len(sums[0]), dtype=np.bool_)
        for distance, valid in parts:
            distances += distance
            good &= valid
        return distances, good


def _decode_base4(messages: Rows, width: int) -> tuple[Bits, NDArray[np.bool_]]:
    used_bytes = -(-2 * width // 8)
    if messages.shape[1] < used_bytes:
        messages = np.pad(messages, ((0, 0), (0, used_bytes - messages.shape[1])))
    pairs = np.unpackbits(messages, axis=1, bitorder="little")
    bits = pairs[:, : 2 * width : 2]
    rest = np.any(pairs[:, 1::2], axis=1) | np.any(pairs[:, 2 * width :], axis=1)
    return np.ascontiguousarray(bits[:, ::-1]), ~rest
