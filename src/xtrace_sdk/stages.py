"""How long each stage of a call takes, for those who ask for it; costs nothing for all others."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_measured: Final[ContextVar[dict[str, float] | None]] = ContextVar("measured stages", default=None)


@contextmanager
def measured_stages() -> Iterator[dict[str, float]]:
    """The seconds of each stage inside the block, by its name, in the order in which they began; sums of repeated ones.

    Stages that run at the same time count each for itself.
    """
    seconds: dict[str, float] = {}
    token = _measured.set(seconds)
    try:
        yield seconds
    finally:
        _measured.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The block is the stage of this name, or a part of it."""
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
