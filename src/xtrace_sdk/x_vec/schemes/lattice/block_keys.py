"""What blocks and queries have in common: everything that derives from a context's key for vectors."""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from xtrace_core.lattice.interface import Elements, Noisy
from xtrace_core.lattice.parameters import DEGREE, FOLD, PRIMES, RANK, slab_words, words
from xtrace_core.lattice.ring import ring
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import Bits
from xtrace_sdk.x_vec.schemes.lattice.keys import prf
from xtrace_sdk.x_vec.schemes.lattice.records import pack
from xtrace_sdk.x_vec.schemes.lattice.sampling import stream, ternary, uniform, words_of

_MASK_BYTES: Final = 512


@dataclass(frozen=True, slots=True, repr=False)
class Matrices(Secretive):
    """The matrices of a context: for each slab the values of K x RANK elements, `(K, RANK, 2, DEGREE)`."""

    rows: list[Elements]
    """A, which blocks are made with."""
    queries: list[Elements]
    """a, which queries are made with."""


class BlockKeys(Secretive):
    """The secrets of the blocks of one context."""

    __slots__ = ("_mask", "_matrices", "_vector_key", "embed_len")

    def __init__(self, vector_key: bytes, embed_len: int) -> None:
        self._vector_key = vector_key
        self.embed_len = embed_len
        self._mask = stream(prf(vector_key, "mask"), _MASK_BYTES)
        self._matrices: Matrices | None = None

    @property
    def matrices(self) -> Matrices:
        """The matrices, computed when they are needed first."""
        if self._matrices is None:
            self._matrices = Matrices(self._matrix("A"), self._matrix("a"))
        return self._matrices

    def block_nonce(self, bits: Bits, random: bytes) -> bytes:
        """Returns the nonce of a block: other vectors, another nonce, even if the randomness repeats itself."""
        return prf(self._vector_key, "nonce", random, hashlib.sha256(pack(bits).tobytes()).digest())

    def query_seed(self, bits: Bits, random: bytes) -> bytes:
        """Returns the seed of a query, which is one vector: `(1, embed_len)`."""
        return prf(self._vector_key, "query", random, pack(bits).tobytes())

    def block_tag(self, kb_id: str, untagged: bytes, hints: bytes) -> bytes:
        """Returns what authenticates a block's header and hints, and its knowledge base."""
        return prf(self._vector_key, "block", kb_id.encode(), untagged, hints)

    def secret(self, label: Literal["s", "qs"], seed: bytes) -> Elements:
        """Returns the values of the secret, `(RANK, 2, DEGREE)`, of a block (`s`) or a query (`qs`)."""
        return ring.forward(_ternary_residues(self._ternary(label, seed)))

    def block_secret(self, nonce: bytes) -> bytes:
        """Returns the coefficients of the secret of a block plus 1, a byte each."""
        return self._ternary("s", nonce).tobytes()

    def noisy(
        self, label: Literal["e", "qe"], seed: bytes, bits: Bits, weights: tuple[int, int, int, int]
    ) -> list[Noisy]:
        """Returns each slab's elements of a block (`e`) or a query (`qe`): four neighbouring positions in a code.

        Positions are masked first, and vectors are padded with zeros to whole groups of four.
        """
        parts = np.split(self._codes(bits), np.cumsum(slab_words(self.embed_len))[:-1])
        keys = [prf(self._vector_key, label, seed, bytes([slab])) for slab in range(len(parts))]
        return [
            Noisy(words_of(key, (len(codes), DEGREE)), codes, weights) for key, codes in zip(keys, parts, strict=True)
        ]

    def _codes(self, bits: Bits) -> NDArray[np.uint8]:
        packed = pack(bits)
        masked = packed ^ self._mask[: packed.shape[1]]
        codes = np.empty((2 * packed.shape[1], len(bits)), np.uint8)
        codes[::2], codes[1::2] = (masked & np.uint8(15)).T, (masked >> np.uint8(FOLD)).T
        return codes[: words(self.embed_len)]

    def _ternary(self, label: str, seed: bytes) -> NDArray[np.uint8]:
        return ternary(prf(self._vector_key, label, seed), (RANK, DEGREE))

    def _matrix(self, label: str) -> list[Elements]:
        return [self._slab_matrix(label, slab, count) for slab, count in enumerate(slab_words(self.embed_len))]

    def _slab_matrix(self, label: str, slab: int, count: int) -> Elements:
        keys = [prf(self._vector_key, label, bytes([slab, t])) for t in range(len(PRIMES))]
        return np.stack(
            [uniform(key, (count, RANK, DEGREE), prime) for key, prime in zip(keys, PRIMES, strict=True)], axis=2
        )


def _ternary_residues(drawn: NDArray[np.uint8]) -> Elements:
    """Returns the elements `(..., 2, DEGREE)` with these coefficients, less 1."""
    return np.stack([drawn + np.uint32(prime - 1) - np.uint32(prime) * (drawn > 0) for prime in PRIMES], axis=-2)
