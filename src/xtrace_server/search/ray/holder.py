"""Runs in the cluster: one actor per node, which holds segments and computes with them.

It has ciphertexts, public keys and encrypted queries, but no secret key, credential or database connection. Servers
bring the rows that they need, under a hash that is checked here. Unused rows are evicted for others, and after some
time even without that, so nothing stays when servers die.
"""

import asyncio
import hashlib
import pickle
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_server.search.ray.messages import Status
from xtrace_server.search.segment_names import packed_nonces, segment_name

Rows: TypeAlias = NDArray[np.uint8]
IN_USE_S: Final = 60.0
"""Rows that were used within this time are not evicted for others."""


class _Segment:
    def __init__(self, rows: Rows, nonces: bytes) -> None:
        self.rows = rows
        self.nonces: list[bytes | None] = msgspec.msgpack.decode(nonces, type=list[bytes | None])
        self.nbytes = rows.nbytes + len(nonces) + 64 * len(rows)
        self.used_at = 0.0


class _Body:
    def __init__(self, data: Rows) -> None:
        self.data = data.data
        self.nbytes = data.nbytes
        self.used_at = 0.0


class Holder:
    """Segments, and bodies of blocks, by their names, within a budget (bytes). Its methods are called over Ray."""

    def __init__(self, budget: int, threads: int, idle_s: float) -> None:
        self._budget = budget
        self._idle_s = idle_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="xtrace-holder")
        self._held: OrderedDict[bytes, _Segment | _Body] = OrderedDict()
        """The most recently used one is last."""
        self._bytes = 0
        self._asked_at = time.monotonic()

    async def hold(self, name: bytes, rows: Rows | None, nonces: bytes) -> Status:
        """Stores the rows; without them, returns whether they are held."""
        if self._used(name) is not None:
            return Status.DONE
        if rows is None:
            return Status.MISSING
        if await self._run(segment_name, rows, nonces) != name:
            raise ValueError("the rows do not have the name under which they were brought")
        # A copy, because Ray's buffer stays in its object store for as long as it is used.
        return self._kept(name, await self._run(lambda: _Segment(np.array(rows), nonces)))

    async def hold_body(self, name: bytes, body: Rows) -> Status:
        """Stores the body of a block."""
        if self._used(name) is not None:
            return Status.DONE
        if (await self._run(hashlib.sha256, body)).digest() != name:
            raise ValueError("the body does not have the name under which it was brought")
        return self._kept(name, await self._run(lambda: _Body(np.array(body))))

    async def have(self, names: list[bytes]) -> list[bool]:
        """Returns which of the bodies are held; these are now in use."""
        return [self._used(name) is not None for name in names]

    async def compute(
        self, name: bytes, positions: NDArray[np.int32] | tuple[int, int], computation: bytes, timeout_s: float
    ) -> tuple[Status, bytes, Rows | None]:
        """Returns the packed nonces and the answers for rows of a segment, unless that takes too long."""
        held = self._used(name)
        if not isinstance(held, _Segment):
            return Status.MISSING, b"", None
        try:
            # A call that waits for a thread is dropped at its deadline, or when its caller gives up.
            async with asyncio.timeout(timeout_s):
                nonces, answers = await self._run(_computed, held, positions, computation)
        except TimeoutError:
            return Status.LATE, b"", None
        return Status.DONE, nonces, answers

    async def evaluate(
        self, names: list[bytes], computation: bytes, timeout_s: float
    ) -> tuple[Status, NDArray[np.uint16] | None]:
        """Returns the values of the bodies, unless that takes too long."""
        bodies = [held.data for name in names if isinstance(held := self._used(name), _Body)]
        if len(bodies) < len(names):
            return Status.MISSING, None
        try:
            async with asyncio.timeout(timeout_s):
                return Status.DONE, await self._run(_evaluated, bodies, computation)
        except TimeoutError:
            return Status.LATE, None

    async def state(self) -> tuple[int, int]:
        """Returns the bytes and the number of what is held, and evicts those that have been idle for long."""
        self.forget_idle()
        return self._bytes, len(self._held)

    async def is_idle(self) -> bool:
        """Returns whether nothing is held and there has been no call for long; evicts idle segments."""
        self.forget_idle()
        return not self._held and time.monotonic() - self._asked_at > self._idle_s

    def forget_idle(self) -> None:
        """Evicts the rows that have not been used for `idle_s`."""
        while self._held and time.monotonic() - next(iter(self._held.values())).used_at > self._idle_s:
            self._forget_oldest()

    def _kept(self, name: bytes, held: _Segment | _Body) -> Status:
        if not self._make_room(held.nbytes):
            return Status.FULL
        if name not in self._held:
            self._held[name] = held
            self._bytes += held.nbytes
        self._used(name)
        return Status.DONE

    def _used(self, name: bytes) -> _Segment | _Body | None:
        self._asked_at = time.monotonic()
        held = self._held.get(name)
        if held is not None:
            held.used_at = self._asked_at
            self._held.move_to_end(name)
        return held

    def _make_room(self, nbytes: int) -> bool:
        while self._bytes + nbytes > self._budget and self._held:
            if time.monotonic() - next(iter(self._held.values())).used_at < IN_USE_S:
                return False
            self._forget_oldest()
        return self._bytes + nbytes <= self._budget

    def _forget_oldest(self) -> None:
        _, oldest = self._held.popitem(last=False)
        self._bytes -= oldest.nbytes

    async def _run(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)


def _evaluated(bodies: list[memoryview], computation: bytes) -> NDArray[np.uint16]:
    evaluation, queries = pickle.loads(computation)  # noqa: S301 - as below
    values: NDArray[np.uint16] = evaluation.evaluate(bodies, queries)
    return values.astype("<u2", copy=False)


def _computed(held: _Segment, positions: NDArray[np.int32] | tuple[int, int], computation: bytes) -> tuple[bytes, Rows]:
    if isinstance(positions, tuple):
        start, end = positions
        rows, nonces = held.rows[start:end], held.nonces[start:end]
    else:
        rows, nonces = held.rows[positions], [held.nonces[i] for i in positions.tolist()]
    evaluation, queries = pickle.loads(computation)  # noqa: S301 - of a server; anyone who reaches Ray runs code anyway
    return packed_nonces(nonces), evaluation.evaluate(np.ascontiguousarray(rows), queries)
