"""Finds the significant words of a question in a text, also in other forms (`invoices`, `invoice`)."""

import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_COMMON: Final = frozenset(
    """
    a about after all also am an and any are as at be because been but by can could did do does for from had has have
    her his how i if in into is it its just may me more most my no not of on one only or other our out over same she
    should so some such than that the their them then there these they this those to too up us was we were what when
    where which while who whom whose why will with would you your
    """.split()  # noqa: SIM905 - easier to read than a list
)
"""English words that do not help to find anything."""
_ENDINGS: Final = (
    *("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ers", "er", "ed", "es", "ly", "s", "e", "y"),
)
_SHORTEST_STEM: Final = 3


class ImportantWords:
    """The significant words of one question."""

    def __init__(self, question: str) -> None:
        words = [match[0].casefold() for match in _WORD.finditer(question)]
        self._stems = frozenset(_stem(word) for word in words if word not in _COMMON and len(word) > 1)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Returns the start and end of each occurrence in the text, in order."""
        for match in _WORD.finditer(text):
            if _stem(match[0].casefold()) in self._stems:
                yield match.span()

    def excerpt(self, text: str, characters: int) -> str:
        """Returns the text on one line, or the part with the most of these words, of about the given length."""
        line = " ".join(text.split())
        if len(line) <= characters:
            return line
        starts = [start for start, _ in self.spans(line)]
        best = max(starts, key=lambda first: sum(first <= start < first + characters for start in starts), default=0)
        start = _word_start(line, max(0, min(best - characters // 8, len(line) - characters)))
        end = start + characters
        if end < len(line):
            end = max(line.rfind(" ", start + characters // 2, end + 1), start + characters // 2)
        return f"{'… ' if start else ''}{line[start:end].strip()}{' …' if end < len(line) else ''}"


def _stem(word: str) -> str:
    """Returns roughly what all forms of a word have in common: the word without its ending."""
    word = word.partition("'")[0].partition("’")[0]
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


def _word_start(line: str, position: int) -> int:
    if position == 0:
        return 0
    space = line.find(" ", position, position + 40)
    return position if space < 0 else space + 1
