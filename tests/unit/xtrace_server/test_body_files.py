"""The files of blocks' bodies: named by their hash, within a budget, written again where they are damaged."""

import asyncio
import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest

from xtrace_core.schemes.interface import BlockEvaluation
from xtrace_server.search.bodies import BlockComputation, Body, BodyGone, Values
from xtrace_server.search.local.bodies import LocalBodies
from xtrace_server.search.local.body_files import BodyFiles

BODIES = [bytes([number]) * 1000 for number in range(1, 7)]
HASHES = [hashlib.sha256(body).digest() for body in BODIES]


def named(*numbers: int) -> dict[bytes, bytes]:
    return {HASHES[number]: BODIES[number] for number in numbers}


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.exists() else set()


def test_a_body_is_read_back_from_a_file_that_only_its_user_can_read(tmp_path: Path) -> None:
    files = BodyFiles(tmp_path / "blocks", 10_000)
    assert files.open(HASHES) == {}
    assert files.add(named(0, 1)) == dict(zip(HASHES, BODIES[:2], strict=False))
    assert files.held_bytes == 2000
    assert names(tmp_path / "blocks") == {one.hex() for one in HASHES[:2]}
    assert {(tmp_path / "blocks" / one.hex()).stat().st_mode & 0o777 for one in HASHES[:2]} == {0o600}
    assert (tmp_path / "blocks").stat().st_mode & 0o777 == 0o700
    again = BodyFiles(tmp_path / "blocks", 10_000)
    assert again.open(HASHES) == dict(zip(HASHES, BODIES[:2], strict=False))


@pytest.mark.parametrize("damage", [b"", b"x", bytes(1000)])
def test_a_damaged_file_counts_as_missing_and_is_written_again(damage: bytes, tmp_path: Path) -> None:
    BodyFiles(tmp_path, 10_000).add(named(0))
    (tmp_path / HASHES[0].hex()).write_bytes(damage)
    files = BodyFiles(tmp_path, 10_000)
    assert files.open(HASHES[:1]) == {}
    assert files.add(named(0)) == {HASHES[0]: BODIES[0]}
    assert (tmp_path / HASHES[0].hex()).read_bytes() == BODIES[0]


def test_beyond_the_budget_the_least_recently_used_go_and_stay_readable_where_they_are_in_use(tmp_path: Path) -> None:
    files = BodyFiles(tmp_path, 3000)
    held = files.add(named(0, 1, 2))
    files.open([HASHES[0]])
    held |= files.add(named(3, 4))
    files.shrink()
    assert names(tmp_path) == {HASHES[one].hex() for one in (0, 3, 4)}
    assert files.held_bytes == 3000
    assert held == dict(zip(HASHES, BODIES[:5], strict=False))
    assert set(files.open(HASHES)) == {HASHES[one] for one in (0, 3, 4)}


def test_files_of_another_process_count_and_what_it_was_writing_when_it_died_goes(tmp_path: Path) -> None:
    files, other = BodyFiles(tmp_path, 3000), BodyFiles(tmp_path, 3000)
    files.add(named(0, 1))
    other.add(named(2, 3, 4))
    (tmp_path / f"{HASHES[5].hex()}.99.part").write_bytes(b"half")
    assert files.names() == {*HASHES[:5]}
    files.shrink()
    left = {name for name in names(tmp_path) if not name.endswith(".part")}
    assert left > {one.hex() for one in HASHES[:2]}
    assert len(left) == 3
    assert files.held_bytes == 3000
    assert other.names() < {*HASHES[:5]}
    os.utime(tmp_path / f"{HASHES[5].hex()}.99.part", (0, 0))
    files.names()
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


class Sums:
    """Computes the sum of each body and query."""

    def evaluate(self, bodies: Collection[memoryview], queries: Collection[bytes]) -> Values:
        sums = [[[[sum(body[:10]) + len(query)]] for query in queries] for body in bodies]
        return np.array(sums, dtype=np.uint16)


class Stored:
    """What a database has, which counts what is read."""

    def __init__(self, count: int) -> None:
        self.bodies = dict(enumerate(BODIES[:count]))
        self.read: list[int] = []

    async def load(self, bodies: Collection[Body]) -> Mapping[bytes, bytes]:
        self.read += [body.pk for body in bodies]
        await asyncio.sleep(0)
        return {body.sha256: self.bodies[body.pk] for body in bodies if body.pk in self.bodies}

    async def alive(self, hashes: Collection[bytes]) -> set[bytes]:
        return {hashlib.sha256(body).digest() for body in self.bodies.values()} & set(hashes)


def wanted(*numbers: int) -> list[Body]:
    return [Body(number, HASHES[number]) for number in numbers]


async def test_two_searches_at_once_load_each_body_once_and_compute_in_order(tmp_path: Path) -> None:
    stored, holder = Stored(6), LocalBodies(tmp_path, 10**6, 2)
    first, second = await asyncio.gather(
        holder.hold(wanted(*range(6)), stored.load), holder.hold(wanted(5, 0, 2), stored.load)
    )
    assert sorted(stored.read) == [*range(6)]
    evaluation: BlockEvaluation = Sums()  # type: ignore[assignment]
    computation = BlockComputation(evaluation, [b"", b"1"])
    found = [one async for one in second.scan(computation, lambda start, values: (start, values[:, :, 0, 0].tolist()))]
    assert found == [(0, [[60, 61], [10, 11], [30, 31]])]
    await holder.close()
    assert first is not second


async def test_a_body_that_is_gone_stops_the_search_before_it_begins(tmp_path: Path) -> None:
    stored, holder = Stored(3), LocalBodies(tmp_path, 10**6, 1)
    with pytest.raises(BodyGone):
        await holder.hold(wanted(0, 5), stored.load)
    await holder.hold(wanted(0, 1, 2), stored.load)
    del stored.bodies[1]
    await holder.tidy(stored.alive)
    assert names(tmp_path) == {HASHES[0].hex(), HASHES[2].hex()}
    assert holder.held_bytes == 2000
    with pytest.raises(BodyGone):
        await holder.hold(wanted(1), stored.load)
    await holder.close()
