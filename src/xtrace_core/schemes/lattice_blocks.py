"""What the service does with blocks of the scheme `lattice`: it multiplies them with queries, without a key."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.lattice.header import BlockHeader, InvalidHeader
from xtrace_core.lattice.layout import all_reduced
from xtrace_core.lattice.parameters import BLOCK_ROWS, HEADER_BYTES, body_bytes, hint_bytes, query_bytes, slabs
from xtrace_core.lattice.ring import ring
from xtrace_core.schemes.interface import BlockSizes, BlockSummary, InvalidCiphertext


def block_sizes(embed_len: int) -> BlockSizes:
    """Returns the sizes of blocks of vectors with this many positions."""
    return BlockSizes(
        header=HEADER_BYTES,
        hints=hint_bytes(embed_len),
        body=body_bytes(embed_len),
        query=query_bytes(embed_len),
        rows=BLOCK_ROWS,
        slabs=slabs(embed_len),
    )


class LatticeBlockEvaluation:
    """Computes with the blocks of contexts whose vectors have this many positions."""

    def __init__(self, embed_len: int) -> None:
        self._embed_len = embed_len
        self.sizes = block_sizes(embed_len)

    def summary(self, header: bytes) -> BlockSummary:
        try:
            read = BlockHeader.parsed(header)
        except InvalidHeader as error:
            raise InvalidCiphertext(str(error)) from None
        if read.embed_len != self._embed_len:
            raise InvalidCiphertext(
                f"the block has vectors of {read.embed_len} positions, expected {self._embed_len}, the context's length"
            )
        return BlockSummary(read.count, read.sha256)

    def check_block(self, header: bytes, hints: bytes, body: Buffer) -> None:
        summary = self.summary(header)
        _check_length("the block's hints have", hints, self.sizes.hints)
        _check_words("the block's body", body, self.sizes.body)
        if hashlib.sha256(body).digest() != summary.sha256:
            raise InvalidCiphertext("the block's body does not match the SHA-256 in its header; upload the block again")

    def check_query(self, data: Buffer) -> None:
        _check_words("the query", data, self.sizes.query)

    def evaluate(self, bodies: Sequence[Buffer], queries: Sequence[Buffer]) -> NDArray[np.uint16]:
        for body in bodies:
            _check_length("the block's body has", body, self.sizes.body)
        for query in queries:
            _check_length("the query has", query, self.sizes.query)
        return ring.evaluate(self._embed_len, bodies, queries)


def _check_words(subject: str, data: Buffer, expected: int) -> None:
    _check_length(f"{subject} has", data, expected)
    if not all_reduced(data):
        raise InvalidCiphertext(f"{subject} contains a residue that is not below its prime")


def _check_length(subject: str, data: Buffer, expected: int) -> None:
    length = memoryview(data).nbytes
    if length != expected:
        raise InvalidCiphertext(f"{subject} {length} bytes, expected {expected}")
