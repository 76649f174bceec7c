"""Blocks in a real Ray cluster: found as without one, and again after a node is gone."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from support.databases import execute
from support.ray_cluster import NEEDED, RayCluster, ray_cluster, until
from support.sealing import SealingClient, check_slots, sealing_client
from support.service import Http, LiveService, problem, running_service
from xtrace_core.schemes.lattice_blocks import LatticeBlockEvaluation
from xtrace_server.errors import Unavailable
from xtrace_server.search.bodies import BlockComputation, Body, HeldBodies, Values
from xtrace_server.search.local.bodies import LocalBodies
from xtrace_server.search.ray.bodies import RayBodies
from xtrace_server.search.ray.inlining import LARGEST_REPLY, ray_reads
from xtrace_server.search.ray.scanner import RayScanner
from xtrace_server.settings import Settings

pytestmark = [NEEDED, pytest.mark.full, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def service(cluster: RayCluster, tmp_path: Path) -> Iterator[LiveService]:
    """A server that holds every knowledge base in the cluster."""
    rows = {"ray_min_rows": 0, "ray_segment_rows": 4}
    with running_service(tmp_path, engine="ray", ray_address=cluster.address, **rows) as service:
        until(lambda: figure(service, "nodes") == 2, "the server is connected")
        yield service


@pytest.fixture
def sealing(service: LiveService) -> Iterator[SealingClient]:
    http = Http(service.new_organisation())
    yield sealing_client(http)
    http.close()
    check_slots(service.folder)


def figure(service: LiveService, name: str) -> float:
    return float(service.server.app.state.server.engine.cluster()[name]())


def test_records_and_blocks_are_found_in_the_cluster(
    service: LiveService, sealing: SealingClient, cluster: RayCluster
) -> None:
    ids = sealing.insert(60)
    for first in range(0, 40, 5):
        sealing.seal(ids[first : first + 5])
    queries = [sealing.query, 1 - sealing.query]
    sealed, records = sealing.expected(*ids[:40], queries=queries), sealing.expected(*ids[40:], queries=queries)
    for _ in range(2):
        answer = sealing.search(queries=queries)
        assert (answer.in_blocks, answer.in_none) == (sealed, records)
    assert not (service.folder / "blocks").exists(), "no body is in this process"
    until(lambda: figure(service, "held_bytes") > 8 * sealing.client.blocks.max_rows, "the cluster holds the bodies")

    os.kill(cluster.holders()[0], signal.SIGKILL)
    answer = sealing.search(queries=queries)
    assert (answer.in_blocks, answer.in_none) == (sealed, records)
    ids += sealing.insert(3)
    sealing.seal(ids[60:], replaces=[])
    assert sealing.search(queries=queries).all == sealing.expected(*ids, queries=queries)


async def test_a_large_answer_is_part_of_its_reply(cluster: RayCluster) -> None:
    import ray

    from xtrace_server.search.ray.placement import NAMESPACE, Holders

    assert ray_reads(LARGEST_REPLY)
    assert not ray_reads(LARGEST_REPLY[:-1])
    assert not ray_reads(LARGEST_REPLY + "s")
    ray.init(cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
    try:
        holders = Holders(10**6, 60.0)
        await holders.look()
        answer = holders.of(b"").have.remote([b"name"] * 300_000)
        assert len(await answer) == 300_000
        place = ray.experimental.get_object_locations([answer])[answer]
    finally:
        ray.shutdown()
    assert place["object_size"] > 2 * 100 * 1024, "by default, it would be stored on a node"
    assert place["node_ids"] == []


def test_a_block_that_is_damaged_in_the_database_does_not_reach_the_cluster(
    service: LiveService, sealing: SealingClient
) -> None:
    block_id = sealing.seal(sealing.insert(4))
    execute(service.folder, "UPDATE block_body SET body = ? WHERE pk = ?", bytes(8 * 1024), block_id)
    message = problem(sealing.attempt(), 500, "block_damaged")
    assert f"{block_id} of the knowledge base {sealing.kb} is damaged" in message


async def test_bodies_that_the_cluster_lost_are_brought_again_or_the_search_fails(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = RayScanner(Settings(data=tmp_path, engine="ray", ray_address=cluster.address, ray_min_rows=0))
    await scanner.start()
    await asyncio.to_thread(until, lambda: scanner.client.available, "the scanner is connected")
    monkeypatch.setattr("xtrace_server.search.ray.bodies._STEP_BYTES", 2 * 2 * 1024)  # two bodies
    evaluation = LatticeBlockEvaluation(16)
    random = np.random.default_rng(1)

    def data(count: int) -> bytes:
        made = random.integers(0, 2**8, count, dtype=np.uint8)
        made[3::4] = 0  # residues are below their prime
        return made.tobytes()

    stored = {pk: data(evaluation.sizes.body) for pk in range(5)}
    bodies = [Body(pk, hashlib.sha256(body).digest()) for pk, body in stored.items()]
    computation = BlockComputation(evaluation, [data(evaluation.sizes.query)])
    right = evaluation.evaluate([*stored.values()], computation.queries)
    read: list[int] = []

    async def load(bodies: Collection[Body]) -> Mapping[bytes, bytes]:
        read.extend([body.pk for body in bodies])
        return {body.sha256: stored[body.pk] for body in bodies if body.pk in stored}

    async def scanned(held: HeldBodies) -> Values:
        return np.concatenate([part async for part in held.scan(computation, lambda _, values: values)])

    holder = RayBodies(scanner, LocalBodies(tmp_path / "blocks", 10**6, 1))
    held = await holder.hold(bodies, load)
    assert np.array_equal(await scanned(held), right)
    assert sorted(read) == [*range(5)]
    for pid in cluster.holders():
        os.kill(pid, signal.SIGKILL)
    assert np.array_equal(await scanned(held), right)
    assert sorted(read) == sorted(2 * [*range(5)])
    await holder.hold(bodies, load)
    assert len(read) == 10
    stored.clear()
    for pid in cluster.holders():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="search again"):
        await scanned(held)
    await holder.close()
    await scanner.close()
