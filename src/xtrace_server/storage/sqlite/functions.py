"""SQLite's names for functions that the queries use."""

from typing import Any

from sqlalchemy.ext.compiler import compiles

from xtrace_server.storage.filters import Position
from xtrace_server.storage.indexed_text import Indexed


@compiles(Position, "sqlite")
def _instr(element: Position, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(Indexed, "sqlite")
def _whole(element: Indexed, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses.clauses[0], **options))
