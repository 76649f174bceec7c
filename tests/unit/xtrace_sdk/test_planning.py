"""The way that a search compares vectors: the one with fewer bytes, whatever the query."""

import pytest

from xtrace_core.schemes.lattice import record_bytes
from xtrace_core.schemes.lattice_blocks import block_sizes
from xtrace_sdk.x_vec.retrievers import planning
from xtrace_sdk.x_vec.retrievers.planning import Counts, Planner, Sizes


def planner(embed_len: int = 512) -> Planner:
    sizes = block_sizes(embed_len)
    return Planner(Sizes(record_bytes(embed_len) + 16 + 9, sizes.query, sizes.slabs, sizes.header + sizes.hints))


def sealed(candidates: int) -> Counts:
    """All candidates are in blocks, as far as they fill them."""
    return Counts(candidates, candidates % 1024, candidates // 1024)


def first_by_blocks(one: Planner, *, cached: bool) -> int:
    """The number of candidates from which on blocks take fewer bytes."""
    for blocks in range(1, 1000):
        counts = Counts(1024 * blocks, 0, blocks)
        if one.plan(counts, 1, blocks if cached else 0).way == "blocks":
            return counts.candidates
    raise AssertionError("never")


def test_blocks_pay_from_about_twenty_thousand_candidates_at_512_dimensions() -> None:
    assert first_by_blocks(planner(), cached=True) == 20_480
    assert first_by_blocks(planner(), cached=False) == 22_528
    assert first_by_blocks(planner(4096), cached=True) > 20_480


def test_a_sent_byte_counts_twice_and_hints_count_once() -> None:
    cold = planner().plan(sealed(1_000_000), 1, 0)
    warm = planner().plan(sealed(1_000_000), 1, 976)
    assert cold.blocks_bytes is not None
    assert warm.blocks_bytes is not None
    assert warm.blocks_bytes == 2 * 1_048_576 + int(1.5 * 999_424) + 576 * 105
    assert cold.blocks_bytes - warm.blocks_bytes == 976 * (112 + 7680 + 1024)
    assert warm.records_bytes == 105_000_000
    assert warm.why == "by blocks, which take about 3.66 MB for 1,000,000 candidates instead of 105.00 MB by records"


def test_without_blocks_or_with_an_answer_that_is_too_large_records_are_compared() -> None:
    plan = planner().plan(Counts(50_000, 50_000, 0), 1, 0)
    assert (plan.way, plan.blocks_bytes) == ("records", None)
    assert plan.why == "by records, because none of the 50,000 candidates is in a block"
    assert planner().plan(sealed(50_000_000), 1, 50_000).way == "records"


def test_many_queries_at_once_share_the_records_but_not_the_values() -> None:
    assert planner().plan(sealed(100_000), 1, 97).way == "blocks"
    assert planner().plan(sealed(100_000), 8, 97).way == "records"


def test_the_service_is_asked_again_near_the_crossing_after_some_searches_or_a_change() -> None:
    one = planner()
    assert one.remembered("scope", 1, 0) is None
    for candidates, way in ((1000, "records"), (9000, "records"), (60_000, "blocks"), (1_000_000, "blocks")):
        one.note("scope", sealed(candidates))
        plan = one.remembered("scope", 1, 0)
        assert plan is not None
        assert plan.way == way
    for candidates in (12_000, 23_000, 40_000):
        one.note("scope", sealed(candidates))
        for _ in range(planning.MAX_USES):
            assert one.remembered("scope", 1, 0) == one.plan(sealed(candidates), 1, 0)
            one.note_candidates("scope", candidates)
        assert one.remembered("scope", 1, 0) is None
        one.note("scope", sealed(candidates))
        one.note_candidates("scope", candidates * 9 // 8)
        assert one.remembered("scope", 1, 0) is not None
        one.note_candidates("scope", candidates)
        one.note_candidates("scope", candidates * 9 // 8 + 100)
        assert one.remembered("scope", 1, 0) is None
    for grown in (30_000, 1_000_000):
        one.note("scope", Counts(1000, 1000, 0))
        assert one.remembered("scope", 1, 0) is not None
        one.note_candidates("scope", grown)
        assert one.remembered("scope", 1, 0) is None


def test_only_the_latest_scopes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_SCOPES", 2)
    one = planner()
    for scope in ("a", "b", "c"):
        one.note(scope, sealed(1000))
    one.note_candidates("a", 5)
    assert [one.remembered(scope, 1, 0) is None for scope in ("a", "b", "c")] == [True, False, False]
