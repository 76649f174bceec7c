"""Hints of blocks are fetched once, and the least recently used ones are dropped."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from xtrace_core.block_frames import FetchedBlock
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.x_vec.retrievers import block_hints
from xtrace_sdk.x_vec.retrievers.block_hints import BlockHints
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

CLIENT = LatticeClient.create(8, SchemeParameters())
SIZE = 112 + 7680 + 3072 + 3 * 8 + 500


class Service:
    """The blocks of one knowledge base, of three vectors each, and which were asked for."""

    def __init__(self, ids: Iterable[int]) -> None:
        sealed = CLIENT.blocks.seal(np.eye(3, 8, dtype=np.uint8), "kb")
        self.blocks = {i: FetchedBlock(i, sealed.header, sealed.hints, np.array([i, i + 10, i + 20])) for i in ids}
        self.asked: list[int] = []

    async def get_blocks(self, kb_id: str, context_id: str, block_ids: Any, hint_bytes: int) -> list[FetchedBlock]:
        self.asked += block_ids
        return [self.blocks[i] for i in block_ids if i in self.blocks]


def hints(service: Service) -> BlockHints:
    return BlockHints(service, "ctx", CLIENT.blocks)  # type: ignore[arg-type]  # all that is needed of it


async def test_a_block_is_fetched_once_in_the_order_of_the_answer() -> None:
    service = Service([1, 2, 3])
    known = hints(service)
    for wanted in ([2, 1], [1, 3, 2]):
        found = await known.of("kb", wanted)
        assert found is not None
        assert [one.chunk_ids[0] for one in found] == wanted
    assert service.asked == [2, 1, 3]
    assert (known.count("kb"), known.count("other")) == (3, 0)


async def test_the_least_recently_used_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_hints, "MAX_BYTES", 2 * SIZE)
    service = Service([1, 2, 3])
    known = hints(service)
    for one in (1, 2, 1, 3, 1, 2):
        await known.of("kb", [one])
    assert service.asked == [1, 2, 3, 2]


async def test_a_block_that_is_gone_makes_the_search_begin_again() -> None:
    service = Service([1])
    assert await hints(service).of("kb", [1, 2]) is None


async def test_a_block_of_another_knowledge_base_or_with_other_slots_is_refused() -> None:
    service = Service([1])
    with pytest.raises(InvalidAnswer, match="did not seal for this knowledge base"):
        await hints(service).of("other", [1])
    service.blocks[1] = FetchedBlock(1, service.blocks[1].header, service.blocks[1].hints, np.array([1, 2]))
    with pytest.raises(InvalidAnswer, match="2 chunks for a block of 3 vectors"):
        await hints(service).of("kb", [1])
