"""Work on batches in stages that overlap: while one batch is in a stage, its neighbours are in others."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Pipeline:
    """Takes batches through stages, at most `ahead` of them at a time, so memory stays bounded.

    A batch that fails ends the work cleanly: no further batch is begun, those behind it go into no further stage,
    those before it go on to their end.
    """

    def __init__(self, ahead: int) -> None:
        self._places = asyncio.Semaphore(ahead)
        self._first_failed: int | None = None
        self._fault: BaseException | None = None

    async def run(self, batches: AsyncIterator[T], carry: Callable[[int, T], Awaitable[None]]) -> None:
        """Calls `carry` with each batch and its number, from 0; raises the first fault once all that goes on is done.

        Cancelled, it cancels what is under way.
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
        """The batch of this number is alone in the stage while the block runs; others wait and keep their order."""
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
            # A model may have given up, and a task group takes no notice of a task that is cancelled.
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
    """A batch before this one has failed."""
