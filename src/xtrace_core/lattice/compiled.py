"""The arithmetic of blocks in C (native/lattice.h)."""

import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.lattice.interface import Elements, Noisy, QueryValues, UnreadBlock, Values
from xtrace_core.lattice.numbers import COFACTOR_INVERSES, DEGREE_INVERSES, INVERSE_POWERS, POWERS
from xtrace_core.lattice.parameters import (
    BLOCK_ROWS,
    DEGREE,
    MAX_NOISE,
    PRIMES,
    RANK,
    slab_positions,
    slab_words,
    slabs,
    words,
)

try:
    from xtrace_core.arithmetic._native import (
        lattice_kernels,
        lattice_masked,
        lattice_read,
        lattice_transform,
        lattice_values,
    )
except ImportError:  # not installed, or built from older sources
    KERNELS: list[str] = []
    """The compiled kernels that run here, fastest first."""
else:
    KERNELS = lattice_kernels() if sys.byteorder == "little" else []


def _quotients(numbers: NDArray[np.uint64], prime: int) -> NDArray[np.uint64]:
    return (numbers << np.uint64(32)) // np.uint64(prime)


def _prime_words(t: int) -> NDArray[np.uint64]:
    """Returns `struct lattice_prime` of native/kernels.h."""
    q = PRIMES[t]
    inverses = np.concatenate([DEGREE_INVERSES[t], COFACTOR_INVERSES[t]])
    fixed = np.stack([inverses, _quotients(inverses, q)], axis=1).reshape(-1)
    tables = [part for numbers in (POWERS[t], INVERSE_POWERS[t]) for part in (numbers, _quotients(numbers, q))]
    head = np.concatenate([np.array([q, 2**32 % q, 2**60 // q, 2**64 // q], np.uint64), fixed])
    return np.concatenate([head, np.concatenate(tables).astype(np.uint32).view(np.uint64)])


PREPARED: Final = np.concatenate([_prime_words(t) for t in range(len(PRIMES))])
"""What the kernels take of both primes."""


def prepared_weights(weights: tuple[int, int, int, int]) -> NDArray[np.uint32]:
    """Returns `struct lattice_weights` of native/kernels.h for both primes."""
    rows = []
    for q in PRIMES:
        negative = [-weight % q for weight in weights]
        differences = [weight % q - least for weight, least in zip(weights, negative, strict=True)]
        rows.append([number % 2**32 for number in (sum(negative), *differences)])
    return np.array(rows, np.uint32)


class CompiledRing:
    """`Ring` in C. Every method releases the interpreter's lock. `read` works in this number of threads, all others in
    their caller's alone."""

    def __init__(self, kernels: str, threads: int = 1) -> None:
        self.name = kernels
        self.threads = threads

    def forward(self, coefficients: Elements) -> Elements:
        return self._transformed(coefficients, inverse=False)

    def inverse(self, values: Elements) -> Elements:
        return self._transformed(values, inverse=True)

    def evaluate(self, embed_len: int, bodies: Sequence[Buffer], queries: Sequence[Buffer]) -> Values:
        values = np.empty((len(bodies), len(queries), slabs(embed_len), BLOCK_ROWS), np.uint16)
        each = slab_words(embed_len)[0]
        lattice_values(self.name, PREPARED, words(embed_len), each, values, tuple(bodies), tuple(queries))
        return values

    def masked(
        self, matrix: Elements, other: Elements, secret: Elements, noisy: Noisy, *, sums_of_noisy: bool
    ) -> tuple[bytes, Elements]:
        sums = np.empty((RANK, len(PRIMES), DEGREE), np.uint32)
        message = noisy.noise, noisy.codes, prepared_weights(noisy.weights)
        tiles = lattice_masked(self.name, PREPARED, sums_of_noisy, sums, matrix, other, secret, *message)
        return tiles, self.inverse(sums)

    def read(
        self, embed_len: int, queries: QueryValues, blocks: Sequence[UnreadBlock]
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        distances = np.empty((len(queries.secrets), sum([len(one.slots) for one in blocks])), np.uint16)
        valid = np.empty(len(blocks), np.bool_)
        positions = np.array(slab_positions(embed_len), np.uint64)
        lattice_read(
            self.name,
            self.threads,
            PREPARED,
            MAX_NOISE,
            positions,
            distances,
            valid,
            *queries,
            tuple([one.secret for one in blocks]),
            tuple([one.hints for one in blocks]),
            tuple([one.slots for one in blocks]),
            tuple([one.values for one in blocks]),
        )
        return distances, valid

    def _transformed(self, elements: Elements, *, inverse: bool) -> Elements:
        out = np.empty_like(elements, order="C")
        for t in range(elements.shape[-2]):
            rows = np.ascontiguousarray(elements[..., t, :]).reshape(-1, DEGREE)
            done = np.empty_like(rows)
            lattice_transform(self.name, PREPARED, t, inverse, done, rows)
            out[..., t, :] = done.reshape(out.shape[:-2] + out.shape[-1:])
        return out
