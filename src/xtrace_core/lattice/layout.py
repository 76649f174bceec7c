"""How ring elements and the values of an answer are laid out as bytes."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.lattice.interface import Elements
from xtrace_core.lattice.parameters import DEGREE, PRIMES, VALUE_BITS, WORD_BYTES, slab_words

_TILE: Final = 16
"""Neighbouring coefficients of all elements of a slab are stored together: they are multiplied together."""
_RESIDUES: Final = np.dtype("<u4")
_LIMITS: Final = np.tile(np.array(PRIMES, np.uint32), DEGREE)
"""The bounds of all residues of an element's words."""


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
    rows = np.frombuffer(data, _RESIDUES).reshape(-1, len(_LIMITS))
    return bool((rows < _LIMITS).all())


def pack(values: NDArray[Any], bits: int) -> bytes:
    """Returns values of 12 or 20 bits as one little-endian bit string, padded with zeros to whole bytes."""
    count = values.size
    pairs = np.zeros((-(-count // 2), 2), "<u8")
    pairs.reshape(-1)[:count] = values.reshape(-1)
    pairs[:, 0] |= pairs[:, 1] << np.uint64(bits)
    return pairs.view(np.uint8)[:, : _pair_bytes(bits)].tobytes()[: packed_bytes(count, bits)]


def unpack(data: Buffer, count: int, bits: int) -> NDArray[np.uint64]:
    """Reverses `pack`. Raises `ValueError` for data of another length, or with another padding."""
    if len(data) != packed_bytes(count, bits):
        raise ValueError(f"got {len(data)} bytes for {count} values, expected {packed_bytes(count, bits)}")
    pairs = np.zeros((-(-count // 2), 2), "<u8")
    whole = bytes(data).ljust(len(pairs) * _pair_bytes(bits), b"\0")
    pairs.view(np.uint8)[:, : _pair_bytes(bits)] = np.frombuffer(whole, np.uint8).reshape(-1, _pair_bytes(bits))
    pairs[:, 1] = pairs[:, 0] >> np.uint64(bits)
    pairs[:, 0] &= np.uint64((1 << bits) - 1)
    values = pairs.astype(np.uint64, copy=False).reshape(-1)
    if values[count:].any():
        raise ValueError("the bits after the last value are not zero")
    return values[:count]


def _pair_bytes(bits: int) -> int:
    return 2 * bits // 8


def packed_bytes(count: int, bits: int) -> int:
    """Returns the length of packed values."""
    return -(-count * bits // 8)


def pack_values(values: NDArray[np.uint16]) -> bytes:
    """Returns the values of an answer, `(..., n)`, 12 bits each: a little-endian bit string for each n of them."""
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], 1), np.uint16)], axis=-1)
        return np.ascontiguousarray(_triples(values)[..., :-1]).tobytes()
    return _triples(values).tobytes()


def _triples(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Returns each pair of values as three bytes."""
    joined = values[..., ::2].astype("<u4") | values[..., 1::2].astype("<u4") << np.uint32(VALUE_BITS)
    octets: NDArray[np.uint8] = np.ascontiguousarray(joined).view(np.uint8).reshape(*joined.shape, 4)
    return octets[..., :3].reshape(*joined.shape[:-1], -1)


def unpack_values(data: Buffer, count: int) -> NDArray[np.uint16]:
    """Reverses `pack_values`. Raises `ValueError` for data of another length, or with another padding."""
    return unpack(data, count, VALUE_BITS).astype(np.uint16)
