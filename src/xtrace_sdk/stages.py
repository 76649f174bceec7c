"""Measures how long each stage of a call takes, on request; costs nothing otherwise."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_measured: Final[ContextVar[dict[str, float] | None]] = ContextVar("measured stages", default=None)


@contextmanager
def measured_stages() -> Iterator[dict[str, float]]:
    """Collects the seconds of each stage inside the block by name, in the order in which they began; repeats are added
    up.

    Stages that run at the same time are counted separately. A block around this one gets the same seconds.
    """
    seconds: dict[str, float] = {}
    around = _measured.get()
    token = _measured.set(seconds)
    try:
        yield seconds
    finally:
        _measured.reset(token)
        if around is not None:
            for name, value in seconds.items():
                around[name] = around.get(name, 0.0) + value


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measures the block as the stage with this name, or as a part of it."""
    seconds = _measured.get()
    if seconds is None:
        yield
        return
    started = time.perf_counter()
    seconds.setdefault(name, 0.0)
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - started
