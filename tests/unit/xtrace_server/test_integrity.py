"""The check of a whole database: nothing is said of a sound one, and each fault is named with its place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest

from support import databases
from support.sealing import SealingClient, sealing_client
from support.service import Http, LiveService, ok, running_service
from support.sharing import Sharing
from xtrace_core.block_frames import bitmap_of, packed_ids
from xtrace_server.storage.dialects import Dialect, dialect_of
from xtrace_server.storage.integrity import Fault, check

POSTGRES_BY_DEFAULT = True


@dataclass
class World:
    """A server whose knowledge base has 30 chunks: a block of ten, and one of eight of which two were deleted.

    It also has a shared index, and segments that it does not list.
    """

    service: LiveService
    sealing: SealingClient
    blocks: list[int]

    @property
    def database(self) -> Dialect:
        return dialect_of(self.service.server.app.state.server.settings.resolved_database_url)

    def faults(self) -> list[Fault]:
        return check(self.database).faults

    def set(self, table: str, column: str, value: Any, pk: int) -> None:
        databases.execute(self.service.folder, f"UPDATE {table} SET {column} = ? WHERE pk = ?", value, pk)  # noqa: S608

    def kb_pk(self) -> int:
        query = "SELECT pk FROM knowledge_base WHERE id = ?"
        return int(databases.execute(self.service.folder, query, self.sealing.kb)[0][0])


@pytest.fixture
def world(database: str, tmp_path: Any) -> Iterator[World]:
    with running_service(tmp_path / "data") as service:
        http = Http(service.first_credentials)
        sealing = sealing_client(http)
        ids = sealing.insert(30, meta_data={"tag1": "ä", "facets": ["one", "two"]})
        blocks = [sealing.seal(ids[:10]), sealing.seal(ids[10:18])]
        http.data("DELETE", "/chunk/{org}", params={"kb_id": sealing.kb, "chunk_ids": ids[16:18]})
        gone = sealing_client(http, context="gone")
        gone.seal(gone.insert(3))
        for one in (sealing, gone):
            sharing = Sharing(http, one.kb, one.context)
            sharing.store(sharing.store(0, b"manifest", [b"first", b"second"]), b"manifest", [b"second", b"third"])
            ok(sharing.upload(b"uploaded"))
        http.control("DELETE", f"/kbs/{gone.kb}")
        yield World(service, sealing, blocks)
        http.close()


def test_a_sound_database_has_no_faults_while_its_server_runs(world: World) -> None:
    done = check(world.database)
    assert (done.faults, done.more, done.chunks, done.blocks) == ([], 0, 28, 2)


BLOCK_FAULTS: list[tuple[str, str, Any, tuple[str, ...]]] = [
    ("block_body", "body", b"other", ("its body is damaged", "it counts as")),
    ("block", "sha256", bytes(32), ("its body is damaged", "its header is damaged: it has another SHA-256")),
    ("block", "header", bytes(112), ("its header is damaged",)),
    ("block", "hints", b"", ("its hints have 0 bytes", "it counts as")),
    ("block", "live", bitmap_of(range(1, 10)), ("it counts 10 live slots, expected 9", "1 of its slots are dead, but")),
    ("block", "live", b"", ("the bitmap of its live slots has 0 bytes, expected 128",)),
    ("block", "ids", packed_ids(range(1, 10)), ("its 10 slots have 9 chunk ids",)),
    ("block", "ids", b"\xff", ("its 10 slots have 0 chunk ids",)),
    ("block", "ids", packed_ids([*range(1, 10), 20]), ("1 of its live slots have chunks that do not refer to them",)),
    (
        "block",
        "dead_since",
        "2026-01-01T00:00:00.000000Z",
        ("0 of its slots are dead, but",),
    ),
    ("block", "live_count", 9, ("it counts 9 live slots, expected 10",)),
]


def test_every_fault_of_a_block_is_named(world: World) -> None:
    block_id = world.blocks[0]
    for table, column, value, sentences in BLOCK_FAULTS:
        query = f"SELECT {column} FROM {table} WHERE pk = ?"  # noqa: S608 - those above
        ((right,),) = databases.execute(world.service.folder, query, block_id)
        world.set(table, column, value, block_id)
        found = [one for one in world.faults() if one.block_id is not None]
        assert {(one.kb_id, one.block_id) for one in found} == {(world.sealing.kb, block_id)}
        assert [one.fault.startswith(sentence) for one, sentence in zip(found, sentences, strict=True)] == [True] * len(
            sentences
        ), found
        world.set(table, column, right, block_id)
    databases.execute(world.service.folder, "DELETE FROM block_body WHERE pk = ?", block_id)
    assert world.faults() == [Fault("its body is missing", kb_id=world.sealing.kb, block_id=block_id)]


def test_every_fault_of_a_shared_index_is_named(world: World) -> None:
    folder, second, whose = world.service.folder, sha256(b"second").digest(), "its shared index of the kind records"
    mine = "binding_pk IN (SELECT pk FROM binding WHERE kb_pk = ?)"
    query = f"SELECT pk FROM index_segment WHERE sha256 = ? AND {mine}"  # noqa: S608 - that above
    ((segment,),) = databases.execute(folder, query, second, world.kb_pk())
    ((index,),) = databases.execute(folder, f"SELECT pk FROM shared_index WHERE {mine}", world.kb_pk())  # noqa: S608
    damaged = f"the segment {second.hex()} of {whose} "
    cases: list[tuple[str, str, Any, int, list[str]]] = [
        ("index_segment_body", "body", b"secone", segment, [f"{damaged}is damaged: it does not have the SHA-256"]),
        ("index_segment_body", "body", b"", segment, [f"{damaged}is damaged", f"{damaged}counts as 262 bytes"]),
        ("index_segment", "stored_bytes", 1, segment, [f"{damaged}counts as 1 bytes, expected 262", "it counts"]),
        ("index_segment", "unlisted_since", "2100", segment, [f"{whose} lists 1 segments that are not stored"]),
        ("shared_index", "segments", second, index, [f"{whose} has 1 segments that", f"{whose} counts as 328 bytes"]),
    ]
    for table, column, value, pk, sentences in cases:
        ((right,),) = databases.execute(folder, f"SELECT {column} FROM {table} WHERE pk = ?", pk)  # noqa: S608 - those above
        world.set(table, column, value, pk)
        found = [one.fault for one in world.faults()]
        world.set(table, column, right, pk)
        assert [one.startswith(sentence) for one, sentence in zip(found, sentences, strict=True)], found


@pytest.mark.parametrize(
    ("damage", "place", "sentence"),
    [
        pytest.param(
            lambda one: one.set("chunk", "block_pk", one.blocks[0], one.kb_pk() << 40 | 25),
            "kb",
            "17 chunks refer to slots of blocks, expected 16, the live slots of its blocks",
            id="a stray chunk",
        ),
        pytest.param(
            lambda one: one.set("knowledge_base", "number_of_vectors", 29, one.kb_pk()),
            "kb",
            "it counts 29 chunks with",
            id="chunks",
        ),
        pytest.param(
            lambda one: databases.execute(one.service.folder, "UPDATE organisation SET stored_bytes = 1"),
            "organisation",
            "it counts 28 chunks,",
            id="bytes",
        ),
    ],
)
def test_sums_are_compared_with_what_is_stored(
    damage: Callable[[World], None], place: str, sentence: str, world: World
) -> None:
    damage(world)
    found = world.faults()[0]
    assert found.fault.startswith(sentence)
    expected = {"kb": (None, world.sealing.kb), "organisation": (world.sealing.http.credentials.org_id, None)}
    assert (found.organisation_id, found.kb_id) == expected[place]
