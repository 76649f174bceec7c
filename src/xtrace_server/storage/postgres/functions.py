"""PostgreSQL's names for functions that the queries use."""

from typing import Any

from sqlalchemy.ext.compiler import compiles

from xtrace_server.storage.filters import Position
from xtrace_server.storage.indexed_text import INDEXED_CHARACTERS, Indexed
from xtrace_server.storage.sizes import ByteLength


@compiles(Position, "postgresql")
def _strpos(element: Position, compiler: Any, **options: Any) -> str:
    # As a subquery: PostgreSQL checks for a cancellation when one begins, but not between the conditions of a row, and
    # a filter can have hundreds of these on long texts.
    return f"(SELECT strpos({compiler.process(element.clauses, **options)}))"


@compiles(Indexed, "postgresql")
def _left(element: Indexed, compiler: Any, **options: Any) -> str:
    return f"left({compiler.process(element.clauses, **options)}, {INDEXED_CHARACTERS})"


@compiles(ByteLength, "postgresql")
def _octet_length(element: ByteLength, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"
