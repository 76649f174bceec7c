"""Progress bars, shown only on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[int], None]
"""Advances the bar by `done`."""


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Advance]:
    """Shows a bar on standard error while the block runs, if that is a terminal; yields a function that advances it.

    Without a total it shows progress and speed, but not the remaining time.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    with new_bar() as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)


def new_bar() -> Progress:
    """A bar on standard error, not shown yet, with progress, speed and remaining time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "")
