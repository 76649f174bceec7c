"""Prints the hits of a search, for people and for programs.

Stored texts may come from anyone, so their control characters never get to a terminal: each line is made printable
before highlighting is added.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import typer

from xtrace_cli.answers.words import ImportantWords
from xtrace_cli.documents.records import Place
from xtrace_cli.output import printable
from xtrace_sdk.collection.record import Hit, Record

EXCERPT_CHARACTERS: Final = 400
_NARROWEST: Final = 20
_WIDEST: Final = 100
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"


def source_of(record: Record) -> str:
    """The file of the record, or its id."""
    source = record.metadata.get("source")
    return source if isinstance(source, str) and source else record.id


def reference_of(record: Record) -> str:
    """The source and the place in it: `notes/tax.pdf, page 3, Terms > Payment`."""
    return ", ".join(filter(None, [source_of(record), str(Place.of(record.metadata))]))


def text_of(record: Record) -> str:
    """The text, or the metadata of a record without one."""
    return record.text if record.text else msgspec.json.encode(record.metadata).decode()


def print_hits(hits: Sequence[Hit], question: str, *, scores: bool, whole: bool) -> None:
    """Prints the hits, best first: the source, the similarity, and an excerpt or the `whole` text."""
    words, width, is_bold = ImportantWords(question), _width(), _highlights()
    for number, hit in enumerate(hits, start=1):
        score = f"similarity {hit.similarity:.3f}, distance {hit.distance}" if scores else f"{hit.similarity:.2f}"
        head = f"{number}. {printable(reference_of(hit.record))} ({score})"
        typer.echo("\n".join([*([""] if number > 1 else []), *_wrapped(head, width, "")]))
        texts = text_of(hit.record).split("\n") if whole else [words.excerpt(text_of(hit.record), EXCERPT_CHARACTERS)]
        for text in texts:
            for line in _wrapped(printable(text), width, "   "):
                typer.echo(_highlighted(line, words) if is_bold else line)


def as_objects(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """The hits for JSON."""
    return [
        {
            "id": hit.record.id,
            "similarity": round(hit.similarity, 6),
            "distance": hit.distance,
            "source": source_of(hit.record),
            "place": str(Place.of(hit.record.metadata)),
            "text": hit.record.text,
            "metadata": hit.record.metadata,
        }
        for hit in hits
    ]


def stages_line(seconds: dict[str, float]) -> str:
    """The stages and their times: `open 0.41 s, embed 0.02 s`."""
    return ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items())


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    # Lines keep their indentation, for example in source code.
    own = indent + line[: len(line) - len(line.lstrip())]
    if len(own) > width // 2:
        own = indent
    return textwrap.wrap(line.strip(), width, initial_indent=own, subsequent_indent=own) or [""]


def _highlighted(line: str, words: ImportantWords) -> str:
    parts, end = [], 0
    for start, stop in words.spans(line):
        parts += [line[end:start], _BOLD, line[start:stop], _PLAIN]
        end = stop
    return "".join([*parts, line[end:]])


def _highlights() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _width() -> int:
    return max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))
