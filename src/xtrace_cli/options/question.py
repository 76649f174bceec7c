"""The question of a command, given as an argument or on standard input."""

import sys
from typing import Annotated, Final

import typer

from xtrace_cli.errors import WrongUse

MAX_CHARACTERS: Final = 100_000
"""The maximum length of a question; models embed far less."""

Question = Annotated[
    str, typer.Argument(metavar="QUESTION", help="The question, in your own words; - reads it from standard input.")
]


def question_of(given: str) -> str:
    """Returns the question. Raises `WrongUse` if it is empty, too long, or not text."""
    if given == "-":
        try:
            given = sys.stdin.read(MAX_CHARACTERS + 1)
        except UnicodeDecodeError:
            raise WrongUse("the question on standard input is not valid text in the terminal's encoding") from None
    if len(given) > MAX_CHARACTERS:
        raise WrongUse(f"the question has more than {MAX_CHARACTERS:,} characters: ask a shorter one")
    if not given.strip():
        raise WrongUse("the question is empty: enter a question")
    return given.strip()
