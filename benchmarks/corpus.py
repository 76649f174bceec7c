"""Real text that every Python brings along: its reference, and the docstrings of its standard library."""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semantic_text_splitter import TextSplitter

_CODE = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"}
_QUERY_CHARACTERS = (20, 200)
_BODY_CHARACTERS = (80, 900)
_PASSAGE_CHARACTERS = (400, 900)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages to search, and queries that are none of them."""

    passages: list[str]
    queries: list[str]
    """The first paragraphs of docstrings, whose other paragraphs are passages."""


def python_corpus() -> Corpus:
    """Passages of the language reference and the bodies of docstrings; each docstring's first paragraph as a query."""
    passages = dict.fromkeys(_reference())
    queries: dict[str, None] = {}
    for docstring in _docstrings(Path(sysconfig.get_path("stdlib"))):
        summary, _, body = docstring.partition("\n\n")
        summary, body = " ".join(summary.split()), body.strip()[: _BODY_CHARACTERS[1]]
        if len(body) >= _BODY_CHARACTERS[0]:
            passages[body] = None
            if _QUERY_CHARACTERS[0] <= len(summary) <= _QUERY_CHARACTERS[1]:
                queries[summary] = None
    return Corpus(list(passages), [query for query in queries if query not in passages])


def _reference() -> Iterator[str]:
    """The language reference as every CPython carries it for `help()`, the most specific topics first."""
    from pydoc_data.topics import topics

    splitter = TextSplitter(_PASSAGE_CHARACTERS)
    for _, text in sorted(topics.items(), key=lambda topic: (len(topic[1]), topic[0])):
        yield from splitter.chunks(text)


def _docstrings(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        if _LEFT_OUT.isdisjoint(path.relative_to(folder).parts):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old escapes in old modules
                tree = ast.parse(path.read_bytes())
            yield from filter(None, (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _CODE)))
