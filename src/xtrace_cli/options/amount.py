"""Parses sizes and numbers as people write them."""

import re
from typing import Final

from xtrace_cli.errors import WrongUse

_AMOUNT: Final = re.compile(r"([0-9]{1,18}) ?(?:([KMGT])iB)?")
_POWERS: Final = {None: 0, "K": 10, "M": 20, "G": 30, "T": 40}
_MOST: Final = 2**63 - 1


def amount(text: str, name: str = "a quota") -> int | None:
    """Parses a number, optionally with a binary unit such as GiB; None for `none`. Raises `WrongUse`."""
    if text.lower() == "none":
        return None
    match = _AMOUNT.fullmatch(text)
    value = -1 if match is None else int(match[1]) << _POWERS[match[2]]
    if not 0 <= value <= _MOST:
        raise WrongUse(f"{name} is not valid, expected a whole number such as 10000, a size such as 10GiB, or none")
    return value
