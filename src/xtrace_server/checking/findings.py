"""A finding: how bad it is, and a sentence that says what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xtrace_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. After an `error`, the server would not start or work; a `warning` is a risk."""

    level: Literal["ok", "warning", "error"]
    sentence: str


Check: TypeAlias = Callable[[Settings], Iterator[Finding]]
"""Checks one part of the settings, and what they name."""


def ok(sentence: str) -> Finding:
    return Finding("ok", sentence)


def warning(sentence: str) -> Finding:
    return Finding("warning", sentence)


def error(sentence: str) -> Finding:
    return Finding("error", sentence)
