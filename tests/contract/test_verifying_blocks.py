"""Verification of blocks: whatever a service does to them is found, and what to replace is named."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.test_rotation import new_context
from support import databases
from support.by_blocks import Change, Network, sealed, with_values
from support.service import LiveService, running_service
from xtrace_core.block_frames import bitmap_of, packed_ids
from xtrace_sdk.errors import BlockDamaged
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.stored.rows import read_rows
from xtrace_sdk.x_vec.stored.sealing import seal_chunks
from xtrace_sdk.x_vec.upkeep import bad_blocks
from xtrace_sdk.x_vec.upkeep.verification import BadBlock, BlockProblem, CheckedBlocks, verify
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)
"""The claims are the client's."""
DIM = 16
VECTORS: NDArray[np.uint8] = np.random.default_rng(5).integers(0, 2, (31, DIM), dtype=np.uint8)
PARTS, CHUNKS, OTHER, VALUES = BlockProblem


@pytest.fixture(scope="module")
def live_service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server of this module's own, because its tests damage the database."""
    with running_service(tmp_path_factory.mktemp("damaged") / "data") as service:
        yield service


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def xtrace(credentials: Credentials, network: Network) -> AsyncIterator[XTraceIntegration]:
    one = credentials
    async with XTraceIntegration(
        one.org_id, one.api_key, one.admin_key, one.api_url, transport=network, retries=Retries(attempts=1)
    ) as integration:
        yield integration


@dataclass
class Stored:
    """Chunks 1 to 30. Blocks have 1 to 10, 11 to 20 of which 13 was deleted and 14 replaced, and 21 to 28."""

    context: ExecutionContext
    xtrace: XTraceIntegration
    kb_id: str
    service: LiveService
    blocks: list[int]

    async def check(self) -> CheckedBlocks:
        found = await verify(self.context, self.xtrace, self.kb_id)
        assert (found.chunks, found.bad) == (29, ())
        return found.blocks

    def set(self, block: int, **columns: Any) -> None:
        """Changes what the service stores of one of the blocks."""
        for column, value in columns.items():
            table = "block_body" if column == "body" else "block"
            statement = f"UPDATE {table} SET {column} = ? WHERE pk = ?"  # noqa: S608 - those of the tests
            databases.execute(self.service.folder, statement, value, self.blocks[block])

    def get(self, block: int, *columns: str) -> dict[str, Any]:
        query = f"SELECT {', '.join(columns)} FROM block JOIN block_body USING (pk) WHERE block.pk = ?"  # noqa: S608
        (row,) = databases.execute(self.service.folder, query, self.blocks[block])
        return dict(zip(columns, row, strict=True))

    def exchange(self, *columns: str) -> None:
        """Exchanges columns of the first and the last block, as a service could."""
        first, last = self.get(0, *columns), self.get(2, *columns)
        self.set(0, **last)
        self.set(2, **first)


@pytest.fixture
async def stored(xtrace: XTraceIntegration, kb_id: str, live_service: LiveService) -> Stored:
    context = new_context("lattice", DIM)
    loader = DataLoader(context, xtrace)
    await loader.load([{"chunk_content": f"text {i}"} for i in range(30)], list(VECTORS[:30]), kb_id)
    blocks = [await sealed(context, xtrace, kb_id, ids) for ids in (range(1, 11), range(11, 21), range(21, 29))]
    await xtrace.delete_chunks([13], kb_id)
    await loader.upsert_one({"chunk_content": "again"}, VECTORS[30], kb_id, 14)
    return Stored(context, xtrace, kb_id, live_service, blocks)


async def test_sound_blocks_have_no_problems_and_whole_ones_are_made_again(stored: Stored) -> None:
    assert await stored.check() == CheckedBlocks(3, 2)


def slots(*numbers: int) -> bytes:
    return bitmap_of(numbers)


@pytest.mark.parametrize(
    ("change", "problems", "missing"),
    [
        pytest.param(lambda one: one.exchange("hints"), {0: [PARTS], 2: [PARTS]}, (), id="hints of another block"),
        pytest.param(lambda one: one.set(1, header=bytes(112)), {1: [PARTS]}, (), id="no header"),
        pytest.param(
            lambda one: one.set(0, ids=packed_ids(range(1, 10)), live=slots(*range(9))), {0: [PARTS]}, (10,), id="no id"
        ),
        pytest.param(
            lambda one: one.exchange("body", "sha256"), {0: [VALUES], 2: [VALUES]}, (), id="body of another block"
        ),
        pytest.param(
            lambda one: one.set(0, ids=packed_ids([*range(1, 10), 29]), live=slots(*range(10))),
            {0: [CHUNKS]},
            (10,),
            id="another chunk, which is in no block",
        ),
        pytest.param(
            lambda one: one.set(1, live=slots(0, 1, 2, *range(4, 10)), live_count=9),
            {1: [CHUNKS]},
            (),
            id="the slot of a deleted chunk is in use",
        ),
        pytest.param(
            lambda one: one.set(1, live=slots(0, 1, *range(3, 10)), live_count=9),
            {1: [CHUNKS]},
            (),
            id="the slot of a replaced chunk is in use",
        ),
        pytest.param(
            lambda one: one.set(2, live=slots(0, 1, 2, 4, 5, 6, 7), live_count=7), {}, (24,), id="a slot is not in use"
        ),
        pytest.param(lambda one: one.set(2, live=slots(), live_count=0), {}, (*range(21, 29),), id="no block"),
    ],
)
async def test_what_a_service_does_to_blocks_is_found(
    change: Callable[[Stored], None], problems: dict[int, list[BlockProblem]], missing: tuple[int, ...], stored: Stored
) -> None:
    change(stored)
    found = await stored.check()
    bad = sorted((stored.blocks[block], tuple(named)) for block, named in problems.items())
    assert [(one.block_id, one.problems) for one in found.bad] == bad
    assert found.missing == missing
    await seal_chunks(stored.context, stored.xtrace, stored.kb_id, remake=[one.block_id for one in found.bad])
    assert (await stored.check()).bad == ()


async def test_exchanged_chunks_are_found_even_if_their_distances_are_equal(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = np.random.default_rng(6).integers(0, 2, (100, DIM), dtype=np.uint8)
    distances = [(VECTORS[chunk_id - 1] != candidates).sum(axis=1) for chunk_id in (10, 21)]
    equal = candidates[np.flatnonzero(distances[0] == distances[1])[:1]]
    monkeypatch.setattr(bad_blocks, "_random_vector", lambda length: equal)
    stored.set(0, ids=packed_ids([*range(1, 10), 21]))
    stored.set(2, ids=packed_ids([10, *range(22, 29)]))
    found = await stored.check()
    assert {one.block_id: one.problems for one in found.bad} == {stored.blocks[i]: (OTHER,) for i in (0, 2)}
    assert found.missing == ()


@pytest.mark.parametrize(
    "change",
    [
        with_values(lambda number, values: values + (number == 1) * 8),
        with_values(lambda number, values: values + (number == 1) * 4),
        with_values(lambda number, values: values if number != 1 else values[:, ::-1]),
    ],
)
async def test_changed_values_are_found(change: Change, stored: Stored, network: Network) -> None:
    network.change["block/search"] = change
    middle = sorted(stored.blocks)[1]
    assert (await stored.check()).bad == (BadBlock(middle, (VALUES,)),)


async def test_a_body_that_the_service_finds_damaged_is_an_error_that_names_it(stored: Stored) -> None:
    stored.set(0, body=bytes(1024))
    with pytest.raises(BlockDamaged, match=f"the block {stored.blocks[0]} of .* kb seal` with --remake"):
        await stored.check()


async def test_a_knowledge_base_that_is_written_to_all_the_time_is_said_to_be_unchecked(
    stored: Stored, network: Network
) -> None:
    async def written(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> Any:
        rows = await read_rows(context, xtrace, kb_id)
        await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": 1, "meta_data": {}}])
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xtrace_sdk.x_vec.upkeep.bad_blocks.read_rows", written)
        found = await stored.check()
    assert found == CheckedBlocks(
        unchecked="the knowledge base was changed each of the 5 times that its blocks were read"
    )
    assert len(network.bodies("block/search")) == bad_blocks.ATTEMPTS
    assert len(set(network.bodies("block/search"))) == bad_blocks.ATTEMPTS
