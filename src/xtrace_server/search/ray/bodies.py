"""Holds the bodies of blocks in the cluster, each under its hash, and computes with them there."""

import asyncio
import pickle
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import numpy as np

from xtrace_core.lattice.parameters import BLOCK_ROWS
from xtrace_server.errors import Unavailable
from xtrace_server.search.bodies import (
    Alive,
    BlockComputation,
    Body,
    BodyGone,
    BodyHolder,
    FinishBodies,
    HeldBodies,
    LoadBodies,
    Values,
)
from xtrace_server.search.ray.attempts import check_reply, pauses
from xtrace_server.search.ray.messages import Evaluate, Have, Hold, Status
from xtrace_server.search.ray.scanner import RayScanner

_T = TypeVar("_T")
_LOADED_AT_ONCE: Final = 4
"""The number of bodies in memory on their way to the cluster."""
_STEP_BYTES: Final = 1024 * 1024
"""The bytes of the values that one call computes."""
_AHEAD: Final = 3
"""The number of concurrent calls of one search."""


class RayBodies:
    """Holds the bodies of large knowledge bases in the cluster, and those of others in this process."""

    def __init__(self, scanner: RayScanner, local: BodyHolder) -> None:
        self.scanner = scanner
        self._local = local
        self._turn = asyncio.Lock()

    @property
    def held_bytes(self) -> int:
        """The bytes of the bodies in this process; the cluster's are among `RayScanner.held_bytes`."""
        return self._local.held_bytes

    async def hold(self, bodies: Sequence[Body], load: LoadBodies) -> HeldBodies:
        rows = len(bodies) * BLOCK_ROWS
        if self.scanner.wants(rows, rows):
            with suppress(Unavailable):
                await self.bring(bodies, load)
                return _Held(self, bodies, load)
        return await self._local.hold(bodies, load)

    async def bring(self, bodies: Sequence[Body], load: LoadBodies) -> None:
        """Stores those of the bodies in the cluster that it does not hold yet.

        Raises `Unavailable`, `BodyGone` and `BlockDamaged`.
        """
        async with self._turn:
            missing = await self._missing(bodies)
            for start in range(0, len(missing), _LOADED_AT_ONCE):
                await self._store(missing[start : start + _LOADED_AT_ONCE], load)

    async def tidy(self, alive: Alive) -> None:
        """Removes bodies of blocks that are gone from this process. The cluster drops what is not used."""
        await self._local.tidy(alive)

    async def close(self) -> None:
        await self._local.close()

    async def _missing(self, bodies: Sequence[Body]) -> list[Body]:
        request = Have(timeout_s=self.scanner.timeout_s, names=_names(bodies))
        for pause_s in pauses():
            reply, held = await self.scanner.exchange(request)
            if reply.status is Status.DONE and len(held) == len(bodies):
                return [body for body, is_held in zip(bodies, held.tolist(), strict=True) if not is_held]
            check_reply(reply)
            await asyncio.sleep(pause_s)
        raise Unavailable("the cluster's nodes keep changing, so it cannot hold blocks")

    async def _store(self, bodies: Sequence[Body], load: LoadBodies) -> None:
        loaded = await load(bodies)
        for body in bodies:
            if body.sha256 not in loaded:
                raise BodyGone
            data = np.frombuffer(loaded[body.sha256], dtype=np.uint8)
            request = Hold(
                timeout_s=self.scanner.timeout_s,
                name=body.sha256,
                is_body=True,
                row_bytes=data.nbytes,
                payload=data.nbytes,
            )
            await self.scanner.bring(request, data)


class _Held:
    def __init__(self, holder: RayBodies, bodies: Sequence[Body], load: LoadBodies) -> None:
        self._holder = holder
        self._bodies = bodies
        self._load = load

    async def scan(self, computation: BlockComputation, finish: FinishBodies[_T]) -> AsyncGenerator[_T, None]:
        pickled = pickle.dumps((computation.evaluation, list(computation.queries)))
        sizes = computation.evaluation.sizes
        shape = (len(computation.queries), sizes.slabs, sizes.rows)
        step = max(_STEP_BYTES // (2 * int(np.prod(shape))), 1)

        async def work(start: int) -> _T:
            values = await self._values(self._bodies[start : start + step], pickled, shape)
            return await self._holder.scanner.in_thread(finish, start, values)

        running: deque[asyncio.Task[_T]] = deque()
        try:
            for start in range(0, len(self._bodies), step):
                running.append(asyncio.create_task(work(start)))
                if len(running) >= _AHEAD:
                    yield await running.popleft()
            while running:
                yield await running.popleft()
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _values(self, bodies: Sequence[Body], computation: bytes, shape: tuple[int, int, int]) -> Values:
        scanner = self._holder.scanner
        request = Evaluate(timeout_s=scanner.timeout_s, names=_names(bodies), computation=computation)
        for pause_s in pauses():
            reply, payload = await scanner.exchange(request)
            if reply.status is Status.DONE:
                if len(payload) != 2 * len(bodies) * int(np.prod(shape)):
                    raise Unavailable("the cluster returned values of another length than requested")
                return payload.view("<u2").reshape(len(bodies), *shape)
            check_reply(reply)
            await asyncio.sleep(pause_s)
            try:
                await self._holder.bring(bodies, self._load)
            except BodyGone:
                raise Unavailable(
                    "blocks that the cluster lost were replaced during the search: search again"
                ) from None
        raise Unavailable("the cluster's nodes keep changing, so it cannot hold blocks")


def _names(bodies: Sequence[Body]) -> bytes:
    return b"".join([body.sha256 for body in bodies])
