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
    "set_constant_time",
]

arithmetic: Arithmetic
"""The backend in use."""

arithmetic, _reason = choose(os.environ)


def describe() -> str:
    """Which backend runs, and why: one line for people."""
    threads = getattr(arithmetic, "threads", 1)
    constant_time = ", constant time" if arithmetic.constant_time else ""
    return f"{arithmetic.name}, {threads} thread{'s' * (threads > 1)}{constant_time}: {_reason}"


def set_constant_time(on: bool) -> None:
    """Hides secret exponents from programs that share the processor's caches, or stops hiding them.

    Powers of a fixed base then read every entry of a window of 4 bits and mask all but one away, instead of the one
    entry that 8 bits of the exponent point at. Results are the same. Takes effect at once, for keys that are loaded
    already too: their tables are made again at next use. `XTRACE_CONSTANT_TIME=1` in the environment is the same from
    the start. docs/security.md ("Timing") says what this hides and what it does not, docs/performance.md what it costs.
    """
    arithmetic.constant_time = on
