"""How ring elements and the values of an answer are laid out as bytes."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.lattice.interface import Elements
from xtrace_core.lattice.numbers import MODULI
from xtrace_core.lattice.parameters import DEGREE, PRIMES, VALUE_BITS, WORD_BYTES, slab_words

_TILE: Final = 16
"""Neighbouring coefficients of all elements of a slab are stored together: they are multiplied together."""
_RESIDUES: Final = np.dtype("<u4")


def to_tiles(elements: Elements) -> bytes:
    """Returns the words of a slab's elements, `(K, 2, DEGREE)`: 64 tiles of K elements by 16 coefficients."""
    tiles = elements.reshape(len(elements), len(PRIMES), DEGREE // _TILE, _TILE).transpose(2, 0, 3, 1)
    return tiles.astype(_RESIDUES).tobytes()


def from_tiles(data: Buffer) -> Elements:
    """Reverses `to_tiles`."""
    tiles = np.frombuffer(data, _RESIDUES).reshape(DEGREE // _TILE, -1, _TILE, len(PRIMES))
    return tiles.transpose(1, 3, 0, 2).reshape(-1, len(PRIMES), DEGREE).astype(np.uint32)


def slab_parts(embed_len: int, data: Buffer) -> list[memoryview]:
    """Returns the words of each slab in a block's body or a query."""
    view, parts, first = memoryview(data), [], 0
    for count in slab_words(embed_len):
        end = first + WORD_BYTES * DEGREE * count
        parts.append(view[first:end])
        first = end
    return parts


def all_reduced(data: Buffer) -> bool:
    """Returns whether all words have both residues below their primes; anything else could overflow a sum."""
    pairs = np.frombuffer(data, _RESIDUES).reshape(-1, len(PRIMES))
    return bool((pairs.max(axis=0) < MODULI[:, 0]).all())


def pack(values: NDArray[Any], bits: int) -> bytes:
    """Returns values of 12 or 20 bits as one little-endian bit string, padded with zeros to whole bytes."""
    flat = values.reshape(-1).astype(np.uint64)
    pairs = np.pad(flat, (0, len(flat) % 2)).reshape(-1, 2)
    joined = (pairs[:, 0] | pairs[:, 1] << np.uint64(bits)).astype("<u8")
    return joined.view(np.uint8).reshape(-1, 8)[:, : bits // 4].tobytes()[: packed_bytes(len(flat), bits)]


def unpack(data: Buffer, count: int, bits: int) -> NDArray[np.uint64]:
    """Reverses `pack`. Raises `ValueError` for data of another length, or with another padding."""
    if len(data) != packed_bytes(count, bits):
        raise ValueError(f"got {len(data)} bytes for {count} values, expected {packed_bytes(count, bits)}")
    pairs = np.zeros((-(-count // 2), 8), np.uint8)
    pairs[:, : bits // 4] = np.frombuffer(bytes(data).ljust(len(pairs) * (bits // 4), b"\0"), np.uint8).reshape(
        -1, bits // 4
    )
    joined = pairs.view("<u8")[:, 0].astype(np.uint64)
    values = np.stack([joined & np.uint64((1 << bits) - 1), joined >> np.uint64(bits)], axis=1).reshape(-1)
    if values[count:].any():
        raise ValueError("the bits after the last value are not zero")
    return values[:count]


def packed_bytes(count: int, bits: int) -> int:
    """Returns the length of packed values."""
    return -(-count * bits // 8)


def pack_values(values: NDArray[np.uint16]) -> bytes:
    """Returns the values of an answer, 12 bits each, as one little-endian bit string."""
    return pack(values, VALUE_BITS)


def unpack_values(data: Buffer, count: int) -> NDArray[np.uint16]:
    """Reverses `pack_values`. Raises `ValueError` for data of another length, or with another padding."""
    return unpack(data, count, VALUE_BITS).astype(np.uint16)
