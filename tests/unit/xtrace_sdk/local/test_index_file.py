"""The file of a local index: sealed, whole or not there, and shared by processes."""

import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from xtrace_sdk.x_vec.chunks.envelope import Content, RecordPart
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.local import index_file
from xtrace_sdk.x_vec.local.index_file import Damaged, IndexFile, Outpaced
from xtrace_sdk.x_vec.local.loaded import Loaded, Part, _best
from xtrace_sdk.x_vec.local.segment import Row, Segment
from xtrace_sdk.x_vec.local.state import SegmentEntry, State
from xtrace_sdk.x_vec.local.synchronising import MAX_MERGED_BYTES, MAX_SEGMENTS, _gone, _to_merge

KEY = secrets.token_bytes(32)


def row(chunk_id: int, text: str = "", *, namespace: str = "", dim: int = 8, origin: int = 0) -> Row:
    copy = np.random.default_rng(chunk_id).integers(-127, 128, dim).astype(np.int8) if dim else None
    part = RecordPart(f"r{chunk_id}", namespace, f'{{"n":{chunk_id}}}', bytes(16), has_vector=bool(dim))
    return Row(chunk_id, origin, Content(text, vector_copy=copy, record=part))


def opened(path: Path, key: bytes = KEY) -> IndexFile:
    return IndexFile(path, key, Hedge.generate())


def written(file: IndexFile, segment: Segment) -> State:
    state = file.state()
    with file.changing(state.generation):
        ((entry, _),) = file.add_segments(segment)
        file.keep_contents({1: b"one", 2: b"two"})
        state = replace(state, generation=1, segments=[entry], revisions={"c": 7})
        file.write_state(state)
    return state


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = opened(tmp_path / "new" / "one.sqlite3")
    segment = Segment.of([row(1, "the secret word"), row(2, namespace="b"), row(3, dim=0)], 0)
    state = written(file, segment)
    file.close()
    again = opened(file.path)
    assert again.state() == state
    found = again.segment(state.segments[0])
    assert found.chunk_ids.tolist() == [1, 2, 3]
    assert found.codes.levels.tolist() == segment.codes.levels.tolist()
    assert found.codes.factors.tolist() == segment.codes.factors.tolist()
    assert found.codes.factors[2] == 0
    assert not found.needs_service.any()
    assert [found.namespaces[owner] for owner in found.owners] == ["", "b", ""]
    assert found.records == segment.records
    assert found.words.postings("secret") is not None
    assert again.contents([1, 2, 3]) == {1: b"one", 2: b"two"}
    assert again.path.stat().st_mode & 0o777 == 0o600
    assert again.path.parent.stat().st_mode & 0o777 == 0o700


def test_the_file_shows_nothing(tmp_path: Path) -> None:
    file = opened(tmp_path / "one.sqlite3")
    written(file, Segment.of([row(1, "themarkedword", namespace="themarkedspace")], 0))
    file.close()
    for path in tmp_path.iterdir():
        assert b"themarked" not in path.read_bytes()


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    written(opened(tmp_path / "one.sqlite3"), Segment.of([row(1)], 0))
    with pytest.raises(Damaged):
        opened(tmp_path / "one.sqlite3", secrets.token_bytes(32)).state()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE state SET sealed = substr(sealed, 1, length(sealed) - 8) || x'0000000000000000'",
        "UPDATE segment SET sealed = substr(sealed, 1, length(sealed) - 8) || x'0000000000000000'",
        "UPDATE content SET sealed = (SELECT sealed FROM content WHERE chunk_id = 2) WHERE chunk_id = 1",
        "DELETE FROM segment",
    ],
)
def test_what_somebody_changed_is_noticed(tmp_path: Path, change: str) -> None:
    file = opened(tmp_path / "one.sqlite3")
    entry = written(file, Segment.of([row(1)], 0)).segments[0]
    with sqlite3.connect(file.path) as connection:
        connection.execute(change)
    with pytest.raises(Damaged):
        (file.state(), file.segment(entry), file.contents([1]))


def test_an_older_segment_is_noticed(tmp_path: Path) -> None:
    file = opened(tmp_path / "one.sqlite3")
    state = written(file, Segment.of([row(1)], 0))
    with sqlite3.connect(file.path) as connection:
        ((older,),) = connection.execute("SELECT sealed FROM segment").fetchall()
    with file.changing(1):
        ((entry, _),) = file.add_segments(Segment.of([row(9)], 0))
        file.write_state(replace(state, generation=2, segments=[entry]))
    with sqlite3.connect(file.path) as connection:
        assert connection.execute("SELECT count(*) FROM segment").fetchone() == (1,)  # the older one is gone
        connection.execute("UPDATE segment SET sealed = ?", (older,))
    with pytest.raises(Damaged):
        file.segment(file.state().segments[0])


@pytest.mark.parametrize("data", [b"no database", b"SQLite format 3\x00" + os.urandom(4096)])
def test_a_file_of_another_kind_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "one.sqlite3").write_bytes(data)
    with pytest.raises(Damaged):
        opened(tmp_path / "one.sqlite3").state()


def test_nothing_stays_of_a_change_that_fails(tmp_path: Path) -> None:
    file = opened(tmp_path / "one.sqlite3")
    with suppress(KeyError), file.changing(0):
        file.keep_contents({1: b"one"})
        raise KeyError
    assert file.contents([1]) == {}
    assert file.state() == State.empty()


def test_a_change_on_top_of_an_older_state_is_refused(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "one.sqlite3"), opened(tmp_path / "one.sqlite3")
    written(first, Segment.of([row(1)], 0))
    with pytest.raises(Outpaced), second.changing(0):
        pass
    with second.changing(1):
        second.drop_all_contents()
    assert first.contents([1, 2]) == {}


# Segments


@given(st.lists(st.lists(st.booleans(), max_size=5), min_size=1, max_size=4))
def test_merging_segments_keeps_the_rows_that_count(flags: list[list[bool]]) -> None:
    rows, number = list[list[Row]](), 0
    for some in flags:
        numbers = range(number, number + len(some))
        rows.append([row(i, f"word{i}", namespace="ab"[i % 2], origin=i % 2) for i in numbers])
        number += len(some)
    segments = [Segment.of(some, 0) for some in rows]
    kept = [np.array(some, np.bool_) for some in flags]
    merged = Segment.from_bytes(Segment.merged(segments, kept).to_bytes())
    left = [one for some, keep in zip(rows, flags, strict=True) for one, keeps in zip(some, keep, strict=True) if keeps]
    expected = Segment.of(left, 0)
    assert merged.chunk_ids.tolist() == expected.chunk_ids.tolist()
    assert merged.origins.tolist() == expected.origins.tolist()
    assert merged.records == expected.records
    assert merged.codes.factors.tolist() == expected.codes.factors.tolist()
    if left:
        assert merged.codes.levels.tolist() == expected.codes.levels.tolist()
    owners = [merged.namespaces[owner] for owner in merged.owners]
    assert owners == [expected.namespaces[owner] for owner in expected.owners]
    assert merged.words.to_bytes() == expected.words.to_bytes()


def test_a_vector_without_a_copy_or_of_another_length_needs_the_service() -> None:
    bits = Row(1, 0, Content("", record=RecordPart("a", "", "{}", bytes(16))))
    segment = Segment.of([bits, row(2), row(3, dim=4)], 8)
    assert segment.needs_service.tolist() == [True, False, True]
    assert (segment.codes.factors > 0).tolist() == [False, True, False]


def test_copies_of_both_kinds_are_compared() -> None:
    copy = np.array([1, -0.5, 0.25, 1], np.float32)
    contents = [Content("", vector_copy=copy), Content("", vector_copy=np.array([127, -64, 32, 127], np.int8))]
    codes = Segment.of([Row(number, 0, one) for number, one in enumerate(contents)], 0).codes
    assert codes.levels[0].tolist() == codes.levels[1].tolist()


def test_rows_outside_the_living_are_gone() -> None:
    segment = Segment.of([row(i, origin=int(i == 6)) for i in (1, 2, 3, 5, 6, 9)], 0)
    assert _gone(segment, 0, [(2, 3), (9, 12)]).tolist() == [True, False, False, True, False, False]
    assert _gone(segment, 0, []).tolist() == [True, True, True, True, False, True]
    assert not _gone(segment, 0, None).any()


SIZES = st.tuples(st.integers(0, MAX_MERGED_BYTES), st.integers(1, MAX_MERGED_BYTES)).map(
    lambda pair: (min(pair), max(pair))
)


@given(st.lists(SIZES, max_size=30))
def test_few_segments_stay(sizes: list[tuple[int, int]]) -> None:
    for _ in range(len(sizes) + 1):
        if not (chosen := _to_merge(sizes)):
            break
        assert chosen == sorted(set(chosen))
        assert set(chosen) <= set(range(len(sizes)))
        total = sum(sizes[place][0] for place in chosen)
        assert total <= MAX_MERGED_BYTES
        sizes = [one for place, one in enumerate(sizes) if place not in chosen] + [(total, total)] * (total > 0)
    assert all(2 * living >= size for living, size in sizes)
    assert sum(2 * living <= MAX_MERGED_BYTES for living, _ in sizes) <= MAX_SEGMENTS


def test_a_segment_that_is_too_large_to_be_shared_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Segment.of([row(number, f"word{number}") for number in range(1, 10)], 0)
    monkeypatch.setattr(index_file, "MAX_SEGMENT_BYTES", len(whole.to_bytes()) // 3)
    file = opened(tmp_path / "one.sqlite3")
    with file.changing(0):
        added = file.add_segments(whole)
        file.write_state(replace(State.empty(), generation=1, segments=[entry for entry, _ in added]))
    assert len(added) > 2
    found = [file.segment(entry) for entry in file.state().segments]
    assert [one.chunk_ids.tolist() for one in found] == [one.chunk_ids.tolist() for _, one in added]
    assert sorted(i for one in found for i in one.chunk_ids.tolist()) == whole.chunk_ids.tolist()


def test_a_state_of_segments_that_are_not_there_is_refused(tmp_path: Path) -> None:
    file = opened(tmp_path / "one.sqlite3")
    state = written(file, Segment.of([row(1)], 0))
    with pytest.raises(Outpaced), file.changing(1):
        file.write_state(replace(state, segments=[SegmentEntry(bytes(32), 1, 1, bytes(1))]))
    assert file.state() == state


def test_growing_by_small_steps_merges_each_row_a_few_times() -> None:
    sizes, merged = list[tuple[int, int]](), 0
    for _ in range(2000):
        sizes.append((1, 1))
        if chosen := _to_merge(sizes):
            total = sum(sizes[place][0] for place in chosen)
            merged += total
            sizes = [size for place, size in enumerate(sizes) if place not in chosen] + [(total, total)]
        assert len(sizes) <= 3 * MAX_SEGMENTS
    assert merged < 2000 * 12


# Choosing


@given(st.lists(st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0]), max_size=20), st.integers(1, 25))
def test_the_best_are_those_of_sorting(scores: list[float], count: int) -> None:
    found = _best(np.array(scores, np.float32), count).tolist()
    expected = [i for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count] if scores[i] > -np.inf]
    assert sorted(found) == sorted(expected)


def test_an_entry_says_which_rows_count() -> None:
    entry = SegmentEntry(b"", 1, 10, bytes(2))
    assert entry.alive().tolist() == [True] * 10
    alive = np.array([True, False] * 5, np.bool_)
    assert entry.with_alive(alive).alive().tolist() == alive.tolist()


def test_an_index_counts_living_rows() -> None:
    parts = [
        Part(Segment.of([row(5), row(3)], 0), np.array([True, False])),
        Part(Segment.of([row(1)], 0), np.array([True])),
    ]
    loaded = Loaded(State.empty(), parts)
    assert loaded.count == 2
    assert loaded.chunk_ids.tolist() == [1, 5]
