"""Searches chunks that a rotation has not moved yet, without a query under the old keys.

The service returns the stored rows themselves. Each is decrypted here, once in the retriever's lifetime, and compared
with the queries in plaintext. The rows are transferred at every search: as many bytes as the answer to one encrypted
query, regardless of the number of queries.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.frames import RowBlock
from xtrace_sdk.x_vec.contexts.manifest import Accepted
from xtrace_sdk.x_vec.retrievers.scan import BlockReading, Nearest, nearest_in, nearest_of, nonces_of
from xtrace_sdk.x_vec.schemes.ciphertexts import DIGEST_BYTES, row_digest
from xtrace_sdk.x_vec.schemes.interface import Bits, HomomorphicClient

MAX_REMEMBERED_BYTES: Final = 128 * 1024**2
"""The memory for decrypted vectors; those that do not fit are decrypted again at each search."""
_ENTRY_BYTES: Final = 200
"""The approximate overhead of the dictionary per vector."""

PackedBits = NDArray[np.uint8]


class StoredRows:
    """Reads the stored rows of one context, and remembers the vectors of valid ones.

    A row is recognised by its id, its nonce and its ciphertexts, so remembering does not change results.
    """

    def __init__(self, scheme: HomomorphicClient, accepted: Accepted | None = None) -> None:
        """Chunks that are not accepted are ignored, as if they were not stored."""
        self._scheme = scheme
        self._accepted = accepted or Accepted()
        self._known: dict[str, dict[int, bytes]] = {}
        """The digest of each chunk's row, followed by its packed bits, by knowledge base and chunk."""
        self._bytes = 0
        self._lock = Lock()

    async def nearest(
        self, blocks: AsyncIterator[RowBlock], kb_id: str, queries: Sequence[Bits], k: int
    ) -> tuple[list[Nearest], NDArray[np.int64]]:
        """Returns the `k` nearest rows for each query, given as plaintext bits, and the ids of all rows.

        Raises `InvalidRows`, which names all bad rows, if any row is not a stored vector, after all rows were
        processed; `InvalidAnswer` if the answer cannot be read.
        """
        packed = [np.packbits(query) for query in queries]
        return await nearest_of(blocks, lambda block: self._read(kb_id, block, packed, k), len(queries), k)

    def keep_only(self, kb_id: str, chunk_ids: Collection[int]) -> None:
        """Forgets the other chunks of the knowledge base: they were moved or deleted."""
        known = self._known.get(kb_id, {})
        if len(known) > len(chunk_ids):
            present = set(chunk_ids)
            with self._lock:
                for chunk_id in [chunk_id for chunk_id in known if chunk_id not in present]:
                    self._bytes -= len(known.pop(chunk_id)) + _ENTRY_BYTES

    def _read(self, kb_id: str, block: RowBlock, queries: Sequence[PackedBits], k: int) -> BlockReading:
        block, nonces, digests = self._accepted_of(kb_id, block)
        vectors, valid = self._vectors(kb_id, block, nonces, digests)
        distances = [np.bitwise_count(vectors ^ query).sum(axis=1, dtype=np.int64) for query in queries]
        nothing = np.empty((len(block), 0, 0), dtype=np.uint8)
        nearest = [nearest_in(block, one, nothing, k) for one in distances]
        return BlockReading(nearest, ~valid, block.chunk_ids.copy())

    def _accepted_of(self, kb_id: str, block: RowBlock) -> tuple[RowBlock, list[bytes | None], list[bytes]]:
        """Returns the accepted rows, with their nonces and digests."""
        nonces = [None if nonce is None else bytes(nonce) for nonce in nonces_of(block)]
        digests = [
            row_digest([one.tobytes() for one in row], nonce)
            for row, nonce in zip(block.ciphertexts, nonces, strict=True)
        ]
        kept = self._accepted.rows(kb_id, block.chunk_ids, digests)
        if kept.all():
            return block, nonces, digests
        rows = RowBlock(block.chunk_ids[kept], block.ciphertexts[kept], block.nonces[kept], block.nonce_lengths[kept])
        chosen = np.flatnonzero(kept).tolist()
        return rows, [nonces[i] for i in chosen], [digests[i] for i in chosen]

    def _vectors(
        self, kb_id: str, block: RowBlock, nonces: list[bytes | None], digests: list[bytes]
    ) -> tuple[PackedBits, NDArray[np.bool_]]:
        """Returns `(packed bits, valid)` of the rows; known rows are not decrypted again."""
        with self._lock:
            known = self._known.setdefault(kb_id, {})
        entries = [known.get(chunk_id, b"") for chunk_id in block.chunk_ids.tolist()]
        new = np.array([not entry.startswith(one) for entry, one in zip(entries, digests, strict=True)], dtype=np.bool_)
        packed = np.empty((len(block), -(-self._scheme.embed_len // 8)), dtype=np.uint8)
        remembered = b"".join([entries[i][DIGEST_BYTES:] for i in np.flatnonzero(~new)])
        packed[~new] = np.frombuffer(remembered, dtype=np.uint8).reshape(-1, packed.shape[1])
        valid = np.ones(len(block), dtype=np.bool_)
        if new.any():
            chosen = np.flatnonzero(new)
            bits, valid[chosen] = self._scheme.decrypt_vec_batch(block.ciphertexts[chosen], [nonces[i] for i in chosen])
            packed[chosen] = np.packbits(bits, axis=1)
            good = [int(i) for i in chosen if valid[i]]
            self._remember(known, {int(block.chunk_ids[i]): digests[i] + packed[i].tobytes() for i in good})
        return packed, valid

    def _remember(self, known: dict[int, bytes], entries: dict[int, bytes]) -> None:
        with self._lock:
            for chunk_id, entry in entries.items():
                more = len(entry) + _ENTRY_BYTES if chunk_id not in known else 0
                if self._bytes + more <= MAX_REMEMBERED_BYTES:
                    known[chunk_id] = entry
                    self._bytes += more
