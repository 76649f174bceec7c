"""The tokeniser of the local index: the words of a text, as searches by word compare them."""

import re
import unicodedata
from itertools import pairwise
from typing import Final

TOKENISER: Final = 1
"""The version, which every word index records: tokens of another version do not match."""
MAX_CHARACTERS: Final = 40
"""What follows in a longer token is ignored."""

_UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
"""Hiragana, katakana, Chinese characters and hangul, which are written without spaces or with long endings."""
_ANY_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_ASCII_RUN: Final = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
_SPACED_RUN: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_MIXED_RUN: Final = re.compile(
    rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W_])+(?:['\u2019](?:(?![{_UNSPACED}])[^\W_])+)*"
)
_APOSTROPHES: Final = re.compile("['\u2019]")
_DIGIT: Final = re.compile(r"\d")


def tokens(text: str) -> list[str]:
    """Returns the tokens of a text in their order.

    Compatibility forms and case are folded (NFKC, Unicode case folding). Words are runs of letters and digits, with
    apostrophes inside dropped ("don't" is "dont"); other punctuation separates, so "INV-4010" is "inv" and "4010". Runs
    of Chinese, Japanese and Korean characters become overlapping pairs of characters, and a single one stays as it is.
    """
    if text.isascii():
        return [_word(run) for run in _ASCII_RUN.findall(text.lower())]
    folded = unicodedata.normalize("NFKC", text).casefold()
    if _ANY_UNSPACED.search(folded) is None:
        return [_word(run) for run in _SPACED_RUN.findall(folded)]
    found: list[str] = []
    for run in _MIXED_RUN.findall(folded):
        if _ANY_UNSPACED.match(run) is None:
            found.append(_word(run))
        else:
            found += map("".join, pairwise(run)) if len(run) > 1 else [run]
    return found


def _word(run: str) -> str:
    if len(run) <= MAX_CHARACTERS and run.isalnum():
        return run
    return _APOSTROPHES.sub("", run)[:MAX_CHARACTERS]


def has_digit(token: str) -> bool:
    """Whether the token contains a digit, as numbers and identifiers do."""
    return _DIGIT.search(token) is not None
