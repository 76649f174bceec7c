"""SQLite's names for functions that the queries use."""

from typing import Any

from sqlalchemy.ext.compiler import compiles

from xtrace_server.storage.filters import Position
from xtrace_server.storage.indexed_text import Indexed
from xtrace_server.storage.sizes import ByteLength


@compiles(Position, "sqlite")
def _instr(element: Position, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(Indexed, "sqlite")
def _whole(element: Indexed, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses.clauses[0], **options))


@compiles(ByteLength, "sqlite")
def _byte_length(element: ByteLength, compiler: Any, **options: Any) -> str:
    # octet_length is new in SQLite 3.43.
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"
