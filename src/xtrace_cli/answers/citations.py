"""Numbers sources for a language model, and checks the citations in its answer as it streams."""

import re
from collections.abc import Sequence
from typing import Final

from xtrace_cli.answers.hits import reference_of, text_of
from xtrace_sdk.collection.record import Hit

MAX_SOURCE_CHARACTERS: Final = 4000
"""The maximum length of one text; the rest is cut off."""
_CITATION: Final = re.compile(r"\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
_BEGINNING: Final = re.compile(r"\[[\d\s,;]*\Z")
_LONGEST: Final = 40
"""The maximum length of a citation that is buffered until it is complete."""
UNKNOWN: Final = "not a source"


def numbered_sources(hits: Sequence[Hit]) -> str:
    """Returns the texts with their sources, numbered from 1, as the context of a prompt.

    Only these numbers are in square brackets: `[2]` in a text becomes `(2)`, so that it does not look like a source.
    """
    return "\n\n".join(
        f"[{number}] {_plain(reference_of(hit.record))}\n{_plain(text_of(hit.record)[:MAX_SOURCE_CHARACTERS])}"
        for number, hit in enumerate(hits, start=1)
    )


class Citations:
    """The citations of one answer: marks those of unknown sources, and remembers those of known ones."""

    def __init__(self, count: int) -> None:
        """`count` sources are numbered from 1."""
        self._count = count
        self._held = ""
        self.known: set[int] = set()
        """The sources that were cited."""
        self.unknown: set[int] = set()
        """Cited numbers that do not belong to a source."""

    def feed(self, part: str) -> str:
        """Returns the part to show now; holds back what may be the beginning of a citation."""
        text = self._held + part
        beginning = _BEGINNING.search(text)
        cut = len(text)
        if beginning is not None and cut - beginning.start() <= _LONGEST:
            cut = beginning.start()
        self._held = text[cut:]
        return self._checked(text[:cut])

    def end(self) -> str:
        """Returns what is still held back."""
        held, self._held = self._held, ""
        return self._checked(held)

    def _checked(self, text: str) -> str:
        return _CITATION.sub(self._mark, text)

    def _mark(self, match: re.Match[str]) -> str:
        numbers = {int(number) for number in re.findall(r"\d+", match[1])}
        unknown = {number for number in numbers if not 1 <= number <= self._count}
        self.known |= numbers - unknown
        self.unknown |= unknown
        if not unknown:
            return match[0]
        return f"{match[0][:-1]}: {', '.join(map(str, sorted(unknown)))} is {UNKNOWN}]"


def _plain(text: str) -> str:
    return re.sub(r"\[(\d+)\]", r"(\1)", text)
