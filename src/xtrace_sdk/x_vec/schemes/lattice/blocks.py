"""The blocks of a context of the scheme `lattice`: sealing, checking and querying them."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from xtrace_core.lattice.header import BlockHeader, InvalidHeader
from xtrace_core.lattice.layout import pack_values
from xtrace_core.lattice.parameters import BLOCK_ROWS
from xtrace_core.lattice.ring import ring
from xtrace_core.schemes.lattice import record_bytes
from xtrace_core.schemes.lattice_blocks import block_sizes
from xtrace_sdk.errors import FaultDetected, InvalidAnswer, InvalidArgument
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.bits import checked_bits
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer, CheckedBlock, SealedBlock
from xtrace_sdk.x_vec.schemes.interface import Bits
from xtrace_sdk.x_vec.schemes.lattice.block_keys import BlockKeys
from xtrace_sdk.x_vec.schemes.lattice.block_queries import LatticeBlockQueries, QuerySecret, distances, encrypted
from xtrace_sdk.x_vec.schemes.lattice.keys import NONCE_BYTES, LatticeKeys
from xtrace_sdk.x_vec.schemes.lattice.records import pack
from xtrace_sdk.x_vec.schemes.lattice.sealing import sealed

_RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True, repr=False)
class _Probe(Secretive):
    """A random query that never leaves the client."""

    bits: Bits
    sent: bytes
    secret: QuerySecret


class LatticeBlocks(Secretive):
    """Seals, checks and queries the blocks of one context. Safe for concurrent use by several threads."""

    __slots__ = ("_hedge", "_keys", "_known_probe", "max_rows", "record_bytes", "sizes")

    def __init__(self, keys: LatticeKeys) -> None:
        self._keys = BlockKeys(keys.vector_key, keys.embed_len)
        self._hedge: Hedge = keys.hedge
        self._known_probe: _Probe | None = None
        self.max_rows = BLOCK_ROWS
        self.sizes = block_sizes(keys.embed_len)
        self.record_bytes = record_bytes(keys.embed_len) + NONCE_BYTES

    def seal(self, vectors: Any, kb_id: str) -> SealedBlock:
        """Encrypts 1 to 1,024 vectors as one block of a knowledge base. Vector i is in slot i.

        Raises `InvalidVector`, `InvalidArgument` for another number of vectors, and `FaultDetected` if the block does
        not show the right distances.
        """
        bits = self._checked_rows(vectors)
        nonce = self._keys.block_nonce(bits, self._hedge.draw("block", [pack(bits).tobytes()], _RANDOM_BYTES))
        block = self._sealed_with(nonce, bits, kb_id)
        self._check_distances(block, nonce, bits)
        return block

    def checked(self, header: bytes, hints: bytes, kb_id: str) -> CheckedBlock:
        """Raises `InvalidAnswer` unless this context sealed a block with these parts for this knowledge base."""
        try:
            parsed = BlockHeader.parsed(header)
        except InvalidHeader as error:
            raise InvalidAnswer(f"the server sent a block that is not valid: {error}") from None
        tag = self._keys.block_tag(kb_id, parsed.untagged(), hints)
        if not hmac.compare_digest(tag, parsed.tag):
            raise InvalidAnswer(
                "the server sent a block that this context did not seal for this knowledge base: its header or its "
                "hints were changed"
            )
        return CheckedBlock(header, hints, parsed.count, self._keys.block_secret(parsed.nonce))

    def matches(self, block: CheckedBlock, vectors: Any) -> bool:
        """Returns whether the block was made of these vectors, in this order: recomputes its body.

        Raises `InvalidVector`, `InvalidArgument` for a number of vectors that blocks do not have.
        """
        header, bits = BlockHeader.parsed(block.header), self._checked_rows(vectors)
        if len(bits) != header.count:
            return False
        hints, body = sealed(self._keys, header.nonce, bits)
        return hashlib.sha256(body).digest() == header.sha256 and hints == block.hints

    def queries(self, vectors: Any) -> LatticeBlockQueries:
        """Encrypts the queries of one request, at least one vector. Every request needs its own, also a repeated one.

        Raises `InvalidVector`.
        """
        bits = checked_bits(vectors, self._keys.embed_len)
        return LatticeBlockQueries(self._keys.embed_len, [self._encrypted(bits[i : i + 1]) for i in range(len(bits))])

    def _checked_rows(self, vectors: Any) -> Bits:
        bits = checked_bits(vectors, self._keys.embed_len)
        if not 1 <= len(bits) <= BLOCK_ROWS:
            raise InvalidArgument(f"got {len(bits)} vectors for a block, expected 1 to {BLOCK_ROWS}")
        return bits

    def _sealed_with(self, nonce: bytes, bits: Bits, kb_id: str) -> SealedBlock:
        hints, body = sealed(self._keys, nonce, bits)
        header = BlockHeader(self._keys.embed_len, len(bits), nonce, hashlib.sha256(body).digest())
        tag = self._keys.block_tag(kb_id, header.untagged(), hints)
        return SealedBlock(header.untagged() + tag, hints, body)

    def _encrypted(self, bits: Bits) -> tuple[bytes, QuerySecret]:
        packed = pack(bits).tobytes()
        random = self._hedge.draw("block query", [packed], _RANDOM_BYTES)
        return encrypted(self._keys, self._keys.query_seed(bits, random), bits)

    def _check_distances(self, block: SealedBlock, nonce: bytes, bits: Bits) -> None:
        """Evaluates the block as the service will. Without this, a fault would make every later search fail."""
        probe = self._probe()
        values = ring.evaluate(self._keys.embed_len, [block.body], [probe.sent])[0][:, :, : len(bits)]
        checked = CheckedBlock(block.header, block.hints, len(bits), self._keys.block_secret(nonce))
        answer = BlockAnswer(checked, np.arange(len(bits)), pack_values(values))
        try:
            (found,) = distances(self._keys.embed_len, [probe.secret], [answer])
        except InvalidAnswer:
            is_right = False
        else:
            is_right = np.array_equal(found, np.bitwise_count(pack(bits) ^ pack(probe.bits)).sum(axis=1))
        if not is_right:
            raise FaultDetected("a sealed block does not show the distances of its vectors; nothing was sent")

    def _probe(self) -> _Probe:
        if self._known_probe is None:
            length = self._keys.embed_len
            drawn = np.frombuffer(self._hedge.draw("block probe", [], -(-length // 8)), np.uint8)
            bits = np.unpackbits(drawn, count=length)[None]
            self._known_probe = _Probe(bits, *self._encrypted(bits))
        return self._known_probe
