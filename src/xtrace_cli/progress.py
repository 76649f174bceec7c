"""Shows the progress of long work, and a message if Ctrl-C stops it.

    with long_work("Loading", total, on_stop=lambda: f"{stored} chunks are stored: run it again to go on") as work:
        for chunk in chunks:
            …
            work.advance(1)

The bar shows the amount done, the rate and the remaining time. It is printed to standard error if that is a terminal,
and only after a second, so that quick work shows none. Notes of other code stay readable above it.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from xtrace_cli.output import note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUICK_S: Final = 1.0


class Work:
    """The progress of long work."""

    def __init__(self, description: str, total: int | None) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    @property
    def done(self) -> int:
        """The amount done so far."""
        return self._done

    def advance(self, done: int) -> None:
        """Adds to the amount done."""
        self._done += done
        self._show()

    def set_total(self, total: int | None) -> None:
        """Sets the total amount; None if it is unknown."""
        self._total = total
        self._show()

    def close(self) -> None:
        """Closes the bar and leaves its last state on the screen."""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def _show(self) -> None:
        if self._bar is None and sys.stderr.isatty() and time.monotonic() - self._began > _QUICK_S:
            from xtrace_sdk.progress import new_bar

            bar = new_bar()
            self._bar = bar, bar.add_task(self._description, total=self._total)
            bar.start()
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=self._done, total=self._total)


@contextmanager
def long_work(
    description: str, total: int | None = None, *, on_stop: Callable[[], str | None] | None = None
) -> Iterator[Work]:
    """Shows a progress bar while the block runs, if it takes longer than a second.

    `on_stop` returns the message for Ctrl-C, if any: what is stored by then, and how to continue. The command then
    exits with status 130, as everywhere. Works in coroutines too.
    """
    work = Work(description, total)
    try:
        yield work
    except (KeyboardInterrupt, asyncio.CancelledError):
        work.close()
        if on_stop is not None and (message := on_stop()) is not None:
            note(message)
        raise
    finally:
        work.close()
