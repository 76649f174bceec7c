"""The holder of a server that computes with blocks by itself, in threads, from mapped files."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from xtrace_core.arithmetic import Buffer
from xtrace_server.search.bodies import Alive, BlockComputation, Body, BodyGone, FinishBodies, LoadBodies
from xtrace_server.search.local.body_files import BodyFiles

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_LOADED_AT_ONCE: Final = 4
"""The number of bodies in memory while they are written to files."""
_SCANNED_AT_ONCE: Final = 16
"""The number of bodies that one thread computes with in a row."""


class LocalBodies:
    """Holds bodies in a folder of files, and computes with them in threads of this process."""

    def __init__(self, folder: Path, budget: int, threads: int) -> None:
        self._files = BodyFiles(folder, budget)
        self._files_thread = ThreadPoolExecutor(1, thread_name_prefix="xtrace-block-files")
        self._turn = asyncio.Lock()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="xtrace-blocks")

    @property
    def held_bytes(self) -> int:
        return self._files.held_bytes

    async def hold(self, bodies: Sequence[Body], load: LoadBodies) -> "_Held":
        # One search after the other: two for the same bodies load them once.
        async with self._turn:
            found = await self._in_turn(self._files.open, [body.sha256 for body in bodies])
            missing = [body for body in bodies if body.sha256 not in found]
            for start in range(0, len(missing), _LOADED_AT_ONCE):
                some = missing[start : start + _LOADED_AT_ONCE]
                loaded = await load(some)
                if any(body.sha256 not in loaded for body in some):
                    raise BodyGone
                found |= await self._in_turn(self._files.add, loaded)
            if missing:
                await self._in_turn(self._files.shrink)
        return _Held([found[body.sha256] for body in bodies], self._pool, self._threads)

    async def tidy(self, alive: Alive) -> None:
        async with self._turn:
            names = await self._in_turn(self._files.names)
            if names:
                gone = names - await alive(names)
                await self._in_turn(self._files.remove, gone)
                await self._in_turn(self._files.shrink)

    async def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._files_thread.shutdown(cancel_futures=True)
        self._files.close()

    async def _in_turn(self, act: Callable[_P, _R], /, *arguments: _P.args, **more: _P.kwargs) -> _R:
        # In one thread, so that calls do not overlap even where a search is cancelled while one of them runs.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._files_thread, partial(act, *arguments, **more))


class _Held:
    def __init__(self, bodies: Sequence[Buffer], pool: ThreadPoolExecutor, threads: int) -> None:
        self._bodies = bodies
        self._pool = pool
        self._threads = threads

    async def scan(self, computation: BlockComputation, finish: FinishBodies[_T]) -> AsyncGenerator[_T, None]:
        def work(start: int) -> _T:
            bodies = self._bodies[start : start + _SCANNED_AT_ONCE]
            return finish(start, computation.evaluation.evaluate(bodies, computation.queries))

        loop = asyncio.get_running_loop()
        running: list[asyncio.Future[_T]] = []
        try:
            for start in range(0, len(self._bodies), _SCANNED_AT_ONCE):
                running.append(loop.run_in_executor(self._pool, work, start))
                # Every thread has work, and one more result may wait for a client that reads slowly.
                if len(running) > self._threads:
                    yield await running.pop(0)
            while running:
                yield await running.pop(0)
        finally:
            for one in running:
                one.cancel()
