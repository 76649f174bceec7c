"""Batches of big-integer work behind one interface, chosen when the package is imported.

`interface` defines what a backend does. `portable` implements it with gmpy2 and runs everywhere; `compiled` implements
it in C for processors with the right instructions, and is tested against `portable`. `backends` chooses one. Moduli,
factors and tables are arguments: no backend keeps anything between calls. `nibbles` is about small integers instead: it
scans the codes of a local index.
"""

import os

from xtrace_core.arithmetic.backends import choose
from xtrace_core.arithmetic.interface import (
    Arithmetic,
    Buffer,
    FixedBaseTable,
    Joiner,
    Multiplier,
    PrimeSquare,
    Rows,
    as_rows,
    row_width,
)
from xtrace_core.arithmetic.nibbles import nibble_dots

__all__ = [
    "Arithmetic",
    "Buffer",
    "FixedBaseTable",
    "Joiner",
    "Multiplier",
    "PrimeSquare",
    "Rows",
    "arithmetic",
    "as_rows",
    "describe",
    "nibble_dots",
    "row_width",
    "set_constant_time",
]

arithmetic: Arithmetic
"""The backend in use."""

arithmetic, _reason = choose(os.environ)


def describe() -> str:
    """Describes in one line which backend runs, and why."""
    threads = getattr(arithmetic, "threads", 1)
    constant_time = ", constant time" if arithmetic.constant_time else ""
    return f"{arithmetic.name}, {threads} thread{'s' * (threads > 1)}{constant_time}: {_reason}"


def set_constant_time(on: bool) -> None:
    """Hides secret exponents from programs that share the processor's caches, or stops hiding them.

    Powers of a fixed base then read every entry of a 4-bit window and mask out all but one, instead of reading only the
    entry that 8 bits of the exponent select. Results are the same. Takes effect at once, also for keys that are already
    loaded: their tables are rebuilt at next use. `XTRACE_CONSTANT_TIME=1` in the environment sets it from the start.
    docs/security.md ("Timing") says what this hides and what it does not, docs/performance.md what it costs.
    """
    arithmetic.constant_time = on
