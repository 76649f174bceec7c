"""`python -m benchmarks.blocks`: the arithmetic of encrypted blocks, in one thread; times are for one vector.

The scan is measured with every kernel that runs here, next to a plain read of the same bodies: no scan is faster.
"""

import argparse
import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.harness import Measurement, machine, measure, table
from xtrace_core.lattice.compiled import KERNELS, CompiledRing
from xtrace_core.lattice.interface import Ring, Values
from xtrace_core.lattice.layout import pack_values
from xtrace_core.lattice.parameters import BLOCK_ROWS
from xtrace_core.lattice.portable import PortableRing
from xtrace_core.lattice.ring import ring
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer, SealedBlock
from xtrace_sdk.x_vec.schemes.interface import Bits, SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.block_queries import LatticeBlockQueries
from xtrace_sdk.x_vec.schemes.lattice.blocks import LatticeBlocks
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

KB_ID = "benchmark"
ROUNDS = 7
_DRAWN = 32
"""Blocks that are sealed; the scan reads copies of them."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=64, help="blocks that a scan reads")
    arguments = parser.parse_args()
    print(f"{machine()}\n{arguments.dimensions} dimensions, {arguments.blocks} blocks of {BLOCK_ROWS:,} vectors\n")
    owner = LatticeClient.create(arguments.dimensions, SchemeParameters()).blocks
    drawn: Bits = np.frombuffer(secrets.token_bytes(BLOCK_ROWS * arguments.dimensions), np.uint8) & np.uint8(1)
    vectors = drawn.reshape(BLOCK_ROWS, -1)
    sealed = [owner.seal(vectors, KB_ID) for _ in range(_DRAWN)]
    bodies = [bytes(bytearray(sealed[i % _DRAWN].body)) for i in range(arguments.blocks)]
    rows = _client(owner, vectors, sealed) + _scans(arguments.dimensions, bodies, owner.queries(vectors[:1]).sent)
    print(table(rows))


def _scans(embed_len: int, bodies: list[bytes], sent: list[bytes]) -> list[Measurement]:
    def scan(one: Ring) -> Callable[[], Values]:
        return lambda: one.evaluate(embed_len, bodies, sent)

    rings: list[Ring] = [CompiledRing(kernel) for kernel in KERNELS]
    functions: dict[str, Callable[[], object]] = {f"scan, {one.name}": scan(one) for one in rings}
    functions["read the bodies"] = lambda: [int(np.frombuffer(body, np.uint64).max()) for body in bodies]
    measured = measure(functions, len(bodies) * BLOCK_ROWS, ROUNDS)
    read = measured["read the bodies"].median_ms
    slow = measure({"scan, portable": lambda: PortableRing().evaluate(embed_len, bodies[:1], sent)}, BLOCK_ROWS, ROUNDS)
    rows = [*measured.values(), *slow.values()]
    return [replace(row, limit=f"{row.median_ms / read:.1f} times a plain read") for row in rows]


def _client(owner: LatticeBlocks, vectors: Bits, sealed: list[SealedBlock]) -> list[Measurement]:
    answers = [_answer(owner, vectors.shape[1], sealed) for _ in range(ROUNDS + 1)]

    def decode() -> None:
        queries, answer = answers.pop()
        queries.read(answer)

    count = len(sealed) * BLOCK_ROWS
    return [
        *measure({"seal": lambda: owner.seal(vectors, KB_ID)}, BLOCK_ROWS, ROUNDS).values(),
        *measure({"read the distances": decode}, count, ROUNDS).values(),
        *measure({"encrypt a query (whole)": lambda: owner.queries(vectors[:1])}, 1, ROUNDS).values(),
    ]


def _answer(
    owner: LatticeBlocks, embed_len: int, sealed: list[SealedBlock]
) -> tuple[LatticeBlockQueries, list[BlockAnswer]]:
    queries = owner.queries(np.zeros((1, embed_len), np.uint8))
    values = ring.evaluate(embed_len, [block.body for block in sealed], queries.sent)
    slots = np.arange(BLOCK_ROWS)
    checked = [owner.checked(block.header, block.hints, KB_ID) for block in sealed]
    return queries, [BlockAnswer(block, slots, pack_values(own)) for block, own in zip(checked, values, strict=True)]


if __name__ == "__main__":
    main()
