"""The arithmetic of blocks with NumPy alone: slow, runs everywhere, and what compiled kernels are tested against.

- Longa, Naehrig, "Speeding up the number theoretic transform for faster ideal lattice-based cryptography", CANS 2016.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.lattice.interface import Coefficients, Elements, Noisy, QueryValues, UnreadBlock, Values
from xtrace_core.lattice.layout import from_tiles, slab_parts, to_tiles
from xtrace_core.lattice.numbers import (
    DEGREE_INVERSES,
    INVERSE_POWERS,
    MODULI,
    POWERS,
    fractions,
    products,
    residues,
    rounded,
)
from xtrace_core.lattice.parameters import BLOCK_ROWS, DEGREE, FOLD, VALUE_BITS, slabs
from xtrace_core.lattice.reading import read_blocks


class PortableRing:
    """`Ring` in NumPy."""

    name = "portable"

    def forward(self, coefficients: Elements) -> Elements:
        count = coefficients.shape[-2]
        q, powers, values = MODULI[:count, :, None], POWERS[:count], coefficients.astype(np.uint64)
        blocks = 1
        while blocks < DEGREE:
            pairs = values.reshape(*values.shape[:-1], blocks, 2, DEGREE // (2 * blocks))
            first = pairs[..., 0, :].copy()
            second = pairs[..., 1, :] * powers[:, blocks : 2 * blocks, None] % q
            pairs[..., 0, :], pairs[..., 1, :] = (first + second) % q, (first + q - second) % q
            blocks *= 2
        return values.astype(np.uint32)

    def inverse(self, values: Elements) -> Elements:
        count = values.shape[-2]
        q, powers, coefficients = MODULI[:count, :, None], INVERSE_POWERS[:count], values.astype(np.uint64)
        blocks = DEGREE // 2
        while blocks:
            pairs = coefficients.reshape(*values.shape[:-1], blocks, 2, DEGREE // (2 * blocks))
            first, second = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
            pairs[..., 0, :] = (first + second) % q
            pairs[..., 1, :] = (first + q - second) % q * powers[:, blocks : 2 * blocks, None] % q
            blocks //= 2
        reduced: Elements = (coefficients * DEGREE_INVERSES[:count] % MODULI[:count]).astype(np.uint32)
        return reduced

    def evaluate(self, embed_len: int, bodies: Sequence[Buffer], queries: Sequence[Buffer]) -> Values:
        values = np.empty((len(bodies), len(queries), slabs(embed_len), BLOCK_ROWS), np.uint16)
        asked = [[from_tiles(part) for part in slab_parts(embed_len, query)] for query in queries]
        for block, body in enumerate(bodies):
            for slab, part in enumerate(slab_parts(embed_len, body)):
                rows = from_tiles(part)
                for number, query in enumerate(asked):
                    sums = self.inverse(products(rows, query[slab], axis=0))
                    values[block, number, slab] = rounded(fractions(sums), VALUE_BITS)
        return values

    def masked(
        self, matrix: Elements, other: Elements, secret: Elements, noisy: Noisy, *, sums_of_noisy: bool
    ) -> tuple[bytes, Elements]:
        values = self.forward(residues(_coefficients(noisy)))
        rows: Elements = ((products(matrix, secret[None], axis=1) + values.astype(np.uint64)) % MODULI).astype(
            np.uint32
        )
        return to_tiles(rows), self.inverse(products(other, (values if sums_of_noisy else rows)[:, None], axis=0))

    def read(
        self, embed_len: int, queries: QueryValues, blocks: Sequence[UnreadBlock]
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        return read_blocks(self, embed_len, queries, blocks)


def _coefficients(noisy: Noisy) -> Coefficients:
    low, high = np.bitwise_count(noisy.noise & np.uint32(0xFFFF)), np.bitwise_count(noisy.noise >> np.uint32(16))
    coefficients: Coefficients = low.astype(np.int64) - high
    ones = (noisy.codes[..., None] >> np.arange(FOLD, dtype=np.uint8)) & np.uint8(1)
    coefficients[:, : noisy.codes.shape[1]] += 2 * (ones @ np.array(noisy.weights)) - sum(noisy.weights)
    return coefficients
