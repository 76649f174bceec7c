"""Plain text, and source code in any language."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Section, Source

_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)")


def read(source: Source) -> Iterator[Section]:
    """One section: the text."""
    yield Section(text_of(source), line=1)


def read_python(source: Source) -> Iterator[Section]:
    """Yields a section for each top-level class and function of a Python module, under its name."""
    declared = next((m[1].decode() for line in source.data.split(b"\n", 2)[:2] if (m := _CODING.match(line))), None)
    text = text_of(source, declared)
    lines = text.splitlines(keepends=True)
    begins: dict[int, str] = {1: ""}
    for first, after, name in _definitions(text):
        begins[first] = name
        begins.setdefault(after, "")
    starts = [*sorted(first for first in begins if first <= len(lines)), len(lines) + 1]
    for first, after in pairwise(starts):
        yield Section("".join(lines[first - 1 : after - 1]), Place(heading=begins[first]), line=first)


def _definitions(text: str) -> list[tuple[int, int, str]]:
    """Returns the first line, the line after the last, and the name of each; nothing if it is not valid Python."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            name = f"class {node.name}" if isinstance(node, ast.ClassDef) else f"{node.name}()"
            found.append((first, (node.end_lineno or node.lineno) + 1, name))
    return found
