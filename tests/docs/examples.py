"""Running the Python examples of documents, as printed but for the values that a reader would put in."""

import ast
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_EXAMPLE = re.compile(r"<!-- example: (?P<name>[^>]+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)
_SECTION = re.compile(r"^## (?P<name>[^\n]+)\n\n```python\n(?P<code>.*?)```", re.DOTALL | re.MULTILINE)


def examples(document: Path) -> dict[str, str]:
    """The marked examples of a page, in their order."""
    return {match["name"]: match["code"] for match in _EXAMPLE.finditer(document.read_text())}


def sections(document: Path) -> dict[str, str]:
    """The one example of each section of a page."""
    return {match["name"]: match["code"] for match in _SECTION.finditer(document.read_text())}


async def run(code: str, namespace: dict[str, Any], values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs an example, which may await at its top level, and gives the names that it left behind.

    `values` replaces texts of the example, each of which must occur.
    """
    for old, new in (values or {}).items():
        assert old in code, f"{old!r} is not in the example any more"
        code = code.replace(old, new)
    compiled = compile(code, "<example>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, namespace)  # noqa: S307 - our own documents
    if inspect.iscoroutine(result):
        await result
    return namespace
