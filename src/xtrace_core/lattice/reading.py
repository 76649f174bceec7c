"""Reading answers with NumPy: from the values of blocks to distances, as native/lattice_reading.h does.

What hides the values of a block for a query is the product of the block's secret with what the query kept, plus that of
the block's hints with the query's secret.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.lattice.interface import Elements, QueryValues, Ring, UnreadBlock
from xtrace_core.lattice.layout import unpack, unpack_values
from xtrace_core.lattice.parameters import (
    BASE,
    BLOCK_ROWS,
    DEGREE,
    FRACTION_BITS,
    HINT_BITS,
    MAX_NOISE,
    PRIMES,
    RANK,
    VALUE_BITS,
    slab_positions,
    slabs,
)

_PRIME: Final = PRIMES[0]
_FRACTION: Final = np.uint64((1 << FRACTION_BITS) - 1)
_ELEMENTS_AT_ONCE: Final = 32
"""What is read together: several, because every step has a cost of its own, and few, to stay in the caches."""


def read_blocks(
    ring: Ring, embed_len: int, queries: QueryValues, blocks: Sequence[UnreadBlock]
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Returns what `Ring.read` does."""
    together = max(1, _ELEMENTS_AT_ONCE // (len(queries.secrets) * slabs(embed_len)))
    found, valid = [np.empty((len(queries.secrets), 0), np.uint16)], np.empty(len(blocks), np.bool_)
    for first in range(0, len(blocks), together):
        part = blocks[first : first + together]
        for number, (block, masks) in enumerate(zip(part, masks_of(ring, queries, part), strict=True), first):
            distances, noise = readings(embed_len, block, masks)
            in_use = np.array(slab_positions(embed_len))[:, 1, None]
            valid[number] = (distances <= in_use).all() and np.abs(noise).max(initial=0) <= MAX_NOISE
            found.append(distances.sum(axis=1).astype(np.uint16))
    return np.concatenate(found, axis=1), valid


def masks_of(ring: Ring, queries: QueryValues, blocks: Sequence[UnreadBlock]) -> NDArray[np.uint64]:
    """Returns what hides the values of the blocks, modulo the first prime, `(blocks, queries, slabs, DEGREE)`."""
    own = _transformed(ring, [np.frombuffer(one.secret, np.uint8) for one in blocks], _PRIME - 1)[:, None]
    hints = _transformed(ring, [_scaled_hints(one.hints) for one in blocks], 0)[:, None]
    # Six products of 60 bits fit into 64.
    sums = (own * queries.kept).sum(axis=3) + (hints * queries.secrets[None, :, None]).sum(axis=3)
    return ring.inverse((sums % np.uint64(_PRIME)).astype(np.uint32)[..., None, :])[..., 0, :].astype(np.uint64)


def readings(
    embed_len: int, block: UnreadBlock, masks: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns `(distances, noise)` of each slab, both `(queries, slabs, n)`; noise in units of 2^-34.

    Raises `ValueError` as `Ring.read` does.
    """
    values = _unpacked(block, masks.shape[:2]) << np.uint64(FRACTION_BITS - VALUE_BITS)
    fraction = (values - (masks[:, :, block.slots] << np.uint64(FRACTION_BITS)) // np.uint64(_PRIME)) & _FRACTION
    positions = np.array(slab_positions(embed_len), np.uint64)[:, :1]
    # The sum of n signs is n less twice the distance; half a unit more makes rounding down rounding to the nearest.
    shifted = fraction * np.uint64(BASE) + ((positions + np.uint64(1)) << np.uint64(FRACTION_BITS - 1))
    found = (shifted >> np.uint64(FRACTION_BITS)).astype(np.int64) % BASE
    return found, (shifted & _FRACTION).astype(np.int64) - (1 << (FRACTION_BITS - 1))


def _transformed(ring: Ring, blocks: Sequence[NDArray[np.integer]], plus: int) -> NDArray[np.uint64]:
    """Returns values `(blocks, slabs, RANK, DEGREE)` of elements, whose coefficients are these and a constant."""
    coefficients = (np.stack(blocks).astype(np.uint64) + np.uint64(plus)) % np.uint64(_PRIME)
    elements: Elements = coefficients.astype(np.uint32).reshape(len(blocks), -1, RANK, 1, DEGREE)
    return ring.forward(elements)[..., 0, :].astype(np.uint64)


def _scaled_hints(hints: bytes) -> NDArray[np.uint64]:
    """Returns hints scaled to the first prime and rounded."""
    packed = unpack(hints, len(hints) * 8 // HINT_BITS, HINT_BITS)
    return (packed * np.uint64(_PRIME) + np.uint64(1 << (HINT_BITS - 1))) >> np.uint64(HINT_BITS)


def _unpacked(block: UnreadBlock, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    slots, data = block.slots, memoryview(block.values)
    count, parts = len(slots), shape[0] * shape[1]
    if count and not (slots[0] >= 0 and (np.diff(slots) > 0).all() and slots[-1] < BLOCK_ROWS):
        raise ValueError("slots are not ascending, or not below 1024")
    size = -(-count * VALUE_BITS // 8)
    if len(data) != parts * size:
        raise ValueError(f"got {len(data)} bytes for {parts * count} values, expected {parts * size}")
    values = [unpack_values(data[i * size : (i + 1) * size], count) for i in range(parts)]
    return np.array(values, np.uint64).reshape(*shape, count)
