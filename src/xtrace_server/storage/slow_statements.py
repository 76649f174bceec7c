"""Which statements are slow: their text goes to the log, in which every value is a placeholder."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from sqlalchemy.ext.asyncio import AsyncEngine

_SHOWN_CHARACTERS: Final = 500

_log = logging.getLogger("xtrace.database")


def watch(engine: AsyncEngine, seconds: float, count: Callable[[], None]) -> None:
    """Logs each statement of the engine that takes as long or longer, also one that fails or is interrupted.

    `count` is called for each. What is fetched step by step is not part of a statement's time.
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
        count()
        shown = " ".join(statement.split())
        more = f" … ({len(shown)} characters)" if len(shown) > _SHOWN_CHARACTERS else ""
        fields = {"seconds": round(took, 3), "statement": shown[:_SHOWN_CHARACTERS] + more}
        _log.warning("a slow statement", extra={"fields": fields})
