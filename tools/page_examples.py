"""Running the Python examples of documents, as printed but for the values that a reader would put in.

`python tools/page_examples.py PAGE` runs those of one page, from top to bottom, with the XTrace that this Python has.
It needs no other package and no other file.
"""

import ast
import asyncio
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_EXAMPLE = re.compile(r"<!-- example: (?P<name>[^>]+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)
_OWN_MODEL = """
import hashlib
import numpy
from xtrace_sdk.x_vec.inference.model import EmbeddingModel

class Words:
    model = EmbeddingModel("mine", "words", 512, 512)
    same = {"animal": "cat", "napping": "asleep", "swimming": "warm", "water": "sea", "money": "invoice"}

    async def bin_embed_many(self, texts):
        return self.bits(texts)

    def bits(self, texts):
        rows = numpy.zeros((len(texts), 512), dtype=numpy.uint8)
        for row, text in zip(rows, texts):
            for word in text.lower().strip(".?!").split():
                digest = hashlib.sha256(self.same.get(word, word).encode()).digest()
                row[numpy.frombuffer(digest, dtype=numpy.uint16) % 512] = 1
        return rows

class BlockingWords(Words):
    def bin_embed_many(self, texts):
        return self.bits(texts)
"""
"""A model, so that pages also run where none is installed: a text's bits are set by its words."""
_WITH_OWN_MODEL = {
    'Embedding("wordllama", "l2_supercat", 256, bits=512)': "Words()",
    '(xtrace, ctx, "letters")': '(xtrace, ctx, "letters", embedding=Words())',
    '(xtrace, context, "postcards")': '(xtrace, context, "postcards", embedding=BlockingWords())',
}


def examples(document: Path) -> dict[str, str]:
    """The marked examples of a page, in their order."""
    return {match["name"]: match["code"] for match in _EXAMPLE.finditer(document.read_text(encoding="utf-8"))}


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


async def run_page(document: Path) -> int:
    """Runs the examples of a page in one namespace; returns how many there were."""
    namespace: dict[str, Any] = {}
    pages = examples(document)
    values: Mapping[str, str] = {}
    if importlib.util.find_spec("wordllama") is None:
        await run(_OWN_MODEL, namespace)
        values = _WITH_OWN_MODEL
    for code in pages.values():
        await run(code, namespace, {old: new for old, new in values.items() if old in code})
    return len(pages)


if __name__ == "__main__":
    count = asyncio.run(run_page(Path(sys.argv[1])))
    sys.stdout.write(f"{count} examples of {Path(sys.argv[1]).name} ran\n")
