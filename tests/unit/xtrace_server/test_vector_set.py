"""The rows in memory: changes make new sets, and old ones stay as they were."""

import random
from dataclasses import dataclass

import numpy as np
import pytest

from xtrace_server.http.search_answers import _array_header as array_header
from xtrace_server.search import vector_set as module
from xtrace_server.search.interface import Selection, whole
from xtrace_server.search.vector_set import VectorSet, vector_set
from xtrace_server.storage.vectors import VectorBlock

WIDTH = 4


def block(rows: dict[int, int]) -> VectorBlock:
    pks = sorted(rows)
    return VectorBlock(pks, [b"%d" % rows[pk] for pk in pks], [rows[pk].to_bytes(WIDTH, "little") for pk in pks])


def content(selections: list[Selection]) -> dict[int, int]:
    found: dict[int, int] = {}
    for one in selections:
        for pk, row, nonce in zip(one.chunk_ids.tolist(), one.rows, one.nonces, strict=True):
            found[pk] = int.from_bytes(row.tobytes(), "little")
            assert nonce == b"%d" % found[pk]
    assert list(found) == sorted(found)
    return found


@dataclass
class Model:
    rows: dict[int, int]
    made: VectorSet


@pytest.mark.parametrize("seed", range(8))
def test_a_set_after_any_changes_is_that_of_a_dictionary(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_ROWS", 7)
    dice = random.Random(seed)
    rows = {pk: pk for pk in range(0, 40, 2)}
    current = vector_set(1, [block(rows)], WIDTH)
    history = [Model(dict(rows), current)]
    for revision in range(2, 30):
        changed = {dice.randrange(60): dice.randrange(1000) for _ in range(dice.randrange(4))}
        gone = {pk for pk in rows if dice.random() < 0.1} - set(changed)
        rows = {pk: value for pk, value in (rows | changed).items() if pk not in gone}
        present = np.array(sorted(set(rows)), dtype=np.int64)
        newer = vector_set(revision, [block(changed)] if changed else [], WIDTH)
        current = current.kept(present).merged(newer)
        assert current.revision == revision
        history.append(Model(dict(rows), current))
    for model in history:
        assert content([whole(segment) for segment in model.made.segments]) == dict(sorted(model.rows.items()))
        assert len(model.made) == len(model.rows)
        first, last = sorted(dice.sample(range(-5, 65), 2))
        inside = {pk: value for pk, value in model.rows.items() if first <= pk <= last}
        assert content(model.made.between(first, last)) == dict(sorted(inside.items()))
        some = [pk for pk in sorted(model.rows) if dice.random() < 0.4] + [99]
        assert list(content(model.made.only(some))) == some[:-1]


def test_appending_shares_the_full_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_ROWS", 4)
    old = vector_set(1, [block({i: i for i in range(9)})], WIDTH)
    new = old.merged(vector_set(2, [block({20: 1})], WIDTH))
    assert [len(segment.pks) for segment in new.segments] == [4, 4, 2]
    assert new.segments[0] is old.segments[0]
    assert new.segments[1] is old.segments[1]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65535, 65536, 100_000])
def test_the_array_header_is_messagepacks(count: int) -> None:
    import msgspec

    assert msgspec.msgpack.encode([None] * count)[: len(array_header(count))] == array_header(count)
