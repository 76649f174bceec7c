"""What a node of the cluster holds: only what has its name, within a budget, and not for ever."""

import asyncio
import hashlib
import pickle
import time

import numpy as np
import pytest

from support.odd_shapes import OddShapes
from xtrace_core.schemes.lattice_blocks import LatticeBlockEvaluation
from xtrace_server.search.ray import holder as holder_module
from xtrace_server.search.ray.client import bridge_environment
from xtrace_server.search.ray.holder import Holder
from xtrace_server.search.ray.messages import Status
from xtrace_server.search.segment_names import packed_nonces, segment_name

NONCES = packed_nonces([b"n", None])
COMPUTATION = pickle.dumps((OddShapes("{}"), [[b"\1"]]))


def rows(first: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.arange(first, first + 12, dtype=np.uint8).reshape(2, 6)


async def hold(holder: Holder, first: int) -> tuple[bytes, Status]:
    name = segment_name(rows(first), NONCES)
    return name, await holder.hold(name, rows(first), NONCES)


SIZE = 12 + len(NONCES) + 2 * 64


async def test_rows_are_computed_by_name_and_positions() -> None:
    holder = Holder(2 * SIZE, 1, 60.0)
    name, status = await hold(holder, 0)
    assert status is Status.DONE
    for positions, chosen in (((0, 2), [0, 1]), ((1, 2), [1]), (np.array([1], dtype=np.int32), [1])):
        found, nonces, answers = await holder.compute(name, positions, COMPUTATION, 10.0)
        assert (found, nonces) == (Status.DONE, packed_nonces([[b"n", None][i] for i in chosen]))
        assert answers is not None
        assert answers.tolist() == OddShapes("{}").evaluate(rows(0)[chosen], [[b"\1"]]).tolist()
    assert await holder.compute(b"other", (0, 1), COMPUTATION, 10.0) == (Status.MISSING, b"", None)


async def test_rows_under_another_name_are_refused() -> None:
    holder = Holder(10 * SIZE, 1, 60.0)
    with pytest.raises(ValueError, match="do not have the name"):
        await holder.hold(segment_name(rows(0), NONCES), rows(1), NONCES)
    with pytest.raises(ValueError, match="do not have the name"):
        await holder.hold(segment_name(rows(0), NONCES), rows(0), packed_nonces([None, None]))
    assert await holder.state() == (0, 0)


async def test_bodies_of_blocks_are_held_by_their_hash() -> None:
    evaluation = LatticeBlockEvaluation(16)
    sizes = evaluation.sizes
    random = np.random.default_rng(1)
    bodies = [random.integers(0, 2**8, sizes.body, dtype=np.uint8) for _ in range(3)]
    for body in bodies:
        body[3::4] = 0  # residues are below their prime
    names = [hashlib.sha256(body.tobytes()).digest() for body in bodies]
    queries = [bytes(sizes.query), random.integers(0, 2**8, sizes.query, dtype=np.uint8).tobytes()]
    computation = pickle.dumps((evaluation, queries))
    holder = Holder(2 * sizes.body, 1, 60.0)
    for name, body in zip(names[:2], bodies, strict=False):
        assert await holder.hold_body(name, body) is Status.DONE
    assert await holder.hold_body(names[2], bodies[2]) is Status.FULL
    with pytest.raises(ValueError, match="does not have the name"):
        await holder.hold_body(b"other", bodies[0])
    assert await holder.have(names) == [True, True, False]
    status, values = await holder.evaluate([names[1], names[0]], computation, 10.0)
    assert status is Status.DONE
    assert values is not None
    assert np.array_equal(values, evaluation.evaluate([bodies[1].tobytes(), bodies[0].tobytes()], queries))
    assert await holder.evaluate(names, computation, 10.0) == (Status.MISSING, None)
    assert await holder.compute(names[0], (0, 1), computation, 10.0) == (Status.MISSING, b"", None)
    assert await holder.state() == (2 * sizes.body, 2)


async def test_the_oldest_rows_make_room_unless_they_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(2 * SIZE, 1, 60.0)
    (first, _), (second, _) = await hold(holder, 0), await hold(holder, 20)
    assert (await hold(holder, 40))[1] is Status.FULL
    monkeypatch.setattr(holder_module, "IN_USE_S", 0.0)
    assert await holder.hold(first, None, b"") is Status.DONE
    assert (await hold(holder, 40))[1] is Status.DONE
    assert await holder.hold(second, None, b"") is Status.MISSING
    assert await holder.hold(first, None, b"") is Status.DONE
    assert await holder.state() == (2 * SIZE, 2)


async def test_rows_larger_than_the_budget_are_refused_for_good() -> None:
    assert (await hold(Holder(SIZE - 1, 1, 60.0), 0))[1] is Status.FULL


async def test_idle_rows_go_and_an_idle_holder_says_so() -> None:
    holder = Holder(2 * SIZE, 1, 0.0)
    await hold(holder, 0)
    await asyncio.sleep(0.001)
    assert await holder.is_idle()
    assert await holder.state() == (0, 0)


async def test_work_that_waits_beyond_its_deadline_is_dropped() -> None:
    holder = Holder(2 * SIZE, 1, 60.0)
    name, _ = await hold(holder, 0)
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def busy() -> None:
        loop.call_soon_threadsafe(started.set)
        time.sleep(0.2)

    occupied = asyncio.create_task(holder._run(busy))
    await started.wait()
    assert await holder.compute(name, (0, 2), COMPUTATION, 0.01) == (Status.LATE, b"", None)
    given_up = asyncio.create_task(holder.compute(name, (0, 2), b"not a pickle", 10.0))
    await asyncio.sleep(0)
    given_up.cancel()
    await occupied
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert (await holder.compute(name, (0, 2), COMPUTATION, 10.0))[0] is Status.DONE


def test_what_is_connected_to_the_cluster_gets_nothing_that_opens_the_database() -> None:
    environment = {
        "PATH": "/bin",
        "HOME": "/root",
        "RAY_AUTH_MODE": "token",
        "XTRACE_DATABASE_URL": "postgresql://u:secret@h/d",
        "XTRACE_METRICS_TOKEN": "secret",
        "PGPASSWORD": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "RAY_USAGE_STATS_ENABLED": "1",
    }
    passed = {"PATH": "/bin", "HOME": "/root", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    assert bridge_environment(environment) == passed
