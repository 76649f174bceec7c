"""The rows of stored chunks, as searches by records receive them, many together."""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_core.frames import RowBlock
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.schemes.interface import Bits


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows by ascending chunk id, encrypted as they are stored."""

    chunk_ids: NDArray[np.int64]
    ciphertexts: Rows
    nonces: Sequence[bytes | None]

    @classmethod
    def of(cls, blocks: Sequence[RowBlock]) -> "StoredRows":
        """Joins blocks of an answer."""
        if not blocks:
            return cls(np.empty(0, np.int64), np.empty((0, 1, 0), np.uint8), [])
        return cls(
            np.concatenate([one.chunk_ids for one in blocks]),
            np.concatenate([one.ciphertexts for one in blocks]),
            [one.nonce(i) for one in blocks for i in range(len(one))],
        )

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def at(self, positions: NDArray[np.intp]) -> "StoredRows":
        """Returns the rows at these positions."""
        nonces = [self.nonces[i] for i in positions.tolist()]
        return StoredRows(self.chunk_ids[positions], self.ciphertexts[positions], nonces)

    def opened(self, context: ExecutionContext) -> tuple[Bits, NDArray[np.bool_]]:
        """Returns the vectors, and which of them are authentic."""
        return context.homomorphic.decrypt_vec_batch(self.ciphertexts, self.nonces)


async def read_rows(
    context: ExecutionContext,
    integration: XTraceIntegration,
    kb_id: str,
    *,
    unsealed: bool = False,
    at_least: int | None = None,
) -> StoredRows:
    """Returns the rows under the context, only those in no block if `unsealed`: all, or `at_least` this number.

    Raises what `stream_hamming_distances` raises.
    """
    query = context.homomorphic.stored_rows_query()
    blocks: list[RowBlock] = []
    answer = integration.stream_hamming_distances(kb_id, context.id, [query], unsealed=unsealed)
    async with aclosing(answer):
        async for block in answer:
            blocks.append(block)
            if at_least is not None and _count(blocks) >= at_least:
                break
    return StoredRows.of(blocks)


def _count(blocks: Iterable[RowBlock]) -> int:
    return sum(map(len, blocks))
