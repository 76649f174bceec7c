"""`python -m benchmarks.block_capacity`: what searches by blocks cost a Ray cluster of four workers on this machine.

The model is linear, like that of `benchmarks.capacity`: a search has a fixed cost and a cost for each vector.
Two sizes make the lines, and a third one, of ten million vectors, is compared with them. `--measure` writes all that to
block_capacity.json, and `--page` into docs/scaling.md. Needs the extra `ray`, Linux, and 14 GB of memory; `--sizes`
takes fewer vectors.

Blocks are made cheaply: a body is random words below the primes, of which a scan takes the same time as of sealed
vectors. Each is another one, in memory, and each value of each search is compared with what this process computes.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.capacity import Costs
from benchmarks.capacity_costs import line, memory, processor_s
from benchmarks.cluster import ray_nodes
from benchmarks.harness import machine
from xtrace_core.block_frames import value_bytes
from xtrace_core.lattice.layout import pack_values
from xtrace_core.lattice.parameters import BLOCK_ROWS
from xtrace_core.lattice.ring import ring
from xtrace_core.schemes.lattice import record_bytes
from xtrace_core.schemes.lattice_blocks import LatticeBlockEvaluation
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient
from xtrace_server.search.bodies import BlockComputation, Body, Values
from xtrace_server.search.local.bodies import LocalBodies
from xtrace_server.search.ray.bodies import RayBodies
from xtrace_server.search.ray.scanner import RayScanner
from xtrace_server.settings import Settings

RESULTS: Final = Path(__file__).parent / "block_capacity.json"
DIMENSIONS: Final = 512
WORKERS: Final = 4
SIZES: Final = (1_000_000, 3_000_000, 10_000_000)
"""Two points make the lines; the third one is predicted."""
TOLERANCE: Final = 0.15
ROUNDS: Final = 5
READ: Final = 64
"""The blocks that the client reads."""
_PARTS: Final = ("workers", "server")
_CIPHERTEXT_BYTES: Final = 512
"""Of the chunks that `benchmarks.capacity` measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCosts:
    """Measured costs of 512 bits. Times are of processors, not of clocks."""

    workers_search_s: float
    workers_row_s: float
    """Of all workers together: for a search by itself, and for each vector in a block."""
    server_search_s: float
    server_row_s: float
    """Of the server with its bridge to the cluster, which joins what the workers compute."""
    client_search_s: float
    client_row_s: float
    """Of the client: encrypting the query, and reading each distance."""
    search_up_bytes: float
    row_down_bytes: float
    """Bytes on the wire: of the query, and of each vector in the answer."""
    row_memory_bytes: float
    """Memory of the workers for each vector."""
    row_stored_bytes: float
    """Bytes that a block adds to the database for each vector, beside its chunk."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A search of some vectors: the least of several rounds, because other work on the machine only adds to it."""

    rows: int
    workers_s: float
    server_s: float
    wall_s: float
    memory_bytes: int


def measured() -> BlockCosts:
    """The costs in block_capacity.json."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["costs"]
    return BlockCosts(**{field.name: found[field.name] for field in fields(BlockCosts)})


class CheapBlocks:
    """Blocks of random words, each made when it is needed, and the values of one query."""

    def __init__(self, count: int) -> None:
        self.evaluation = LatticeBlockEvaluation(DIMENSIONS)
        self.computation = BlockComputation(self.evaluation, [_words(self.evaluation.sizes.query, 2**40)])
        self.bodies: list[Body] = []
        self._values: list[Values] = []
        for pk in range(count):
            body = self._body(pk)
            self.bodies.append(Body(pk, hashlib.sha256(body).digest()))
            self._values.append(self.evaluation.evaluate([body], self.computation.queries))

    async def load(self, bodies: Collection[Body]) -> Mapping[bytes, bytes]:
        """Reads bodies as from a database."""
        return {body.sha256: self._body(body.pk) for body in bodies}

    def check(self, start: int, values: Values) -> int:
        """Compares values with the right ones; returns how many blocks they are of."""
        assert np.array_equal(values, np.concatenate(self._values[start : start + len(values)])), "wrong values"
        return len(values)

    def _body(self, pk: int) -> bytes:
        return _words(self.evaluation.sizes.body, pk)


def _words(size: int, seed: int) -> bytes:
    """Random words of four bytes, which are below both primes."""
    words = np.random.default_rng(seed).integers(0, 2**29, size // 4, dtype=np.uint32)
    return words.astype("<u4").tobytes()


async def measure_cluster(address: str, head: int, sizes: Sequence[int]) -> list[Searched]:
    """Searches these numbers of vectors in the cluster, whose processes are below `head`."""
    counts = [-(-size // BLOCK_ROWS) for size in sizes]
    print(f"make {max(counts):,} blocks", file=sys.stderr)
    blocks = await asyncio.to_thread(CheapBlocks, max(counts))
    async with _holder(address) as holder:
        memories = [await _held_bytes(holder, blocks, count, head) for count in counts]
        # All sizes in each round, and for about as long, so that a machine that is busy for a while is so for all.
        rounds = [
            [await _searched(holder, blocks, count, max(counts) // count, head) for count in counts]
            for _ in range(ROUNDS)
        ]
    least = [[min(one) for one in zip(*of_size, strict=True)] for of_size in zip(*rounds, strict=True)]
    return [
        Searched(count * BLOCK_ROWS, workers_s, server_s, wall_s, taken)
        for count, (workers_s, server_s, wall_s), taken in zip(counts, least, memories, strict=True)
    ]


@asynccontextmanager
async def _holder(address: str) -> AsyncIterator[RayBodies]:
    with tempfile.TemporaryDirectory() as folder:
        ray = {"engine": "ray", "ray_address": address, "ray_min_rows": 0, "ray_node_bytes": 4 * 2**30}
        scanner = RayScanner(Settings(data=Path(folder), **ray))  # type: ignore[arg-type]
        holder = RayBodies(scanner, LocalBodies(Path(folder) / "blocks", 2**20, 1))
        await scanner.start()
        try:
            async with asyncio.timeout(90):
                while scanner.client.state.nodes < WORKERS:  # noqa: ASYNC110 - another process starts them
                    await asyncio.sleep(0.5)
            yield holder
        finally:
            await holder.close()
            await scanner.close()


async def _held_bytes(holder: RayBodies, blocks: CheapBlocks, count: int, head: int) -> int:
    """Brings blocks to the cluster, and returns the memory of its workers."""
    print(f"hold {count:,} blocks", file=sys.stderr)
    await holder.hold(blocks.bodies[:count], blocks.load)
    return sum(map(memory, _named(head, b"ray::HolderActor")))


async def _searched(
    holder: RayBodies, blocks: CheapBlocks, count: int, repeats: int, head: int
) -> tuple[float, float, float]:
    """Searches blocks, and returns the time of the workers, of the server, and of the clock for one search."""
    workers = _named(head, b"ray::HolderActor")
    served = [*_named(os.getpid(), b"search.ray.bridge"), os.getpid()]
    total = np.zeros(3)
    for _ in range(repeats):
        held = await holder.hold(blocks.bodies[:count], blocks.load)
        began = np.array([_total_s(workers), _total_s(served), time.monotonic()])
        done = [part async for part in held.scan(blocks.computation, _packed)]
        total += np.array([_total_s(workers), _total_s(served), time.monotonic()]) - began
        assert sum([blocks.check(start, values) for start, values, _ in done]) == count, "blocks were left out"
    workers_s, server_s, wall_s = (total / repeats).tolist()
    return workers_s, server_s, wall_s


def _packed(start: int, values: Values) -> tuple[int, Values, bytes]:
    """Does what a server does with values, and returns them, too."""
    return start, values, pack_values(values)


def _named(root: int, name: bytes) -> list[int]:
    """The processes below `root` whose command contains the name."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
    found = []
    for pid in parents:
        above = pid
        while above not in (root, 0, 1):
            above = parents.get(above, 0)
        if above == root and pid != root and name in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(pid)
    return found


def _total_s(pids: Sequence[int]) -> float:
    return sum(map(processor_s, pids))


def measure_client() -> dict[str, float]:
    """The costs of a client, which seals and reads real blocks."""
    client = LatticeClient.create(DIMENSIONS, SchemeParameters())
    vectors = np.random.default_rng(1).integers(0, 2, (READ * BLOCK_ROWS, DIMENSIONS), dtype=np.uint8)
    sealed = [client.blocks.seal(part, "kb") for part in np.split(vectors, READ)]
    known = [client.blocks.checked(one.header, one.hints, "kb") for one in sealed]
    encrypting, reading = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        queries = client.blocks.queries(vectors[:1])
        encrypting.append(time.process_time() - began)
        values = ring.evaluate(DIMENSIONS, [one.body for one in sealed], queries.sent)
        sent = map(pack_values, values)
        answers = [BlockAnswer(one, np.arange(BLOCK_ROWS), part) for one, part in zip(known, sent, strict=True)]
        began = time.process_time()
        read = queries.read(answers)
        reading.append(time.process_time() - began)
        assert np.array_equal(read[0], (vectors != vectors[0]).sum(axis=1)), "wrong distances"
    stored = sum(len(one.header) + len(one.hints) + len(one.body) for one in sealed)
    return {
        "client_search_s": min(encrypting),
        "client_row_s": min(reading) / len(vectors),
        "search_up_bytes": float(len(queries.sent[0])),
        "row_down_bytes": value_bytes(BLOCK_ROWS) / BLOCK_ROWS,
        "row_stored_bytes": stored / len(vectors),
    }


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """Every cost, with the machine that it was measured on."""
    with ray_nodes(sys.executable, WORKERS) as (address, head):
        searched = asyncio.run(measure_cluster(address, head, sizes))
    first, second, *_ = searched
    costs = measure_client()
    for part in _PARTS:
        points = [(one.rows, getattr(one, f"{part}_s")) for one in (first, second)]
        costs[f"{part}_search_s"], costs[f"{part}_row_s"] = line(*points)
    costs["row_memory_bytes"] = (second.memory_bytes - first.memory_bytes) / (second.rows - first.rows)
    return {
        "machine": machine(),
        "processors": os.cpu_count(),
        "backend": ring.name,
        "dimensions": DIMENSIONS,
        "workers": WORKERS,
        "costs": {name: float(f"{value:.4g}") for name, value in costs.items()},
        "searches": [asdict(one) for one in searched],
    }


def predicted(costs: BlockCosts, rows: int) -> dict[str, float]:
    """What the model says of a search of that number of vectors, by the names of `Searched`."""
    return {
        "workers_s": costs.workers_search_s + costs.workers_row_s * rows,
        "server_s": costs.server_search_s + costs.server_row_s * rows,
        "memory_bytes": costs.row_memory_bytes * rows,
    }


def with_blocks(costs: Costs, blocks: BlockCosts) -> Costs:
    """The costs of chunks whose vectors are all in blocks, for `benchmarks.capacity.plan`.

    What a chunk takes besides its vector is as measured there; so are insertions, which blocks make cheaper.
    """
    more = record_bytes(DIMENSIONS) - _CIPHERTEXT_BYTES + blocks.row_stored_bytes
    return replace(
        costs,
        server_search_s=blocks.workers_search_s + blocks.server_search_s,
        server_row_s=blocks.workers_row_s + blocks.server_row_s,
        client_search_s=blocks.client_search_s,
        client_row_s=blocks.client_row_s,
        search_up_bytes=blocks.search_up_bytes,
        row_down_bytes=blocks.row_down_bytes,
        cached_row_bytes=blocks.row_memory_bytes,
        sqlite_chunk_bytes=costs.sqlite_chunk_bytes + more,
        postgres_chunk_bytes=costs.postgres_chunk_bytes + more,
    )


def main() -> None:
    """Measures, or writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.block_capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of vectors, at least two")
    parser.add_argument("--measure", action="store_true", help="write block_capacity.json, instead of printing it")
    parser.add_argument("--page", action="store_true", help="write the figures into docs/scaling.md")
    given = parser.parse_args()
    if given.page:
        from benchmarks.block_capacity_page import write

        write()
        return
    text = json.dumps(measure(given.sizes), indent=1) + "\n"
    if given.measure:
        RESULTS.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
