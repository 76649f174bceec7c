"""Creates a span for every database statement: its operation and table, without its text and values."""

import re
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, ExecutionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from xtrace_server.storage.schema import metadata
from xtrace_server.traces import Traces

_OPERATIONS: Final = frozenset(
    {"ANALYZE", "COPY", "DELETE", "INSERT", "PRAGMA", "SELECT", "SET", "SHOW", "UPDATE", "WITH"}
)
_TABLE: Final = re.compile(r'\b(?:FROM|INTO|UPDATE|ANALYZE|COPY) "?(\w+)', re.IGNORECASE)


def watch(engine: AsyncEngine, traces: Traces) -> None:
    """Records a span for the execution of each statement of the engine, even if it fails."""
    running: WeakKeyDictionary[ExecutionContext, Any] = WeakKeyDictionary()

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def begin(
        _connection: Any, _cursor: Any, statement: str, _parameters: Any, context: ExecutionContext, _many: bool
    ) -> None:
        operation, table = described(statement)
        attributes = {"db.system.name": engine.dialect.name, "db.operation.name": operation}
        if table:
            attributes["db.collection.name"] = table
        running[context] = traces.begin(f"{operation} {table}".rstrip(), attributes)

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def end(
        _connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: ExecutionContext, _many: bool
    ) -> None:
        if (span := running.pop(context, None)) is not None:
            span.end()

    @event.listens_for(engine.sync_engine, "handle_error")
    def fail(failure: ExceptionContext) -> None:
        if failure.execution_context is not None and (span := running.pop(failure.execution_context, None)) is not None:
            span.set_attribute("error.type", type(failure.original_exception).__name__)
            span.end()


def described(statement: str) -> tuple[str, str]:
    """Returns the statement's operation and the first table of the schema that it names, empty if there is none.

    Both come from fixed lists, so that nothing of the statement's text is revealed.
    """
    word = statement.split(None, 1)[0].upper() if statement.strip() else ""
    tables = (name for name in _TABLE.findall(statement) if name in metadata.tables)
    return word if word in _OPERATIONS else "OTHER", next(tables, "")
