"""What the search engine keeps in memory, and for whom it makes room."""

import numpy as np

from xtrace_server.metrics import Metrics
from xtrace_server.search.cache import VectorSetCache
from xtrace_server.search.interface import Segment, rows_bytes
from xtrace_server.search.vector_set import VectorSet

ROW = 64
ONE = rows_bytes(1, ROW)


def rows(count: int, revision: int = 1) -> VectorSet:
    segment = Segment(np.arange(count), np.zeros((count, ROW), dtype=np.uint8), (None,) * count)
    return VectorSet(revision, (segment,))


def cache(rows: int) -> VectorSetCache:
    return VectorSetCache(rows * ONE, Metrics())


def search(cache: VectorSetCache, binding_pk: int, count: int) -> bool:
    """A search as the engine does it; whether its rows were in memory, or are now."""
    if (kept := cache.get(binding_pk)) is not None:
        cache.keep(binding_pk, kept)
        return True
    if not cache.make_room(binding_pk, count * ONE):
        return False
    cache.arrived(binding_pk)
    cache.keep(binding_pk, rows(count), searched=False)
    return True


def test_equal_ones_make_room_for_each_other_the_oldest_first() -> None:
    small = cache(30)
    assert all(search(small, binding_pk, 10) for binding_pk in (1, 2, 3))
    assert search(small, 1, 10)
    assert search(small, 4, 10)
    assert [binding_pk in small for binding_pk in (1, 2, 3, 4)] == [True, False, True, True]
    assert small.kept_bytes == 30 * ONE


def test_a_large_one_does_not_drive_out_small_ones_that_are_in_use() -> None:
    busy = cache(100)
    for _ in range(3):
        assert all(search(busy, binding_pk, 5) for binding_pk in range(10))
    for _ in range(50):
        assert not search(busy, 99, 95)
        assert all(search(busy, binding_pk, 5) for binding_pk in range(10))
    assert all(binding_pk in busy for binding_pk in range(10))


def test_small_ones_that_are_not_searched_any_more_make_room_for_a_large_one() -> None:
    idle = cache(100)
    for _ in range(20):
        assert all(search(idle, binding_pk, 5) for binding_pk in range(10))
    assert any(search(idle, 99, 95) for _ in range(200))
    assert 99 in idle


def test_what_never_fits_lets_nobody_go() -> None:
    full = cache(10)
    assert search(full, 1, 10)
    assert not search(full, 2, 11)
    assert 1 in full


def test_rows_that_searches_read_count_although_they_are_let_go_of() -> None:
    busy = cache(20)
    assert search(busy, 1, 15)
    kept = busy.get(1)
    assert kept is not None
    ends = [busy.pin(kept.segments) for _ in range(2)]
    assert (busy.kept_bytes, busy.read_bytes) == (15 * ONE, 0)
    busy.drop(1)
    assert (busy.kept_bytes, busy.read_bytes) == (0, 15 * ONE)
    assert not search(busy, 2, 6), "there is room for five"
    assert search(busy, 3, 5)
    ends[0]()
    assert not search(busy, 2, 6)
    ends[1]()
    assert (busy.kept_bytes, busy.read_bytes) == (5 * ONE, 0)
    assert search(busy, 2, 6)


def test_nobody_is_let_go_of_whose_memory_would_not_come_back() -> None:
    busy = cache(20)
    assert search(busy, 1, 15)
    kept = busy.get(1)
    assert kept is not None
    end = busy.pin(kept.segments)
    assert not any(search(busy, 2, 10) for _ in range(10))
    assert 1 in busy
    end()
    assert any(search(busy, 2, 10) for _ in range(10))


def test_rows_that_are_coming_have_their_room() -> None:
    loading = cache(20)
    assert loading.make_room(1, 15 * ONE)
    assert loading.coming_bytes == 15 * ONE
    assert not loading.make_room(2, 6 * ONE)
    loading.arrived(1)  # the reading was cancelled
    assert loading.make_room(2, 6 * ONE)


def test_newer_rows_share_the_segments_that_did_not_change() -> None:
    growing = cache(100)
    first = rows(10)
    growing.keep(1, first)
    growing.keep(1, VectorSet(2, (*first.segments, *rows(5).segments)))
    assert (growing.kept_bytes, growing.read_bytes) == (15 * ONE, 0)
    end = growing.pin(first.segments)
    growing.keep(1, rows(15, revision=3))
    assert (growing.kept_bytes, growing.read_bytes) == (15 * ONE, 10 * ONE)
    end()
    growing.clear()
    assert (growing.kept_bytes, growing.read_bytes) == (0, 0)
