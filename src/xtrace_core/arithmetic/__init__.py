"""Batches of big-integer work behind one interface, chosen when the package is imported.

`interface` says what a backend does; `portable` does it with gmpy2 wherever Python runs; `compiled` does it in C where
the processor has the instructions, and is compared with `portable`. `backends` chooses. Moduli, factors and tables are
arguments: no backend keeps anything between calls.
"""

import os

from xtrace_core.arithmetic.backends import choose
from xtrace_core.arithmetic.interface import (
    Arithmetic,
    FixedBaseTable,
    Joiner,
    Multiplier,
    PrimeSquare,
    Rows,
    as_rows,
    row_width,
)

__all__ = [
    "Arithmetic",
    "FixedBaseTable",
    "Joiner",
    "Multiplier",
    "PrimeSquare",
    "Rows",
    "arithmetic",
    "as_rows",
    "describe",
    "row_width",
]

arithmetic: Arithmetic
"""The backend in use."""

arithmetic, _reason = choose(os.environ)


def describe() -> str:
    """Which backend runs, and why: one line for people."""
    threads = getattr(arithmetic, "threads", 1)
    return f"{arithmetic.name}, {threads} thread{'s' * (threads > 1)}: {_reason}"
