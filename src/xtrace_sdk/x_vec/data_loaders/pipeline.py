"""Processes batches in overlapping stages: while one batch is in a stage, its neighbours are in others."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Pipeline:
    """Takes batches through stages, at most `ahead` at a time, to limit memory.

    If a batch fails, the work ends cleanly: no new batch begins, later batches enter no further stage, and earlier ones
    finish.
    """

    def __init__(self, ahead: int) -> None:
        self._places = asyncio.Semaphore(ahead)
        self._first_failed: int | None = None
        self._fault: BaseException | None = None

    async def run(self, batches: AsyncIterator[T], carry: Callable[[int, T], Awaitable[None]]) -> None:
        """Calls `carry` with each batch and its number, from 0; raises the first error once all running batches have
        ended.

        If cancelled, cancels the running batches.
        """
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while await self._may_begin():
                try:
                    batch = await anext(batches)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    self._failed(number, error)
                    break
                tasks.create_task(self._carry(carry, number, batch))
                number += 1
        if self._fault is not None:
            raise self._fault

    @asynccontextmanager
    async def stage(self, stage: asyncio.Lock, number: int) -> AsyncGenerator[None, None]:
        """Gives the batch with this number exclusive use of the stage during the block; others wait in order."""
        async with stage:
            if self._first_failed is not None and number > self._first_failed:
                raise _LeftOut
            yield

    async def _may_begin(self) -> bool:
        await self._places.acquire()
        return self._fault is None

    async def _carry(self, carry: Callable[[int, T], Awaitable[None]], number: int, batch: T) -> None:
        try:
            await carry(number, batch)
        except _LeftOut:
            pass
        except Exception as error:
            self._failed(number, error)
        except asyncio.CancelledError as error:
            # A model may have cancelled itself, and a task group ignores a cancelled task.
            self._failed(number, error)
            raise
        finally:
            self._places.release()

    def _failed(self, number: int, error: BaseException) -> None:
        if self._fault is None:
            self._fault = error
        if self._first_failed is None or number < self._first_failed:
            self._first_failed = number


class _LeftOut(Exception):
    """An earlier batch has failed."""
