"""Reads a search's answer as it arrives: decrypts and checks every row, and keeps the nearest.

Several blocks are decrypted at once in threads; only a few blocks and the nearest rows are in memory at a time.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_core.frames import RowBlock
from xtrace_sdk.errors import InvalidRows
from xtrace_sdk.limits import MAX_NAMED_ROWS
from xtrace_sdk.x_vec.schemes.interface import EncryptedQueries

BLOCKS_IN_FLIGHT = min(2 * (os.cpu_count() or 1), 32)
"""The number of blocks that are being decrypted or waiting for it; others are not read from the network yet."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest rows so far, nearest first; for equal distances, the smaller id first."""

    chunk_ids: NDArray[np.int64]
    distances: NDArray[np.int64]
    ciphertexts: Rows
    nonces: Sequence[bytes | None]

    def take(self, positions: Sequence[int]) -> "Nearest":
        """Returns these rows of it, in this order."""
        return Nearest(
            self.chunk_ids[positions],
            self.distances[positions],
            self.ciphertexts[positions],
            [self.nonces[i] for i in positions],
        )


def union(one: Nearest, other: Nearest, k: int) -> Nearest:
    """Returns the `k` nearest rows of two confirmed answers under different keys; the second wins for ids in both."""
    kept = np.flatnonzero(~np.isin(one.chunk_ids, other.chunk_ids))
    chunk_ids = np.concatenate([one.chunk_ids[kept], other.chunk_ids])
    distances = np.concatenate([one.distances[kept], other.distances])
    nonces = [*[one.nonces[int(i)] for i in kept], *other.nonces]
    chosen = _order(chunk_ids, distances)[:k]
    # Ciphertexts under two keys do not fit into one array, and are no longer needed.
    return Nearest(chunk_ids[chosen], distances[chosen], _NOTHING.ciphertexts, [nonces[int(i)] for i in chosen])


_NOTHING = Nearest(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 0, 0), np.uint8), [])


@dataclass(frozen=True, slots=True)
class BlockReading:
    """The result of a block, all of whose rows may have been dropped: the nearest rows for each query."""

    nearest: list[Nearest]
    invalid: NDArray[np.bool_]
    chunk_ids: NDArray[np.int64]


ReadBlock = Callable[[RowBlock], BlockReading]
"""Runs in a thread. Raises `InvalidAnswer`."""


async def nearest_rows(
    blocks: AsyncIterator[RowBlock], queries: EncryptedQueries, k: int
) -> tuple[list[Nearest], NDArray[np.int64]]:
    """Returns the `k` nearest confirmed rows of the whole answer for each query, and the ids of all rows.

    Raises `InvalidRows`, which names the first bad rows, if any row is not the sum of a stored vector and a query,
    after all rows were processed; `InvalidAnswer` if the answer cannot be read.
    """
    best, candidates = await nearest_of(blocks, lambda block: _read(block, queries, k), len(queries), k)
    for number, nearest in enumerate(best):
        await asyncio.to_thread(_confirm, queries, number, nearest)
    return best, candidates


async def nearest_of(
    blocks: AsyncIterator[RowBlock], read: ReadBlock, queries: int, k: int
) -> tuple[list[Nearest], NDArray[np.int64]]:
    """Returns the `k` nearest rows from `read` for each of this number of queries, and the ids of all rows.

    Raises `InvalidRows`, which names the first bad rows, if any row is not valid, after all rows were processed.
    """
    best = [_NOTHING] * queries
    invalid_positions: list[int] = []
    invalid_ids: list[int] = []
    candidates = [_NOTHING.chunk_ids]
    invalid = rows = 0
    async for reading in _readings(blocks, read):
        best = [_merged(one, new, k) for one, new in zip(best, reading.nearest, strict=True)]
        bad = np.flatnonzero(reading.invalid)
        invalid += len(bad)
        named = bad[: MAX_NAMED_ROWS - len(invalid_ids)]
        invalid_positions += (named + rows).tolist()
        invalid_ids += reading.chunk_ids[named].tolist()
        candidates.append(reading.chunk_ids)
        rows += len(reading.chunk_ids)
    if invalid_ids:
        raise InvalidRows(invalid_positions, invalid_ids, invalid)
    return best, np.concatenate(candidates)


async def _readings(blocks: AsyncIterator[RowBlock], read: ReadBlock) -> AsyncIterator[BlockReading]:
    in_flight: list[asyncio.Task[BlockReading]] = []
    try:
        async for block in blocks:
            in_flight.append(asyncio.create_task(asyncio.to_thread(read, block)))
            if len(in_flight) >= BLOCKS_IN_FLIGHT:
                yield await in_flight.pop(0)
        while in_flight:
            yield await in_flight.pop(0)
    finally:
        # A thread cannot be stopped; its result is no longer needed.
        await asyncio.gather(*in_flight, return_exceptions=True)


def _read(block: RowBlock, queries: EncryptedQueries, k: int) -> BlockReading:
    distances, valid = queries.read(block.ciphertexts, nonces_of(block))
    nearest = [nearest_in(block, one, block.ciphertexts, k) for one in distances]
    return BlockReading(nearest, ~valid, block.chunk_ids.copy())


def nearest_in(block: RowBlock, distances: NDArray[np.int64], ciphertexts: Rows, k: int) -> Nearest:
    """Returns the `k` nearest rows of a block, with the ciphertexts to keep."""
    chosen = _order(block.chunk_ids, distances)[:k]
    # Copies, because views would keep the whole block in memory.
    nonces = [block.nonce(int(i)) for i in chosen]
    return Nearest(block.chunk_ids[chosen], distances[chosen], ciphertexts[chosen], nonces)


def nearest_among(chunk_ids: NDArray[np.int64], distances: NDArray[np.uint16], k: int) -> Nearest:
    """Returns the `k` nearest of these chunks, without ciphertexts and nonces."""
    # Only those within the k-th distance are sorted. Counting finds it faster than a partition: distances are small.
    last = np.searchsorted(np.cumsum(np.bincount(distances)), k)
    close = np.flatnonzero(distances <= last)
    found = distances[close].astype(np.int64)
    chosen = _order(chunk_ids[close], found)[:k]
    return Nearest(chunk_ids[close[chosen]], found[chosen], _NOTHING.ciphertexts, [None] * len(chosen))


def _merged(one: Nearest, new: Nearest, k: int) -> Nearest:
    if not len(one.chunk_ids):
        return new
    chunk_ids = np.concatenate([one.chunk_ids, new.chunk_ids])
    distances = np.concatenate([one.distances, new.distances])
    chosen = _order(chunk_ids, distances)[:k]
    both = np.concatenate(_equally_wide(one.ciphertexts, new.ciphertexts))
    nonces = [*one.nonces, *new.nonces]
    return Nearest(chunk_ids[chosen], distances[chosen], both[chosen], [nonces[int(i)] for i in chosen])


def _equally_wide(one: Rows, other: Rows) -> list[Rows]:
    """Concatenates both, padded with zeros: without a fixed width, a block is as wide as its widest ciphertext."""
    width = max(one.shape[2], other.shape[2])
    return [np.pad(rows, ((0, 0), (0, 0), (0, width - rows.shape[2]))) for rows in (one, other)]


def _confirm(queries: EncryptedQueries, number: int, nearest: Nearest) -> None:
    if not len(nearest.chunk_ids):
        return
    distances, valid = queries.confirm(nearest.ciphertexts, nearest.nonces, number)
    bad = np.flatnonzero(~valid | (distances != nearest.distances)).tolist()
    if bad:
        raise InvalidRows(bad, nearest.chunk_ids[bad].tolist())


def _order(chunk_ids: NDArray[np.int64], distances: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.lexsort((chunk_ids, distances))


def nonces_of(block: RowBlock) -> Rows | list[bytes | None]:
    """Returns the nonces of a block's rows: the column itself if all nonces fill it, as in native contexts."""
    if (block.nonce_lengths == block.nonces.shape[1]).all() and block.nonces.shape[1]:
        return block.nonces
    return [block.nonce(i) for i in range(len(block))]
