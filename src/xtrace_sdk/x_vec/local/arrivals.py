"""Tells how far the synchronisation of a local index is, on request."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias

OnArrival: TypeAlias = Callable[[int, bool], Awaitable[object]]
"""Called with the number of chunks that the index has now, and whether more are to come."""

_on_arrival: Final[ContextVar[OnArrival | None]] = ContextVar("on arrival", default=None)


@contextmanager
def watched_arrivals(on_arrival: OnArrival) -> Iterator[None]:
    """Calls `on_arrival` whenever a synchronisation inside the block has written chunks to its index."""
    token = _on_arrival.set(on_arrival)
    try:
        yield
    finally:
        _on_arrival.reset(token)


async def arrived(chunks: int, *, has_more: bool) -> None:
    """Reports the number of chunks that an index has now. Raises what the watcher raises."""
    on_arrival = _on_arrival.get()
    if on_arrival is not None:
        await on_arrival(chunks, has_more)
