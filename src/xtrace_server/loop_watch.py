"""Measures delays of the event loop: a task sleeps briefly, and observes how late it wakes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Histogram

INTERVAL_S: Final = 0.02
"""The time between observations. Longer blocks of the loop are always seen; observing costs next to nothing."""


@asynccontextmanager
async def watched(delays: Histogram) -> AsyncIterator[None]:
    """Observes the delays of the running loop while the block runs."""

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            delays.observe(max(0.0, loop.time() - due))

    task = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    finally:
        task.cancel()
