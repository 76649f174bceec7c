"""SQLite's names for functions that the queries use."""

from typing import Any

from sqlalchemy.ext.compiler import compiles

from xtrace_server.storage.filters import Position


@compiles(Position, "sqlite")
def _instr(element: Position, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"
