"""A finding: how bad it is, and a sentence that says what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xtrace_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. With an `error` the server will not start or not work; a `warning` is a risk."""

    level: Literal["ok", "warning", "error"]
    sentence: str


Check: TypeAlias = Callable[[Settings], Iterator[Finding]]
"""Looks at one part of the settings and at what they name."""


def ok(sentence: str) -> Finding:
    return Finding("ok", sentence)


def warning(sentence: str) -> Finding:
    return Finding("warning", sentence)


def error(sentence: str) -> Finding:
    return Finding("error", sentence)
