"""Decoys: what the service is asked for tells it less about what was wanted, however often it is asked."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
import pytest

from contract.test_rotation import load, new_context, provider, vectors
from xtrace_sdk.errors import ContentTampered, DecoyGroupTooLarge, InvalidArgument
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers import decoys as decoys_module
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)
"""It is about what a client asks for, which does not depend on the server's database."""

QUERY = vectors()[7]
EVERY_ID = set(range(1, 61))


class Watched(XTraceIntegration):
    """An integration that notes which chunks, with which fields, are asked for."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url)
        self.asked: list[list[int]] = []
        self.fields: list[list[str]] = []

    async def get_chunk_by_id(
        self, chunk_ids: Iterable[int], kb_id: str, projection: Iterable[str] | None = None
    ) -> list[StoredChunk]:
        self.asked.append(list(chunk_ids))
        self.fields.append(list(projection or ()))
        return await super().get_chunk_by_id(self.asked[-1], kb_id, projection)


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[Watched]:
    async with Watched(credentials) as integration:
        yield integration


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return new_context()


@pytest.fixture
async def retriever(context: ExecutionContext, xtrace: Watched, kb_id: str) -> Retriever:
    await load(context, xtrace, kb_id)
    return Retriever(context, xtrace)


async def test_decoys_are_asked_for_in_one_ascending_list_and_dropped(
    retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, 3, kb_id)
    plain = await retriever.retrieve_and_decrypt(ids, kb_id)
    hidden = await retriever.retrieve_and_decrypt(ids, kb_id, decoys=5)
    assert hidden == plain
    without, with_decoys = xtrace.asked
    assert without == sorted(ids)
    assert with_decoys == sorted(with_decoys)
    assert len(set(with_decoys)) == len(with_decoys) == 8
    assert set(ids) < set(with_decoys) <= EVERY_ID
    assert xtrace.fields[0] == xtrace.fields[1]


async def test_search_passes_them_on(retriever: Retriever, xtrace: Watched, kb_id: str) -> None:
    assert await retriever.search(QUERY, 2, kb_id, decoys=4) == await retriever.search(QUERY, 2, kb_id)
    assert [len(asked) for asked in xtrace.asked] == [6, 2]


async def test_what_was_asked_for_together_is_asked_for_together_again(
    retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, 3, kb_id)
    await retriever.retrieve_and_decrypt(ids, kb_id, decoys=5)
    first = xtrace.asked[0]
    await retriever.retrieve_and_decrypt(ids, kb_id, decoys=5)
    await retriever.retrieve_and_decrypt(ids[::-1], kb_id, decoys=2)
    await retriever.retrieve_and_decrypt(ids[:1], kb_id, decoys=5)
    # Also after the same search again, and when a decoy is what another search finds.
    await retriever.search(QUERY, 3, kb_id, decoys=5)
    decoy = min(set(first) - set(ids))
    assert (await retriever.nn_search_for_ids(vectors()[decoy - 1], 1, kb_id)) == [decoy]
    (found,) = await retriever.retrieve_and_decrypt([decoy], kb_id, decoys=5)
    assert found["chunk_content"] == f"text {decoy - 1}"
    assert all(asked == first for asked in xtrace.asked)


async def test_new_decoys_were_never_asked_for_before(retriever: Retriever, xtrace: Watched, kb_id: str) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, len(EVERY_ID), kb_id)
    await retriever.retrieve_and_decrypt(ids[:2], kb_id, decoys=5)
    new = [chunk_id for chunk_id in ids if chunk_id not in xtrace.asked[0]][:2]
    await retriever.retrieve_and_decrypt([*ids[:2], *new], kb_id, decoys=5)
    first, second = map(set, xtrace.asked)
    assert first < second
    assert set(new) <= second - first
    assert len(second) >= 4 + 5


async def test_more_decoys_asked_for_later_join_the_others(retriever: Retriever, xtrace: Watched, kb_id: str) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, 1, kb_id)
    for count in (3, 9, 3):
        await retriever.retrieve_and_decrypt(ids, kb_id, decoys=count)
    small, large, again = map(set, xtrace.asked)
    assert (len(small), len(large)) == (4, 10)
    assert small < large
    assert again == large


async def test_all_candidates_are_taken_where_there_are_not_more(
    retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, 3, kb_id)
    assert len(await retriever.retrieve_and_decrypt(ids, kb_id, decoys=1000)) == 3
    assert set(xtrace.asked[0]) == EVERY_ID


async def test_candidates_too_few_to_hide_one_of_them_join_a_group(
    retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    nearest, *_, farthest = await retriever.nn_search_for_ids(QUERY, len(EVERY_ID), kb_id)
    await retriever.retrieve_and_decrypt([nearest], kb_id, decoys=50)
    await retriever.retrieve_and_decrypt([farthest], kb_id, decoys=50)
    first, second = map(set, xtrace.asked)
    assert len(first) == 51
    assert second == EVERY_ID


async def test_a_chunk_stored_later_comes_along_before_it_is_wanted(
    context: ExecutionContext, retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, 1, kb_id)
    await retriever.retrieve_and_decrypt(ids, kb_id, decoys=100)
    await DataLoader(context, xtrace).upsert_one({"chunk_content": "new"}, 1 - QUERY, kb_id)
    await retriever.search(QUERY, 1, kb_id, decoys=100)
    assert set(xtrace.asked[1]) == EVERY_ID | {61}


async def test_decoys_are_candidates_of_the_search_that_found_the_ids(
    retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    tagged = {chunk_id for chunk_id in EVERY_ID if chunk_id % 3 == 2}
    await retriever.search(QUERY, 1, kb_id, range_filter=(11, 30), decoys=4)
    await retriever.search(QUERY, 2, kb_id, range_filter=(31, 60), meta_filter={"tag1": "tag 1"}, decoys=4)
    await retriever.search(QUERY, 2, kb_id, range_filter=(11, 40), meta_filter={"tag1": "tag 1"}, decoys=100)
    one, two, three = map(set, xtrace.asked)
    assert one < set(range(11, 31))
    assert len(one) == 5
    assert two < tagged & set(range(31, 61))
    assert len(two) == 6
    candidates = {chunk_id for chunk_id in tagged if 11 <= chunk_id <= 40}
    # All candidates, and what was fetched together with one of them.
    assert three == candidates.union(*(group for group in (one, two) if group & candidates))


async def test_decoys_are_not_predictable_and_all_candidates_get_their_turn(
    context: ExecutionContext, retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    for _ in range(12):
        await Retriever(context, xtrace).search(QUERY, 1, kb_id, decoys=20)
    choices = [frozenset(asked) for asked in xtrace.asked]
    assert len(set(choices)) == 12
    # A candidate is missed by 12 choices of 20 out of 59 with a chance of 0.8 %: by half of them never.
    assert len(frozenset().union(*choices)) > 45


async def test_ids_that_no_search_found_have_no_decoys(retriever: Retriever, xtrace: Watched, kb_id: str) -> None:
    with pytest.raises(InvalidArgument, match=r"chunk 5 .* search first, with the same retriever"):
        await retriever.retrieve_and_decrypt([5], kb_id, decoys=3)
    ids = await retriever.nn_search_for_ids(QUERY, 1, kb_id)
    with pytest.raises(InvalidArgument, match="search first"):
        await retriever.retrieve_and_decrypt(ids, "another", decoys=3)
    with pytest.raises(InvalidArgument, match="decoys is -1, expected a whole number of at least 0"):
        await retriever.retrieve_and_decrypt(ids, kb_id, decoys=-1)
    assert xtrace.asked == []
    assert await retriever.retrieve_and_decrypt([], kb_id, decoys=3) == []


async def test_candidates_of_long_ago_are_forgotten_and_groups_are_not(
    retriever: Retriever, xtrace: Watched, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoys_module, "MAX_REMEMBERED", 2000)
    near = await retriever.nn_search_for_ids(QUERY, 1, kb_id, range_filter=(1, 50))
    await retriever.retrieve_and_decrypt(near, kb_id, decoys=3)
    far = await retriever.nn_search_for_ids(QUERY, 1, kb_id, range_filter=(51, 60))
    await retriever.retrieve_and_decrypt(near, kb_id, decoys=3)
    assert await retriever.nn_search_for_ids(1 - QUERY, 1, kb_id)
    await retriever.retrieve_and_decrypt(far, kb_id, decoys=3)
    with pytest.raises(InvalidArgument, match="search first"):
        await retriever.retrieve_and_decrypt(near, kb_id, decoys=3)
    assert await retriever.nn_search_for_ids(QUERY, 1, kb_id) == near
    await retriever.retrieve_and_decrypt(near, kb_id, decoys=3)
    assert len(xtrace.asked) == 4
    assert xtrace.asked[3] == xtrace.asked[1] == xtrace.asked[0]


async def test_a_damaged_decoy_is_an_error_as_any_other(
    context: ExecutionContext, retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    ids = await retriever.nn_search_for_ids(QUERY, 1, kb_id)
    await retriever.retrieve_and_decrypt(ids, kb_id, decoys=3)
    decoy = min(set(xtrace.asked[0]) - set(ids))
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": decoy, "chunk_content": "AAAA" * 20}])
    with pytest.raises(ContentTampered, match=f"chunk {decoy}"):
        await retriever.retrieve_and_decrypt(ids, kb_id, decoys=3)


async def test_a_rotation_does_not_give_them_away(
    context: ExecutionContext, xtrace: Watched, kb_id: str, tmp_path: Any
) -> None:
    await load(context, xtrace, kb_id)
    new = context.successor(provider(), path=tmp_path / "new", key_len=256, insecure_allow_weak_parameters=True)
    retriever = Retriever(new, xtrace)
    ids = await retriever.nn_search_for_ids(QUERY, 3, kb_id)
    await rotate(new, xtrace)
    xtrace.asked.clear()
    texts = await retriever.retrieve_and_decrypt(ids, kb_id, decoys=5)
    assert [chunk["chunk_content"] for chunk in texts] == [f"text {chunk_id - 1}" for chunk_id in ids]
    contents, moved_vectors = xtrace.asked
    assert contents == moved_vectors
    assert len(contents) == 8


async def test_while_a_rotation_may_run_requests_do_not_depend_on_what_has_moved(
    context: ExecutionContext, xtrace: Watched, kb_id: str, tmp_path: Any
) -> None:
    """Only of wanted chunks can the client tell that they were moved since they were found."""
    await load(context, xtrace, kb_id)
    new = context.successor(provider(), path=tmp_path / "new", key_len=256, insecure_allow_weak_parameters=True)
    retriever = Retriever(new, xtrace)
    ids = await retriever.nn_search_for_ids(QUERY, 3, kb_id)
    for _ in range(2):
        xtrace.asked.clear()
        xtrace.fields.clear()
        await retriever.retrieve_and_decrypt(ids, kb_id, decoys=5)
        contents, looked_at = xtrace.asked
        assert contents == looked_at
        assert xtrace.fields[1] == ["index", "nonce"]
        await rotate(new, xtrace)


async def test_searches_at_the_same_time_share_their_groups(retriever: Retriever, xtrace: Watched, kb_id: str) -> None:
    queries = [QUERY, vectors()[20], 1 - QUERY]
    await asyncio.gather(*(retriever.search(queries[i % 3], 1, kb_id, decoys=5) for i in range(12)))
    requests = {frozenset(asked) for asked in xtrace.asked}
    assert len(xtrace.asked) == 12
    assert len(requests) == len(frozenset().union(*requests)) / 6 <= 3


def test_candidates_may_be_a_million() -> None:
    decoys = decoys_module.Decoys()
    candidates = decoys.remember("kb", np.arange(1, 1_000_001))
    asked = decoys.together_with(range(1, 11), dict.fromkeys(range(1, 11), candidates), 40)
    assert len(asked) == 50
    assert decoys.together_with([3], {3: candidates}, 40) == asked
    assert decoys.remember("kb", np.arange(1, 1_000_001)) is candidates


# What was seen once: the same search in other words, and the requests intersected

REWORDED: dict[str, tuple[tuple[int, int] | None, Any]] = {
    "no filter": (None, None),
    "a filter that all match": (None, {"tag1": {"$exists": True}}),
    "a list": (None, {"tag1": {"$in": ["tag 0", "tag 1", "tag 2"]}}),
    "a list in another order": (None, {"tag1": {"$in": ["tag 2", "tag 0", "tag 1"]}}),
    "a range": ((1, 1000), None),
}


@pytest.mark.parametrize("first", REWORDED)
async def test_the_same_candidates_are_fetched_together_in_whatever_words(
    first: str, retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    for range_filter, meta_filter in (REWORDED[first], *REWORDED.values()):
        await retriever.search(QUERY, 1, kb_id, range_filter=range_filter, meta_filter=meta_filter, decoys=5)
    assert len(xtrace.asked[0]) == 6
    assert all(asked == xtrace.asked[0] for asked in xtrace.asked)


async def test_a_part_of_the_candidates_is_fetched_with_the_whole_group(
    retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    narrower = ((8, 8), None), ((1, 30), None), (None, {"tag1": "tag 1"}), ((5, 20), {"tag1": {"$ne": "tag 0"}})
    await retriever.search(QUERY, 1, kb_id, decoys=5)
    for range_filter, meta_filter in narrower:
        (found,) = await retriever.search(QUERY, 1, kb_id, range_filter=range_filter, meta_filter=meta_filter, decoys=5)
        assert found.chunk_id == 8
    assert frozenset.intersection(*map(frozenset, xtrace.asked)) == set(xtrace.asked[0])


Found = tuple[set[int], set[int], int]
"""A search's candidates, the ids that were requested after it, and how many others each hides among."""


async def random_searches(retriever: Retriever, xtrace: Watched, kb_id: str, seed: int) -> list[Found]:
    """Searches with random filters and ranges, each with what the service sees of it."""
    chosen, found = random.Random(seed), list[Found]()
    for _ in range(25):
        tags = chosen.sample(range(3), chosen.choice([1, 2, 3]))
        lowest = chosen.choice([1, 1, 1, 20, 50])
        k, decoys = chosen.choice([1, 1, 2, 4]), chosen.choice([2, 5, 9])
        candidates = {one for one in range(lowest, 61) if (one - 1) % 3 in tags}
        query = vectors()[chosen.choice([7, 8, 9])]
        filter_ = {"tag1": {"$in": [f"tag {tag}" for tag in tags]}} if chosen.random() < 0.8 else None
        results = await retriever.search(query, k, kb_id, range_filter=(lowest, 60), meta_filter=filter_, decoys=decoys)
        found.append((candidates if filter_ else set(range(lowest, 61)), set(xtrace.asked[-1]), decoys))
        assert len(results) == min(k, len(found[-1][0]))
        assert {result.chunk_id for result in results} <= found[-1][0] & found[-1][1]
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_requests_of_random_searches_have_a_crowd_in_common(
    seed: int, retriever: Retriever, xtrace: Watched, kb_id: str
) -> None:
    searches = await random_searches(retriever, xtrace, kb_id, seed)
    assert all(len(asked & candidates) > min(decoys, len(candidates) - 1) for candidates, asked, decoys in searches)
    for chunk_id in EVERY_ID:
        naming = [one for one in searches if chunk_id in one[1]]
        if naming:
            candidates, _, decoys = naming[0]
            common = set.intersection(*(asked for _, asked, _ in naming))
            assert len(common) > min(decoys, len(candidates) - 1)


async def test_a_group_that_would_be_too_large_is_refused_and_changes_nothing(
    retriever: Retriever, xtrace: Watched, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoys_module, "MAX_MEMBERS", 10)
    ids = await retriever.nn_search_for_ids(QUERY, 2, kb_id)
    with pytest.raises(DecoyGroupTooLarge, match=r"decoys=9 .* fetch 11 chunks together, but the limit is 10"):
        await retriever.retrieve_and_decrypt(ids, kb_id, decoys=9)
    assert xtrace.asked == []
    await retriever.retrieve_and_decrypt(ids, kb_id, decoys=8)
    await retriever.retrieve_and_decrypt(ids[:1], kb_id, decoys=3)
    assert [len(asked) for asked in xtrace.asked] == [10, 10]
    with pytest.raises(DecoyGroupTooLarge, match="60 chunks"):
        await retriever.retrieve_and_decrypt(ids, kb_id, decoys=100)
