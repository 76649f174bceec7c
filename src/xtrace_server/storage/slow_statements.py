"""Logs slow statements, with placeholders for all values."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from sqlalchemy.ext.asyncio import AsyncEngine

_SHOWN_CHARACTERS: Final = 500
MAX_STATEMENTS: Final = 50

_log = logging.getLogger("xtrace.database")


@dataclass(frozen=True, slots=True)
class SlowStatement:
    """A slow statement without its values, and how often it was slow; times are in seconds."""

    statement: str
    count: int
    total_s: float
    slowest_s: float
    last_at: str
    """The time in UTC, in the database's format."""


class SlowStatements:
    """The most recent slow statements of a process, at most `MAX_STATEMENTS`."""

    def __init__(self) -> None:
        self._found: dict[str, SlowStatement] = {}

    def add(self, statement: str, took_s: float) -> None:
        """Remembers a slow statement."""
        before = self._found.pop(statement, SlowStatement(statement, 0, 0.0, 0.0, ""))
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._found[statement] = SlowStatement(
            statement, before.count + 1, before.total_s + took_s, max(before.slowest_s, took_s), moment
        )
        if len(self._found) > MAX_STATEMENTS:
            del self._found[next(iter(self._found))]

    def list_all(self) -> list[SlowStatement]:
        """Returns the statements, those with the most total time first."""
        return sorted(self._found.values(), key=lambda one: -one.total_s)


def watch(engine: AsyncEngine, seconds: float, note_slow: Callable[[str, float], None]) -> None:
    """Logs each statement of the engine that takes at least this long, even if it fails or is interrupted.

    `note_slow` is called for each, with its text and its seconds. Rows fetched in steps do not count.
    """
    running: WeakKeyDictionary[ExecutionContext, float] = WeakKeyDictionary()

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def begin(
        _connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: ExecutionContext, _many: bool
    ) -> None:
        running[context] = time.perf_counter()

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def end(
        _connection: Any, _cursor: Any, statement: str, _parameters: Any, context: ExecutionContext, _many: bool
    ) -> None:
        note(context, statement)

    @event.listens_for(engine.sync_engine, "handle_error")
    def fail(failure: ExceptionContext) -> None:
        if failure.execution_context is not None and failure.statement is not None:
            note(failure.execution_context, failure.statement)

    def note(context: ExecutionContext, statement: str) -> None:
        began = running.pop(context, None)
        if began is None or (took := time.perf_counter() - began) < seconds:
            return
        shown = " ".join(statement.split())
        more = f" … ({len(shown)} characters)" if len(shown) > _SHOWN_CHARACTERS else ""
        note_slow(shown[:_SHOWN_CHARACTERS] + more, took)
        fields = {"seconds": round(took, 3), "statement": shown[:_SHOWN_CHARACTERS] + more}
        _log.warning("a slow statement", extra={"fields": fields})
